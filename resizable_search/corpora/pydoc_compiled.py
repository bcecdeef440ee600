"""What the compiled modules of the running Python say of themselves, as JSON on standard output.

A module without a source file has to be imported to be read. Some of them import Python modules in
turn, and some change the process that loads them (readline), so this file is run as a script, in an
interpreter of its own. It writes a list of records `[module, name, kind, signature, doc, home]`:
`module` is where the object was found, `home` where it says that it belongs (`collections` for
`_collections.deque`).
"""

import importlib
import inspect
import json
import os
import re
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES

Record = tuple[str, str, str, str, str, str]

_FUNCTIONS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.ClassMethodDescriptorType)
_ATTRIBUTES = (types.GetSetDescriptorType, types.MemberDescriptorType)


def records() -> Iterator[Record]:
    """Every documented object of the compiled modules of the standard library, each once."""
    seen: set[int] = set()
    for name in _module_names():
        try:
            module = importlib.import_module(name)
        except Exception:  # its system library is missing, or it is not for this platform
            continue
        if doc := _doc(module, name):
            yield name, "", "module", "", doc, name
        for key, value in sorted(vars(module).items(), key=_aliases_last):
            if key.startswith("_") or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, type):
                yield from _class(name, key, value)
            elif isinstance(value, types.BuiltinFunctionType) and (doc := _doc(value, key)):
                home = name if name == "builtins" else value.__module__ or name  # open says it is io's
                yield name, key, "function", _signature(value, key, doc), doc, home


def _module_names() -> list[str]:
    """Builtins first, since other modules hold some of its objects too (io.open)."""
    names = set(sys.builtin_module_names)
    for folder in filter(os.path.isdir, sys.path):
        for file in os.listdir(folder):
            stem, _, rest = file.partition(".")
            if f".{rest}" in EXTENSION_SUFFIXES:
                names.add(stem)
    names &= sys.stdlib_module_names  # leaves out the interpreter's own test modules
    return sorted(names, key=lambda name: (name != "builtins", name))


def _aliases_last(item: tuple[str, object]) -> tuple[bool, str]:
    """An object goes by its own name: OSError, not IOError."""
    key, value = item
    return getattr(value, "__name__", key) != key, key


def _class(module: str, name: str, cls: type) -> Iterator[Record]:
    home = cls.__module__
    if doc := _doc(cls, name):
        yield module, name, "class", _signature(cls, name, doc), doc, home
    for key, value in sorted(vars(cls).items()):
        member = getattr(value, "__func__", value)  # out of a staticmethod
        if key.startswith("_") or not (doc := _doc(member, key)):
            continue
        if isinstance(member, _FUNCTIONS):
            yield module, f"{name}.{key}", "method", _signature(member, key, doc), doc, home
        elif isinstance(member, _ATTRIBUTES):
            yield module, f"{name}.{key}", "property", "", doc, home


def _doc(value: object, name: str) -> str:
    doc = value.__doc__
    if not isinstance(doc, str) or doc.strip() == name:
        return ""
    return inspect.cleandoc(doc).strip()


def _signature(value: object, name: str, doc: str) -> str:
    """From the argument clinic's text or else from the first line of the doc, as many C functions have it."""
    text = getattr(value, "__text_signature__", None)
    if text:
        return re.sub(r"^\(\$\w+(, )?(/(, )?)?", "(", text)
    line = re.split(r"\s+-{1,2}>", doc.partition("\n")[0])[0].rstrip()
    match = re.fullmatch(rf"(?:\w+\.)*{re.escape(name)}(\(.*\))", line)
    return match[1] if match else ""


def main() -> None:
    """Write the records to the standard output, which nothing else gets to write to."""
    with os.fdopen(os.dup(1), "w", encoding="ascii") as out:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")  # deprecated modules say so when they are imported
        json.dump(list(records()), out)


if __name__ == "__main__":
    main()

"""The documentation of the running Python's standard library: a corpus that every machine has.

There is one document for each module, class, function, method and property with a docstring and a public
name, and one for each help topic ("with", "truth"). Ids are dotted names (`json.dumps`, `str.join`), and
`topic:with` for topics. An object goes by the shortest name that a module exports: `create_task` is defined
in `asyncio.tasks`, and its id is `asyncio.create_task`. Source files are parsed with `ast` and not imported;
compiled modules have none and are imported.
"""

import ast
import builtins
import importlib.util
import inspect
import os
import pkgutil
import platform
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import dropwhile, islice
from pathlib import Path
from typing import NamedTuple

from resizable_search.corpora.base import DEFAULT_CHARS, Block, Corpus, Document, gather
from resizable_search.errors import CorpusError
from resizable_search.specs import CorpusSpec, Json

_PREFIXES = {"module": "module ", "class": "class ", "coroutine": "async "}
_RENAMED = {os.path.__name__: "os.path", "_collections_abc": "collections.abc"}  # once they are imported
_HIDDEN = """
    __hello__ __phello__ _bundled distutils idle_test idlelib lib2to3 pydoc_data test tests turtledemo
    antigravity encodings genericpath ntpath nturl2path opcode posix sre_compile sre_constants sre_parse this
    readline
"""  # Tests, applications, modules without a page, and readline, which changes the terminal when imported
_PAGES = """
    collections.abc compression.zstd concurrent.futures concurrent.interpreters curses.ascii curses.panel
    email.charset email.contentmanager email.encoders email.errors email.generator email.header
    email.headerregistry email.iterators email.message email.mime email.parser email.policy email.utils
    html.entities html.parser http.client http.cookiejar http.cookies http.server importlib.metadata
    importlib.resources importlib.resources.abc logging.config logging.handlers multiprocessing.shared_memory
    os.path string.templatelib sys.monitoring tkinter.colorchooser tkinter.dnd tkinter.font
    tkinter.messagebox tkinter.scrolledtext tkinter.tix tkinter.ttk unittest.mock urllib.error urllib.parse
    urllib.request urllib.robotparser xml.dom xml.dom.minidom xml.dom.pulldom xml.etree.ElementTree xml.sax
    xml.sax.handler xmlrpc.client xmlrpc.server
"""  # Submodules with a page of their own in the library reference. Others share the page of their package

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Origin = tuple[str, str]  # the module that defines an object, and its name there


class PydocEntry(NamedTuple):
    """A documented object."""

    name: str  # qualified in its module, and '' for the module itself
    kind: str
    signature: str
    doc: str


@dataclass(slots=True)
class PydocModule:
    """What a module defines, nothing if it cannot be read; `computed`: a part of `__all__` is."""

    entries: dict[str, list[PydocEntry]] = field(default_factory=dict)  # by top-level name
    bases: dict[str, list[_Origin]] = field(default_factory=dict)  # by class
    imports: list[tuple[str, str, str]] = field(default_factory=list)  # (module, name, name here)
    exports: set[str] = field(default_factory=set)  # the strings in `__all__`
    computed: bool = False
    names: dict[str, _Origin] = field(default_factory=dict)  # all names in it, once they are resolved
    offered: set[str] = field(default_factory=set)  # imported names that `__all__` may leave out

    def offers(self, name: str) -> bool:
        """Whether `import *` takes the name, as far as the file tells."""
        return name in self.exports if self.exports and not self.computed else not name.startswith("_")


class PydocCorpus(Corpus):
    """The docstrings of the standard library, sorted by module. A position is the id of the last document.

    `chars` cuts the texts (None: no cut). `root`: a folder to read instead, without compiled modules, topics.
    """

    kind = "pydoc"
    example = "walk a directory tree"

    def __init__(self, chars: int | None = DEFAULT_CHARS, *, root: Path | str | None = None) -> None:
        self._chars = chars
        self._python = platform.python_version()
        self.label = f"Python {self._python} standard library"
        self._root = None if root is None else Path(root)

    def spec(self) -> CorpusSpec:
        """The Python version and the options."""
        root: dict[str, Json] = {} if self._root is None else {"root": str(self._root)}
        return CorpusSpec(self.kind, {"python": self._python, "chars": self._chars, **root})

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents after `position`, none if that is gone. Raises CorpusError without source files."""
        documents = self._documents()
        if position is not None:
            documents = islice(dropwhile(lambda document: document.id != position, documents), 1, None)
        return gather(([document], document.id) for document in documents)

    def _documents(self) -> Iterator[Document]:
        root = self._root or Path(os.__file__).parent
        entries = list(_entries(_Modules(root, compiled=self._root is None)))
        if len(entries) < 10:
            problem = f"{root} has no files of the standard library: install them (libpython3-stdlib)"
            raise CorpusError(problem)
        seen = set()
        for module, name, entry in entries:
            dotted = name if module == "builtins" and name else f"{module}.{name}".rstrip(".")
            if dotted not in seen:  # the first of several definitions counts
                seen.add(dotted)
                heading = _PREFIXES.get(entry.kind, "") + dotted + entry.signature
                title = textwrap.shorten(heading, 100, placeholder="…")
                words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", dotted)  # argparse, Argument, Parser
                spelled = "" if words == dotted.split(".") else " ".join(words) + "\n"
                text = f"{title}\n{spelled}\n{entry.doc}"
                yield self._document(dotted, title, _page(module, name), text, entry.kind, module)
        if self._root is None:
            with suppress(ImportError):  # some systems do not ship the texts behind `help("with")`
                from pydoc_data.topics import topics

                for label, text in sorted(topics.items()):
                    title = text.strip().partition("\n")[0].replace('"', "") or label
                    yield self._document(f"topic:{label}", title, "reference/index.html", text, "topic", "")

    def _document(self, id_: str, title: str, page: str, text: str, kind: str, module: str) -> Document:
        url = f"https://docs.python.org/{self._python.rpartition('.')[0]}/{page}"
        metadata = {"kind": kind, "module": module}
        return Document(id_, title, url, text.strip()[: self._chars].rstrip(), metadata)


class _Modules(dict[str, PydocModule]):
    """The modules of a library by name, each read when it is first asked for."""

    def __init__(self, root: Path, *, compiled: bool) -> None:
        self._files = dict(reversed([*_files(root)]))  # where two make the same module, the first counts
        self._compiled = sys.stdlib_module_names if compiled else frozenset()
        self.public = sorted(filter(_is_public, self._compiled.union(self._files)))

    def __missing__(self, name: str) -> PydocModule:
        if name in self._files:
            module = _parse(name, self._files[name])
        else:
            module = _read_compiled(name) if name in self._compiled else PydocModule()
        self[name] = module  # at once, for modules that import each other
        for origin, known, known_as in module.imports:
            other = self[origin]
            taken = {n: other.names[n] for n in other.names if other.offers(n)} if known == "*" else {}
            if known in other.names:
                taken[known_as] = other.names[known]
            if known == "*" or not _is_public(origin):
                module.offered.update(taken)
            module.names |= taken | module.names  # the first of several counts
        module.names |= {own: (name, own) for own in (*module.entries, *module.bases) if own}
        return module


def _entries(modules: _Modules) -> Iterator[tuple[str, str, PydocEntry]]:
    """Each documented object with its public module and name, sorted by module."""
    exports = {name: _exports(name, modules[name]) for name in modules.public}
    exported = [(m, name, origin) for m, names in exports.items() for name, origin in names.items()]
    # The shortest module wins, then the one that defines the object.
    exported.sort(key=lambda item: (item[0].count("."), item[0] != item[2][0], item))
    homes = {origin: (module, name) for module, name, origin in reversed(exported)}
    public = frozenset(homes)
    for module, names in exports.items():
        yield from ((module, "", entry) for entry in modules[module].entries.get("", ()))
        for name, origin in names.items():
            if homes[origin] == (module, name):
                for entry in _members(modules, origin, public):
                    yield module, name + entry.name.removeprefix(origin[1]), entry


def _exports(name: str, module: PydocModule) -> dict[str, _Origin]:
    offered = module.exports.union(filter(module.offers, module.offered))
    return {
        own: origin
        for own, origin in module.names.items()
        if (own in offered or origin[0] == name) and not own.startswith("_")
    }


def _members(modules: _Modules, origin: _Origin, passed: frozenset[_Origin]) -> Iterator[PydocEntry]:
    """The entries of a function or class, and what a class inherits from bases that are not `passed`."""
    module, name = origin
    yield from modules[module].entries.get(name, ())
    for owner, base_name in modules[module].bases.get(name, ()):
        base = (owner, base_name) if owner else modules[module].names.get(base_name, origin)
        if base not in passed:
            for entry in _members(modules, base, passed | {base}):
                if entry.name != base[1]:
                    yield entry._replace(name=name + entry.name.removeprefix(base[1]))


def _is_public(module: str) -> bool:
    """Whether people import it: no part of its name is private."""
    return not any(part in _HIDDEN.split() or re.match("_(?!.*__$)", part) for part in module.split("."))


def _files(folder: Path, package: str = "") -> Iterator[tuple[str, Path]]:
    for _, name, is_package in pkgutil.iter_modules([str(folder)]):
        module = package + name
        if name.isidentifier():
            file = f"{name}/__init__.py" if is_package else f"{name}.py"
            yield _RENAMED.get(module, module), folder / file
        if is_package:
            yield from _files(folder / name, f"{module}.")


def _parse(name: str, file: Path) -> PydocModule:
    try:
        with warnings.catch_warnings(action="ignore"):  # invalid escapes in files that are not the user's
            tree = ast.parse(file.read_bytes())  # bytes, so that the file's own coding line counts
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return PydocModule()
    doc = ast.get_docstring(tree)
    module = PydocModule({"": [PydocEntry("", "module", "", doc)]} if doc else {})
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    for node in _statements(tree):
        match node:
            case ast.ClassDef(name=own):
                module.entries.setdefault(own, []).extend(_class("", node))
                module.bases[own] = [ast.unparse(base).rpartition(".")[::2] for base in node.bases]
            case ast.FunctionDef(name=own) | ast.AsyncFunctionDef(name=own):
                module.entries.setdefault(own, []).extend(_function("", node))
                if own == "__getattr__":  # packages import their slow parts there
                    inner = (part for part in ast.walk(node) if isinstance(part, ast.ImportFrom))
                    module.imports += [(m, n, n) for part in inner for m, n, _ in _imports(package, part)]
            case ast.ImportFrom():
                module.imports.extend(_imports(package, node))
            case (
                ast.Assign(targets=[ast.Name("__all__")], value=value)
                | ast.AugAssign(target=ast.Name("__all__"), value=value)
                | ast.AnnAssign(target=ast.Name("__all__"), value=ast.expr() as value)
                | ast.Expr(ast.Call(ast.Attribute(ast.Name("__all__"))) as value)
            ):
                for part in ast.walk(value):
                    module.computed |= isinstance(part, ast.Name) and part.id != "__all__"
                    if isinstance(part, ast.Constant):
                        module.exports.add(str(part.value))
    return module


def _statements(body: ast.AST) -> Iterator[ast.AST]:
    """What a module or class holds in order, also under conditions: a name may be defined by platform."""
    waiting = [body]
    while waiting:
        node = waiting.pop()
        yield node
        if node is body or not isinstance(node, _Function | ast.ClassDef):
            waiting.extend(reversed([*ast.iter_child_nodes(node)]))


def _imports(package: str, node: ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    above = package.rsplit(".", node.level - 1)[0] if node.level else ""
    for alias in node.names:
        yield ".".join(filter(None, [above, node.module])), alias.name, alias.asname or alias.name


def _class(outer: str, node: ast.ClassDef) -> Iterator[PydocEntry]:
    name = outer + node.name
    members = [*_statements(node)][1:]
    makers = [m for m in members if isinstance(m, _Function) and m.name in ("__init__", "__new__")]
    own_doc = ast.get_docstring(node)
    if doc := own_doc or next(filter(None, map(ast.get_docstring, makers)), None):
        yield PydocEntry(name, "class", _arguments(makers[0], bound=True) if makers else "", doc)
    for member in members:
        if isinstance(member, ast.ClassDef) and not member.name.startswith("_"):
            yield from _class(f"{name}.", member)
        elif isinstance(member, _Function) and (own_doc or member not in makers):
            yield from _function(f"{name}.", member)


def _function(outer: str, node: _Function) -> Iterator[PydocEntry]:
    doc = ast.get_docstring(node)
    # One line on a special method says what every such method does.
    if not doc or (node.name.startswith("_") and (not node.name.endswith("__") or "\n" not in doc)):
        return
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    kind = "coroutine" if isinstance(node, ast.AsyncFunctionDef) else "method" if outer else "function"
    signature = _arguments(node, bound=bool(outer) and "staticmethod" not in decorators)
    if node.returns:
        signature += f" -> {ast.unparse(node.returns)}"
    if outer and any("property" in decorator.lower() for decorator in decorators):
        kind, signature = "property", ""
    yield PydocEntry(outer + node.name, kind, signature, doc)


def _arguments(node: _Function, *, bound: bool) -> str:
    """As they are written at a call: without the self or cls of a bound method."""
    text = f"({ast.unparse(node.args)})"
    return re.sub(r"^\(\w+(?:, /)?(?:, |(?=\)))", "(", text) if bound else text


def _read_compiled(name: str) -> PydocModule:
    """What a module without a source file says."""
    spec = importlib.util.find_spec(name)
    if spec is None or not (spec.origin or "").endswith(("built-in", *EXTENSION_SUFFIXES)):
        return PydocModule()
    try:
        with warnings.catch_warnings(action="ignore"):  # deprecated modules say so when they are imported
            imported = importlib.import_module(name)
    except ImportError:  # its system library is missing
        return PydocModule()
    module = PydocModule({"": [*_compiled("", "module", imported)]})
    for key, value in sorted(vars(imported).items()):
        value = vars(imported).get(f"__{key}__", value)  # somebody may have replaced a hook of `sys`
        # An object goes by its own name: OSError, not IOError.
        if getattr(value, "__name__", "") != key or (name != "builtins" and vars(builtins).get(key) is value):
            continue
        if inspect.isbuiltin(value):
            module.entries[key] = [*_compiled(key, "function", value)]
        elif isinstance(value, type):
            module.entries[key] = [*_compiled(key, "class", value)]
            for member, attribute in sorted(vars(value).items()):
                kind = "property" if inspect.isdatadescriptor(attribute) else "method"
                if not member.startswith("_"):
                    module.entries[key] += _compiled(f"{key}.{member}", kind, getattr(value, member))
    return module


def _compiled(name: str, kind: str, value: object) -> Iterator[PydocEntry]:
    doc = inspect.cleandoc(value.__doc__).strip() if isinstance(value.__doc__, str) else ""
    short = name.rpartition(".")[2]
    # Argument Clinic's text, or the first line of the docstring, where older C functions have it.
    clinic = re.sub(r"^\(\$\w+(, )?(/(, )?)?", "(", getattr(value, "__text_signature__", None) or "")
    first = re.match(rf"(?:\w+\.)*{short}(\(.*?\))(?:\s+-{{1,2}}>.*)?$", doc.partition("\n")[0])
    if doc and doc != short and (callable(value) or kind != "method"):
        yield PydocEntry(name, kind, clinic or (first[1] if first and kind != "property" else ""), doc)


def _page(module: str, name: str) -> str:
    """The page of the library reference that a name is on: the module's, or the one of its package."""
    if module == "builtins" and name:
        page = "exceptions" if name[:1].isupper() else "stdtypes" if "." in name else "functions"
        return f"library/{page}.html#{name}"
    page = module
    while page not in _PAGES.split() and "." in page:
        page = page.rpartition(".")[0]
    page = {"cProfile": "profile", "pstats": "profile"}.get(page, page.lower())
    anchor = re.sub(r"\.__(init|new)__$", "", f"{module}.{name}") if name else f"module-{module}"
    return f"library/{page}.html#{anchor}"

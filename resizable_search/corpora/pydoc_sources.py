"""The documented objects in the source files of the standard library, read without importing any."""

import ast
import copy
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resizable_search.corpora.pydoc_links import is_documented

_TESTS = {"test", "tests", "idle_test", "__phello__"}
_APPLICATIONS = {"idlelib", "turtledemo", "lib2to3", "distutils"}
_NO_MODULES = {"pydoc_data", "_bundled", "__pycache__"}
_LEFT_OUT = _TESTS | _APPLICATIONS | _NO_MODULES

_STANDS_FOR = {os.path.__name__: "os.path", "_collections_abc": "collections.abc"}
"""Files of modules that have another name once they are imported."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


@dataclass(frozen=True, slots=True)
class PydocEntry:
    """A documented object: `name` is its qualified name in `module`, empty for the module itself.

    `kind` is module, class, function, coroutine, method or property. `path` is its source file,
    relative to the library's folder, and empty for what is compiled.
    """

    module: str
    name: str
    kind: str
    signature: str
    doc: str
    path: str = ""
    line: int = 0


@dataclass(slots=True)
class PydocSource:
    """What one file says. `imports` are (module, name, as), `bases` (class, module of a base, base)."""

    module: str
    path: str
    entries: list[PydocEntry] = field(default_factory=list)
    imports: list[tuple[str, str, str]] = field(default_factory=list)
    bases: list[tuple[str, str, str]] = field(default_factory=list)
    exports: set[str] = field(default_factory=set)
    exports_known: bool = False
    """Whether `exports` is all of `__all__`: there is one, and no part of it is computed."""

    def may_export(self, name: str) -> bool:
        """Whether a person may import `name` from here; where that is computed, only `_` tells."""
        return name in self.exports if self.exports else not name.startswith("_")


def read_sources(root: Path) -> dict[str, PydocSource]:
    """Every public module under `root`, and the private ones that these take names from.

    A file that cannot be read or parsed is left out.
    """
    files = _files(root)
    sources: dict[str, PydocSource] = {}
    wanted = [name for name in files if is_public(name)]
    while wanted:
        name = wanted.pop()
        if name in sources or name not in files:
            continue
        tree = _parse(files[name])
        if tree is not None:
            sources[name] = _read(name, files[name].relative_to(root).as_posix(), tree)
            wanted += [module for module, _, _ in sources[name].imports]
    return sources


def read_topics(root: Path) -> dict[str, str]:
    """The texts behind `help("with")`, by label. Empty where the platform does not ship them."""
    tree = _parse(root / "pydoc_data" / "topics.py")
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            try:
                return dict(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                break
    return {}


def is_public(module: str) -> bool:
    """Whether people import it: no part of its name is private, or it has a page all the same."""
    return is_documented(module) or not any(part.startswith("_") for part in module.split("."))


def _files(root: Path) -> dict[str, Path]:
    """Every module's file. Where two files make the same module, the upper one."""
    files: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        if parts and "__init__.py" not in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name.isidentifier() and name not in _LEFT_OUT)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix == ".py" and stem.isidentifier():
                module = ".".join(parts if parts and stem == "__init__" else (*parts, stem))
                files.setdefault(_STANDS_FOR.get(module, module), Path(folder, name))
    return files


def _parse(file: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in files that are not the user's
            return ast.parse(file.read_bytes())  # bytes, so that the file's own coding line counts
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _read(module: str, path: str, tree: ast.Module) -> PydocSource:
    source = PydocSource(module, path)
    if doc := ast.get_docstring(tree):
        source.entries.append(PydocEntry(module, "", "module", "", doc, path, 1))
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef):
            source.entries.extend(_class(source, "", node))
            source.bases.extend(_bases(source, node))
        elif isinstance(node, _Function):
            source.entries.extend(_function(source, "", node))
            if node.name == "__getattr__":  # packages import their slow parts there
                for inner in ast.walk(node):
                    if isinstance(inner, ast.ImportFrom):
                        source.imports.extend((m, n, n) for m, n, _ in _imports(source, inner))
        elif isinstance(node, ast.ImportFrom):
            source.imports.extend(_imports(source, node))
        else:
            _note_exports(source, node)
    return source


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """A body's statements in order, with those under its conditions: a name may be defined by platform."""
    waiting: list[ast.AST] = [*reversed(body)]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _Definition):
            for part in ("finalbody", "orelse", "handlers", "body"):
                waiting.extend(reversed(getattr(node, part, ())))


def _imports(source: PydocSource, node: ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    origin = node.module or ""
    if node.level:
        parts = source.module.split(".")
        keep = len(parts) - node.level + source.path.endswith("__init__.py")
        origin = ".".join([*parts[:keep], *filter(None, [origin])])
    for alias in node.names:
        yield origin, alias.name, alias.asname or alias.name


def _note_exports(source: PydocSource, node: ast.AST) -> None:
    """Keep what a statement says of `__all__`, as far as it says it in plain strings."""
    match node:
        case ast.Assign(targets=[ast.Name("__all__")], value=value):
            source.exports_known = True
        case ast.AnnAssign(target=ast.Name("__all__"), value=ast.expr() as value):
            source.exports_known = True
        case ast.AugAssign(target=ast.Name("__all__"), value=value):
            pass
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("__all__"), "extend"), [value])):
            pass
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("__all__"), "append"), [item])):
            value = ast.List([item])
        case _:
            return
    match value:
        case ast.List(items) | ast.Tuple(items) if all(isinstance(item, ast.Constant) for item in items):
            source.exports.update(str(item.value) for item in items if isinstance(item, ast.Constant))
        case _:
            source.exports_known = False


def _bases(source: PydocSource, node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """A class's bases, each with the module that it comes from."""
    imported = {known_as: (module, name) for module, name, known_as in source.imports}
    for base in node.bases:
        match base:
            case ast.Name(name):
                yield node.name, *imported.get(name, (source.module, name))
            case ast.Attribute(ast.Name(module), name):
                yield node.name, module, name


def _class(source: PydocSource, outer: str, node: ast.ClassDef) -> Iterator[PydocEntry]:
    name = outer + node.name
    members = [member for member in _statements(node.body) if isinstance(member, _Definition)]
    makers = [m for m in members if isinstance(m, _Function) and m.name in ("__init__", "__new__")]
    own_doc = ast.get_docstring(node)
    if doc := own_doc or next(filter(None, map(ast.get_docstring, makers)), None):
        signature = f"({_arguments(makers[0].args, bound=True)})" if makers else ""
        yield PydocEntry(source.module, name, "class", signature, doc, source.path, node.lineno)
    for member in members:
        if member.name.startswith("_") and not member.name.endswith("__"):
            continue
        if isinstance(member, ast.ClassDef):
            yield from _class(source, f"{name}.", member)
        elif own_doc or member not in makers:
            yield from _function(source, f"{name}.", member)


def _function(source: PydocSource, outer: str, node: _Function) -> Iterator[PydocEntry]:
    doc = ast.get_docstring(node)
    if not doc or (node.name.startswith("__") and "\n" not in doc):
        return  # one line on a special method says what every such method does
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if outer and any("property" in decorator.lower() for decorator in decorators):
        kind, signature = "property", ""
    else:
        kind = "coroutine" if isinstance(node, ast.AsyncFunctionDef) else "method" if outer else "function"
        signature = f"({_arguments(node.args, bound=bool(outer) and 'staticmethod' not in decorators)})"
        if node.returns:
            signature += f" -> {ast.unparse(node.returns)}"
    yield PydocEntry(source.module, outer + node.name, kind, signature, doc, source.path, node.lineno)


def _arguments(arguments: ast.arguments, *, bound: bool) -> str:
    """As they are written at a call: without the self or cls of a bound method."""
    if bound:
        arguments = copy.copy(arguments)
        if arguments.posonlyargs:
            arguments.posonlyargs = arguments.posonlyargs[1:]
        else:
            arguments.args = arguments.args[1:]
    return ast.unparse(arguments)

"""The house keeps its rules: imports run downwards, nothing heavy is loaded by looking, names are pinned."""

import ast
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import resizable_search

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "resizable_search"
HEAVY = {
    "nomic",
    "matplotlib",
    "datasets",
    "numba",
    "sklearn",
    "scipy",
    "ray",
    "fastapi",
    "pandas",
    "pyarrow",
    "requests",
    "httpx2",
    "torch",
    "transformers",
    "sentence_transformers",
    "huggingface_hub",
    "pypdf",
    "ir_measures",
    "pytrec_eval",
    "faiss",
    "usearch",
    "markdown_it",
    "charset_normalizer",
    "semantic_text_splitter",
}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        capture_output=True,
        text=True,
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
    )


def test_imports_run_downwards():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("errors.py", "from resizable_search.engine import plan"),
        ("engine/base.py", "from resizable_search.store import layout"),
        ("store/layout.py", "from resizable_search.embedders import base"),
        ("corpora/base.py", "from resizable_search.store import layout"),
        ("embedders/registry.py", "from resizable_search.search import index"),
        ("search/index.py", "from resizable_search.evaluate import bench"),
        ("build/build.py", "from resizable_search.export import export"),
        ("evaluate/bench.py", "from resizable_search.service import index_pool"),
        ("service/index_pool.py", "from resizable_search.cli import render"),
        (
            "store/layout.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from resizable_search.search import index",
        ),
    ],
)
def test_an_arrow_that_is_turned_is_noticed(tmp_path, module, line):
    copy = shutil.copytree(
        PACKAGE, tmp_path / "resizable_search", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    source = copy / module
    source.write_text(source.read_text() + f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


SERVED = tuple(f"service.{name}" for name in ("app", "schemas", "server", "service", "mcp"))


def test_heavy_libraries_are_imported_only_where_they_are_used():
    """Not at the top of any module, so that looking loads none of them.

    The compiled kernels are numba's through and through, and the service is FastAPI's: nobody else
    imports those at the top instead.
    """
    kernels, service = PACKAGE / "engine" / "kernels", PACKAGE / "service"
    for path in PACKAGE.rglob("*.py"):
        heavy = HEAVY - {"numba"} if kernels in path.parents else HEAVY
        heavy = heavy - {"fastapi"} if service in path.parents else heavy
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not heavy & {name.split(".")[0] for name in names}, path
            assert kernels in path.parents or not any("engine.kernels" in name for name in names), path
            assert service in path.parents or not any(name.endswith(SERVED) for name in names), path


def test_only_the_command_line_prints():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "cli":
            called = {
                node.func.id
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert "print" not in called, path


def test_the_public_names_are_pinned():
    assert resizable_search.__all__ == [
        "Answer",
        "Hit",
        "Index",
        "Plan",
        "RsearchError",
        "Stage",
        "Timings",
        "Top",
        "__version__",
        "build_index",
        "open_index",
    ]
    for name in resizable_search.__all__:
        assert getattr(resizable_search, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        resizable_search.no_such_name  # noqa: B018


def test_the_signatures_are_pinned():
    from resizable_search import Index, open_index

    def parameters(function):
        return list(inspect.signature(function).parameters)

    assert parameters(open_index) == ["name", "home", "embedder", "threads", "engine", "stays"]
    options = ["k", "dim", "rerank", "plan", "recall", "where"]
    assert parameters(Index.query) == ["self", "text", *options, "group", "mode"]
    assert parameters(Index.scan) == ["self", "vectors", *options]
    assert parameters(Index.similar) == ["self", "id", *options]
    assert [f.name for f in resizable_search.Hit.__dataclass_fields__.values()] == [
        "rank", "row", "score", "id", "title", "url", "text", "metadata", "copies", "ranks",
    ]  # fmt: skip
    assert list(resizable_search.Top.__dataclass_fields__) == ["scores", "rows", "ranks", "missing"]


def test_every_public_name_is_documented():
    import importlib
    import pkgutil

    for info in pkgutil.walk_packages(resizable_search.__path__, "resizable_search."):
        module = importlib.import_module(info.name)
        assert module.__doc__, info.name
        for name, value in vars(module).items():
            ours = getattr(value, "__module__", None) == info.name
            if ours and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                assert inspect.getdoc(value), f"{info.name}.{name}"


def test_looking_at_the_package_loads_not_even_numpy():
    look = "print('numpy' in sys.modules)"
    code = f"import sys, resizable_search; {look}; resizable_search.open_index; {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def house(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "scripts" / "house", root], capture_output=True, text=True)


def many_packages(package: Path) -> None:
    for number in range(13):
        (package / f"p{number}").mkdir()
        (package / f"p{number}" / "__init__.py").touch()


@pytest.mark.parametrize(
    ("grow", "words"),
    [
        (lambda package: (package / "a.py").write_text("x = 1\n" * 401), "a.py has 401 lines"),
        (lambda package: [(package / f"m{n}.py").touch() for n in range(9)], "modules at the root"),
        (many_packages, "packages"),
        (lambda package: [(package / "search" / f"m{n}.py").touch() for n in range(150)], "files"),
        (
            lambda package: [
                (package / "search" / f"m{n}.py").write_text("x = 1\n" * 300) for n in range(110)
            ],
            "lines",
        ),
        (
            lambda package: [(package / f"{n}.py").write_text("class Twice: ...\n") for n in "ab"],
            "more than one class is called Twice",
        ),
    ],
    ids=["long file", "modules", "packages", "files", "lines", "classes"],
)
def test_a_house_that_outgrows_its_budget_is_noticed(tmp_path, grow, words):
    package = tmp_path / "resizable_search"
    (package / "search").mkdir(parents=True)
    (package / "__init__.py").write_text('"""A small package."""\n')
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    small = house(tmp_path)
    assert small.returncode == 0, small.stdout
    assert "over the budget" not in small.stdout
    grow(package)
    grown = house(tmp_path)
    assert grown.returncode == 1
    lines = [
        line for line in grown.stdout.splitlines() if line.endswith("over the budget") or " of " not in line
    ]
    assert any(words in line for line in lines)

import hashlib
import importlib
import json
import platform
import subprocess
import sys

import pytest

from resizable_search.corpora.inputs import reopened
from resizable_search.corpora.pydoc import PydocCorpus
from resizable_search.errors import CorpusError
from resizable_search.progress import SILENT
from resizable_search.specs import CorpusSpec

MINOR = ".".join(platform.python_version_tuple()[:2])
DOCS = f"https://docs.python.org/{MINOR}"


def documents(corpus, position=None):
    return [document for block in corpus.blocks(position) for document in block.documents]


@pytest.fixture(scope="module")
def blocks():
    return list(PydocCorpus().blocks())


@pytest.fixture(scope="module")
def stream(blocks):
    return [document for block in blocks for document in block.documents]


@pytest.fixture(scope="module")
def library(stream):
    return {document.id: document for document in stream}


def test_there_are_enough_documents_with_unique_ids(stream, library):
    assert len(stream) >= 6000
    assert len(library) == len(stream)


def test_documents_are_complete(stream):
    for document in stream:
        assert document.text
        assert len(document.text) <= 1200
        assert "\n" not in document.title
        assert len(document.title) <= 100
        assert document.url.startswith((f"{DOCS}/library/", f"{DOCS}/reference/"))
        document.text.encode()
        assert "\0" not in document.text


def test_modules_come_in_order_and_topics_last(stream):
    modules = [document.metadata["module"] for document in stream if document.metadata["kind"] != "topic"]
    assert modules == sorted(modules)
    topics = [document.id for document in stream if document.metadata["kind"] == "topic"]
    assert [document.id for document in stream[-len(topics) :]] == topics == sorted(topics)


@pytest.mark.parametrize(
    ("name", "title", "page"),
    [
        ("json", "module json", "library/json.html#module-json"),
        ("json.dumps", "json.dumps(obj, *, skipkeys=False,", "library/json.html#json.dumps"),
        ("json.JSONDecoder", "class json.JSONDecoder(*,", "library/json.html#json.JSONDecoder"),
        ("os.walk", "os.walk(top, topdown=True,", "library/os.html#os.walk"),
        ("os.path.join", "os.path.join(a, *p)", "library/os.path.html#os.path.join"),
        ("os.path.exists", "os.path.exists(path)", "library/os.path.html#os.path.exists"),
        ("math.sqrt", "math.sqrt(x, /)", "library/math.html#math.sqrt"),
        ("len", "len(obj, /)", "library/functions.html#len"),
        ("open", "open(file, mode='r',", "library/functions.html#open"),
        ("str.join", "str.join(iterable, /)", "library/stdtypes.html#str.join"),
        ("int", "class int(", "library/functions.html#int"),
        ("datetime.date", "class datetime.date(", "library/datetime.html#datetime.date"),
        ("pstats", "module pstats", "library/profile.html#module-pstats"),
        ("builtins", "module builtins", "library/builtins.html#module-builtins"),
        ("json.tool", "module json.tool", "library/json.html#module-json.tool"),
        ("bz2.BZ2File.__init__", "bz2.BZ2File.__init__(filename,", "library/bz2.html#bz2.BZ2File"),
        ("int.bit_length", "int.bit_length()", "library/stdtypes.html#int.bit_length"),
        ("KeyError", "class KeyError", "library/exceptions.html#KeyError"),
        ("asyncio.create_task", "asyncio.create_task(coro,", "library/asyncio.html#asyncio.create_task"),
        ("asyncio.sleep", "async asyncio.sleep(delay,", "library/asyncio.html#asyncio.sleep"),
        ("collections.deque", "class collections.deque(", "library/collections.html#collections.deque"),
        (
            "collections.OrderedDict.move_to_end",
            "collections.OrderedDict.move_to_end(key, last=True)",
            "library/collections.html#collections.OrderedDict.move_to_end",
        ),
        (
            "collections.abc.Mapping",
            "class collections.abc.Mapping",
            "library/collections.abc.html#collections.abc.Mapping",
        ),
        (
            "argparse.ArgumentParser.add_argument",
            "argparse.ArgumentParser.add_argument(",
            "library/argparse.html#argparse.ArgumentParser.add_argument",
        ),
        (
            "concurrent.futures.ThreadPoolExecutor",
            "class concurrent.futures.ThreadPoolExecutor(",
            "library/concurrent.futures.html#concurrent.futures.ThreadPoolExecutor",
        ),
        ("unittest.TestCase", "class unittest.TestCase(", "library/unittest.html#unittest.TestCase"),
        ("socket.socket.recv", "socket.socket.recv(", "library/socket.html#socket.socket.recv"),
        ("topic:with", "The with statement", "reference/index.html"),
        ("topic:truth", "Truth Value Testing", "reference/index.html"),
    ],
)
def test_known_entries(library, name, title, page):
    assert library[name].title.startswith(title)
    assert library[name].url == f"{DOCS}/{page}"


def test_a_text_names_its_object_in_words_and_holds_the_docstring(library):
    text = library["argparse.ArgumentParser"].text
    assert "argparse Argument Parser" in text
    assert "Object for parsing command line strings into Python objects." in text
    assert "Serialize ``obj`` to a JSON formatted ``str``." in library["json.dumps"].text


def test_private_names_tests_and_applications_are_left_out(stream):
    for document in stream:
        parts = document.id.removeprefix("topic:").split(".")
        private = [part for part in parts if part.startswith("_") and not part.endswith("__")]
        assert not private, document.id
        assert parts[0] not in {"test", "idlelib", "turtledemo", "lib2to3", "__phello__"}


def test_a_position_is_the_id_of_the_last_document(blocks):
    assert [block.position for block in blocks] == [block.documents[-1].id for block in blocks]


@pytest.mark.parametrize("position", [100, "no.such.name"], ids=["of an older version", "unknown"])
def test_nothing_follows_a_position_of_other_documents(root, position):
    assert list(PydocCorpus(root=root).blocks(position)) == []


def test_another_process_goes_on_with_the_same_documents_and_without_a_word(stream):
    code = (
        "import hashlib\n"
        "from resizable_search.corpora.pydoc import PydocCorpus\n"
        f"blocks = PydocCorpus().blocks({stream[1999].id!r})\n"
        "rest = [document for block in blocks for document in block.documents]\n"
        "print(hashlib.sha256(repr(rest).encode()).hexdigest())\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stderr == ""
    assert run.stdout.split() == [hashlib.sha256(repr(stream[2000:]).encode()).hexdigest()]


# A library of our own.

FILLING = "\n".join(f'def filler{number}():\n    """Filler {number}."""' for number in range(10))

ODD = '''
"""A module with
everything."""
import sys
from typing import overload

if sys.platform == "none":
    def conditional(a):
        """The first definition."""
elif sys.platform == "other":
    def conditional(a, b):
        """The second definition."""
else:
    try:
        def attempted(): "Under try."
    except OSError:
        def rescued(): "Under except."

@overload
def overloaded(a: int) -> int: ...
@overload
def overloaded(a: str) -> str: ...
def overloaded(a):
    """The implementation."""

async def waits(seconds: float, /, *, loop=None) -> None:
    """Waits."""

def twice(): "The former."
def twice(): "The latter."

def bare(): pass

class _Hidden:
    """Hidden."""
    def inherited(self, x): "From a hidden base."

class Outer(_Hidden):
    """Outer."""
    def __init__(self, size, *rest):
        """Make one.

        Of some size."""
    def __repr__(self): "Return repr(self)."
    def _private(self): "Private."
    @property
    def size(self):
        """Its size."""
    @size.setter
    def size(self, value): pass
    @staticmethod
    def static(a): "Static."
    @classmethod
    def made(cls, a): "Made."
    class Inner:
        """Inner."""
        async def deep(self): "Deep."

class Silent:
    def __init__(self, x):
        """Takes an x."""

def surrogate(): "lone \\ud800 and nul \\0"
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "filling.py").write_text(FILLING)
    return tmp_path


@pytest.fixture
def read(root):
    def read(chars=1200):
        return {document.id: document for document in documents(PydocCorpus(chars, root=root))}

    return read


def test_definitions_of_every_form(read):
    titles = {name: document.title for name, document in read().items() if not name.startswith("filling")}
    assert titles == {
        "odd": "module odd",
        "odd.conditional": "odd.conditional(a)",
        "odd.attempted": "odd.attempted()",
        "odd.rescued": "odd.rescued()",
        "odd.overloaded": "odd.overloaded(a)",
        "odd.waits": "async odd.waits(seconds: float, /, *, loop=None) -> None",
        "odd.twice": "odd.twice()",
        "odd.Outer": "class odd.Outer(size, *rest)",
        "odd.Outer.__init__": "odd.Outer.__init__(size, *rest)",
        "odd.Outer.size": "odd.Outer.size",
        "odd.Outer.static": "odd.Outer.static(a)",
        "odd.Outer.made": "odd.Outer.made(a)",
        "odd.Outer.Inner": "class odd.Outer.Inner",
        "odd.Outer.Inner.deep": "async odd.Outer.Inner.deep()",
        "odd.Silent": "class odd.Silent(x)",
        "odd.surrogate": "odd.surrogate()",
        "odd.Outer.inherited": "odd.Outer.inherited(x)",
    }


def test_the_rest_follows_from_every_position(root, read):
    every = list(read().values())
    for number, document in enumerate(every, 1):
        assert documents(PydocCorpus(root=root), document.id) == every[number:]


def test_texts_of_definitions(read):
    library = read()
    assert library["odd.twice"].text == "odd.twice()\n\nThe former."
    assert library["odd.Silent"].text == "class odd.Silent(x)\n\nTakes an x."
    assert library["odd.Outer.Inner"].text == "class odd.Outer.Inner\n\nInner."
    assert library["odd.surrogate"].text.endswith("lone \ud800 and nul \0")
    assert library["odd.Outer.size"].metadata == {"kind": "property", "module": "odd"}


def test_texts_are_cut(read):
    assert {len(document.text) for document in read(chars=9).values()} <= {8, 9}
    assert "everything." in read(chars=None)["odd"].text


@pytest.mark.parametrize(
    "content",
    [
        b'"""NUL."""\0\n',
        b"# coding: no-such-coding\n'''Doc.'''",
        b'"""\xff\xfe not utf-8"""',
        b"def broken(:\n    'Doc.'",
        b"(" * 5000,
    ],
    ids=["nul", "unknown coding", "not utf-8", "syntax", "too deep"],
)
def test_an_unreadable_file_is_left_out(root, read, content):
    before = set(read())
    (root / "broken.py").write_bytes(content)
    assert set(read()) == before


def test_files_that_are_no_modules_are_left_out(root, read):
    before = set(read())
    for path in [
        "site-packages/x.py",
        "tests/__init__.py",
        "data/x.py",
        "not-a-name.py",
        "pydoc_data/__init__.py",
    ]:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text('"""Not of the library."""')
    (root / "folder.py").mkdir()
    assert set(read()) == before


def test_coding_lines_count(root, read):
    (root / "latin.py").write_bytes('# coding: latin-1\n"""Größe."""'.encode("latin-1"))
    assert "Größe." in read()["latin"].text


def test_warnings_of_the_parser_are_kept_back(root, read):
    (root / "escapes.py").write_text('"""Doc."""\nx = "\\d"\ny = 1 is 1\n')
    assert "escapes" in read()


def test_long_chains_of_conditions(root, read):
    chain = "if x == 0: pass\n" + "".join(f"elif x == {n}: pass\n" for n in range(1, 1500))
    (root / "chain.py").write_text(f'{chain}else:\n    def end(): "At the end."')
    assert "chain.end" in read()


def package(root, **files):
    (root / "pack").mkdir()
    for name, content in files.items():
        (root / "pack" / f"{name}.py").write_text(content)


@pytest.mark.parametrize(
    "init",
    [
        "from ._inner import shown",
        "from pack._inner import shown",
        "from ._inner import *",
        "from ._inner import *\n__all__ = ['shown']",
        "from . import _inner\n__all__ = _inner.__all__\nfrom ._inner import *",
        "__all__ = ('shown',)\ndef __getattr__(name):\n    from ._inner import shown as s",
        "try:\n    from ._inner import shown\nexcept ImportError: pass\n__all__ = []\n__all__ += ['shown']",
    ],
)
def test_a_name_belongs_to_the_module_that_exports_it(root, read, init):
    package(root, __init__=init, _inner='def shown(): "Shown."\ndef kept(): "Kept."\n__all__ = ["shown"]')
    assert {name for name in read() if name.startswith("pack")} == {"pack.shown"}


def test_what_is_imported_but_not_exported_has_no_public_name(root, read):
    package(root, __init__="from ._inner import kept\n__all__ = ['x']", _inner='def kept(): "Kept."')
    assert not {name for name in read() if name.startswith("pack")}


def test_exports_and_bases_that_go_in_a_circle(root, read):
    bases = 'class _A(_B): pass\nclass _B(_A):\n    def g(self): "G."\nclass C(_B): "C."'
    package(root, __init__="", a="from .b import *", b=f'from .a import *\ndef f(): "F."\n{bases}')
    names = [name for name in read() if name.startswith("pack")]
    assert sorted(name.rpartition(".")[2] for name in names) == ["C", "f", "g"]


@pytest.mark.parametrize(
    ("exports", "names"),
    [
        ("__all__ = ['a']\n__all__.append('b')\n__all__.extend(['c'])\n__all__ += ('d',)", "abcd"),
        ("__all__: list[str] = ['a']", "a"),
        ("__all__: list[str] = ['a']\n__all__.extend(x for x in dir())", "abcde"),
        ("", "abcde"),
    ],
    ids=["changed", "typed", "computed", "none"],
)
def test_the_exports_of_a_file(root, read, exports, names):
    inner = "".join(f'def {name}(): "{name}"\n' for name in "abcde")
    package(root, __init__=f"from ._inner import *\n{exports}", _inner=inner)
    assert [name for name in read() if name.startswith("pack")] == [f"pack.{name}" for name in names]


def test_a_system_without_the_help_topics(monkeypatch, stream):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    without = [document.id for document in documents(PydocCorpus())]
    assert without == [document.id for document in stream if document.metadata["kind"] != "topic"]


def test_a_library_without_sources_is_an_error(tmp_path):
    for root in (tmp_path, tmp_path / "missing.zip"):
        with pytest.raises(CorpusError, match="install them"):
            next(PydocCorpus(root=root).blocks())


def test_a_compiled_module_that_cannot_be_imported_is_left_out(monkeypatch, library):
    def load(name):
        if name == "math":
            raise ImportError("no such library")
        return import_module(name)

    import_module = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", load)
    left = {document.id for document in documents(PydocCorpus())}
    assert "math.sqrt" in library.keys() - left
    assert "itertools.chain" in left


def test_a_spec_opens_the_corpus_again(root):
    corpus = PydocCorpus()
    assert corpus.spec() == CorpusSpec("pydoc", {"python": platform.python_version(), "chars": 1200})
    assert corpus.label == f"Python {platform.python_version()} standard library"
    assert corpus.size_hint() is None
    mine = PydocCorpus(None, root=root)
    again = reopened("pydoc", json.loads(json.dumps(mine.spec().to_json())), SILENT)
    assert again.spec() == mine.spec()
    assert documents(again) == documents(mine)

import ast
import hashlib
import json
import os
import platform
import subprocess
import sys
from itertools import islice

import pytest

from resizable_search.corpora.pydoc import PydocCorpus
from resizable_search.corpora.pydoc_links import library_url, source_url, topic_url
from resizable_search.corpora.pydoc_sources import read_sources, read_topics
from resizable_search.errors import CorpusError, UsageError
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
        assert document.url.startswith((f"{DOCS}/", "https://github.com/python/cpython/blob/v"))
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
        ("int.bit_length", "int.bit_length()", "library/stdtypes.html#int.bit_length"),
        ("KeyError", "class KeyError", "library/exceptions.html#KeyError"),
        ("asyncio.create_task", "asyncio.create_task(coro,", "library/asyncio-task.html#asyncio.create_task"),
        ("asyncio.sleep", "async asyncio.sleep(delay,", "library/asyncio-task.html#asyncio.sleep"),
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
        ("topic:with", "The with statement", "reference/compound_stmts.html#with"),
        ("topic:truth", "Truth Value Testing", "library/stdtypes.html#truth"),
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


def test_what_has_no_page_is_linked_to_its_source(library):
    url = library["quopri.ishex"].url
    assert url.startswith(
        f"https://github.com/python/cpython/blob/v{platform.python_version()}/Lib/quopri.py#L"
    )


def test_private_names_tests_and_applications_are_left_out(stream):
    for document in stream:
        parts = document.id.removeprefix("topic:").split(".")
        private = [part for part in parts if part.startswith("_") and not part.endswith("__")]
        assert not private or document.metadata["module"] == "_thread", document.id
        assert parts[0] not in {"test", "idlelib", "turtledemo", "lib2to3", "__phello__"}


def test_positions_count_documents(blocks, stream):
    assert [block.position for block in blocks[:2]] == [100, 200]
    assert blocks[-1].position == len(stream)


def test_another_process_goes_on_with_the_same_documents_importing_no_python_module(stream):
    code = (
        "import hashlib, sys\n"
        "from resizable_search.corpora.pydoc import PydocCorpus\n"
        "before = set(sys.modules)\n"
        "rest = [document for block in PydocCorpus().blocks(2000) for document in block.documents]\n"
        "imported = sorted(set(sys.modules) - before)\n"
        "print(imported, hashlib.sha256(repr(rest).encode()).hexdigest())\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stderr == ""
    assert run.stdout.split() == ["[]", hashlib.sha256(repr(stream[2000:]).encode()).hexdigest()]


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
    for position in range(len(every) + 1):
        assert documents(PydocCorpus(root=root), position) == every[position:]


def test_texts_of_definitions(read):
    found = read()
    assert found["odd.twice"].text == "odd.twice()\n\nThe former."
    assert found["odd.Silent"].text == "class odd.Silent(x)\n\nTakes an x."
    assert found["odd.Outer.Inner"].text == "class odd.Outer.Inner\n\nInner."
    assert found["odd.surrogate"].text.endswith("lone ? and nul")
    assert found["odd.Outer.size"].metadata == {"kind": "property", "module": "odd"}


def test_texts_are_cut(read):
    assert {len(document.text) for document in read(chars=9).values()} <= {8, 9}
    assert "everything." in read(chars=None)["odd"].text
    with pytest.raises(UsageError, match="1 or more"):
        PydocCorpus(0)


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


def test_exports_that_go_in_a_circle(root, read):
    package(root, __init__="", a="from .b import *", b='from .a import *\ndef f(): "F."')
    assert len({name for name in read() if name.endswith(".f")}) == 1


def test_the_exports_of_a_file(root):
    (root / "many.py").write_text(
        "__all__ = ['a']\n__all__.append('b')\n__all__.extend(['c'])\n__all__ += ('d',)"
    )
    (root / "some.py").write_text("__all__: list[str] = ['a']\n__all__.extend(x for x in dir())")
    sources = read_sources(root)
    assert (sources["many"].exports, sources["many"].exports_known) == ({"a", "b", "c", "d"}, True)
    assert (sources["some"].exports, sources["some"].exports_known) == ({"a"}, False)


def test_topics_are_read_without_import(root, read):
    (root / "pydoc_data").mkdir()
    file = root / "pydoc_data" / "topics.py"
    file.write_text("""topics = {'with': 'The "with" statement\\n****\\n\\nText.', 'newer': 'A newer one'}""")
    found = read()
    assert (found["topic:with"].title, found["topic:newer"].title) == ("The with statement", "A newer one")
    assert found["topic:newer"].url == f"{DOCS}/reference/index.html"
    file.write_text("topics = {'with': made()}")
    assert read_topics(root) == {}


def test_a_library_without_sources_is_an_error(tmp_path):
    for root in (tmp_path, tmp_path / "missing.zip"):
        with pytest.raises(CorpusError, match="install them"):
            next(PydocCorpus(root=root).blocks())


def test_compiled_modules_that_cannot_be_read_are_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(CorpusError, match="another Python"):
        next(PydocCorpus().blocks())


def test_a_spec_opens_the_corpus_again(root):
    corpus = PydocCorpus()
    assert corpus.spec() == CorpusSpec("pydoc", {"python": platform.python_version(), "chars": 1200})
    assert corpus.label == f"Python {platform.python_version()} standard library"
    assert corpus.size_hint() is None
    mine = PydocCorpus(None, root=root)
    again = PydocCorpus(**json.loads(json.dumps(dict(mine.spec().options))))
    assert again.spec() == mine.spec()
    assert documents(again) == documents(mine)


def test_another_pythons_documents_are_refused(root):
    corpus = PydocCorpus(python="2.7.18", root=root)
    assert corpus.label == "Python 2.7.18 standard library"
    with pytest.raises(CorpusError, match=r"run rsearch with Python 2\.7\.18"):
        next(corpus.blocks())


def test_links():
    page = f"{DOCS}/library"
    here = platform.python_version()
    assert (
        library_url(here, "datetime", "date.__new__", origin="datetime")
        == f"{page}/datetime.html#datetime.date"
    )
    assert library_url(here, "pstats", "", origin="pstats") == f"{page}/profile.html#module-pstats"
    assert library_url(here, "asyncio", "", origin="asyncio") == f"{page}/asyncio.html#module-asyncio"
    assert library_url(here, "builtins", "", origin="builtins") == f"{page}/builtins.html#module-builtins"
    assert topic_url("3.12.1", "yield") == "https://docs.python.org/3.12/reference/simple_stmts.html#yield"
    assert (
        source_url("3.13.0+", "a/b.py", 3) == "https://github.com/python/cpython/blob/v3.13.0/Lib/a/b.py#L3"
    )


def test_source_links_point_at_the_definition(stream):
    library = os.path.dirname(ast.__file__)
    linked = (document for document in stream if "github.com" in document.url)
    for document in islice(linked, 0, None, 50):
        path, _, line = document.url.partition("/Lib/")[2].partition("#L")
        with open(os.path.join(library, path), encoding="utf-8") as file:
            lines = file.read().splitlines()
        name = document.id.rpartition(".")[2]
        assert document.metadata["kind"] == "module" or name in lines[int(line) - 1]

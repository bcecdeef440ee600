"""An index that is updated by what its manifest says."""

import json
import platform
import random
from pathlib import Path

import pytest

from resizable_search.build.build import add, build, build_index, follow
from resizable_search.build.dry_run import dry_follow
from resizable_search.build.report import Changes
from resizable_search.build.workspace import BuildOptions
from resizable_search.cli.render_build import change_line, dry_run_lines
from resizable_search.corpora.base import Corpus
from resizable_search.corpora.beir import BeirCorpus
from resizable_search.corpora.files import RULES, FilesCorpus
from resizable_search.corpora.pydoc import PydocCorpus
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.embedders.openai import OpenAIEmbedder
from resizable_search.errors import CorpusError, CredentialsError, IndexFormatError, ShrinkError
from resizable_search.progress import Progress
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from resizable_search.store.manifest import read_manifest
from tests.build.changes.conftest import contents
from tests.cli.test_damage import edit_manifest

WORDS = [
    f"{a}{b}" for a in ("tree", "river", "stone", "cloud", "bird") for b in ("top", "side", "song", "fall")
]


def text(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=40)) + "."


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.md").write_text(
            f"# Note {number}\n\n{text(number)}\n\n## More\n\n{text(99 - number)}\n"
        )
    rows = "".join(f"k{n},{text(n + 30)},{1990 + n}\n" for n in range(4))
    (folder / "rows.csv").write_text(f"key,abstract,year\n{rows}")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def made(home: Home, corpus: Corpus, **options) -> Path:
    return build(corpus, LsaEmbedder(), home, BuildOptions("made", **options)).folder


def ids(folder: Path) -> list[str]:
    with open_index(folder) as index:
        return [document.id for document in index.documents(index.live_rows())]


OPTIONS = {
    "plain": {},
    "columns": {"text_column": "abstract", "id_column": "key", "metadata": ["year"]},
    "chunks": {"chunk": "100c", "chunk_overlap": 20, "chars": None, "text_column": "abstract"},
    "rules": {"chunk": "100c", "chars": None, "rules": RULES, "exclude": ["3.md"], "text_column": "abstract"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_of_the_build_is_that_of_the_manifest(home: Home, notes: Path, options: dict):
    folder = made(home, FilesCorpus([notes], **options), dims=(4,))
    before, manifest = contents(folder), read_manifest(folder)
    assert follow(folder).changes == Changes(unchanged=manifest.documents)
    assert contents(folder) == before
    (notes / "new.md").write_text(text(50))
    assert follow(folder).changes.added >= 1
    after = read_manifest(folder)
    assert (after.corpus, after.embedder, after.dims) == (manifest.corpus, manifest.embedder, manifest.dims)
    same = build(FilesCorpus([notes], **options), LsaEmbedder(), home, BuildOptions("made", dims=(4,)))
    assert not same.changes.any


def test_new_changed_renamed_and_removed_files_are_followed(home: Home, notes: Path):
    folder = made(home, FilesCorpus([notes]))
    (notes / "0.md").rename(notes / "zero.md")
    (notes / "1.md").write_text(text(60))
    (notes / "2.md").unlink()
    (notes / "new.md").write_text(text(61))
    plan = dry_follow(folder, BuildOptions("made"))
    assert (plan.state, plan.texts) == ("follows", 2)
    assert dict(dry_run_lines(plan))["changes"].startswith("1 added, 1 changed, 1 renamed, 1 removed, ")
    assert "2.md" in ids(folder)
    report = follow(folder)
    assert report.changes == plan.changes
    assert (report.added, report.read) == (2, report.manifest.documents + len(report.left_out))
    assert {"zero.md", "new.md"} < set(ids(folder))
    assert not {"0.md", "2.md"} & set(ids(folder))


def test_a_folder_that_is_gone_or_empty_changes_nothing(home: Home, notes: Path):
    folder = made(home, FilesCorpus([notes]))
    before = contents(folder)
    for shrink in (False, True):
        notes.rename(notes.with_name("moved"))
        with pytest.raises(CorpusError, match=f"made follows {notes}, which is gone: put it back, or build"):
            follow(folder, shrink=shrink)
        notes.mkdir()
        with pytest.raises(CorpusError, match="notes holds no file that is read .* put files there"):
            follow(folder, shrink=shrink)
        notes.rmdir()
        notes.with_name("moved").rename(notes)
    assert contents(folder) == before
    assert home.unfinished() == []


def test_more_than_half_of_the_documents_go_only_if_that_is_allowed(home: Home, notes: Path):
    folder = made(home, FilesCorpus([notes], text_column="abstract"))
    before = contents(folder)
    for number in range(6):
        (notes / f"{number}.md").unlink()
    assert follow(folder).changes == Changes(removed=6, unchanged=6)
    (notes / "rows.csv").write_text("key,abstract,year\n")
    (notes / "new.md").write_text(text(70))
    before = contents(folder)
    with pytest.raises(ShrinkError, match="this would delete 4 of the 6 documents of made, which .*notes no"):
        follow(folder)
    assert contents(folder) == before
    assert home.unfinished() == []
    assert follow(folder, shrink=True).changes == Changes(added=1, removed=4, unchanged=2, excluded=4)
    (notes / ".gitignore").write_text("[67].md\n")
    with pytest.raises(ShrinkError, match=r"no longer has \(2 of files that are still there: left out"):
        follow(folder)
    assert ids(folder) == ["6.md", "7.md", "new.md"]


def test_documents_of_files_that_are_left_out_now_are_told(home: Home, notes: Path):
    folder = made(home, FilesCorpus([notes], chunk="100c"))
    (notes / ".gitignore").write_text("3.md\n")
    (notes / "4.md").unlink()
    (notes / "5.md").write_text(f"{text(5)[:90]}\n")  # fewer chunks, but not left out
    gone = [id_ for id_ in ids(folder) if id_.startswith("3.md")]
    changes = dry_follow(folder, BuildOptions("made")).changes
    report = follow(folder)
    assert report.changes == changes
    assert changes.excluded == len(gone) < changes.removed
    words = f"{changes.removed} removed ({len(gone)} of files that are still there: left out now, or without"
    assert words in change_line(report)


def test_a_limit_of_the_build_is_kept(home: Home, notes: Path):
    folder = made(home, FilesCorpus([notes]), limit=5)
    (notes / "00.md").write_text(text(80))
    assert follow(folder).changes == Changes(added=1, unchanged=5)
    assert read_manifest(folder).source.read == 5


def test_documents_of_another_python_are_followed(home: Home, tmp_path: Path, monkeypatch):
    library = tmp_path / "library"
    library.mkdir()
    (library / "old.py").write_text("".join(f'def f{n}():\n    "{text(n)}"\n' for n in range(12)))
    with monkeypatch.context() as patch:
        patch.setattr(platform, "python_version", lambda: "3.8.1")
        folder = made(home, PydocCorpus(root=library))
    assert read_manifest(folder).corpus["python"] == "3.8.1"
    (library / "old.py").write_text("".join(f'def f{n}():\n    "{text(n)}"\n' for n in range(1, 13)))
    report = follow(folder)
    assert (report.changes.added, report.changes.removed, report.added) == (1, 1, 1)
    assert report.manifest.corpus["python"] == platform.python_version()
    assert platform.python_version() in report.manifest.label
    with open_index(folder) as index:
        assert all("/3.8/" not in document.url for document in index.documents(index.live_rows()))
    assert not follow(folder).changes.any
    build(
        PydocCorpus(root=library), LsaEmbedder(), home, BuildOptions("made")
    )  # no other python is asked for


def test_a_collection_of_documents_is_followed(home: Home, tmp_path: Path):
    file = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"_id": f"d{n}", "title": "", "text": text(n)}) + "\n" for n in range(9)]
    file.write_text("".join(lines[:8]))
    folder = made(home, BeirCorpus(file))
    file.write_text("".join(lines[1:]))
    assert follow(folder).changes == Changes(added=1, removed=1, unchanged=7)
    assert not build(BeirCorpus(file), LsaEmbedder(), home, BuildOptions("made")).changes.any


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ({"kind": "hub", "repo": "a/b"}, "made cannot be updated: it holds a fixed state of a dataset"),
        ({"kind": "vectors"}, "came from a file: give all of them to `build vectors`"),
        ({"kind": "files", "paths": ["-"]}, "came from stdin: give all of them to its build command"),
        ({"kind": "files", "paths": ["/"], "colour": 1}, "this rsearch does not know its corpus: upgrade"),
        ({"kind": "files", "paths": []}, "this rsearch does not know its corpus"),
        ({"kind": "files", "paths": ["/"], "chunk": 5}, "this rsearch does not know its corpus"),
        ({"kind": "beir"}, "this rsearch does not know its corpus"),
        ({"kind": "of another package"}, "this rsearch does not know its corpus"),
    ],
)
def test_what_cannot_be_read_again_is_refused(home: Home, notes: Path, corpus: dict, words: str):
    folder = made(home, FilesCorpus([notes]))
    edit_manifest(folder, corpus=corpus)
    for again in (lambda: follow(folder), lambda: dry_follow(folder, BuildOptions("made"))):
        with pytest.raises((CorpusError, IndexFormatError), match=words):
            again()


def test_texts_from_python_are_refused(home: Home):
    build_index("made", [text(n) for n in range(9)], embedder="lsa", home=home.path).close()
    with pytest.raises(CorpusError, match="its texts came from Python: give all of them to build_index"):
        follow(home.index("made"))


def test_the_key_goes_to_no_address_that_only_the_index_names(home: Home, notes: Path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    folder = made(home, FilesCorpus([notes]))
    width = read_manifest(folder).full_dim
    embedder = OpenAIEmbedder(model="m", base_url="http://example.org/v1", api_key_env="MY_KEY", width=width)
    edit_manifest(folder, embedder=embedder.spec.to_json())
    with pytest.raises(CredentialsError, match="http://example.org/v1, which would get the key in MY_KEY"):
        follow(folder)


def test_adding_what_the_next_update_deletes_is_told(home: Home, notes: Path, tmp_path: Path):
    class Notes(Progress):
        def note(self, message: str) -> None:
            told.append(message)

    told: list[str] = []
    folder = made(home, FilesCorpus([notes]))
    (tmp_path / "other.md").write_text(text(90))
    add(folder, [tmp_path / "other.md"], progress=Notes())
    assert told == [f"made follows {notes}: what is not there goes again with the next `update`"]
    assert follow(folder).changes.removed == 1

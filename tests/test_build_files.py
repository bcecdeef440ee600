"""Builds of files: what is left out is kept by reason, and a build that was stopped makes the same index."""

import json
import threading
from pathlib import Path

import pytest

from resizable_search.build import build
from resizable_search.build_options import BuildOptions
from resizable_search.corpora.files import text as text_module
from resizable_search.corpora.files.corpus import FilesCorpus
from resizable_search.errors import BuildStoppedError, CorpusError, RsearchError
from resizable_search.index.layout import NAMES, Home
from resizable_search.index.manifest import read_manifest
from resizable_search.search import open_index
from tests.support import TableEmbedder


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    monkeypatch.setattr(text_module, "BLOCK_SIZE", 7)
    monkeypatch.setattr("resizable_search.embedding.LOOK_AHEAD", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for i in range(6):
        lines = "\n\n".join(f"Paragraph {j} of note {i} says little." for j in range(12))
        (folder / f"{i}.md").write_text(f"# Note {i}\n\n{lines}\n")
    (folder / "rows.csv").write_text(
        "id,text\n" + "".join(f"r{i % 9},row {i}\n" for i in range(20)) + "ragged\n"
    )
    (folder / "picture.png").write_bytes(b"\x89PNG" + bytes(100))
    return folder


def made(
    folder: Path, home: Path, embedder: TableEmbedder | None = None, stop=None, limit: int | None = None
):
    corpus = FilesCorpus([folder], chunk="100c", chunk_overlap=20)
    options = BuildOptions("notes", limit=limit)
    return build(corpus, embedder or TableEmbedder(), Home(home), options, stop=stop)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != NAMES.manifest
    }


def stop_after(texts: int) -> tuple[TableEmbedder, threading.Event]:
    embedder, stop = TableEmbedder(), threading.Event()
    embedder.before = lambda _: stop.set() if len(embedder.asked) >= texts else None
    return embedder, stop


@pytest.mark.parametrize("texts", [0, 10, 30, 50])
def test_a_build_that_was_stopped_makes_the_same_index(folder, tmp_path, texts: int):
    whole = made(folder, tmp_path / "whole")
    embedder, stop = stop_after(texts)
    with pytest.raises(BuildStoppedError):
        made(folder, tmp_path / "stopped", embedder, stop)
    again = made(folder, tmp_path / "stopped")
    assert contents(again.folder) == contents(whole.folder)
    assert again.manifest.source == whole.manifest.source


def test_a_larger_limit_goes_on_within_a_document(folder, tmp_path):
    whole = made(folder, tmp_path / "whole")
    made(folder, tmp_path / "grown", limit=17)
    grown = made(folder, tmp_path / "grown")
    assert len(grown.manifest.parts) == 2
    with open_index(whole.folder) as one, open_index(grown.folder) as other:
        assert one.documents(range(one.rows)) == other.documents(range(other.rows))


def test_a_folder_that_changed_meanwhile_is_refused_and_nothing_is_lost(folder, tmp_path):
    embedder, stop = stop_after(30)
    with pytest.raises(BuildStoppedError):
        made(folder, tmp_path / "home", embedder, stop)
    before = (folder / "3.md").stat()
    (folder / "new.txt").write_text("more")
    with pytest.raises(CorpusError, match="notes has changed since it was read"):
        made(folder, tmp_path / "home")
    (folder / "new.txt").unlink()
    assert (folder / "3.md").stat() == before
    assert contents(made(folder, tmp_path / "home").folder) == contents(
        made(folder, tmp_path / "whole").folder
    )


def test_what_is_left_out_is_told_by_name_and_reason(folder, tmp_path):
    home = tmp_path / "home"
    report = made(folder, home)
    told = {entry["id"]: entry["reason"] for entry in report.left_out}
    assert told == {"picture.png": "it is no text", "rows.csv:22": "it has 1 value for 2 columns"}
    kept = json.loads((home / ".state" / "notes" / "report.json").read_text())
    assert kept["left_out"] == list(report.left_out)
    assert read_manifest(report.folder).source.left_out == 2


def test_chunks_of_documents_with_one_id_have_ids_of_their_own(folder, tmp_path):
    with open_index(made(folder, tmp_path / "home").folder) as index:
        found = [d for d in index.documents(range(index.rows)) if d.metadata["path"] == "rows.csv"]
    assert [d.id for d in found][:11] == [*(f"r{i}#c1" for i in range(9)), "r0#c1#2", "r1#c1#2"]
    assert all(d.metadata["document"] == d.id.partition("#")[0] for d in found)


def test_a_folder_of_which_nothing_can_be_read_says_why(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("day,price\n1,2\n")
    (folder / "b.txt").write_text(" \n")
    with pytest.raises(
        CorpusError, match=r"among the 2 that were read \(a.csv: it has no column 'text': .*\): there"
    ):
        made(folder, tmp_path / "home")
    assert not (tmp_path / "home" / ".building" / "notes").exists()


def test_asked_to_fail_a_build_names_what_cannot_be_read(folder, tmp_path):
    corpus = FilesCorpus([folder])
    options = BuildOptions("notes", on_bad_text="fail")
    with pytest.raises(
        RsearchError, match=r"'picture.png' has no text \(it is no text\): .*--on-bad-text skip"
    ):
        build(corpus, TableEmbedder(), Home(tmp_path / "home"), options)

"""Builds of files: what is left out is kept by reason, and a build that was stopped makes the same index."""

import errno
import io
import json
import os
import threading
from pathlib import Path

import pytest

from resizable_search.build.build import add, build
from resizable_search.build.report import Changes
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora import base
from resizable_search.corpora.files import RULES, FilesCorpus, StdinCorpus
from resizable_search.errors import BuildStoppedError, CorpusError, RsearchError
from resizable_search.search.index import open_index
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from tests.support import TableEmbedder


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch):
    monkeypatch.setattr(base, "BLOCK_SIZE", 7)
    monkeypatch.setattr("resizable_search.build.embed.LOOK_AHEAD", 5)


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
    folder: Path,
    home: Path,
    embedder: TableEmbedder | None = None,
    stop=None,
    limit: int | None = None,
    **reading,
):
    corpus = FilesCorpus([folder], **{"chunk": "100c", "chunk_overlap": 20, **reading})
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


def held(folder: Path) -> dict[str, tuple[str, dict, bytes]]:
    """What an index has of each document that can be found, by id."""
    with open_index(folder, embedder=TableEmbedder()) as index:
        rows = index.live_rows()
        return {
            d.id: (d.text, dict(d.metadata), vector.tobytes())
            for d, vector in zip(index.documents(rows), index.vectors(rows), strict=True)
        }


@pytest.mark.parametrize("texts", [0, 5, 30, 50])
def test_a_folder_that_changed_under_a_stopped_build_is_followed_and_nothing_is_paid_for_twice(
    folder, tmp_path, texts: int
):
    embedder, stop = stop_after(texts)
    with pytest.raises(BuildStoppedError):
        made(folder, tmp_path / "home", embedder, stop)
    (folder / "0.md").rename(folder / "9.md")
    (folder / "1.md").write_text("# Another\n\nwords of its own\n")
    (folder / "2.md").unlink()
    (folder / "5.md").write_text("# Begun\n\n" + (folder / "5.md").read_text())
    again = TableEmbedder()
    report = made(folder, tmp_path / "home", again)
    assert held(report.folder) == held(made(folder, tmp_path / "whole").folder)
    assert not set(embedder.asked) & set(again.asked)
    assert made(folder, tmp_path / "home", again).changes == Changes(unchanged=report.manifest.documents)


def test_the_same_build_again_embeds_what_is_new_and_changed_and_drops_what_vanished(folder, tmp_path):
    before = made(folder, tmp_path / "home").manifest.documents
    (folder / "0.md").rename(folder / "sub.md")
    (folder / "1.md").write_text("# Another\n\nwords of its own\n")
    (folder / "2.md").unlink()
    (folder / "new.txt").write_text("more of it")
    (folder / "3.md").touch()
    asked = TableEmbedder()
    report = made(folder, tmp_path / "home", asked)
    assert sorted(asked.asked) == ["# Another\n\nwords of its own", "more of it"]
    changes = report.changes
    assert (changes.added, changes.changed, report.manifest.documents) == (1, 1, len(held(report.folder)))
    assert changes.unchanged + changes.changed + changes.renamed + changes.removed == before
    assert held(report.folder) == held(made(folder, tmp_path / "whole").folder)
    assert {entry["id"] for entry in report.left_out} == {"picture.png", "rows.csv:22"}


@pytest.mark.parametrize("refused", ["3.md", "sub"])
def test_what_cannot_be_read_now_stays_in_the_index_and_is_told(folder, tmp_path, monkeypatch, refused: str):
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.txt").write_text("deep down")
    (folder / "sub.txt").write_text("a sibling by name")
    made(folder, tmp_path / "home")
    place = folder / refused
    for name in ("open", "scandir"):
        plain = getattr(os, name)

        def guarded(path, *rest, plain=plain, **named):
            if str(path) == str(place):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return plain(path, *rest, **named)

        monkeypatch.setattr(os, name, guarded)
    (folder / "sub.txt").unlink()
    (folder / "4.md").unlink()
    report = made(folder, tmp_path / "home")
    told = {entry["id"]: entry["reason"] for entry in report.left_out}
    assert told[refused] == "it cannot be read (Permission denied)"
    paths = {metadata["path"] for _, metadata, _ in held(report.folder).values()}
    assert paths == {"0.md", "1.md", "2.md", "3.md", "5.md", "rows.csv", "sub/deep.txt"}
    monkeypatch.undo()
    assert not made(folder, tmp_path / "home").changes.any


def test_lines_that_are_piped_in_again_are_followed(tmp_path):
    def piped(*texts: str) -> tuple[Changes | None, list[str]]:
        lines = "".join(json.dumps({"id": text[0], "text": text}) + "\n" for text in texts)
        embedder = TableEmbedder()
        corpus = StdinCorpus(io.BufferedReader(io.BytesIO(lines.encode())))
        report = build(corpus, embedder, Home(tmp_path), BuildOptions("lines"))
        return report.changes, embedder.asked

    assert piped("a one", "b two", "c three") == (None, ["a one", "b two", "c three"])
    assert piped("b two", "c three!", "d four") == (
        Changes(added=1, changed=2, removed=1),  # b is on another line
        ["c three!", "d four"],
    )


NEW = {"chars": None, "chunk": "400", "chunk_overlap": 0, "rules": RULES}


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    guide = tmp_path / "guide"
    guide.mkdir()
    for name in ("Guide", "Other"):
        sections = f"## Setup\n\n{'Install it. ' * 90}\n\n## Use\n\n{'Run it. ' * 90}\n"
        (guide / f"{name}.md").write_text(f"# {name}\n\nWelcome.\n\n{sections}")
    (guide / "short.txt").write_text("A few words.")
    return guide


def test_title_and_headings_are_embedded_before_a_chunk_and_not_stored_in_its_text(guide, tmp_path):
    embedder = TableEmbedder()
    report = made(guide, tmp_path / "home", embedder, **NEW)
    contents = held(report.folder)
    assert list(contents) == ["Guide.md#c1", "Guide.md#c2", "Other.md#c1", "Other.md#c2", "short.txt"]
    text, metadata, _ = contents["Guide.md#c2"]
    assert text == f"## Use\n\n{'Run it. ' * 90}".rstrip()
    assert metadata["heading"] == "Guide › Use"
    assert f"Guide › Use\n\n{text}" in embedder.asked
    assert "short.txt\n\nA few words." in embedder.asked
    assert len(embedder.asked) == 5
    assert report.manifest.corpus["rules"] == RULES


def test_such_an_index_follows_its_folder_and_embeds_what_is_embedded_otherwise_now(guide, tmp_path):
    made(guide, tmp_path / "home", **NEW)
    embedder = TableEmbedder()
    assert not made(guide, tmp_path / "home", embedder, **NEW).changes.any
    (guide / "short.txt").rename(guide / "z.txt")  # its name is its title
    (guide / "Other.md").rename(guide / "Else.md")
    page = (guide / "Guide.md").read_text()
    (guide / "Guide.md").write_text(page.replace("## Use", "## Usage"))
    report = made(guide, tmp_path / "home", embedder, **NEW)
    assert [text.partition("\n")[0] for text in embedder.asked] == ["Guide › Usage", "z.txt"]
    assert report.changes == Changes(added=1, changed=1, removed=1, renamed=2, unchanged=1)
    assert held(report.folder) == held(made(guide, tmp_path / "whole", **NEW).folder)


@pytest.mark.parametrize("texts", [0, 2, 4])
def test_a_build_with_headings_that_was_stopped_asks_for_nothing_twice(guide, tmp_path, texts: int):
    embedder, stop = stop_after(texts)
    embedder.batch_size = 1
    with pytest.raises(BuildStoppedError):
        made(guide, tmp_path / "home", embedder, stop, **NEW)
    again = TableEmbedder()
    report = made(guide, tmp_path / "home", again, **NEW)
    assert sorted(embedder.asked + again.asked) == sorted(set(embedder.asked + again.asked))
    assert contents(report.folder) == contents(made(guide, tmp_path / "whole", **NEW).folder)


def test_equal_chunks_under_equal_headings_are_embedded_once(guide, tmp_path):
    (guide / "copy").mkdir()
    for path in guide.glob("*.md"):
        (guide / "copy" / path.name).write_text(path.read_text())
    embedder = TableEmbedder()
    report = made(guide, tmp_path / "home", embedder, **NEW)
    assert (len(embedder.asked), report.manifest.documents) == (5, 9)


@pytest.mark.parametrize("chunk", ["100c", None])
def test_an_index_built_before_follows_its_folder_by_its_own_rules(guide, tmp_path, chunk):
    (guide / "a.min.js").write_text("var a;" * 999)
    (guide / "page.html").write_text("<nav>Menu</nav><p>Words")
    before = held(made(guide, tmp_path / "home", chunk=chunk, chunk_overlap=0).folder)
    embedder = TableEmbedder()
    report = made(guide, tmp_path / "home", embedder, chunk=chunk, chunk_overlap=0, rules=RULES)
    assert report.changes == Changes(unchanged=len(before))
    assert embedder.asked == []
    (guide / "new.txt").write_text("more")
    report = made(guide, tmp_path / "home", embedder, chunk=chunk, chunk_overlap=0, rules=RULES)
    assert embedder.asked == ["more"]
    after = held(report.folder)
    assert {id_: after[id_] for id_ in before} == before


def test_patterns_may_change_without_a_new_index(guide, tmp_path):
    made(guide, tmp_path / "home", **NEW)
    embedder = TableEmbedder()
    report = made(guide, tmp_path / "home", embedder, **NEW, exclude=["Other.md"])
    assert report.changes == Changes(removed=2, unchanged=3, excluded=2)
    assert report.manifest.corpus["exclude"] == ["Other.md"]
    report = made(guide, tmp_path / "home", embedder, **NEW, include=["*.md", "*.txt"], exclude=["Other.md"])
    assert not report.changes.any
    assert read_manifest(report.folder).corpus["include"] == ["*.md", "*.txt"]
    report = made(guide, tmp_path / "home", embedder, **NEW, include=["O*"])
    assert report.changes == Changes(added=2, removed=3, excluded=3)
    assert len(embedder.asked) == 2
    assert "exclude" not in read_manifest(report.folder).corpus


@pytest.mark.parametrize("rules", [1, RULES])
def test_added_files_are_read_by_the_rules_of_the_index(guide, tmp_path, rules: int):
    reading = {**NEW, "rules": rules}
    folder = made(guide, tmp_path / "home", **reading).folder
    (guide / "more.md").write_text("# More\n\nSome words.")
    embedder = TableEmbedder()
    add(folder, [guide / "more.md"], embedder=embedder)
    added = held(folder)["more.md" if rules == RULES else "more.md#c1"]
    assert added[0] == "# More\n\nSome words."
    assert embedder.asked == [f"More\n\n{added[0]}" if rules == RULES else added[0]]
    report = add(folder, [guide / "more.md", guide / "Guide.md"], embedder=embedder)
    assert (report.changes.any, len(embedder.asked)) == (False, 1)
    assert not made(guide, tmp_path / "home", embedder, **reading).changes.any


def test_what_is_left_out_is_told_by_name_and_reason(folder, tmp_path):
    home = tmp_path / "home"
    report = made(folder, home)
    told = {entry["id"]: entry["reason"] for entry in report.left_out}
    assert told == {"picture.png": "it is not text", "rows.csv:22": "it has 1 value for 2 columns"}
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
        RsearchError, match=r"'picture.png' has no text \(it is not text\): .*`on_bad_text=skip`"
    ):
        build(corpus, TableEmbedder(), Home(tmp_path / "home"), options)

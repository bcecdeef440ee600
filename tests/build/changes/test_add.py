import io
import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from resizable_search.admin.overview import describe_index
from resizable_search.build.build import add
from resizable_search.build.delete import delete
from resizable_search.build.report import Changes
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.corpora.files import FilesCorpus
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.errors import (
    BuildStateError,
    CorpusError,
    EmbedderMismatchError,
    ServiceError,
    UsageError,
)
from resizable_search.progress import SILENT, Progress
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import verify
from tests.support import ListCorpus, TableEmbedder, articles


def write(path: Path, documents) -> Path:
    path.write_text(
        "".join(
            json.dumps({"id": d.id, "title": d.title, "url": d.url, "text": d.text, **d.metadata}) + "\n"
            for d in documents
        )
    )
    return path


@pytest.fixture
def made(place, tmp_path):
    place.build(articles(40))
    return place


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def added(place, *files, embedder=None, **how):
    return add(place.folder, files, embedder=embedder or TableEmbedder(width=96), **how)


def test_documents_become_a_part_and_are_found(made, tmp_path):
    one = write(tmp_path / "b.jsonl", articles(3, "b"))
    two = write(tmp_path / "c.jsonl", [Document(f"c{i}", "", "", f"{i} other words") for i in range(3)])
    report = added(made, one, two)
    assert report.changes == Changes(added=6, unchanged=40)
    assert made.ids() == [*(f"a{i}" for i in range(40)), *(f"{p}{i}" for p in "bc" for i in range(3))]
    vector = TableEmbedder(width=96).vector("1 other words")
    with made.open() as index:
        assert index.documents(index.scan(vector[None], k=1).rows[0])[0].id == "c1"
    assert verify("made", made.home, full=True).damaged == ()
    assert not made.home.building("made").exists()


def test_an_id_that_there_is_adds_nothing(made, tmp_path):
    before = made.contents()
    file = write(tmp_path / "new.jsonl", [*articles(2, "b"), Document("a7", "", "", "other")])
    with pytest.raises(CorpusError, match=r"made has another document 'a7': nothing was added; .* `replace`"):
        added(made, file)
    assert made.contents() == before
    assert not made.home.building("made").exists()


def test_documents_that_the_index_has_just_so_are_passed_over(made, tmp_path):
    before = made.contents()
    report = added(made, write(tmp_path / "new.jsonl", articles(8)))
    assert report.changes == Changes(unchanged=40)
    assert made.contents() == before


def test_an_id_that_the_files_have_twice_adds_nothing(made, tmp_path):
    file = write(tmp_path / "new.jsonl", [*articles(2, "b"), *articles(1, "b")])
    with pytest.raises(CorpusError, match="the id 'b0' comes twice"):
        added(made, file)


def test_a_document_takes_the_place_of_the_one_with_its_id(made, tmp_path):
    new = [
        Document("a7", "Title 7", "u", "another text"),
        Document("a8", "another title", "u", "text 8 of a"),
        articles(10)[9],
        Document("b", "", "", "new"),
    ]
    embedder = TableEmbedder(width=96)
    report = added(made, write(tmp_path / "new.jsonl", new), replace=True, embedder=embedder)
    assert report.changes == Changes(added=1, changed=2, unchanged=38)
    assert sorted(embedder.asked) == ["another text", "new"]
    assert made.ids()[-3:] == ["a7", "a8", "b"]
    assert made.ids().count("a7") == 1


def test_the_id_of_a_deleted_document_may_be_added_again(made, tmp_path):
    delete(made.folder, ["a7"])
    added(made, write(tmp_path / "new.jsonl", [articles(8)[7]]))
    assert made.ids()[-1] == "a7"


def test_what_was_embedded_before_a_failure_is_not_paid_again(made, tmp_path, monkeypatch):
    monkeypatch.setattr("resizable_search.embedders.request_pool.FIRST_PAUSE", 0.001)
    file = write(tmp_path / "new.jsonl", articles(30, "b"))
    embedder = TableEmbedder(width=96, remote=True)

    def fail(texts):
        if len(embedder.asked) >= 20:
            raise ServiceError("gone; try later")

    embedder.before = fail
    before = made.contents()
    with pytest.raises(ServiceError, match="20 new texts are embedded and safe; the same command resumes"):
        added(made, file, embedder=embedder, options=BuildOptions("made", concurrency=1))
    assert made.contents() == before
    again = TableEmbedder(width=96, remote=True)
    assert added(made, file, embedder=again).changes == Changes(added=30, unchanged=40)
    assert len(again.asked) == 10


def test_an_unfinished_extension_lends_its_answers_and_keeps_the_others(place, tmp_path):
    place.parts(articles(99), 40)
    with pytest.raises(ConnectionError):
        place.build([], corpus=ListCorpus(articles(99), break_at=80), limit=90)
    notes, again = Notes(), TableEmbedder(remote=True)
    report = added(
        place,
        write(tmp_path / "new.jsonl", [*articles(2, "b"), *articles(61)[60:]]),
        embedder=again,
        progress=notes,
    )
    assert (again.asked, report.added) == (["text 0 of b", "text 1 of b"], 2)
    assert "29 texts that another command has embedded are kept: its next run uses them" in notes.notes
    rest = TableEmbedder(remote=True)
    report = place.build(articles(99), limit=90, embedder=rest)
    assert sorted(rest.asked) == sorted(["text 60 of a", *(f"text {i} of a" for i in range(70, 90))])
    assert report.manifest.rows == 40 + 3 + 50
    assert not place.home.building("made").exists()


def test_a_replacement_that_is_not_finished_is_to_be_ended_first(place, tmp_path):
    place.parts(articles(99), 40)
    with pytest.raises(ConnectionError):
        place.build([], corpus=ListCorpus(articles(99), break_at=80), restart=True)
    with pytest.raises(BuildStateError, match="another build of made is not finished: give its command"):
        added(place, write(tmp_path / "new.jsonl", articles(2, "b")))


def test_another_model_adds_nothing(made, tmp_path):
    with pytest.raises(EmbedderMismatchError, match="was embedded by table, and other cannot add to it"):
        added(made, write(tmp_path / "n.jsonl", articles(1, "b")), embedder=TableEmbedder(model="other"))


def test_vectors_that_were_given_are_not_added_to(tmp_path, place):
    from resizable_search.build.build import build_vectors

    np.save(tmp_path / "rows.npy", np.eye(4, dtype=np.float32))
    build_vectors(tmp_path / "rows.npy", place.home, BuildOptions("made"))
    with pytest.raises(UsageError, match="nothing here embeds texts as they were"):
        add(place.folder, [write(tmp_path / "n.jsonl", articles(1, "b"))])


def test_adding_costs_what_comes_and_not_what_the_index_weighs(place, tmp_path):
    """By the bytes that this process reads and writes, as the kernel counts them."""

    def spent() -> int:
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(counts["rchar"]) + int(counts["wchar"])

    if not Path("/proc/self/io").exists():
        pytest.skip("no /proc/self/io here")
    costs = {}
    for rows in (40, 1500):
        place.build(articles(rows), name="made", restart=True)
        added(place, write(tmp_path / "warm.jsonl", articles(1, "warm")))
        begin = spent()
        added(place, write(tmp_path / "new.jsonl", articles(20, "b")))
        costs[rows] = spent() - begin
    weight = sum(entry.bytes for entry in read_manifest(place.folder).all_files().values())
    assert weight > 1_000_000
    assert costs[1500] < costs[40] + weight / 10


def test_info_tells_when_a_refit_is_due(place, tmp_path):
    from resizable_search.cli.indexes import info_lines
    from resizable_search.search.index import open_index

    words = [Document(f"d{i}", "", "", f"tree{i % 5} data structure{i % 3}") for i in range(30)]
    place.build(words, embedder=LsaEmbedder(width=8), dims=(4,))

    def told() -> str:
        with open_index("made", home=place.home.path) as index:
            return "\n".join(words for _, words in info_lines(describe_index(index)))

    assert "came after lsa was fitted" not in told()
    for count, prefix in ((20, "b"), (20, "c")):
        file = write(
            tmp_path / "n.jsonl", [Document(f"{prefix}{i}", "", "", "tree1 data") for i in range(count)]
        )
        add(place.folder, [file])
        assert ("build again with --refit" in told()) is (prefix == "c")
    assert "40 of 70 documents came after lsa was fitted; build again with --refit" in told()


@pytest.fixture
def notes(place, tmp_path):
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "one.md").write_text("# One\n\nthe first of the notes\n")
    place.build([], corpus=FilesCorpus([folder], chunk="100c"), embedder=TableEmbedder(width=96))
    return folder


def test_files_of_any_kind_come_as_the_index_has_its_own(place, notes):
    (notes / "sub" / "two.md").write_text("# Two\n\n" + "a second one, which is longer. " * 8)
    (notes / "three.csv").write_text("id,text\nx,a row\nragged\n")
    added(place, notes / "sub")  # whose files have the ids that they have below the index's own folder
    report = added(place, notes / "three.csv")
    assert {entry["id"]: entry["reason"] for entry in report.left_out} == {
        "three.csv:3": "it has 1 value for 2 columns"
    }
    assert place.ids() == ["one.md#c1", *(f"sub/two.md#c{n}" for n in (1, 2, 3, 4)), "x#c1"]
    again = TableEmbedder(width=96)
    after = place.build([], corpus=FilesCorpus([notes], chunk="100c"), embedder=again)
    assert (after.changes, again.asked) == (Changes(unchanged=6), [])


def test_what_does_not_lie_among_an_index_s_files_is_taken_and_told_to_go_again(place, notes, tmp_path):
    (tmp_path / "far.txt").write_text("from far away")
    lines = io.BufferedReader(io.BytesIO(b'{"id": "piped", "text": "from a pipe"}\n'))
    notes_told: list[str] = []
    progress = Mock(SILENT, note=notes_told.append)
    added(place, tmp_path / "far.txt", progress=progress)
    added(place, lines, progress=progress)
    assert place.ids() == ["one.md#c1", "far.txt#c1", "piped#c1"]
    assert len([note for note in notes_told if f"follows {notes}: what is not there goes again" in note]) == 2
    after = place.build([], corpus=FilesCorpus([notes], chunk="100c"), embedder=TableEmbedder(width=96))
    assert after.changes == Changes(removed=2, unchanged=1)


def test_text_files_are_added_to_an_index_of_another_kind(made, tmp_path):
    (tmp_path / "page.html").write_text("<title>A page</title><p>of some words</p>")
    added(made, tmp_path / "page.html", write(tmp_path / "b.jsonl", articles(1, "b")))
    with made.open() as index:
        page, b = index.documents([41, 40])
    assert (page.id, page.title, page.text) == ("page.html", "A page", "of some words")
    assert b.id == "b0"


def test_a_file_that_is_not_there_adds_nothing(made, tmp_path):
    before = made.contents()
    with pytest.raises(UsageError, match=r"nothing.md does not exist"):
        added(made, tmp_path / "nothing.md")
    assert made.contents() == before

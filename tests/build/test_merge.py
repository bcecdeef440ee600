import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from resizable_search.build import merge as merging
from resizable_search.build.build import add, build, compact, follow
from resizable_search.build.delete import delete
from resizable_search.build.merge import merge
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.files import RULES, FilesCorpus
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    EmbedderMismatchError,
    IndexFormatError,
    RsearchError,
    UsageError,
)
from resizable_search.search.index import open_index
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import verify
from tests.build.changes.conftest import contents
from tests.support import ListCorpus, TableEmbedder, articles

COUNT = 5


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Notes, a table that is larger than a shard, and a file without text."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(6):
        (folder / f"n{number}.md").write_text(f"# Note {number}\n\n" + f"words of note {number}. " * 8)
    lines = [json.dumps({"id": f"r{n}", "text": f"record {n}" + " and more" * (n % 7)}) for n in range(200)]
    (folder / "t.jsonl").write_text("\n\n".join(lines) + "\n")
    (folder / "z.md").write_text("")
    return folder


def make(home: Home, name: str, corpus, embedder=None, **options) -> Path:
    embedder = embedder or TableEmbedder(remote=True)
    build(corpus, embedder, home, BuildOptions(name, **{"dims": (16,), **options}))
    return home.index(name)


def shards(home: Home, folder: Path, count: int = COUNT, **options) -> list[Path]:
    numbers = range(1, count + 1)
    corpora = [FilesCorpus([folder], rules=RULES, shard=f"{number}/{count}", **options) for number in numbers]
    return [make(home, f"s{number}", corpus) for number, corpus in zip(numbers, corpora, strict=True)]


def lists(home: Home, *prefixes: str) -> list[Path]:
    return [make(home, prefix, ListCorpus(articles(30, prefix))) for prefix in prefixes]


def merged(home: Home, folders, name: str = "all", **options):
    return merge(folders, home, BuildOptions(name), **options)


def answers(home: Home, name: str) -> list[list[tuple[str, float]]]:
    queries = np.random.default_rng(0).standard_normal((3, 96)).astype(np.float32)
    with open_index(name, home=home.path, embedder=TableEmbedder()) as index:
        top = index.scan(queries, k=50)
        return [
            [(d.id, float(score)) for d, score in zip(index.documents(rows), scores, strict=True)]
            for rows, scores in zip(top.rows, top.scores, strict=True)
        ]


def test_all_shards_of_a_folder_answer_as_one_build_and_have_its_bytes_after_compacting(home, folder):
    make(home, "whole", FilesCorpus([folder], rules=RULES))
    report = merged(home, reversed(shards(home, folder)))
    assert (report.manifest.documents, len(report.manifest.parts), report.read) == (206, COUNT, 207)
    assert min(part.rows for part in report.manifest.parts) > 30
    assert answers(home, "all") == answers(home, "whole")
    assert verify("all", home, full=True).damaged == ()
    means = {part.files["tiers/96.mean.npy"] for part in report.manifest.parts}
    assert len(means) == 1  # so that scores of one-bit codes can be compared
    compact(home.index("all"))
    without = ("generation", "source")
    assert contents(home.index("all"), without) == contents(home.index("whole"), without)
    source, whole = (read_manifest(home.index(name)).source for name in ("all", "whole"))
    assert (source.read, source.exhausted, source.last_id) == (whole.read, True, whole.last_id)
    assert (source.left_out, whole.left_out) == (1, 1)


def test_a_merged_index_of_shards_follows_its_folder(home, folder, monkeypatch):
    monkeypatch.setattr("resizable_search.build.build.own_embedder", lambda *_: TableEmbedder())
    merged(home, shards(home, folder))
    (folder / "n0.md").unlink()
    changes = follow(home.index("all")).changes
    assert (changes.removed, changes.unchanged, changes.changed) == (1, 205, 0)


def test_a_shard_is_resumed_and_is_complete(home, folder):
    corpus = FilesCorpus([folder], rules=RULES, shard="3/5")
    embedder = TableEmbedder(remote=True)

    def fail(texts):
        if len(embedder.asked) >= 20:
            raise EmbedderMismatchError("it broke")

    embedder.before = fail
    with pytest.raises(EmbedderMismatchError):
        make(home, "s3", corpus, embedder)
    again = TableEmbedder(remote=True)
    make(home, "s3", FilesCorpus([folder], rules=RULES, shard="3/5"), again)
    assert not set(embedder.asked) & set(again.asked)
    make(home, "s3", FilesCorpus([folder], rules=RULES, shard="3/5"), last := TableEmbedder())
    assert last.asked == []
    with pytest.raises(BuildStateError, match=r"`shard` 3/5, not 4/5 as asked now"):
        make(home, "s3", FilesCorpus([folder], rules=RULES, shard="4/5"))
    with pytest.raises(CorpusError, match=r"it is shard 3/5 of its corpus; merge all shards"):
        follow(home.index("s3"))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/", "²/3", "1/2/3"])
def test_a_shard_that_there_is_not_is_refused(folder, text):
    with pytest.raises(UsageError, match=r"`shard` must be one of all shards, such as 3/16"):
        FilesCorpus([folder], shard=text)


def test_a_fitted_embedder_takes_no_shard(home, folder):
    with pytest.raises(UsageError, match=r"lsa learns from the whole corpus: leave `shard` out"):
        make(home, "s1", FilesCorpus([folder], shard="1/2"), LsaEmbedder())


def test_shards_that_are_not_all_of_one_corpus_are_refused(home, folder, tmp_path):
    s1, s2, s3 = shards(home, folder, 3)
    (other,) = lists(home, "other")
    with pytest.raises(BuildStateError, match=r"shards are missing \(1/3\)"):
        merged(home, [s2, s3])
    with pytest.raises(
        BuildStateError, match=r"not 3 shards: name each of 1/3 to 3/3 once, not .*other \(no shard\)"
    ):
        merged(home, [s1, s2, s3, other])
    with pytest.raises(UsageError, match=r"each of them once"):
        merged(home, [s1, s2, s3, s2])
    with pytest.raises(UsageError, match=r"two indexes or more"):
        merged(home, [s1])
    more = make(home, "more", FilesCorpus([folder], rules=RULES, shard="2/3"))
    with pytest.raises(BuildStateError, match=r"once, not .*s2 \(2/3\), .*more \(2/3\)"):
        merged(home, [s1, s2, s3, more])
    make(home, "more", FilesCorpus([folder], rules=RULES, shard="2/4"), restart=True)
    with pytest.raises(BuildStateError, match=r"missing \(2/3\): .*more \(2/4\)"):
        merged(home, [s1, s3, more])
    make(home, "more", FilesCorpus([folder], rules=RULES, shard="2/3", chars=10), restart=True)
    with pytest.raises(BuildStateError, match=r"not shards of one corpus: `chars` is 1200 and 10"):
        merged(home, [s1, s3, more])
    (folder / "n0.md").write_text("longer " * 30)
    make(home, "more", FilesCorpus([folder], rules=RULES, shard="2/3"), restart=True)
    with pytest.raises(BuildStateError, match=r"not shards of the same files: .* `restart`"):
        merged(home, [s1, s3, more])
    assert not home.index("all").exists()


def test_indexes_come_in_the_order_given_and_can_be_changed_afterwards(home):
    a, b = lists(home, "a", "b")
    delete(a, ["a1"])
    delete(b, ["b0", "b29"])
    report = merged(home, [b, a])
    assert (report.manifest.label, report.manifest.corpus["kind"]) == ("a list, a list", "merged")
    assert (report.manifest.rows, report.manifest.documents) == (60, 57)
    with open_index("all", home=home.path, embedder=TableEmbedder()) as index:
        found = [document.id for document in index.documents(index.live_rows())]
    assert found == [d.id for d in (*articles(30, "b")[1:29], *articles(30, "a")) if d.id != "a1"]
    delete(report.folder, ["b5", "a5"])
    more = home.path / "more.jsonl"
    more.write_text(json.dumps({"id": "new", "text": "text of a new one"}))
    add(report.folder, [more], embedder=TableEmbedder())
    assert verify("all", home, full=True).damaged == ()
    with open_index("all", home=home.path, embedder=TableEmbedder()) as index:
        assert index.rows == 56
    with pytest.raises(CorpusError, match=r"it was merged of other indexes"):
        follow(report.folder)


def test_costs_and_what_was_left_out_are_summed(home):
    blank = [*articles(30, "b"), articles(1, "blank")[0].__class__("blank", "", "", " ")]
    a = lists(home, "a")[0]
    b = make(home, "b", ListCorpus(blank))
    report = merged(home, [a, b])
    assert (report.total.requests, report.runs) == (6, 2)
    assert [entry["id"] for entry in report.left_out] == ["blank"]
    written = json.loads((home.state("all") / NAMES.report).read_bytes())
    assert (written["total"]["requests"], written["documents"]) == (6, 60)
    (home.state("a") / NAMES.report).write_text("{}")
    assert merged(home, [a, b], "again").total.requests == 3


def test_what_does_not_fit_is_refused(home):
    a = lists(home, "a")[0]
    b = make(home, "b", ListCorpus(articles(30, "b")), TableEmbedder(model="another"))
    with pytest.raises(EmbedderMismatchError, match=r"a was embedded by table, and b by another"):
        merged(home, [a, b])
    b = make(home, "b", ListCorpus(articles(30, "b")), dims=(8,), restart=True)
    with pytest.raises(RsearchError, match=r"a stores 16, 96 dimensions, and b 8, 96: .* `dims`"):
        merged(home, [a, b])
    b = make(home, "b", ListCorpus([*articles(5, "b"), *articles(3, "a")]), restart=True)
    with pytest.raises(RsearchError, match=r"both have a document 'a0': delete it from one of them"):
        merged(home, [a, b])
    delete(b, ["a0", "a1", "a2"])
    assert merged(home, [a, b]).manifest.documents == 35
    delete(b, [f"b{number}" for number in range(5)])
    with pytest.raises(RsearchError, match=r"b has a part without documents: `compact b` first"):
        merged(home, [a, b], "other")
    first, second = (make(home, name, ListCorpus(articles(9, name)), LsaEmbedder()) for name in ("c", "d"))
    with pytest.raises(EmbedderMismatchError, match=r"d by another state of it"):
        merged(home, [first, second], "other")


def test_a_name_that_is_taken_is_refused_and_the_same_merge_is_complete(home):
    a, b = lists(home, "a", "b")
    first = merged(home, [a, b])
    again = merged(home, [a, b])
    assert (again.added, again.manifest) == (0, first.manifest)
    with pytest.raises(BuildStateError, match=r"all exists: choose another `name`"):
        merged(home, [b, a])
    (home.building("other")).mkdir()
    (home.building("other") / NAMES.work).touch()
    with pytest.raises(BuildStateError, match=r"a build of other is not finished"):
        merged(home, [a, b], "other")


@pytest.mark.parametrize("links", [True, False], ids=["linked", "copied"])
def test_a_merge_that_was_stopped_is_resumed(home, monkeypatch, links):
    a, b = lists(home, "a", "b")
    (home.building("all") / NAMES.staged).mkdir(parents=True)
    (home.building("all") / NAMES.staged / "stray.npy").touch()
    stop, taken = threading.Event(), []
    take = merging._take_file

    def slow(origin, path, entry):
        take(origin, path, entry)
        taken.append(path)
        if len(taken) == 5:
            stop.set()

    def link(*_):
        raise OSError("another disk")

    monkeypatch.setattr(merging, "_take_file", slow)
    if not links:
        monkeypatch.setattr(os, "link", link)
    with pytest.raises(BuildStoppedError, match="the same command resumes the merge"):
        merged(home, [a, b], stop=stop)
    before = [path.stat().st_ino for path in taken]
    stop.clear()
    merged(home, [a, b])
    assert [path.stat().st_ino for path in before_moved(home, taken[:5])] == before
    assert verify("all", home, full=True).damaged == ()
    assert not home.building("all").exists()
    is_linked = (a / "96.npy").stat().st_ino == (home.index("all") / "96.npy").stat().st_ino
    assert is_linked == links


def before_moved(home: Home, paths) -> list[Path]:
    staged = home.building("all") / NAMES.staged
    return [home.index("all") / path.relative_to(staged) for path in paths]


def test_a_damaged_file_is_not_taken(home):
    a, b = lists(home, "a", "b")
    content = bytearray((b / "16.npy").read_bytes())
    content[-1] ^= 1
    (b / "16.npy").write_bytes(content)
    with pytest.raises(IndexFormatError, match=r"16.npy is not as it was written: look with `verify`"):
        merged(home, [a, b])
    assert not home.index("all").exists()

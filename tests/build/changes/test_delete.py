import errno
import os

import pytest

from resizable_search.build.delete import delete, plan_deletion
from resizable_search.errors import IndexBusyError, RsearchError, StorageError, UsageError
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import verify
from resizable_search.system import build_lock
from tests.support import articles


@pytest.fixture
def made(place):
    """Two parts: 60 and 35 rows."""
    place.parts(articles(95), 60, 95)
    return place


def test_documents_are_gone_from_every_answer_and_no_other_is(made):
    before = made.answers(k=95)
    found = delete(made.folder, ["a3", "a94", "a59"])
    assert (found.rows, found.left, found.missing) == ((3, 94, 59), 92, ())
    gone = {"a3", "a94", "a59"}
    assert made.answers(k=95) == [[hit for hit in hits if hit[0] not in gone] for hits in before]
    assert verify("made", made.home, full=True).damaged == ()


def test_an_id_that_there_is_not_deletes_nothing(made):
    before = made.contents()
    with pytest.raises(RsearchError, match=r"made has no document 'x', 'a300' \(2 ids of 3 unknown\)"):
        delete(made.folder, ["a3", "x", "a300"])
    assert made.contents() == before


def test_unknown_ids_are_passed_over_if_that_is_asked_for(made):
    found = delete(made.folder, ["x", "a3", "x"], missing_ok=True)
    assert (found.rows, found.missing, found.left) == ((3,), ("x",), 94)
    again = delete(made.folder, ["a3"], missing_ok=True)
    assert (again.rows, again.missing) == ((), ("a3",))
    assert read_manifest(made.folder).generation == 3


def test_what_would_be_deleted_is_told_without_writing(made):
    before = made.contents()
    assert plan_deletion(made.folder, ["a3"]).left == 94
    assert made.contents() == before
    assert not (made.home.state("made") / "deleted").exists()


def test_all_documents_may_be_deleted_and_nothing_is_found_then(made):
    delete(made.folder, [f"a{i}" for i in range(95)])
    assert made.answers(k=5) == [[], [], []]
    assert made.ids() == []


def test_an_index_that_is_being_built_is_not_changed(made):
    with (
        build_lock(made.home.state("made") / NAMES.lock, "made"),
        pytest.raises(IndexBusyError, match="wait for it"),
    ):
        delete(made.folder, ["a3"])


def test_an_extension_that_was_stopped_goes_on_after_documents_were_deleted(made):
    from tests.support import ListCorpus, TableEmbedder

    more = articles(200)
    with pytest.raises(ConnectionError):
        made.build(more, corpus=ListCorpus(more, break_at=150), limit=180, embedder=TableEmbedder(width=96))
    delete(made.folder, ["a3"])
    made.build(more, limit=180)
    assert made.ids() == [f"a{i}" for i in range(180) if i != 3]


def test_the_id_of_a_deleted_document_is_free_again(made):
    delete(made.folder, ["a3"])
    documents = [*articles(95), articles(4)[3]]
    made.build(documents, limit=96)
    assert made.ids()[-1] == "a3"
    assert delete(made.folder, ["a3"]).rows == (95,)


def test_a_bitmap_that_a_deletion_left_when_it_died_is_swept_away_by_the_next(made):
    stray = made.folder / NAMES.parts / "2" / NAMES.deleted(3)
    stray.write_bytes(b"half")
    delete(made.folder, ["a3"])
    assert not stray.exists()
    assert verify("made", made.home).damaged == ()


def test_documents_that_an_expression_is_true_of_are_gone_and_no_other_is(made):
    before = made.answers(k=95)
    found = delete(made.folder, where="title GLOB 'Title 7*'")
    gone = {"a7", *(f"a{i}" for i in range(70, 80))}
    assert (found.rows, found.left) == ((7, *range(70, 80)), 84)
    assert made.answers(k=95) == [[hit for hit in hits if hit[0] not in gone] for hits in before]
    assert verify("made", made.home, full=True).damaged == ()


def test_deleting_by_an_expression_passes_over_what_is_deleted_already(made):
    delete(made.folder, ["a7"])
    assert delete(made.folder, where="id IN ('a7', 'a70')").rows == (70,)
    assert delete(made.folder, where="id IN ('a7', 'a70')").rows == ()
    assert read_manifest(made.folder).generation == 4


def test_what_an_expression_would_delete_is_told_without_writing(made):
    before = made.contents()
    assert (len(plan_deletion(made.folder, where="id < 'a2'").rows), made.contents()) == (12, before)


def test_an_expression_that_is_not_allowed_deletes_nothing(made):
    before = made.contents()
    for expression in ("nothing = 1", "1; DROP TABLE documents", "id IN (SELECT text FROM texts)"):
        with pytest.raises(UsageError, match="`where`"):
            delete(made.folder, where=expression)
    assert made.contents() == before


def test_nobody_changes_an_index_while_a_deletion_is_to_be_confirmed(made):
    before = made.contents()

    def refuse(deletion):
        assert (len(deletion.rows), deletion.left) == (11, 84)
        with pytest.raises(IndexBusyError):
            delete(made.folder, ["a7"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        delete(made.folder, where="title GLOB 'Title 7*'", confirm=refuse)
    assert made.contents() == before
    assert delete(made.folder, where="title GLOB 'Title 7*'", confirm=lambda deletion: None).left == 84


def test_a_deletion_that_finds_no_room_leaves_nothing(made, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = made.contents()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="is full; nothing is lost"):
            delete(made.folder, ["a3"])
    assert made.contents() == before

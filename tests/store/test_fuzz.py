"""Whatever lies in an index's place is refused in one line, or answered rightly: some hundred cases.

`scripts/drills/fuzz.py` runs the same mutators for as long as one likes. Below them, what they have found.
"""

import errno
import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from resizable_search.admin import doctor
from resizable_search.admin.overview import overview
from resizable_search.admin.remove import remove
from resizable_search.embedders.registry import reopen
from resizable_search.errors import IndexFormatError, RsearchError
from resizable_search.search.index import open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import manifest_text, read_manifest
from resizable_search.store.tuned_plans import tune_command
from resizable_search.store.verify import repair, verify
from tests.fuzzing.cases import Case, Change
from tests.fuzzing.commands import COMMANDS, run_command
from tests.fuzzing.databases import edited
from tests.fuzzing.judge import TARGETS, Judge, no_case
from tests.fuzzing.oracle import answer, meaning
from tests.fuzzing.sound import DELETED, FITTED, GIVEN, ROWS, relist, with_checksum


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return Judge.in_room(tmp_path_factory.mktemp("room"))


@pytest.fixture
def folder(judge, tmp_path):
    """An index of given vectors, two parts of it, some rows deleted, to be spoiled."""
    return shutil.copytree(judge.room.sound / GIVEN, tmp_path / GIVEN)


@pytest.fixture
def fitted(judge, tmp_path):
    return shutil.copytree(judge.room.sound / FITTED, tmp_path / FITTED)


def forged(folder, **changes):
    """Change fields of the manifest, `part` those of its second part, and let its checksum fit."""
    data = json.loads((folder / NAMES.manifest).read_bytes())
    del data["checksum"]
    data["parts"][-1] |= changes.pop("part", {})
    data["embedder"] |= changes.pop("embedder", {})
    data["source"] |= changes.pop("source", {})
    (folder / NAMES.manifest).write_bytes(manifest_text(with_checksum({**data, **changes})))


def forge_documents(folder, *statements, finish=True, listed=True):
    """Have SQLite run these on the documents of the first part, and the manifest list what comes of it."""
    path = folder / NAMES.documents
    content = edited(path.read_bytes(), list(statements), finish=finish)
    path.write_bytes(content)
    if listed:
        data = json.loads((folder / NAMES.manifest).read_bytes())
        del data["checksum"]
        relist(data, NAMES.documents, content)
        (folder / NAMES.manifest).write_bytes(manifest_text(with_checksum(data)))


def read_all(folder):
    with open_index(folder, home=folder.parent) as index:
        index.scan(np.ones((1, index.full_dim)), k=20, dim=index.dims[0], rerank=1)
        return index.documents(range(index.manifest.rows))


# -- the mutators


@pytest.mark.parametrize("name", [GIVEN, FITTED])
def test_a_sound_index_is_answered_rightly_by_all_that_reads_it(judge, name):
    case = no_case(judge.sound[name])
    assert judge.judge(case) == "right"
    judge.room.put(case, judge.sound[name])
    for command in range(len(COMMANDS)):
        run_command(command, name, judge.room.home)


def test_the_judge_notices_what_is_wrong(judge):
    """Vectors that have changed places: opening cannot know, but whoever knows the rows does."""
    content = judge.sound[GIVEN].files["96.npy"]
    moved = content[:128] + content[-384:] + content[128:-384]
    case = Case("none", GIVEN, ("rows moved",), {"96.npy": Change("bytes", moved)})
    with pytest.raises(AssertionError, match="finds"):
        judge.judge(case)


@pytest.mark.parametrize("target", TARGETS)
@settings(
    max_examples=100,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(random=st.randoms())
def test_whatever_lies_there_is_refused_in_one_line_or_answered_rightly(judge, target, random):
    case = TARGETS[target](random, judge.sound[random.choice((GIVEN, GIVEN, FITTED))])
    judge.judge(case, briefly=random.random() < 0.9)


# -- manifests


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 95.0},
        {"rows": True},
        {"generation": 0},
        {"generation": 10**400},
        {"dims": [32, "64", 96]},
        {"dims": [32, 64.0, 96]},
        {"dims": [32, 64]},
        {"dims": [32, 96], "embedder": {"width": 64}},
        {"part": {"rows": 0}},
        {"part": {"path": ""}},
        {"part": {"path": "parts/02"}},
        {"part": {"path": "parts/./2"}},
        {"part": {"path": "parts/../parts/2"}},
        {"part": {"path": "../given/parts/2"}},
        {"part": {"deleted": True}},
        {"part": {"bitmap": "64.npy"}},
        {"part": {"bitmap": ""}},
        {"files": {"embedder/../../outside": {"bytes": 1, "sha256": "0" * 64}}},
        {"files": {"64.npy": {"bytes": 1, "sha256": "0" * 64}}},
        {"files": {"embedder/x": {"bytes": -1, "sha256": "0" * 64}}},
        {"files": {"embedder/x": {"bytes": 1, "sha256": "é" * 64}}},
        {"files": {"embedder/" + "d/" * 600 + "x": {"bytes": 1, "sha256": "0" * 64}}},
        {"source": {"exhausted": 1}},
        {"source": {"read": -1}},
        {"corpus": {"a": float("nan")}},
        {"corpus": {"a": float("inf")}},
        {"label": ["x"]},
        {"format": True},
        {"format": 0},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_a_manifest_with_a_checksum_that_fits_must_make_sense_too(folder, changes):
    forged(folder, **changes)
    with pytest.raises(IndexFormatError, match=r"manifest.json is damaged \(.*\): put it back from a copy"):
        read_all(folder)
    assert [entry.state for entry in overview(Home(folder.parent))] == ["damaged"]
    for use in (verify, repair):
        with pytest.raises(IndexFormatError, match="manifest.json"):
            use(GIVEN, Home(folder.parent))
    assert [finding.state for finding in doctor.examine_indexes(Home(folder.parent))] == ["wrong"]


def test_a_part_lists_no_more_and_no_less_than_a_part_has(folder):
    part = read_manifest(folder).parts[-1]
    entry = {"bytes": 1, "sha256": "0" * 64}
    files = {name: {"bytes": e.bytes, "sha256": e.sha256} for name, e in part.files.items()}
    for wrong in (
        {**files, "48.npy": entry},
        {**files, "../64.npy": entry},
        {name: e for name, e in files.items() if name != NAMES.tier(64)[1]},
    ):
        forged(folder, part={"files": wrong})
        with pytest.raises(IndexFormatError, match="it lists"):
            repair(GIVEN, Home(folder.parent))


@pytest.mark.parametrize("depth", [41, 330, 700, 100_000])
def test_a_manifest_that_nests_too_deep_is_refused_however_deep(folder, depth):
    text = (folder / NAMES.manifest).read_text()
    nested = text.replace('"corpus": {', f'"corpus": {{"a": {"[" * depth}{"]" * depth},')
    data = {}
    if depth < 500:
        data = json.loads(nested)
        del data["checksum"]
        data = with_checksum(data)
    (folder / NAMES.manifest).write_text(json.dumps(data) if data else nested)
    with pytest.raises(IndexFormatError, match="manifest.json is damaged"):
        read_manifest(folder)


def test_two_parts_of_one_folder_are_refused(folder):
    shutil.rmtree(folder / "parts" / "2")
    (folder / "parts" / "2").symlink_to("../")
    data = json.loads((folder / NAMES.manifest).read_bytes())
    first = data["parts"][0]
    listed = {**first["files"], NAMES.documents: {**first["files"][NAMES.documents], "sha256": "0" * 64}}
    forged(folder, rows=2 * first["rows"], part={**first, "path": "parts/2", "files": listed})
    with pytest.raises(IndexFormatError, match="two parts of .* are one folder"):
        read_all(folder)


def test_a_count_of_deleted_rows_that_is_not_the_bitmaps_is_refused(folder):
    forged(folder, part={"deleted": 2})
    with pytest.raises(IndexFormatError, match="other rows deleted than the manifest counts"):
        read_all(folder)


@pytest.mark.parametrize("centred", [1, "no", None, []])
def test_an_embedder_is_centred_or_not(folder, centred):
    forged(folder, embedder={"centred": centred})
    with pytest.raises(IndexFormatError, match="describes no embedder"):
        read_all(folder)


@pytest.mark.parametrize("options", [{"timeout": "soon"}, {"model": "x"}, {"more": 1}, {"timeout": 5.0}])
def test_options_that_an_embedder_does_not_have_are_refused(tmp_path, options):
    spec = EmbedderSpec("nomic", "nomic-embed-text-v1.5", 768, options=options)
    with pytest.raises(IndexFormatError, match="does not take the index's options"):
        reopen(spec, tmp_path)


@pytest.mark.parametrize(
    "head", [{"files": {}}, {"width": "40"}, {"parameters": {"width": 40}}, {"files": 3}]
)
def test_a_fitted_embedder_that_describes_no_state_is_told(fitted, head):
    from resizable_search.embedders.lsa import _checksum

    path = fitted / "embedder" / "lsa.json"
    data = {**json.loads(path.read_bytes()), **head}
    path.write_text(json.dumps({**data, "checksum": _checksum(data)}))
    with open_index(fitted, home=fitted.parent) as index, pytest.raises(RsearchError, match="lsa.json is"):
        index.query("a tree")


@pytest.mark.parametrize("name", ["components.npy", "idf.npy"])
def test_the_header_of_an_embedders_array_is_compared_and_not_parsed(fitted, name):
    """numpy takes Python 2's long numbers, with a warning to whoever looks on."""
    path = fitted / "embedder" / name
    content = path.read_bytes()
    text = content[10:128].rstrip()
    longer = text.replace(b"40), }", b"40L), }") if b"40)" in text else text.replace(b",), }", b"L,), }")
    path.write_bytes(content[:10] + longer.ljust(117) + b"\n" + content[128:])
    assert path.read_bytes() != content
    with open_index(fitted, home=fitted.parent) as index, pytest.raises(IndexFormatError, match=name):
        index.query("a tree")


def test_what_a_manifest_calls_things_is_told_in_part_and_obeyed_by_no_terminal(folder, capsys):
    from resizable_search.cli.main import _run, guarded

    forged(folder, embedder={"model": "\x1b[31m" + "a" * 10_000, "kind": "\x1b[1m" + "b" * 10_000})
    words = ["query", "a tree", "--index", GIVEN, "--home", str(folder.parent)]
    assert guarded(lambda: _run(words)) == 2
    err = capsys.readouterr().err
    assert err.startswith("rsearch: no embedder ")
    assert err.rstrip("\n").isprintable()
    assert len(err) < 500


# -- plans


def test_a_stored_plan_has_no_end_of_stages_and_no_figure_is_a_text(folder):
    good = read_manifest(folder).plans["10:0.9"]
    query = np.ones((1, 96))
    for bad, words in (
        ({"plan": "96:bits:20," * 50_000 + "96"}, "more than 32 stages"),
        ({"overlap": "nan"}, "is no number"),
        ({"queries": -1}, "its queries is no whole number"),
        ({"plan": 96}, "its plan is no text"),
    ):
        forged(folder, plans={"10:0.9": {**good, **bad}})
        with open_index(folder) as index, pytest.raises(IndexFormatError, match=words) as error:
            index.scan(query, recall=0.9)
        assert len(str(error.value)) < 500


def test_a_command_that_is_to_be_copied_holds_nothing_but_numbers():
    assert tune_command("made", "10:0.9; rm -rf x") == "tune index=made recall=0.99"
    assert tune_command("a b", "3:`x`") == "tune index='a b' recall=0.99"


# -- arrays


def test_a_derived_file_is_mended_by_the_command_that_its_error_names(folder):
    for name in ("64.npy", "tiers/96.int8.npy", "tiers/96.mean.npy", "parts/2/tiers/96.1bit.npy"):
        (folder / name).write_bytes(b"short")
        with pytest.raises(IndexFormatError, match=f"`repair {folder}` rebuilds it"):
            read_all(folder)
        assert repair(str(folder), Home(folder.parent)).mended == [name]
    (folder / "96.npy").unlink()
    with pytest.raises(IndexFormatError, match="put it back from a copy"):
        read_all(folder)


@pytest.mark.parametrize(("number", "words"), [(errno.EMFILE, "ulimit -n"), (errno.ENOMEM, "ulimit -v")])
def test_a_system_that_maps_no_more_is_told(folder, monkeypatch, number, words):
    def refuse(*args, **kwargs):
        raise OSError(number, "no more")

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(RsearchError, match=words):
        read_all(folder)


def test_a_folder_in_a_derived_files_place_is_told_by_repair(folder):
    (folder / "64.npy").unlink()
    (folder / "64.npy").mkdir()
    (folder / "32.npy").write_bytes(b"")
    done = repair(GIVEN, Home(folder.parent))
    assert done.mended == ["32.npy"]
    assert list(done.lost) == ["64.npy"]
    assert "something else lies in its place" in done.lost["64.npy"]


def test_repair_writes_nothing_behind_a_link(folder, judge, tmp_path):
    """What it leads to may be another index's, which is damaged only if it is taken for this one's."""
    other = shutil.copytree(folder / "parts" / "2" / "tiers", tmp_path / "other")
    shutil.rmtree(folder / "tiers")
    (folder / "tiers").symlink_to(other)
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    done = repair(GIVEN, Home(folder.parent))
    assert done.mended == []
    assert all("something else lies in its place" in remedy for remedy in done.lost.values())
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before


# -- documents


SWAP = (
    "UPDATE {0} SET row = -9 WHERE row = 5; UPDATE {0} SET row = 5 WHERE row = 6; "
    "UPDATE {0} SET row = 6 WHERE row = -9"
)
VIEW = "ALTER TABLE texts RENAME TO t2; CREATE VIEW texts AS "
ENDLESS = "WITH RECURSIVE c(row) AS (SELECT 0 UNION ALL SELECT row + 1 FROM c) SELECT row, 'x' AS text FROM c"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM texts WHERE row = 5", "lacks documents"),
        ("DELETE FROM documents WHERE row = 5", "lacks documents"),
        ("DELETE FROM texts WHERE row = 59", "its rows are not the 60"),
        ("UPDATE texts SET row = 200 WHERE row = 5", "its rows are not the 60"),
        ("INSERT INTO texts VALUES (60, '')", "its rows are not the 60"),
        ("UPDATE documents SET metadata = '[1]' WHERE row = 5", "its metadata is no JSON object"),
        ("UPDATE documents SET metadata = '{' WHERE row = 5", "Expecting property name"),
        (f"UPDATE documents SET metadata = '{'[' * 100_000}' WHERE row = 5", "recursion"),
        ("UPDATE texts SET text = CAST(x'ff80fe' AS TEXT) WHERE row = 5", "Could not decode to UTF-8"),
        (f"{VIEW} SELECT row, text FROM t2", "its tables"),
        (f"{VIEW} {ENDLESS}", "its tables"),
        ("CREATE TRIGGER t AFTER INSERT ON texts BEGIN DELETE FROM texts; END", "its tables"),
        ("CREATE INDEX more ON texts (text)", "its tables"),
        ("ALTER TABLE documents ADD COLUMN more TEXT", "its tables"),
        ("ALTER TABLE texts RENAME TO t2; CREATE TABLE texts (row INTEGER PRIMARY KEY, text); "
         "INSERT INTO texts SELECT row, CAST(text AS BLOB) FROM t2; DROP TABLE t2", "its tables"),
        ("PRAGMA encoding = 'UTF-16'; DROP TABLE texts", "its tables"),
    ],
)  # fmt: skip
def test_documents_that_are_none_are_told_though_the_manifest_lists_them(folder, statement, words):
    forge_documents(folder, statement)
    with pytest.raises(IndexFormatError, match=rf"documents.sqlite is damaged \(.*{words}.*\): put it back"):
        read_all(folder)
    assert "documents.sqlite" in {damage.file for damage in verify(GIVEN, Home(folder.parent)).damaged}


@pytest.mark.parametrize("table", ["texts", "documents", "both"])
@pytest.mark.parametrize("listed", [True, False])
def test_documents_that_sqlite_has_written_to_are_told(folder, table, listed):
    tables = ("documents", "texts") if table == "both" else (table,)
    forge_documents(folder, *(SWAP.format(name) for name in tables), finish=False, listed=listed)
    with pytest.raises(IndexFormatError, match=r"damaged \(it was written to after it was built\)"):
        read_all(folder)


def test_documents_in_wal_mode_are_told(folder):
    with closing(sqlite3.connect(folder / NAMES.documents)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(IndexFormatError, match="it was written to after it was built"):
        read_all(folder)


def test_row_numbers_that_change_places_in_a_page_are_never_believed(folder, judge):
    """Whichever two of a table's rows do: no document is taken for another's, whatever is looked for."""
    sound = judge.sound[GIVEN]
    content = sound.files[NAMES.documents]
    known = sound.parts[""].documents
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        (folder / NAMES.documents).write_bytes(with_rows_swapped(content, rng))
        try:
            index = open_index(folder)
        except IndexFormatError:
            refused += 1
            continue
        with index:
            for row in range(60):
                try:
                    (document,) = index.documents([row])
                except IndexFormatError:
                    refused += 1
                else:
                    assert (document.id, document.title, document.url, document.text) == known[row]
    assert refused >= 60


def with_rows_swapped(content, rng):
    """A database in one leaf of whose tables two rows have changed numbers."""
    leaves = [at for at in range(4096, len(content), 4096) if content[at] == 13 and content[at + 4] > 2]
    leaf = int(rng.choice(leaves))
    count = content[leaf + 4]
    places = []
    for number in range(count):
        at = leaf + int.from_bytes(content[leaf + 8 + 2 * number : leaf + 10 + 2 * number], "big")
        while content[at] >= 128:
            at += 1
        places.append(at + 1)
    one, other = rng.choice(places, 2, replace=False).tolist()
    changed = bytearray(content)
    changed[one], changed[other] = changed[other], changed[one]
    return bytes(changed)


def test_an_id_that_was_changed_in_place_is_told(folder, judge):
    content = judge.sound[GIVEN].files[NAMES.documents]
    own = judge.sound[GIVEN].parts[""].documents[5][0].encode()
    (folder / NAMES.documents).write_bytes(content.replace(own, own[:-1] + b"!", 1))
    with pytest.raises(IndexFormatError, match="an id does not lead to its row"):
        read_all(folder)


# -- removal


def removed(folder):
    return remove(GIVEN, Home(folder.parent)).left


@pytest.mark.parametrize("inner", ["parts/2", "tiers", "parts"])
def test_remove_deletes_nothing_behind_a_link(folder, tmp_path, inner):
    outside = tmp_path / "outside"
    (folder / inner).rename(outside)
    (folder / inner).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    assert removed(folder) == [inner]
    assert sorted(outside.rglob("*")) == before
    assert [path.name for path in folder.iterdir()] == [inner.partition("/")[0]]


def test_remove_does_not_stop_half_way(folder):
    (folder / "64.npy").unlink()
    (folder / "64.npy").mkdir()
    (folder / "tiers" / "96.1bit.npy").unlink()
    (folder / "tiers" / "96.1bit.npy").symlink_to("96.1bit.npy")
    assert removed(folder) == []
    assert not folder.exists()


# -- the oracle itself


def test_the_oracle_answers_as_a_sound_index_does(judge):
    sound = judge.sound[GIVEN]
    meant = meaning(sound.manifest, sound, sound.folder)
    assert set(np.flatnonzero(~meant.allowed)) == set(DELETED)
    with open_index(sound.folder) as index:
        plan = index.plan(SearchOptions(ROWS))
        top = index.scan(sound.queries, k=ROWS)
    right = answer(meant, plan, sound.queries, ROWS)
    np.testing.assert_array_equal(top.rows, right.rows)
    np.testing.assert_array_equal(top.scores, right.scores)

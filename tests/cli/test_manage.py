"""`rsearch list`, `info`, `remove` and `doctor`."""

import io
import json
import re

import pytest

from resizable_search.admin import doctor
from resizable_search.engine import kernel_cache
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.errors import RsearchError
from resizable_search.evaluate import timing
from resizable_search.store.layout import NAMES
from resizable_search.system import build_lock
from tests.cli.conftest import ROWS, Inside, Machine, Ran, Shelf, closed_address, errs, errs_at_last
from tests.cli.test_damage import edit_manifest
from tests.cli.test_help import COMMANDS


def test_list_names_each_index_with_its_size(shelf: Shelf):
    ran = shelf.run("list")
    assert (ran.code, ran.err) == (0, "")
    rows = {line.split()[0]: line for line in ran.out.splitlines()}
    assert set(rows) == {"index", "pydoc", "wiki-odd", "wiki-one", "wiki100k"}
    for word in (str(ROWS), "64–768", "nomic-embed-text-v1.5", " MB"):
        assert word in rows["wiki100k"]
    assert "\x1b" not in ran.out


def test_list_as_json(shelf: Shelf):
    listed = {entry["name"]: entry for entry in shelf.run("list", "--json").json}
    assert listed["wiki100k"]["rows"] == ROWS
    assert listed["wiki100k"]["dims"] == [64, 128, 256, 512, 768]
    assert {entry["state"] for entry in listed.values()} == {"ready"}


def test_list_of_an_empty_home_says_how_to_build(machine: Machine):
    ran = machine.run("list")
    assert (ran.code, ran.out) == (0, f"no index in {machine.home}: build one with `rsearch build pydoc`\n")
    assert not machine.home.exists()


def test_info_shows_corpus_embedder_dims_sizes_and_cost(shelf: Shelf):
    ran = shelf.run("info", "wiki100k")
    assert (ran.code, ran.err) == (0, "")
    for words in (
        f"{ROWS}; {ROWS} read from the corpus",
        "wikimedia/wikipedia 20231101.en",
        "nomic: nomic-embed-text-v1.5, 768 dimensions, centred",
        "64, 128, 256, 512, 768",
        "one request to the nomic service for each new text",
    ):
        assert words in ran.out
    assert re.search(r"^on disk +\d.* MB in \d+ files$", ran.out, re.MULTILINE)


def test_info_lists_files_and_how_they_were_built_on_demand(shelf: Shelf):
    short, long = shelf.run("info", "wiki100k"), shelf.run("info", "wiki100k", "--files")
    for words in ("768.npy 922 kB", "documents.sqlite ", "generation 1, 1 part", "embedder fingerprint "):
        assert words in long.out
        assert words not in short.out
    assert long.out.startswith(short.out.rstrip())


def test_info_as_json(shelf: Shelf):
    info = shelf.run("info", "pydoc", "--json").json
    assert info["name"] == "pydoc"
    assert info["files"]["64.npy"] == 128 + info["rows"] * 64 * 4
    assert info["bytes"] == sum(info["files"].values())
    assert info["strange"] == []


def test_remove_without_a_terminal_refuses_and_says_how(machine: Machine, shelf: Shelf):
    machine.take(shelf, "wiki-one")
    before = machine.holdings()
    errs(machine.run("remove", "wiki-one"), 1, "not a terminal: pass --yes")
    assert machine.holdings() == before


def test_remove_deletes_the_index_and_nothing_else(machine: Machine, shelf: Shelf):
    machine.take(shelf, "wiki-one")
    machine.take(shelf, "wiki-odd")
    ran = machine.run("remove", "wiki-one", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("removed wiki-one (1 document in ")
    assert {name.split("/")[0] for name in machine.holdings()} == {"wiki-odd"}


def test_remove_by_the_folder_of_an_index_of_the_home_takes_its_lock_and_its_state(
    machine: Machine, shelf: Shelf
):
    folder = machine.take(shelf, "wiki-one")
    state = machine.home / ".state" / "wiki-one"
    with build_lock(state / NAMES.lock, "wiki-one"):
        errs(machine.run("remove", f"{folder}/", "--yes"), 1, "is being built by process", "wait for it")
    assert folder.is_dir()
    assert machine.run("remove", f"{folder}/", "--yes").code == 0
    assert not folder.exists()
    assert not state.exists()


def test_remove_of_a_folder_elsewhere_needs_no_state(machine: Machine, shelf: Shelf):
    machine.take(shelf, "wiki-one").rename(machine.folder / "moved")
    assert machine.run("remove", "./moved", "--yes").code == 0
    assert not (machine.folder / "moved").exists()
    assert not (machine.home / ".state").exists()


@pytest.mark.parametrize("manifest", ["", "{", "[]"])
def test_a_damaged_index_is_removed_but_for_what_is_not_the_formats(
    machine: Machine, shelf: Shelf, manifest: str
):
    folder = machine.take(shelf, "wiki-one")
    (folder / "manifest.json").write_text(manifest)
    (folder / "parts" / "2").mkdir(parents=True)
    (folder / "parts" / "2" / "64.npy").write_text("of a part")
    (folder / "parts" / "2" / "thesis.npy").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    errs(machine.run("remove", "wiki-one"), 1, "not a terminal: pass --yes")
    ran = machine.run("remove", "wiki-one", "--yes")
    assert ran.out == f"removed wiki-one (damaged, in {folder})\n"
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "with other files: notes.txt, parts/2/thesis.npy; delete it yourself" in ran.err
    assert machine.holdings() == {"wiki-one/notes.txt": b"mine", "wiki-one/parts/2/thesis.npy": b"mine"}


def test_a_damaged_index_without_anything_else_leaves_nothing(machine: Machine, shelf: Shelf):
    folder = machine.take(shelf, "wiki-one")
    (folder / "manifest.json").write_text("{")
    assert machine.run("remove", "wiki-one", "--yes").code == 0
    assert not folder.exists()


def test_a_folder_without_a_manifest_is_not_removed(machine: Machine):
    (machine.home / "thesis").mkdir(parents=True)
    (machine.home / "thesis" / "64.npy").write_text("mine")
    errs(machine.run("remove", "thesis", "--yes"), 1, "it has no manifest.json")
    assert machine.holdings() == {"thesis/64.npy": b"mine"}


def test_a_state_that_cannot_be_written_is_told_by_remove(machine: Machine, shelf: Shelf):
    machine.take(shelf, "wiki-one")
    (machine.home / ".state").write_text("a file")
    errs(machine.run("remove", "wiki-one", "--yes"), 1, "cannot write to", ".state", "check its permissions")


def test_a_stray_file_is_shown_by_info_and_left_by_remove(machine: Machine, shelf: Shelf):
    folder = machine.take(shelf, "wiki-one")
    (folder / "notes.txt").write_text("mine")
    shown = machine.run("info", "wiki-one")
    assert shown.code == 0
    assert "notes.txt: not part of the index; move it away" in shown.out
    ran = machine.run("remove", "wiki-one", "--yes")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert f"kept {folder} with other files: notes.txt" in ran.err
    assert machine.holdings() == {"wiki-one/notes.txt": b"mine"}


def test_remove_and_info_of_an_unknown_index_name_those_there_are(shelf: Shelf):
    errs(shelf.run("remove", "wiki-on", "--yes"), 1, "did you mean wiki-one?", "there are pydoc, wiki-odd")
    errs(shelf.run("info", "wiki-on"), 1, "did you mean wiki-one?")


def test_names_of_any_length_stand_apart_from_the_words_of_the_doctor(machine: Machine, shelf: Shelf):
    machine.take(shelf, "wiki-one").rename(machine.home / "a-rather-long-name")
    ran = machine.run("doctor", HF_ENDPOINT=closed_address())
    assert "index a-rather-long-name  ok          1 document at " in ran.out


def test_info_of_an_index_whose_embedder_is_not_installed_shows_the_rest(machine: Machine, shelf: Shelf):
    folder = machine.take(shelf, "wiki-one")
    manifest = json.loads((folder / "manifest.json").read_text())
    edit_manifest(folder, embedder={**manifest["embedder"], "kind": "word2vec"})
    ran = machine.run("info", "wiki-one")
    assert ran.code == 0
    for words in (
        "word2vec: lsa-tfidf-svd",
        "no embedder 'word2vec'",
        "install its package",
    ):
        assert words in ran.out


def test_doctor_finds_everything_in_order(shelf: Shelf, warmed: Ran):
    ran = shelf.run("doctor")
    assert (ran.code, ran.err) == (0, "")
    states = {line[:16].strip(): line[16:].split()[0] for line in ran.out.splitlines()}
    assert {"credentials", "hub", "disk", "kernels", "index wiki100k"} <= set(states)
    assert set(states.values()) == {"ok"}
    assert "the key from NOMIC_API_KEY is accepted" in ran.out


def test_doctor_says_what_is_wrong_and_the_remedy_of_each(machine: Machine, warmed: Ran):
    file = machine.folder / "a-file"
    file.write_text("mine")
    ran = machine.run("doctor", "--json", "--home", file, NOMIC_API_KEY="", HF_ENDPOINT=closed_address())
    assert (ran.code, ran.err) == (1, "")
    findings = {finding["what"]: finding for finding in ran.json}
    assert {what: finding["state"] for what, finding in findings.items()} == {
        "configuration": "ok",
        "credentials": "not set up",
        "hub": "wrong",
        "disk": "wrong",
        "kernels": "ok",
    }
    assert "nomic login" in findings["credentials"]["words"]
    assert "check the network, and HF_ENDPOINT" in findings["hub"]["words"]
    assert "choose another home with --home or $RSEARCH_HOME" in findings["disk"]["words"]


def test_the_doctor_is_well_where_nothing_that_is_used_is_wrong(machine: Machine, shelf: Shelf, warmed: Ran):
    nobody = {"NOMIC_API_KEY": "", "HF_ENDPOINT": "", "HF_HUB_OFFLINE": "1"}
    ran = machine.run("doctor", **nobody)
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"^credentials +not set up +no Nomic credentials: ", ran.out, re.MULTILINE)
    machine.take(shelf, "wiki100k")  # embedded by Nomic; the articles came from the hub
    states = {check["what"]: check["state"] for check in machine.run("doctor", "--json", **nobody).json}
    assert (states["credentials"], states["hub"]) == ("wrong", "wrong")


def test_warm_says_what_it_did(machine: Machine, warmed: Ran):
    assert re.fullmatch(r"(the kernels are already|\d+ kernels) compiled\n", warmed.out)
    assert machine.run("warm").out == "the kernels are already compiled\n"
    errs(machine.run("warm", "nothing"), 1, "no index")


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel is compiled, none can be, and every index is large enough for them."""
    monkeypatch.setattr(kernel_cache, "_load_kernels", kernel_cache._load_kernels.__wrapped__)
    monkeypatch.setattr(kernel_cache, "is_warm", lambda: False)
    monkeypatch.setattr(kernel_cache, "WORTH_COMPILING", 0)
    monkeypatch.setattr(kernel_cache, "_CHILD", "print('numba cannot be used here: no compiler')")


@pytest.mark.usefixtures("cold")
def test_without_kernels_every_command_works_and_says_that_it_is_slower(inside: Inside, monkeypatch):
    note = (
        r"^rsearch: the compiled kernels are not ready here \(%s\): numpy searches, more slowly; `rsearch w"
    )
    for name, value in {"LOOP_SECONDS": 0.001, "SECONDS": 0.01, "LONGEST": 0.02, "ENOUGH": 4}.items():
        monkeypatch.setattr(timing, name, value)
    for module in ("tune", "plan_space"):
        monkeypatch.setattr(f"resizable_search.evaluate.{module}.SECONDS", 0.01)
    ran = inside.run("build", "pydoc", "--embedder", "wordllama", "--dims", 64)
    assert ran.code == 0
    assert re.search(note % "numba cannot be used here: no compiler", ran.err, re.MULTILINE)
    (inside.folder / "queries.jsonl").write_text('{"_id": "q", "text": "text of a"}\n')
    (inside.folder / "judged.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta1\t1\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("text of a\n"))
    judged = ("-i", "pydoc", "--queries", "queries.jsonl", "--qrels", "judged.tsv")
    for command in (
        ("bench", "--sample", 5),
        ("tune", "--sample", 4),
        ("eval", *judged),
        ("query", "-", "--json"),
    ):
        ran = inside.run(*command)
        assert ran.code == 0, ran
        assert re.search(note % "its kernels are not compiled yet", ran.err, re.MULTILINE), ran
    errs_at_last(inside.run("warm"), 1, "numba cannot be used here: no compiler; numpy searches, more slowly")


@pytest.mark.usefixtures("cold")
def test_the_doctor_tells_of_an_unfinished_build_a_full_disk_and_missing_kernels(inside: Inside, monkeypatch):
    monkeypatch.setattr("resizable_search.corpora.hub.HubCorpus.check", lambda _: "it answers")
    monkeypatch.setattr("resizable_search.admin.doctor.free_bytes", lambda _: 700_000_000)
    monkeypatch.setattr(doctor, "is_warm", lambda: False)
    (inside.home / ".building" / "half").mkdir(parents=True)
    (inside.home / ".building" / "half" / NAMES.work).touch()
    ran = inside.run("doctor", "--json")
    found = {check["what"]: (check["state"], check["words"]) for check in ran.json}
    assert ran.code == 0
    assert found["build half"] == ("ok", "not finished: run its build command again to resume")
    state, words = found["disk"]
    assert state == "not set up"
    assert words.startswith("0.7 GB free at ")
    assert "building wiki100k needs about 1.2 GB: free some, or choose another home" in words
    state, words = found["kernels"]
    assert (state, words) == (
        "not set up",
        "the compiled engine cannot run (its kernels are not compiled yet), and numpy is slower: compile it "
        "with `rsearch warm`",
    )
    monkeypatch.setattr(doctor, "is_warm", lambda: True)  # they were compiled, and do not load
    ran = inside.run("doctor", "--json")
    assert ran.code == 1
    assert {check["what"] for check in ran.json if check["state"] == "wrong"} == {"kernels"}


def test_the_doctor_finds_an_engine_that_is_wrong(monkeypatch):
    def swapped(engine, parts, queries, precision, k):
        result = scan(engine, parts, queries, precision, k)
        result.top.rows[:, :2] = result.top.rows[:, 1::-1]
        return result

    scan = NumpyEngine.scan
    monkeypatch.setattr(NumpyEngine, "scan", swapped)
    with pytest.raises(RsearchError, match="the numpy engine returns wrong rows here: install it again"):
        doctor._kernels()


INDEXED = [path for path, command in COMMANDS.items() if any(one.name == "index" for one in command.params)]


@pytest.mark.parametrize("path", INDEXED, ids=" ".join)
def test_every_command_on_an_index_takes_it_by_option(inside: Inside, path: tuple[str, ...]):
    assert {"--index", "-i"} <= {name for one in COMMANDS[path].params for name in one.opts}


def test_an_index_by_option_is_the_same_as_by_position(inside: Inside):
    inside.run("build", "pydoc", "--embedder", "lsa", "--dims", 16)
    inside.run("build", "pydoc", "--embedder", "lsa", "--name", "other", "--dims", 16)
    (inside.folder / "note.md").write_text("word1 word2")
    assert inside.run("add", "-i", "pydoc", "note.md").out.startswith("pydoc: 41 documents at ")
    ran = inside.run("delete", "note.md", "--index=pydoc", "long", "--yes")
    assert ran.out.startswith("pydoc: deleted 2 documents, 39 left")
    assert inside.run("compact", "-ipydoc").out.startswith("pydoc: 39 documents in one part")
    for command in ("info", "verify", "repair"):
        by_option = inside.run(command, "-i", "pydoc")
        assert by_option.code == 0
        assert by_option.out == inside.run(command, "pydoc").out
    assert inside.run("export", "--index", "pydoc", "it.parquet").out.startswith("it.parquet: 39 documents")
    assert inside.run("bench", "pydoc", "--sample", 5).out.startswith("pydoc · 39 ")
    assert inside.run("tune", "pydoc", "--show").out == inside.run("tune", "-i", "pydoc", "--show").out
    errs(inside.run("info", "pydoc", "-i", "other"), 2, "unexpected extra argument(s) (pydoc)")
    errs(inside.run("export", "-i", "pydoc"), 2, "Missing argument 'dest'")
    assert inside.run("remove", "-i", "pydoc", "--yes").out.startswith("removed pydoc")
    inside.setenv("RSEARCH_INDEX", "nowhere")
    assert inside.run("info", "-i", "other").out.startswith("index      other ")

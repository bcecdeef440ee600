"""`rsearch build files` and `build hf` as they are installed: what they make, show and refuse."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from resizable_search.cli.build import usual_name
from resizable_search.errors import UsageError
from tests.cli.conftest import ARTICLES, Inside, Machine, another_api, errs, errs_at_last
from tests.cli.test_query import imported, on_a_terminal

GUIDE = (
    """# Guide

Welcome.

## Install

Use the installer. """
    + "It copies files to the disk and asks for nothing. " * 12
    + """

## Pirates

Long ago the pirates sailed with a map of the treasure. """
    + "The sea was wide and the ship was slow. " * 12
    + """
"""
)


@pytest.fixture
def notes(machine: Machine) -> Path:
    folder = machine.folder / "my notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "guide.md").write_text(GUIDE)
    (folder / "sub" / "log.txt").write_text("A log of the ship: wind, waves and a broken mast.\n")
    (folder / "people.csv").write_text("text,born\nA captain of pirates,1680\nA cook\n")
    (folder / "picture.png").write_bytes(b"\x89PNG" + bytes(200))
    return folder


LSA = ("--embedder", "lsa")


def test_a_folder_is_built_and_its_hits_name_document_and_place(machine: Machine, notes: Path):
    ran = machine.run(
        "build", "files", notes, *LSA, "--chunk", 60, "--metadata", "born", "--text-column", "text"
    )
    assert ran.code == 0, ran
    assert ran.out.startswith("my notes: ")
    assert "left out 2 of " in ran.out
    assert "people.csv:3 (it has 1 value for 2 columns); picture.png (it is not text)" in ran.out
    query = ("query", "pirates map of the treasure", "-i", "my notes", "-k", 3)
    hits = machine.run(*query, "--no-group", "--json").json["hits"]
    assert re.fullmatch(r"guide.md#c\d", hits[0]["id"])
    assert hits[0]["title"] == "Guide"
    assert hits[0]["url"] == (notes / "guide.md").as_uri()
    metadata = hits[0]["metadata"]
    assert (metadata["document"], metadata["heading"]) == ("guide.md", "Guide › Pirates")
    assert (
        "the treasure"
        in GUIDE.splitlines()[metadata["line"] - 1] + GUIDE.splitlines()[metadata["line_end"] - 1]
    )
    grouped = machine.run(*query, "--json").json["hits"]
    documents = [hit["metadata"].get("document", hit["id"]) for hit in grouped]
    assert documents == ["guide.md", "people.csv:2", "sub/log.txt"]
    assert grouped[1]["metadata"]["born"] == 1680
    assert (notes / "guide.md").as_uri() in on_a_terminal(machine, *query[:4])
    first, passage, *_ = on_a_terminal(machine, *query[:4], NO_COLOR="1").splitlines()
    assert first.split()[:4] == ["1", "Guide", "›", "Pirates"]
    assert first.split()[-2] == f"guide.md:{metadata['line']}"
    assert "the treasure" in passage
    head, first, *_ = on_a_terminal(machine, *query[:4], "--format", "table", NO_COLOR="1").splitlines()
    assert head.split() == ["#", "score", "where", "title", "snippet"]
    assert first.split()[2:4] == [f"guide.md:{metadata['line']}", "Pirates"]
    wide = machine.run(*query).out.splitlines()[1:3]
    assert [line.split()[2] for line in wide] == [f"guide.md:{metadata['line']}", "people.csv:2"]
    again = machine.run(
        "build", "files", notes, *LSA, "--chunk", 60, "--metadata", "born", "--text-column", "text"
    )
    assert again.out.splitlines()[1] == "no changes: nothing was written"
    errs_at_last(machine.run("build", "files", notes, *LSA, "--chunk", "70t"), 1, "--restart")


def test_a_folder_is_in_chunks_unless_whole_texts_are_asked_for(machine: Machine, notes: Path):
    (notes / "guide.md").write_text(GUIDE.replace("nothing. ", "nothing. " * 5))
    (notes / "app.js").write_text("var a=1;" * 999)
    (notes / "drafts").mkdir()
    (notes / "drafts" / "x.md").write_text("a draft of pirates")
    ran = machine.run("build", "files", notes, *LSA, "--exclude", "drafts/", "--exclude", "*.csv")
    assert ran.out.startswith("my notes: 3 documents at "), ran
    assert "left out 2 of 5: app.js (it is minified); picture.png (it is not text)\n" in ran.out
    hits = machine.run("query", "pirates", "--json").json["hits"]
    assert hits[0]["id"] == "guide.md#c2"
    assert "sub/log.txt" in [hit["id"] for hit in hits]
    assert hits[0]["text"].startswith("## Pirates")
    again = machine.run("build", "files", notes, *LSA)
    assert again.out.splitlines()[1] == "no changes: nothing was written"
    grown = machine.run("build", "files", notes, *LSA, "--exclude", "")
    assert "2 added, 3 unchanged; 2 texts embedded" in grown.out
    refused = machine.run("build", "files", notes, *LSA, "--chunk", 0)
    errs_at_last(refused, 1, "was built with --chunk 400t", "--restart")
    whole = machine.run("build", "files", notes, *LSA, "--chunk", 0, "--name", "whole")
    assert "only the first 1,200 characters of 1 text are searched" in whole.err
    texts = [hit["text"] for hit in machine.run("query", "pirates", "-i", "whole", "--json").json["hits"]]
    assert max(map(len, texts)) == 1200


def test_an_encoding_is_guessed_and_told_or_given_later(machine: Machine, notes: Path):
    (notes / "polish.txt").write_bytes("Zażółć gęślą jaźń i ludzie rodzą się wolni.".encode("cp1250"))
    build = ("build", "files", notes, *LSA)
    ran = machine.run(*build)
    assert "the encoding of 1 file was guessed, as it is not UTF-8: polish.txt (windows-1250): " in ran.err
    given = machine.run(*build, "--encoding", "latin2")
    assert "1 changed, 3 unchanged" in given.out, given
    assert "guessed" not in given.err + machine.run("update", "my notes").err
    (notes / "more.txt").write_bytes("Gęś pirates".encode("latin2"))
    assert "guessed" not in machine.run("update", "my notes").err
    hits = machine.run("query", "pirates", "--json").json["hits"]
    assert "Gęś pirates" in [hit["text"] for hit in hits]
    assert machine.run(*build, "--encoding", "").err.count("guessed") == 1
    errs_at_last(machine.run(*build, "--encoding", "klingon"), 2, "--encoding: 'klingon' is unknown")


def test_local_files_load_no_client_of_a_hub_or_a_service(machine: Machine, notes: Path):
    ran = machine.run("build", "files", notes, *LSA, PYTHONPROFILEIMPORTTIME="1")
    assert ran.code == 0
    assert "sklearn" in imported(ran.err)
    assert not imported(ran.err) & {"datasets", "huggingface_hub", "nomic", "pypdf"}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("nothing",), 2, ("nothing does not exist: name existing files",)),
        (("*.nothing",), 2, ("no file matches", "*.nothing")),
        (("empty",), 1, ("empty holds no file that is read",)),
        (("notes.csv",), 1, ("notes.csv: it has no column 'text': its columns are a, b",)),
        (("notes.csv", "--text-column", "x"), 1, ("no column 'x'",)),
        (("notes.csv", "--metadata", "a,a"), 2, ("--metadata", "more than once")),
        (("notes.csv", "--chunk", "long"), 2, ("'long' is not a chunk size",)),
        (("notes.csv", "--chunk", "10", "--chunk-overlap", 6), 2, ("cannot overlap by 6",)),
        (("notes.csv", "--chunk", 0, "--chunk-overlap", 6), 2, ("--chunk-overlap needs --chunk",)),
        (("notes.csv", "--exclude", "#"), 2, ("--exclude: '#' is not a pattern",)),
        (("notes.csv", "--chars", -1), 2, ("--chars", "-1 is not in the range")),
        (("notes.csv", "--include", "*.md"), 2, ("--include is for folders", "leave it out")),
        (("notes.csv", "--delimiter", ";;"), 2, ("--delimiter is one character, not ';;'",)),
        (("notes.csv", "--input-format", "text", "--id-column", "a"), 2, ("--id-column is for tables",)),
        (("notes.csv", "--input-format", "text", "--delimiter", r"\t"), 2, ("--delimiter is for CSV",)),
        (("-",), 2, ("piped documents have no name", "--name")),
        (("-", "notes.csv", "--name", "x"), 2, ("stdin cannot be mixed",)),
        (("/", "--limit", 0), 2, ("--name",)),
    ],
    ids=lambda value: (
        " ".join(map(str, value)) if isinstance(value, tuple) and isinstance(value[0], str) else ""
    ),
)
def test_what_cannot_be_built_is_told_in_one_line(machine: Machine, args, code: int, words):
    (machine.folder / "empty").mkdir()
    (machine.folder / "notes.csv").write_text("a,b\n1,2\n")
    ran = machine.run("build", "files", *args, *LSA)
    errs_at_last(ran, code, *words)
    assert machine.holdings() == {}
    assert machine.unfinished() == []


def test_a_build_of_files_that_was_stopped_goes_on(machine: Machine, notes: Path):
    (notes / "log of a year.txt").write_text(
        "".join(f"On day {day} the wind was fair.\n\n" for day in range(90))
    )
    build = ("build", "files", notes, "--chunk", "100c", "--embedder", "nomic", "--concurrency", 2)
    with another_api(machine, latency=0.05) as api:
        api.expect(2)
        process = machine.start(*build)
        api.wait()
        os.killpg(process.pid, signal.SIGINT)
        errs_at_last(machine.end(process), 130, "safe; the same command resumes")
        ended = machine.run(*build)
    assert ended.code == 0, ended
    assert "resuming my notes" in ended.err
    with another_api(machine):
        whole = machine.run(*build, "--name", "whole")
    assert whole.code == 0
    files = {name: content for name, content in machine.holdings().items() if "manifest" not in name}
    mine = {
        name.partition("/")[2]: content for name, content in files.items() if name.startswith("my notes/")
    }
    theirs = {name.partition("/")[2]: content for name, content in files.items() if name.startswith("whole/")}
    assert mine == theirs != {}


def test_lines_may_be_piped_in(machine: Machine):
    lines = (
        "".join(json.dumps({"id": f"d{i}", "body": f"word{i} of a text"}) + "\n" for i in range(9)) + "{bad\n"
    )
    build = ("build", "files", "-", "--name", "piped", "--text-column", "body", *LSA)
    ran = machine.run(*build, stdin=lines)
    assert ran.code == 0, ran
    assert ran.out.startswith("piped: 9 documents at ")
    assert "left out 1 of 10: line:10 (it is not JSON" in ran.out
    assert machine.run("query", "word7", "--json").json["hits"][0]["id"] == "d7"
    errs_at_last(machine.run(*build, stdin=""), 1, "piped is left as it was")
    assert (
        "1 added, 9 removed; 1 text embedded"
        in machine.run(*build, stdin='{"id": "x", "body": "a text"}\n').out
    )


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["docs"], "docs"),
        (["docs/a.md"], "a"),
        (["docs/b.csv.gz"], "b"),
        (["docs/a.md", "docs/b.csv.gz"], "docs"),
        (["docs/*.md"], "docs"),
        (["docs/**/*.md"], "docs"),
        ([".hidden"], "hidden"),
        (["."], "here"),
        (["docs/.env"], "env"),
        (["nothing"], "here"),
    ],
    ids=" ".join,
)
def test_an_index_is_called_as_the_folder_or_file(tmp_path, monkeypatch, paths: list[str], name: str):
    (tmp_path / "here" / "docs").mkdir(parents=True)
    (tmp_path / "here" / ".hidden").mkdir()
    for file in ("a.md", "b.csv.gz", ".env"):
        (tmp_path / "here" / "docs" / file).touch()
    monkeypatch.chdir(tmp_path / "here")
    assert usual_name(paths) == name


@pytest.mark.parametrize("paths", [["-"], ["/"], ["/etc/hosts", "/usr/x"]], ids=" ".join)
def test_what_has_no_name_wants_one(paths: list[str]):
    with pytest.raises(UsageError, match="--name"):
        usual_name(paths)


def test_a_dataset_is_built_in_an_order_of_its_own(machine: Machine):
    build = ("build", "hf", "wikimedia/wikipedia", "--config", "20231101.en", "--shuffle-seed", 3, *LSA)
    ran = machine.run(*build, "--limit", 150, "--metadata", "url")
    assert ran.code == 0, ran
    assert ran.out.startswith("wikipedia: 150 documents at ")
    assert f"rsearch: drawing from {ARTICLES} rows in 6 row groups of 2 files, 75 of a row group" in ran.err
    hits = machine.run("query", "a subject named after", "-k", 150, "--json").json["hits"]
    numbers = [(int(hit["id"]) - 12) // 3 for hit in hits]
    assert max(numbers) > ARTICLES // 2 > min(numbers)
    assert all(hit["metadata"] == {"url": hit["url"]} for hit in hits)
    more = machine.run(*build, "--limit", 160, "--metadata", "url")
    assert more.out.startswith("wikipedia: 160 documents (10 of them now)")
    more = machine.run(*build, "--limit", 170)  # its metadata need not be named again
    assert more.out.startswith("wikipedia: 170 documents (10 of them now)")


def test_a_dataset_without_the_column_names_those_it_has(machine: Machine):
    build = ("build", "hf", "wikimedia/wikipedia", "--config", "20231101.en", *LSA)
    errs_at_last(
        machine.run(*build, "--text-column", "body"), 1, "has no column 'body': its columns are", "title"
    )
    errs(machine.run("build", "hf", "wikipedia", *LSA), 2, "'wikipedia' is not a dataset's name")
    errs(machine.run(*build, "--shuffle-seed", -1), 2, "-1 is not in the range")
    assert machine.holdings() == {}


def test_files_are_listed_before_the_stage_that_reads_them(inside: Inside):
    (inside.folder / "notes").mkdir()
    (inside.folder / "notes" / "a.md").write_text("river and bread")
    for embedder, reads in (("wordllama", "embedding"), ("lsa", "reading")):
        ran = inside.run("build", "files", "notes", "--embedder", embedder, "--name", embedder)
        assert ran.err.index("listing\n") < ran.err.index(f"{reads}\n"), ran


def test_a_current_folder_that_is_gone_is_told(inside: Inside, monkeypatch):
    gone = inside.folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = inside.run("build", "files", "x.md")
    assert ran.code == 1
    assert ran.err == "rsearch: the current folder is gone: change to another, or give absolute paths\n"


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_a_home_whose_name_is_not_utf8_is_one(inside: Inside):
    (inside.folder / "a.md").write_text("river and bread")
    inside.setenv("RSEARCH_HOME", os.fsdecode(os.fsencode(inside.folder) + b"/n\xe9"))
    ran = inside.run("build", "files", "a.md", "--name", "n")
    assert ran.code == 0, ran
    assert inside.run("query", "river", "-i", "n", "--json").json["hits"][0]["id"] == "a.md"


def test_half_a_character_is_replaced_in_every_field_and_every_export(inside: Inside):
    record = '{"id": "a", "text": "river", "tag": "x\\\\ud83d", "l": ["\\\\ud83d"], "o": {"\\\\ud83d": 1}}\n'
    (inside.folder / "a.jsonl").write_text(record.replace("\\\\", "\\") + '{"text": "bread", "tag": "y"}\n')
    ran = inside.run("build", "files", "a.jsonl", "--metadata", "tag,l,o", "--name", "n")
    assert ran.code == 0, ran
    hits = inside.run("query", "river", "-i", "n", "--json").json["hits"]
    assert hits[0]["metadata"] | {"path": ""} == {
        "tag": "x\ufffd", "l": '["\ufffd"]', "o": '{"\ufffd": 1}', "line": 1, "path": "",
    }  # fmt: skip
    for form in ("parquet", "datasets", "faiss-flat", "usearch"):
        ran = inside.run("export", "n", f"out-{form}", "--to", form)
        assert ran.code == 0, ran


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_a_file_whose_name_is_not_utf8_is_followed(inside: Inside):
    (inside.folder / "notes").mkdir()
    path = os.fsencode(inside.folder / "notes") + b"/caf\xe9.txt"
    Path(os.fsdecode(path)).write_text("river and bread")
    build = ("build", "files", "notes", "--name", "n")
    assert inside.run(*build).code == 0
    assert "no changes" in inside.run(*build).out
    Path(os.fsdecode(path)).unlink()
    (inside.folder / "notes" / "new.txt").write_text("flour")
    (inside.folder / "notes" / "more.txt").write_text("a mast")
    ran = inside.run("update", "n", "--yes")
    assert ran.code == 0, ran
    ids = inside.run("query", "flour", "-i", "n", "--json").json["hits"]
    assert {hit["id"] for hit in ids} <= {"new.txt", "more.txt"}


def test_a_dry_run_says_if_the_disk_is_too_small(inside: Inside, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("resizable_search.build.dry_run.free_bytes", lambda folder: 1000)
    (inside.folder / "a.txt").write_text("a note")
    ran = inside.run("build", "files", "a.txt", "--dry-run")
    assert ran.code == 1
    free = r"^free +1\.0 kB: too little; free some space, or choose another --home$"
    assert re.search(free, ran.out, re.MULTILINE)

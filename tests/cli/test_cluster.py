"""`--ray` of commands that embed, without a cluster: what it refuses."""

import pytest

from tests.cli.conftest import Inside, errs


def test_the_command_line_takes_a_cluster(inside: Inside):
    pytest.importorskip("ray")
    wrong = ("build", "pydoc", "--ray", "127.0.0.1:99999")
    ran = inside.run(*wrong)
    assert (ran.code, ran.last) == (1, ran.last)
    assert "no Ray cluster answers at 127.0.0.1:99999" in ran.last
    errs(inside.run(*wrong, "--resources", "[1]"), 2, "--resources is a JSON object of numbers")
    errs(inside.run(*wrong, "--resources", '{"CPU": '), 2, "--resources is a JSON object of numbers")
    errs(inside.run("build", "pydoc", "--workers", 2), 2, "belong to --ray")
    (inside.folder / "n.md").write_text("a note")
    assert inside.run("build", "files", "n.md").code == 0
    assert inside.run("update", "n", *wrong[2:]).code == 0  # nothing is to be embedded
    for command in (("info",), ("query", "a note", "-i"), ("bench",)):
        errs(inside.run(*command, "n", *wrong[2:]), 1, "no Ray cluster answers")
    errs(inside.run("bench", "n", *wrong[2:], "--cold"), 2, "--threads and --cold are of this machine")
    errs(
        inside.run("query", "a note", "-i", "n", "--partial"), 2, "--partial belongs to --ray: name a cluster"
    )
    (inside.folder / "o.md").write_text("another note")
    ran = inside.run("add", "n", "o.md", *wrong[2:])
    assert "no Ray cluster answers" in ran.last


def test_info_says_which_node_reads_which_parts(inside: Inside, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray")
    lines = "".join(f'{{"id": "{number}", "text": "note {number}"}}\n' for number in range(3))
    (inside.folder / "a.jsonl").write_text(lines)
    (inside.folder / "b.md").write_text("another note")
    assert inside.run("build", "files", "a.jsonl", "--name", "notes").code == 0
    assert inside.run("add", "notes", "b.md").code == 0
    nodes = [("one (10.0.0.1)", [1, 2]), ("three (10.0.0.3)", []), ("two (10.0.0.2)", [2])]
    monkeypatch.setattr("resizable_search.cluster.search.nodes_of", lambda *_: nodes)
    lines = inside.run("info", "notes", "--ray", "10.0.0.1:6379").out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("nodes "))
    assert [line.removeprefix("nodes").strip() for line in lines[at : at + 3]] == [
        "one (10.0.0.1) reads all parts",
        "three (10.0.0.3) reads no part: the folder is not there, or not the same",
        "two (10.0.0.2) reads only part 2",
    ]

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

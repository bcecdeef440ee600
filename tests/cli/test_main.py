"""The edge of the command: streams that are closed or full."""

import subprocess
from pathlib import Path

import pytest

from resizable_search.cli.help import with_flags
from resizable_search.cli.main import take_debug
from tests.cli.conftest import COMMAND, PATIENCE, Machine, Ran, Shelf, errs

FULL = "cannot write the output (No space left on device): free some space, or send it elsewhere"


def through_a_shell(machine: Machine, words: str) -> Ran:
    """Run `rsearch` with these arguments and redirections."""
    ran = subprocess.run(
        ["bash", "-c", f'exec "$0" {words}', COMMAND],
        capture_output=True,
        text=True,
        env=machine.env,
        cwd=machine.folder,
        timeout=PATIENCE,
    )
    return Ran([words], ran.returncode, ran.stdout, ran.stderr).keeps_promises()


@pytest.mark.parametrize(
    "command", ["list", "--version", "--help", "build", "query subject -i wiki-one --json"]
)
def test_an_output_that_cannot_be_written_is_told(shelf: Shelf, command: str):
    errs(through_a_shell(shelf, f"{command} >/dev/full"), 1, FULL)
    errs(through_a_shell(shelf, f"{command} >&-"), 1, "stdout is closed: send it to a file")


def test_a_variable_that_holds_no_number_is_named(shelf: Shelf, tmp_path: Path):
    """The hub's client reads it when it is imported."""
    ran = subprocess.run(
        [COMMAND, "build", "wiki", "--embedder", "lsa", "--home", tmp_path],
        capture_output=True,
        text=True,
        env=shelf.env | {"HF_HUB_ETAG_TIMEOUT": "abc"},
        timeout=PATIENCE,
    )
    assert ran.returncode == 2
    assert ran.stderr.endswith("rsearch: HF_HUB_ETAG_TIMEOUT=abc is not a number: correct it, or unset it\n")


def test_debug_behind_two_dashes_is_a_word_like_others():
    assert take_debug(["query", "--debug", "x", "--debug"]) == (["query", "x"], True)
    assert take_debug(["query", "--", "--debug"]) == (["query", "--", "--debug"], False)
    assert take_debug(["query", "--debug", "--", "--debug"]) == (["query", "--", "--debug"], True)


def test_with_stderr_closed_too_the_exit_code_tells(shelf: Shelf):
    assert through_a_shell(shelf, "list >/dev/full 2>&-").code == 1
    assert through_a_shell(shelf, "list >&- 2>/dev/full").code == 1
    assert through_a_shell(shelf, "query subject -i wiki-one --dim 0 2>&-").code == 2


def test_a_closed_stdin_is_told_where_it_is_read(shelf: Shelf):
    errs(through_a_shell(shelf, "query - -i wiki-one <&-"), 1, "stdin is closed: send one query a line to it")
    errs(through_a_shell(shelf, "remove wiki-one <&-"), 1, "not a terminal: pass --yes")
    assert through_a_shell(shelf, "query subject -i wiki-one <&-").code == 0


@pytest.mark.parametrize(
    ("library", "typed"),
    [
        ("begin again with `restart`", "begin again with --restart"),
        ("fewer `base_url` or `k`", "fewer --base-url or -k"),
        ("leave it out with `on_bad_text=skip`", "leave it out with `--on-bad-text skip`"),
        ("`repair '/a b'` makes it again", "`rsearch repair '/a b'` makes it again"),
        ("`tune index=wiki recall=0.9 k=5`", "`rsearch tune --index wiki --recall 0.9 -k 5`"),
        ("`warm` compiles it", "`rsearch warm` compiles it"),
        ("`ulimit -n 1024` or `pip install x==1`", "`ulimit -n 1024` or `pip install x==1`"),
    ],
)
def test_options_and_commands_of_the_library_are_told_as_they_are_typed(library: str, typed: str):
    assert with_flags(library) == typed

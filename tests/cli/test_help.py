"""The help of each command, and what the light commands do not load."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

from resizable_search.cli.main import app
from tests.cli.conftest import Inside, Machine, errs
from tests.cli.test_query import imported

HEAVY = {"nomic", "matplotlib", "datasets", "numba", "sklearn", "ray", "fastapi", "pyarrow", "scipy", "torch"}
HEAVY |= {"httpx2", "ir_measures", "transformers", "sentence_transformers", "faiss", "usearch"}


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_says_what_each_option_does(machine: Machine, path: tuple[str, ...]):
    ran = machine.run(*path, "--help", COLUMNS="300")
    assert (ran.code, ran.err) == (0, "")
    text = re.sub(r"[\s│╭╮╰╯─]+", " ", ran.out)
    assert "rsearch " + " ".join(path) in text
    for parameter in COMMANDS[path].params:
        assert parameter.help, parameter.name
        assert parameter.help in text
        if isinstance(parameter.show_default, str):
            assert f"{parameter.help} [default: ({parameter.show_default})]" in text
        assert all(option in text for option in parameter.opts if option.startswith("-"))
    for name, below in getattr(COMMANDS[path], "commands", {}).items():
        assert name in text
        assert below.help


LISTS = {"dims", "rerank", "batch", "threads"}
NUMBERS = [
    (path, option)
    for path, command in COMMANDS.items()
    for option in getattr(command, "params", [])
    if option.type.name.split()[0] in ("int", "float") or (option.name in LISTS and option.type.name == "str")
]


@pytest.mark.parametrize(
    ("path", "option"), NUMBERS, ids=lambda value: " ".join(value) if type(value) is tuple else value.name
)
def test_a_number_of_digits_that_are_not_ascii_is_wrong_usage(
    inside: Inside, path: tuple[str, ...], option: object
):
    arguments = ["1" for parameter in COMMANDS[path].params if parameter.required]
    name = max(option.opts, key=len)
    files = ["--queries", "x", "--qrels", "x"] if path == ("eval",) else []
    for word in ("²", "٣", "1_0"):
        errs(inside.run(*path, *arguments, *files, name, word), 2, f"'{word}' is not a ")


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_no_line_of_a_help_is_broken_at_80_columns(path: tuple[str, ...]):
    command = COMMANDS[path]
    for line in f"{command.help}\n{command.epilog or ''}".splitlines():
        assert len(re.sub(r"\[/?bold\]|\\(?=\[)", "", line)) <= 78, line


@pytest.mark.parametrize("args", [(), ("build",)], ids=["rsearch", "rsearch build"])
def test_without_arguments_the_help_is_shown(machine: Machine, args: tuple[str, ...]):
    ran = machine.run(*args)
    assert ran.err == ""
    assert "Usage: rsearch" in ran.out


@pytest.mark.parametrize("words", [(), ("query",), ("build", "files")], ids=" ".join)
def test_help_and_the_name_of_a_command_shows_the_help_of_it(inside: Inside, words: tuple[str, ...]):
    assert inside.run("help", *words).out == inside.run(*words, "--help").out


def test_an_unknown_command_gets_a_suggestion(inside: Inside):
    for word, meant in {"qurey": "query", "search": "query", "rm": "remove", "sync": "update"}.items():
        for line in ((word, "x"), ("help", word)):
            errs(inside.run(*line), 2, f"No such command '{word}'. Did you mean '{meant}'?")
    errs(inside.run("build", "file"), 2, "No such command 'file'. Did you mean 'files'?")
    (inside.folder / "notes").mkdir()
    for words in (("notes",), ("build", "notes")):
        errs(inside.run(*words), 2, "No such command 'notes'. Did you mean 'build files notes'?")
    errs(inside.run("xyzzy"), 2, "No such command 'xyzzy' (`--help`")


def test_help_loads_nothing_heavy(machine: Machine):
    ran = machine.run("--help", PYTHONPROFILEIMPORTTIME="1")
    assert "resizable_search" in imported(ran.err)
    assert not imported(ran.err) & (HEAVY | {"numpy"})


def test_list_loads_nothing_heavy(machine: Machine):
    ran = machine.run("list", PYTHONPROFILEIMPORTTIME="1")
    assert "resizable_search" in imported(ran.err)
    assert not imported(ran.err) & HEAVY


def test_the_version_is_told(machine: Machine):
    first, second = machine.run("--version").out.splitlines()
    assert re.fullmatch(r"rsearch \d+\.\d+\.\d+\S*", first)
    assert re.fullmatch(r"Python \d\S*, numpy \d\S*, numba \d\S*", second)


def test_the_package_runs_as_a_module(machine: Machine):
    command = [sys.executable, "-m", "resizable_search", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, env=machine.env)
    assert (ran.stdout, ran.stderr) == (machine.run("--version").out, "")


def test_debug_shows_the_trace_and_nothing_else_does(machine: Machine):
    with machine.start("query", "x", "--debug") as process:
        process.stdin.close()
        assert "Traceback (most recent call last)" in process.stderr.read()

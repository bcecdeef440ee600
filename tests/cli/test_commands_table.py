"""docs/commands.md tells what each command reads and writes, and is held to it."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from resizable_search.cli import help as manual
from tests.cli.conftest import Inside
from tests.cli.test_help import COMMANDS

ROOT = Path(__file__).parents[2]
LINES = re.findall(
    r"^\| `([a-z0-9 ]+)` \| (.*) \| (.*) \| (.*) \|$", (ROOT / "docs/commands.md").read_text(), re.M
)
WRITES = {command: re.findall(r"`([^`]+)`", writes) for command, _, writes, _ in LINES}
LEAVES = {" ".join(path) for path, command in COMMANDS.items() if path and not hasattr(command, "commands")}


def test_every_command_is_in_the_table_and_in_the_manual():
    commands = {leaf for leaf in LEAVES if not leaf.startswith("config ")} | {"config"}
    assert set(WRITES) == commands
    assert set(manual.EXAMPLES) == {*commands, "", "build"}


def test_every_variable_that_the_package_reads_is_in_the_manual():
    read = set()
    for path in (ROOT / "resizable_search").rglob("*.py"):
        read |= set(re.findall(r'_VARIABLE = "([A-Z_]+)"', path.read_text()))
        read |= set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', path.read_text()))
    assert {"RSEARCH_HOME", "RSEARCH_THREADS", "NOMIC_API_KEY", "NO_COLOR"} <= read
    assert {name for name in read if "COMP" not in name} <= set(manual.ENVIRONMENT)


@pytest.mark.parametrize("command", sorted(manual.EXAMPLES))
def test_help_has_examples_of_commands_that_there_are_and_fits_into_80_columns(inside: Inside, command: str):
    for line in manual.EXAMPLES[command].splitlines():
        assert len(line) <= 78 + 8
        if match := re.search(r"rsearch ([a-z-]+.*)", line):
            words = match[1].split()
            assert words[0].startswith("--") or words[0] in {leaf.split()[0] for leaf in LEAVES}, line
            path = (
                tuple(words[:2])
                if words[0] in ("build", "config") and tuple(words[:2]) in COMMANDS
                else words[:1]
            )
            known = {
                option
                for parameter in COMMANDS.get(tuple(path), COMMANDS[()]).params
                for option in parameter.opts
            }
            for option in re.findall(r"(?<= )--[a-z-]+", line):
                assert option in known | {"--base-url", "--limit", "--install-completion"}, line
    inside.setenv("COLUMNS", "80")
    ran = inside.run(*command.split(), "--help")
    assert ran.code == 0
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    for title in ("Examples", "More") if command else ("Examples", "Environment", "Files", "Exit codes"):
        assert f"\n {title} " in ran.out


@pytest.mark.parametrize("group", ["", "build", "config"])
def test_the_summary_of_each_command_fits_on_one_line(inside: Inside, group: str):
    inside.setenv("COLUMNS", "80")
    shown = inside.run(*group.split(), "--help").out
    for name, command in COMMANDS[tuple(group.split())].commands.items():
        summary = re.escape(command.help.partition("\n\n")[0])
        assert re.search(rf"^│ {name} +{summary} +│$", shown, re.M), name


def snapshot(home: Path) -> dict[str, tuple[int, int]]:
    files = {}
    for path in home.rglob("*"):
        if path.is_file():
            status = path.stat()
            files[str(path.relative_to(home))] = (status.st_mtime_ns, status.st_ino)
    return files


def test_commands_write_what_the_table_says_and_nothing_else(inside: Inside):
    notes = inside.folder / "notes.jsonl"
    notes.write_text(json.dumps({"id": "note", "title": "Note", "text": "word1 word2"}) + "\n")
    wrote: dict[str, set[str]] = {}
    before = snapshot(inside.home)
    for line in (
        "build pydoc --embedder lsa --dims 16,32",
        "list",
        "info",
        "query word1",
        "similar long",
        "verify",
        "add pydoc notes.jsonl",
        "delete pydoc note --yes",
        "compact",
        "repair",
        "warm pydoc",
        "tune --recall 0.5 --sample 20",
        "bench --dims 16 --sample 5",
        "config set query.k 3",
        "remove pydoc --yes",
    ):
        ran = inside.run(*line.split())
        assert ran.code == 0, ran
        after = snapshot(inside.home)
        command = "build pydoc" if line.startswith("build") else line.split()[0]
        wrote[command] = {path for path in {*before, *after} if before.get(path) != after.get(path)}
        for path in wrote[command]:
            documented = [pattern.replace("NAME", "pydoc") for pattern in WRITES[command]]
            assert any(fnmatch(path, pattern) for pattern in documented), (command, path)
        before = after
    assert not wrote["list"] | wrote["info"] | wrote["similar"]
    assert wrote["verify"] == {".state/pydoc/verified.json"}
    assert wrote["config"] == {"rsearch.toml"}
    assert all(wrote[command] for command in ("add", "delete", "compact", "tune", "remove"))

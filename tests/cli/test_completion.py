"""Completion as a person meets it: Tab in a real shell on a pseudo-terminal, and what is never offered."""

import json
import os
import pty
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from resizable_search.store.layout import Home
from tests.cli.conftest import COMMAND, PATIENCE, Machine, environment
from tests.cli.test_help import HEAVY
from tests.cli.test_query import imported

MARK = "@@"
"""The prompt."""

Completed = Callable[[str], str]


class Terminal:
    """An interactive bash whose completion is rsearch's own script."""

    def __init__(self, machine: Machine) -> None:
        env = {
            **machine.env,
            "TERM": "dumb",
            "INPUTRC": "/dev/null",
            "PATH": f"{COMMAND.parent}:/usr/bin:/bin",
        }
        env["HISTFILE"] = "/dev/null"
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(machine.folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env)
        self.send(
            "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; stty cols 200; "
            f"bind 'set show-all-if-ambiguous on'; PS1={MARK}; "
            'eval "$(rsearch --show-completion bash)"; echo re""ady\n'
        )
        self.until("ready\r\n" + MARK)

    def send(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, words: str) -> str:
        """What it shows, up to these words."""
        shown, end = "", time.monotonic() + PATIENCE
        while words not in shown:
            assert time.monotonic() < end, shown
            if select.select([self.terminal], [], [], 0.1)[0]:
                shown += os.read(self.terminal, 1 << 16).decode(errors="replace")
        return shown

    def tab(self, line: str) -> str:
        """All that is shown after Tab at the end of this line: offers, if several, and the line then."""
        # Ctrl-A and echo put the completed line into a word that the shell then prints.
        self.send(line + "\t\x01printf '<%s>' \x05; echo e\"\"nd\n")
        return self.until("end\r\n" + MARK).removesuffix(MARK)

    def close(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.terminal)


IDS = ["doc-1", "doc-10", "doc-2", "über", "x y"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with two indexes of a few made-up vectors; only read it."""
    from resizable_search.build.build import build_vectors
    from resizable_search.build.workspace import BuildOptions

    folder = tmp_path_factory.mktemp("shelf")
    machine = Machine(folder, environment("http://127.0.0.1:9", "http://127.0.0.1:9", folder / "hf"))
    documents = folder / "documents.jsonl"
    documents.write_text("".join(json.dumps({"id": id_, "title": id_, "year": 1999}) + "\n" for id_ in IDS))
    for name, dims in (("wiki100k", (128, 256, 512, 768)), ("small", (64, 256))):
        file = folder / f"{name}.npy"
        np.save(file, np.random.default_rng(0).standard_normal((len(IDS), dims[-1]), np.float32))
        build_vectors(file, Home(machine.home), BuildOptions(name, None, dims), documents=documents)
    return machine


@pytest.fixture
def machine(shelf: Machine, tmp_path: Path) -> Machine:
    """A machine with an empty home."""
    return Machine(tmp_path, dict(shelf.env))


@pytest.fixture(scope="module")
def complete(shelf: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Completed]:
    """Press Tab in bash, in a folder with a file, beside the indexes of the shelf; what the line became."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    machine = Machine(tmp_path_factory.mktemp("bash"), dict(shelf.env))
    machine.env["RSEARCH_HOME"] = str(shelf.home)
    (machine.folder / "notes.jsonl").write_text("")
    terminal = Terminal(machine)
    yield terminal.tab
    terminal.close()


def words(*expected: str) -> str:
    """What printf makes of the words of the completed line."""
    return "".join(f"<{word}>" for word in expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rsearch simi", ("rsearch", "similar")),
        ("rsearch build pyd", ("rsearch", "build", "pydoc")),
        ("rsearch query x --expl", ("rsearch", "query", "x", "--explain")),
        ("rsearch query x --index sm", ("rsearch", "query", "x", "--index", "small")),
        ("rsearch query x -i wi", ("rsearch", "query", "x", "-i", "wiki100k")),
        ("rsearch info wiki1", ("rsearch", "info", "wiki100k")),
        ("rsearch query x --dim 7", ("rsearch", "query", "x", "--dim", "768")),
        ("rsearch query x -i small --dim 25", ("rsearch", "query", "x", "-i", "small", "--dim", "256")),
        ("rsearch bench --dims 512,256,12", ("rsearch", "bench", "--dims", "512,256,128")),
        ("rsearch query x --plan 5", ("rsearch", "query", "x", "--plan", "512")),
        ("rsearch query x --format pl", ("rsearch", "query", "x", "--format", "plain")),
        ("rsearch query x --engine numb", ("rsearch", "query", "x", "--engine", "numba")),
        ("rsearch build wiki --embedder ls", ("rsearch", "build", "wiki", "--embedder", "lsa")),
        ("rsearch add small note", ("rsearch", "add", "small", "notes.jsonl")),
        ("rsearch bench --queries note", ("rsearch", "bench", "--queries", "notes.jsonl")),
    ],
)  # fmt: skip
def test_tab_in_bash_completes_what_is_meant(complete: Completed, line: str, expected: tuple[str, ...]):
    assert complete(line).endswith(words(*expected) + "end\r\n")


def test_several_words_are_shown(complete: Completed):
    shown = complete("rsearch query x -i small --dim ")
    assert {"64", "256"} <= set(shown.split())


def asked(machine: Machine, line: str, shell: str = "bash") -> list[str]:
    """What a shell is offered for this line, as its script asks for it; nothing is told on stderr."""
    words = line.split(" ")
    variables = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    variables |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    ran = machine.run(_RSEARCH_COMPLETE=f"complete_{shell}", **variables)
    assert (ran.code, ran.err) == (0, ""), ran
    return ran.out.split()  # as bash reads it


def test_a_damaged_index_a_wrong_file_and_no_home_offer_nothing_and_tell_nothing(
    machine: Machine, shelf: Machine
):
    assert asked(machine, "rsearch query x --index ") == []
    folder = machine.take(shelf, "small")
    (folder / "documents.sqlite").write_bytes(b"SQLite format 3\0" + bytes(200))
    (machine.home / "rsearch.toml").write_text("indx = [")
    assert asked(machine, "rsearch query x --index ") == ["small"]
    for content in ("[]", '{"dims": [[]]}', "{" * 100_000):
        (folder / "manifest.json").write_text(content)
        assert asked(machine, "rsearch query x --dim ") == []
    assert asked(machine, "rsearch query x --home ~nobody --index ") == []


def test_dimensions_are_those_of_the_index_that_a_file_names(machine: Machine, shelf: Machine):
    for name in ("small", "wiki100k"):
        machine.take(shelf, name)
    assert "768" in asked(machine, "rsearch query x --dim ")
    (machine.home / "rsearch.toml").write_text('index = "small"\n')
    assert "768" not in asked(machine, "rsearch query x --dim ")


def test_what_a_shell_could_run_is_not_offered(machine: Machine, shelf: Machine):
    shutil.copytree(shelf.home / "small", machine.home / "a;reboot $(x) 'y'")
    machine.take(shelf, "small")
    for shell in ("bash", "zsh", "fish"):
        offered = "\n".join(asked(machine, "rsearch query x --index ", shell))
        assert "small" in offered
        assert "reboot" not in offered


def test_completing_loads_nothing_heavy(machine: Machine, shelf: Machine):
    machine.take(shelf, "small")
    variables = {"COMP_WORDS": "rsearch\ninfo\ns", "COMP_CWORD": "2", "_RSEARCH_COMPLETE": "complete_bash"}
    ran = machine.run(PYTHONPROFILEIMPORTTIME="1", **variables)
    assert "resizable_search" in imported(ran.err)
    assert not imported(ran.err) & (HEAVY | {"numpy", "tomlkit", "httpx", "rich.console"})


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_another_shell_is_one_that_it_takes(machine: Machine, tmp_path: Path, shell: str):
    if (path_of_shell := shutil.which(shell)) is None:
        pytest.skip(f"there is no {shell} here")
    import subprocess

    script = machine.run("--show-completion", shell).out
    path = tmp_path / "script"
    path.write_text(script)
    subprocess.run([path_of_shell, "-n", str(path)], check=True)

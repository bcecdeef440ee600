"""The prompt: what it does with a line, in process, and that a terminal is served rightly, on one."""

import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from resizable_search.cli import repl
from resizable_search.cli.main import app
from resizable_search.cli.options import SearchArguments
from resizable_search.cli.repl import COMMANDS, SETTINGS, Session, answered, run, settings_of
from resizable_search.errors import UsageError
from resizable_search.search.index import Index, open_index
from tests.cli.conftest import COMMAND, ESCAPES, PATIENCE, Inside, Machine, Shelf, another_api, errs
from tests.servers.nomic_api import HANG


@pytest.fixture
def session(inside: Inside) -> Iterator[Session]:
    """At an index `pydoc` of the documents of `inside`."""
    assert inside.run("build", "pydoc", "--embedder", "lsa", "--dims", "4,8").code == 0

    def open_named(name: str) -> Index:
        return open_index(name, home=inside.home)

    made = Session(
        open_named("pydoc"),
        "pydoc",
        open_named,
        lambda: ["other", "pydoc"],
        SearchArguments(k=3, format="table", min_score=-1.0),
        settings_of(typer.main.get_command(app).commands["query"].params),
    )
    yield made
    made.index.close()


@pytest.fixture
def say(session: Session, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Has the session take lines, and tells what was printed: stdout, and behind it stderr."""

    def take(*lines: str) -> str:
        capsys.readouterr()
        assert all(answered(session, line) for line in lines)
        return "".join(capsys.readouterr())

    return take


TEXT = "word1 word2 word3"


def test_a_text_is_answered_and_a_blank_line_asks_it_again_with_what_is_set_now(session, say):
    assert say("  ") == ""
    out = say("text 17 18 19")
    head, *hits, foot = out.splitlines()
    assert head.split()[:2] == ["#", "score"]
    assert [line.split()[0] for line in hits] == ["1", "2", "3"]
    assert re.search(
        rf"pydoc · 40 × {session.index.full_dim} · plan {session.index.full_dim} · embed .* ms$", foot
    )
    assert session.prompt == "pydoc> "
    out = say(":dim 4", ":k 2", "")
    assert len(out.splitlines()) == 4
    assert " · plan 4 · " in out
    assert session.prompt == "pydoc 4> "


def test_each_way_to_say_how_to_search_takes_the_place_of_the_others(session, say):
    full = session.index.full_dim
    for line, plan in (
        (":dim 4", "4"), (":rerank 2", f"4:20,{full}"), (":k 14", f"4:28,{full}"), (":k 4", f"4:20,{full}"),
        (f":plan 8:9,{full}", f"8:9,{full}"), (":dim 8", "8"), (f":plan 8:9,{full}", f"8:9,{full}"),
        (":plan", f"{full}"), (":dim 4", "4"), (":dim", f"{full}"),
        (":mode hybrid", f"{full}+lexical"), (":dim 4", "4+lexical"), (":mode", "4"), (":dim", f"{full}"),
    ):  # fmt: skip
        assert say(line) == "", line
        assert str(session.plan) == plan, line
    assert say(":rerank 3") == ":rerank does nothing at the full dimension: set a smaller :dim\n"
    say(":recall 1")
    assert session.arguments.recall == 1
    assert str(session.plan) == session.index.plans.get(4, 1.0).plan
    assert " recall " in say(":settings").replace("\n", " ")
    say(":dim 4")
    assert session.arguments.recall is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (":dim 9999", "dimension 9999 is not within 1 to"),
        (":dim abc", "dim: 'abc' is not a whole number"),
        (":k 2_0", "k: '2_0' is not a whole number"),
        (":k 0", "k must be 1 or more"),
        (":rerank -1", "rerank must be 0 (none) or more"),
        (":plan 4:bits", "scores in bits are rough"),
        (":plan 4:x", "no precision 'x'; there are exact"),
        (":mode words", "mode: 'words' is not one of 'dense'"),
        (":recall many", "recall: 'many' is not a number"),
        (":recall 7", "recall must be above 0 and at most 1"),
        (":where titel = 1", "did you mean title?"),
        (":where title GLOB", "--where"),
        (":snippet -1", "snippet: -1 is not in the range"),
        (":explain maybe", "explain: 'maybe' is not a valid boolean"),
        (":show 1", "there is no hit '1': the last answer has 0 hits"),
        (":similar", "there is no hit ''"),
        (":index nowhere", "no index nowhere: there are pydoc"),
        (":r 1", ":r may be :rerank or :recall"),
        (":", "there is no :"),
        (":snipet 1", "there is no :snipet: `:help` lists"),
        ("xyzzyq", "no word of 'xyzzyq' occurs in pydoc"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told_in_one_line_and_changes_nothing(session, say, line: str, words: str):
    before = session.arguments, session.plan
    out = say(line)
    assert out.startswith("rsearch: ")
    assert out.count("\n") == 1
    assert words in out
    assert (session.arguments, session.plan) == before


def test_hits_are_named_by_number(session, say, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    say(":k 40", "word80")
    assert "word0 word1" in say(":show 1")
    assert session.hit("1").id == "long"
    say(":mode hybrid")
    out = say(":similar 1")
    assert len(session.hits) == 39
    assert "\nlong" not in out
    assert session.hit("1").id != "long"
    say(":open 2")
    assert opened == [session.hit("2").url]
    assert "the last answer has 39 hits" in say(":show 40")
    assert "the last answer has 39 hits" in say(":open 0")
    assert say("", ":k 2").splitlines()[-1].startswith("pydoc")
    assert "long" not in [hit.id for hit in session.hits]


def test_where_tells_how_many_documents_there_are_to_search(session, say):
    assert say(":where id = 'long'") == "1 of 40 documents\n"
    say(TEXT)
    assert [hit.id for hit in session.hits] == ["long"]
    assert say(":where") == "40 of 40 documents\n"


def test_explain_group_and_snippet_are_those_of_the_command(session, say):
    assert "rescored" in say(":explain on", TEXT)
    assert "rescored" not in say(":explain off", "")
    assert "snippet" in say(":snippet 20", "").splitlines()[0]
    say(":group off", "")
    assert not session.arguments.group


def test_an_index_that_is_changed_is_picked_up_and_told(session, say, inside):
    say(":dim 4", "word80")
    gone = session.hit("1").id
    assert inside.run("delete", "pydoc", gone, "--yes").code == 0
    out = say("")
    assert "pydoc has changed: it has 39 documents now\n" in out
    assert gone not in [hit.id for hit in session.hits]
    assert "changed" not in say("")
    assert session.prompt == "pydoc 4> "


def test_an_index_that_is_removed_is_told_and_picked_up_when_it_is_built_again(session, say, inside):
    say("text 3", ":dim 8")
    assert inside.run("remove", "pydoc", "--yes").code == 0
    out = say("")
    assert re.fullmatch(r"rsearch: .*pydoc has been removed, or is empty: build it again\n", out)
    assert inside.run("build", "pydoc", "--embedder", "lsa", "--dims", "4", "--limit", 7).code == 0
    out = say("")
    assert "has changed: it has 7 documents now" in out
    assert "dimension 8 is not within 1 to" in out
    assert session.is_full


def test_another_index_keeps_what_fits_it(session, say, inside):
    build = ("build", "pydoc", "--embedder", "lsa", "--name", "other", "--limit", 6)
    assert inside.run(*build).code == 0
    assert say(":index").split() == ["other", "*", "pydoc"]
    out = say(":where id <> 'long'", ":dim 8", "text 3", ":index other")
    assert "dimension 8 is not within 1 to" in out
    assert "back to the full dimension and all documents" in out
    assert out.splitlines()[-1].startswith("other · 6 × ")
    assert (session.prompt, session.arguments.where) == ("other> ", None)
    assert "no hit '1'" in say(":show 1")
    assert say(":index nowhere").startswith("rsearch: no index nowhere")
    assert "other · 6 × " in say("text 3")


def test_ctrl_c_breaks_a_question_off_and_the_prompt_stays(session, say, monkeypatch):
    def answer(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.index, "search", answer)
    assert say(TEXT) == "rsearch: stopped\n"
    monkeypatch.undo()
    assert "pydoc · 40" in say("")


def test_a_limit_of_the_process_is_told_and_a_fault_of_the_program_is_not_hidden(session, say, monkeypatch):
    def fails(error: Exception) -> Callable[..., None]:
        def answer(*args: object, **options: object) -> None:
            raise error

        return answer

    monkeypatch.setattr(session.index, "search", fails(MemoryError()))
    assert say(TEXT).startswith("rsearch: out of memory: ")
    monkeypatch.setattr(session.index, "search", fails(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        answered(session, TEXT)


def test_a_command_is_known_by_its_beginning_and_help_lists_them_all(session, say):
    assert session.find("exp") == "explain"
    with pytest.raises(UsageError, match="may be :snippet or :show or :similar or :settings: write it out"):
        session.find("s")
    out = say(":help")
    assert all(f":{name.replace('_', '-')} " in out for name in (*SETTINGS, *COMMANDS))
    names = {line.split()[0] for line in say(":settings").splitlines()}
    assert names == {"index", "k", "rerank", "plan", "group", "format", "snippet", "min-score", "explain"}
    assert not answered(session, ":quit")
    assert not answered(session, ":q")


def test_commands_and_their_values_are_completed(session):
    assert session.completions(":re") == [":rerank ", ":recall "]
    assert len(session.completions(":")) == len(SETTINGS) + len(COMMANDS)
    assert session.completions(":index py") == ["pydoc"]
    assert session.completions(":group o") == ["on", "off"]
    assert session.completions(":dim ") == ["4", "8", str(session.index.full_dim)]
    assert session.completions(":where id = 1 AND ti") == ["title"]
    assert session.completions("tree") == session.completions(":k ") == []


def typed(session: Session, history: Path, *lines: str | BaseException) -> None:
    """Run the prompt; these lines are typed, and then the end of the input."""
    waiting = iter([*lines, EOFError()])

    def read(prompt: str) -> str:
        line = next(waiting)
        if isinstance(line, BaseException):
            raise line
        return line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.input", read)
        run(session, history)


def test_lines_are_read_until_the_end_of_the_input(session, tmp_path):
    typed(session, tmp_path / "state" / "history", TEXT, KeyboardInterrupt(), ":k 2", ":k 2", " ")
    assert session.arguments.k == 2
    assert (tmp_path / "state" / "history").read_text() == f"{TEXT}\n:k 2\n"


@pytest.mark.parametrize("library", ["GNU readline", "libedit"])
def test_the_history_is_its_owners_alone_and_cut_when_it_is_long(session, tmp_path, monkeypatch, library):
    readline = pytest.importorskip("readline")
    monkeypatch.setattr(readline, "__doc__", library)
    monkeypatch.setattr(repl, "MOST_LINES", 3)
    path = tmp_path / "state" / "history"
    typed(session, path, ":k 1", ":k 2\x1b[2J")
    typed(session, path, ":k 3", ":k 4")
    assert path.read_text().split("\n") == [":k 2 [2J", ":k 3", ":k 4", ""]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["history"]
    assert readline.get_current_history_length() == 4


def test_a_prompt_works_where_no_history_can_be_written_and_without_readline(session, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    typed(session, tmp_path / "file" / "history", ":k 1")
    monkeypatch.setitem(sys.modules, "readline", None)
    typed(session, tmp_path / "history", ":k 2")
    assert session.arguments.k == 2
    assert not (tmp_path / "history").exists()


class Terminal:
    """The command on a terminal of its own, which it owns as it would own a person's."""

    OWN = (
        "import fcntl, os, sys, termios;"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )

    def __init__(self, machine: Machine, *args: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.OWN, str(COMMAND), *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**machine.env, "COLUMNS": "80", "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            cwd=machine.folder,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def types(self, keys: str, until: str) -> str:
        """What is shown from there on, up to these words."""
        begin = len(self.shown)
        os.write(self._ours, keys.encode())
        return self.awaits(until, begin)

    def awaits(self, words: str, begin: int = 0) -> str:
        end = time.monotonic() + PATIENCE
        while words not in self.shown[begin:]:
            assert time.monotonic() < end, self.shown
            if select.select([self._ours], [], [], 1.0)[0]:
                self.shown += os.read(self._ours, 1 << 16).decode(errors="replace")
        return self.shown[begin:]

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)


def test_a_terminal_has_a_prompt_with_history_completion_and_ctrl_c(shelf: Shelf, machine: Machine):
    machine.take(shelf, "wiki-odd")
    with Terminal(machine, "query", "-k", "2", "--dim", "64") as terminal:
        terminal.awaits("wiki-odd 64> ")
        shown = terminal.types("a heap without a title\n", "wiki-odd 64> ")
        assert "plan 64 · embed " in shown
        assert "\x1b[2J" not in shown
        assert "\x9b" not in shown
        assert ESCAPES not in shown
        terminal.types("half a line", "half a line")
        time.sleep(0.2)  # until it waits for a key again: a signal before that is noticed with the next one
        shown = terminal.types("\x03", "wiki-odd 64> ")
        assert "embed" not in shown
        assert "rsearch:" not in shown
        terminal.types(":sho\t1\n", "wiki-odd 64> ")
        assert "id: " in terminal.types("\x1b[A\n", "wiki-odd 64> ")  # the key that goes back in time
        assert "rsearch: dimension 9999" in terminal.types(":dim 9999\n", "wiki-odd 64> ")
        terminal.types(":dim\n", "wiki-odd> ")
        os.write(terminal._ours, b"\x04")
        assert terminal.process.wait(PATIENCE) == 0
    history = machine.home / ".state" / "prompt.history"
    assert history.read_text().split("\n") == ["a heap without a title", ":show 1", ":dim 9999", ":dim", ""]
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_ctrl_c_while_a_service_hangs_brings_the_prompt_back(shelf: Shelf, machine: Machine):
    machine.take(shelf, "wiki100k")
    with another_api(machine) as api, Terminal(machine, "query", "-k", "1") as terminal:
        api.spoil(HANG, None)
        terminal.awaits("wiki100k> ")
        os.write(terminal._ours, b"new words\n")
        end = time.monotonic() + PATIENCE
        while not api.under_way:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert "rsearch: stopped" in terminal.types("\x03", "wiki100k> ")
        api.heal()
        assert "embed" in terminal.types("other words\n", "wiki100k> ")
        os.write(terminal._ours, b":quit\n")
        assert terminal.process.wait(PATIENCE) == 0


def test_a_prompt_that_makes_no_sense_is_not_opened(shelf: Shelf, machine: Machine):
    with Terminal(shelf, "query", "-i", "wiki-one", "--dim", "9999") as terminal:
        terminal.awaits("rsearch: dimension 9999 is not within")
        assert terminal.process.wait(PATIENCE) == 2
    errs(machine.run("query"), 2, "there is no text to search: give one, or `-`")


def test_options_are_the_first_settings(inside: Inside, monkeypatch, capsys):
    assert inside.run("build", "pydoc", "--embedder", "lsa", "--dims", "4").code == 0
    terminal = SimpleNamespace(isatty=lambda: True)
    streams = SimpleNamespace(stdin=terminal, stdout=terminal)
    monkeypatch.setattr("resizable_search.cli.query.sys", streams)
    lines = iter([":settings"])

    def read(prompt: str) -> str:
        assert re.fullmatch(r"pydoc 4:20,\d+> ", prompt)
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    ran = inside.run(
        "query", "--dim", 4, "--rerank", 2, "-k", 3, "--where", "id <> 'long'", "--snippet", 9, "--explain"
    )
    assert (ran.code, ran.err) == (0, "")
    settings = dict(line.split(None, 1) for line in ran.out.splitlines()[2:] if line)
    assert (
        settings.items()
        >= {
            "k": "3",
            "dim": "4",
            "rerank": "2",
            "where": "id <> 'long'",
            "snippet": "9",
            "explain": "True",
        }.items()
    )
    errs(inside.run("query", "--open", 1), 2, "at the prompt, `:open 1` opens a hit")
    errs(inside.run("query", "--dim", 999), 2, "dimension 999 is not within")

"""The prompt of `rsearch query` without a text: texts are searched, `:commands` are run."""

import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from resizable_search.cli.output import OutputOptions, above_min_score, note, open_hit, print_answer, say
from resizable_search.cli.tables import details, show_table, stdout_console
from resizable_search.cli.tune import plan_for
from resizable_search.engine.plan import MODES
from resizable_search.errors import RsearchError, UsageError
from resizable_search.search.results import SearchOptions
from resizable_search.system import exhausted
from resizable_search.text import counted, plain, plain_lines, quoted

if TYPE_CHECKING:
    from resizable_search.search.index import Index
    from resizable_search.search.results import Answer, Hit

MOST_LINES = 1000  # lines of history
SWITCH = {"on": True, "off": False}


def run(session: "Session", history: Path) -> None:
    """Greet, and run lines until one of them, or the end of the input, ends the prompt.

    `history` is a file for the typed lines, which only its owner may read.
    """
    session.greet()
    say(":help lists the commands; Ctrl-D leaves")
    remember = _editor(session, history)
    while True:
        try:
            line = input(session.prompt)
        except KeyboardInterrupt:  # readline has shown the line
            sys.stdout.write("\n")
            continue
        except EOFError:
            sys.stdout.write("\n")
            return
        remember(plain(line))
        if not answered(session, line):
            return


def answered(session: "Session", line: str) -> bool:
    """Run a line, and report an error in one line. False: leave."""
    try:
        return session.take(line)
    except KeyboardInterrupt:
        problem = "stopped"
    except Exception as error:
        # A limit of this process may pass; any other foreign error is a fault of the program.
        known = exhausted(error) or error
        if not isinstance(known, RsearchError):
            raise
        problem = str(known)
    sys.stdout.flush()
    note(problem)
    return True


def _editor(session: "Session", history: Path) -> Callable[[str], None]:
    """Set readline up, if this Python has it. Returns what adds a line to the history."""
    try:
        import readline
    except ImportError:
        return lambda line: None

    def complete(_: str, state: int) -> str | None:  # readline ignores its errors
        choices = completions(session, readline.get_line_buffer()[: readline.get_endidx()])
        return choices[state] if state < len(choices) else None

    def remember(line: str) -> None:
        if line and line != readline.get_history_item(readline.get_current_history_length()):
            readline.add_history(line)
            with suppress(OSError):
                if is_libedit:  # it cannot append
                    readline.write_history_file(history)
                else:  # at once: two prompts keep each other's lines
                    readline.append_history_file(1, history)

    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.set_auto_history(False)
    readline.set_history_length(MOST_LINES)
    readline.clear_history()
    with suppress(OSError):
        history.parent.mkdir(parents=True, exist_ok=True)
        history.touch(0o600)
        readline.read_history_file(history)
    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    return remember


@dataclass(eq=False)
class Session:
    """An open index, how to search it, and the last hits. Prints on stdout, raises RsearchError.

    `open_named` opens an index by name or folder, `names` lists the indexes. It owns `index`, opened as
    `name`, and opens it again before the next search if it has changed on disk.
    """

    index: "Index"
    name: str
    open_named: "Callable[[str], Index]"
    names: Callable[[], list[str]]
    search: SearchOptions
    output: OutputOptions
    hits: "list[Hit]" = field(default_factory=list)
    again: "Callable[[SearchOptions], Answer] | None" = None  # searches the last text or document again

    def __post_init__(self) -> None:
        self.plan = plan_for(self.index, self.search)

    @property
    def is_full(self) -> bool:
        """Whether the plan is an exact scan at the full dimension."""
        return str(self.plan) == str(self.index.full_dim)

    @property
    def prompt(self) -> str:
        """The words before the cursor: the index, and the plan if it is not the full dimension."""
        return f"{plain(self.index.name)}{'' if self.is_full else f' {self.plan}'}> "

    def greet(self) -> None:
        """Say which index is searched, by which engine."""
        index, engine = self.index, self.index.warm()
        threads = f" on {counted(index.threads, 'thread')}" if engine == "numba" else ""
        say(f"{index.name} · {index.rows:,} × {index.full_dim} · {engine}{threads}")
        if index.remark:
            say(index.remark)

    def take(self, line: str) -> bool:
        """Search a text or run a command; a blank line searches the last text again. False: leave."""
        line = line.strip()
        if line.startswith(":"):
            name, _, value = line[1:].replace("\t", " ").partition(" ")
            return find(name).run(self, value.strip()) is not False
        if line:
            self.ask(lambda options: self.index.search([line], options)[0])
        elif self.again is not None:
            self.ask(self.again)
        return True

    def ask(self, search: "Callable[[SearchOptions], Answer]") -> None:
        """Search, and print the hits."""
        self._follow()
        self.again = search
        answer = above_min_score(search(self.search.with_plan(self.plan)), self.output)
        self.hits = answer.hits
        print_answer(answer, self.index, self.output)

    def similar(self, number: int) -> None:
        """Search the documents nearest to a hit."""
        id_ = self.hit(number).id
        self.ask(lambda options: self.index.search_similar(id_, replace(options.by_meaning(), group=False)))

    def hit(self, number: int) -> "Hit":
        """A hit of the last answer by its number. Raises UsageError."""
        if not 1 <= number <= len(self.hits):
            raise UsageError(
                f"there is no hit {number}: the last answer has {counted(len(self.hits), 'hit')}"
            )
        return self.hits[number - 1]

    def set(self, **changes: Any) -> None:
        """Change how to search, if this index can. Raises UsageError, and changes nothing.

        A missing plan for a recall is tuned now.
        """
        search = replace(self.search, **changes)
        self.plan, matching = plan_for(self.index, search), self.index.check_where(search.where)
        self.search = search
        if "where" in changes:
            say(f"{matching:,} of {counted(self.index.rows, 'document')}")
        if changes.get("rerank") and self.is_full:
            say(":rerank does nothing at the full dimension: set a smaller :dim")

    def _follow(self) -> None:
        """Open the index again if it has changed. Raises IndexNotFoundError if it is gone."""
        if not self.index.has_moved_on():
            return
        before = self.index.manifest
        self.replace_index(self.open_named(self.name))
        self.index.warm()
        now = self.index.manifest
        if replace(before, plans=now.plans, mode=now.mode) != now:
            say(f"{self.index.name} has changed: it has {counted(now.documents, 'document')} now")

    def replace_index(self, index: "Index") -> None:
        """Take another index, and search as before if it can."""
        search = self.search
        try:
            plan = index.plan(search)
            index.check_where(search.where)
        except UsageError as error:
            say(f"{error}; back to the full dimension and all documents")
            search = replace(search.with_plan(None), where=None)
            plan = index.plan(search)
        self.index.close()
        self.index, self.plan, self.search = index, plan, search


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the prompt: `value` shows what it takes, `values` completes it; `run` False: leave."""

    name: str
    value: str
    help: str
    run: Callable[[Session, str], bool | None]
    values: Callable[[Session], Iterable[str]] = lambda session: ()


def find(name: str) -> Command:
    """The command of that name, or the only one that starts with it. Raises UsageError."""
    matching = [command for command in COMMANDS if name and command.startswith(name)]
    if name in COMMANDS or len(matching) == 1:
        return COMMANDS[name if name in COMMANDS else matching[0]]
    if matching:
        raise UsageError(f":{name} may be {' or '.join(f':{command}' for command in matching)}: write it out")
    raise UsageError(f"there is no :{plain(name)[:20]}: `:help` lists the commands")


def completions(session: Session, before: str) -> list[str]:
    """The completions of the last word of a line."""
    if not before.startswith(":"):
        return []
    name, space, value = before[1:].partition(" ")
    if not space:
        return [f":{command} " for command in COMMANDS if command.startswith(name)]
    word = value.rpartition(" ")[2]
    return [choice for choice in find(name).values(session) if choice.startswith(word)]


def _help(session: Session, _: str) -> None:
    lines = [(f":{c.name} {c.value}".rstrip(), c.help) for c in COMMANDS.values()]
    lines += [
        ("any other text", "is searched; a blank line searches the last one again"),
        ("Ctrl-C", "clears the line, or stops the search; Ctrl-D leaves"),
    ]
    show_table(details(lines))


def _settings(session: Session, _: str) -> None:
    words = {True: "on", False: "off"}
    values = {"index": session.index.name, **asdict(session.search), "plan": session.plan}
    values |= {"snippet": session.output.snippet, "explain": session.output.explain}
    rows = ((name, value) for name, value in values.items() if value is not None)
    show_table(
        details((name, words[value] if isinstance(value, bool) else str(value)) for name, value in rows)
    )


def _show(session: Session, value: str) -> None:
    hit = session.hit(_number("show", value))
    head = [hit.title, f"id: {hit.id}", hit.url, *(f"{key}: {field}" for key, field in hit.metadata.items())]
    stdout_console().print(Text("\n".join([*filter(None, map(plain, head)), "", *plain_lines(hit.text)])))


def _index(session: Session, value: str) -> None:
    if value:
        session.replace_index(session.open_named(value))
        session.name, session.hits, session.again = value, [], None
        session.greet()
        return
    for name in session.names():
        say(f"{'*' if name == session.index.name else ' '} {name}")


def _print_with(session: Session, **changes: Any) -> None:
    session.output = replace(session.output, **changes)


def _switch(name: str, value: str) -> bool:
    if value not in SWITCH:
        raise UsageError(f":{name} is on or off, not {quoted(value)}")
    return SWITCH[value]


def _number(name: str, value: str, kind: type = int) -> Any:
    try:
        if not re.fullmatch(r"[\d.]{1,18}", value, re.ASCII):
            raise ValueError(value)
        return kind(value)
    except ValueError:
        raise UsageError(f":{name} takes a number, not {quoted(value)}") from None


COMMANDS = {
    command.name: command
    for command in (
        Command("dim", "D", "scan the first D dimensions; alone: the full dimension",
                lambda session, value: session.set(
                    dim=_number("dim", value) if value else None, plan=None, recall=None),
                lambda session: map(str, session.index.dims)),
        Command("rerank", "R", "score R x max(k, 10) candidates again at the full dimension; alone: none",
                lambda session, value: session.set(
                    rerank=_number("rerank", value or "0"), plan=None, recall=None)),
        Command("k", "N", "return N hits; alone: 10",
                lambda session, value: session.set(k=_number("k", value or "10"))),
        Command("where", "SQL", "search only documents that match; alone: all",
                lambda session, value: session.set(where=value or None),
                lambda session: session.index.columns()),
        Command("plan", "STAGES", "search by a plan such as 256:100,768; alone: the full dimension",
                lambda session, value: session.set(
                    dim=None, rerank=0, plan=value or None, recall=None)),
        Command("mode", "MODE", "rank by meaning (dense), words (lexical) or both (hybrid); alone: as usual",
                lambda session, value: session.set(mode=value or None), lambda session: MODES),
        Command("recall", "R", "search by the plan tuned for this overlap, tune it if needed; alone: the "
                "full dimension",
                lambda session, value: session.set(
                    dim=None, rerank=0, plan=None, recall=_number("recall", value, float) if value else None),
                lambda session: (f"{tuned.recall:g}" for tuned in session.index.plans.all())),
        Command("explain", "on|off", "tell what each stage read, kept and took",
                lambda session, value: _print_with(session, explain=_switch("explain", value)),
                lambda session: SWITCH),
        Command("group", "on|off", "show only the best chunk of each document",
                lambda session, value: session.set(group=_switch("group", value)), lambda session: SWITCH),
        Command("snippet", "N", "show the best matching passage of N characters; alone: none",
                lambda session, value: _print_with(session, snippet=_number("snippet", value or "0"))),
        Command("show", "N", "show the whole text of hit N", _show),
        Command("similar", "N", "search the documents nearest to hit N",
                lambda session, value: session.similar(_number("similar", value))),
        Command("open", "N", "open the url of hit N in the browser",
                lambda session, value: open_hit(session.hit(_number("open", value)))),
        Command("index", "NAME", "search another index; alone: list them", _index,
                lambda session: session.names()),
        Command("settings", "", "show the settings", _settings),
        Command("help", "", "show this help", _help),
        Command("quit", "", "leave; so does Ctrl-D", lambda session, value: False),
    )
}  # fmt: skip

"""The prompt of `rsearch query` without a text: texts are searched, `:commands` are run."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resizable_search.cli.options import SearchArguments
from resizable_search.cli.output import above_min_score, check_fields, note, open_hit, print_answer, say
from resizable_search.cli.settings import RIVALS, Setting
from resizable_search.cli.tables import show, show_details
from resizable_search.cli.tune import plan_for
from resizable_search.errors import RsearchError, UsageError
from resizable_search.system import exhausted
from resizable_search.text import counted, plain, plain_lines, quoted

if TYPE_CHECKING:
    from resizable_search.search.index import Index
    from resizable_search.search.planning import SearchOptions
    from resizable_search.search.results import Answer, Hit

MOST_LINES = 1000  # lines of history
SETTINGS = (  # options of `query` that are commands of the prompt
    *("k", "dim", "rerank", "plan", "mode", "recall", "where", "group"),
    *("format", "fields", "snippet", "min_score", "explain"),
)
DEFAULTS: dict[str, Any] = {name: getattr(SearchArguments, name) for name in SETTINGS}


def settings_of(options: Iterable[Any]) -> dict[str, Setting]:
    """Those options of `query` that are commands of the prompt, by their names there."""
    by_name = {option.name: option for option in options}
    keys = {name: name.replace("_", "-") for name in SETTINGS}
    return {key: Setting((), key, by_name[name]) for name, key in keys.items()}


def run(session: "Session", history: Path) -> None:
    """Greet, and run lines until one of them, or the end of the input, ends the prompt."""
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
        choices = session.completions(readline.get_line_buffer()[: readline.get_endidx()])
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
    """An open index, the options of the search, and the last hits. Prints on stdout, raises RsearchError."""

    index: "Index"  # it owns the index, and opens it again if it has changed on disk
    name: str  # by which the index was opened
    open_named: "Callable[[str], Index]"  # by name or folder
    names: Callable[[], list[str]]  # of the indexes
    arguments: SearchArguments
    settings: dict[str, Setting]  # the options by their names
    hits: "list[Hit]" = field(default_factory=list)
    again: "Callable[[SearchOptions], Answer] | None" = None  # searches the last text or document again

    def __post_init__(self) -> None:
        self.plan = plan_for(self.index, self.arguments.search())

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
            word, _, value = line[1:].replace("\t", " ").partition(" ")
            name, value = self.find(word), value.strip()
            if name in self.settings:
                self.set(name, value)
            else:
                COMMANDS[name].run(self, value)
            return name != "quit"
        if line:
            self.ask(lambda options: self.index.search([line], options)[0])
        elif self.again is not None:
            self.ask(self.again)
        return True

    def find(self, word: str) -> str:
        """The command of that name, or the only one that starts with it. Raises UsageError."""
        names = [*self.settings, *COMMANDS]
        matching = [name for name in names if word and name.startswith(word)]
        if word in names or len(matching) == 1:
            return word if word in names else matching[0]
        if matching:
            raise UsageError(f":{word} may be {' or '.join(f':{name}' for name in matching)}: write it out")
        raise UsageError(f"there is no :{plain(word)[:20]}: `:help` lists the commands")

    def ask(self, search: "Callable[[SearchOptions], Answer]") -> None:
        """Search, and print the hits."""
        self._follow()
        self.again = search
        options, output = self.arguments.search().with_plan(self.plan), self.arguments.output()
        answer = above_min_score(search(options), output)
        self.hits = answer.hits
        print_answer(answer, self.index, output)

    def similar(self, number: str) -> None:
        """Search the documents nearest to a hit."""
        id_ = self.hit(number).id
        self.ask(lambda options: self.index.search_similar(id_, replace(options.by_meaning(), group=False)))

    def hit(self, number: str) -> "Hit":
        """A hit of the last answer by its number. Raises UsageError."""
        if number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= len(self.hits):
            return self.hits[int(number) - 1]
        count = counted(len(self.hits), "hit")
        raise UsageError(f"there is no hit {quoted(number)}: the last answer has {count}")

    def set(self, name: str, value: str) -> None:
        """Change an option, if this index can; '' sets its default. An error changes nothing.

        What excludes it is unset. A missing plan for a recall is tuned now. Raises UsageError, ConfigError.
        """
        changes: dict[str, Any] = {
            rival: DEFAULTS[rival] for rival in RIVALS.get(name, ()) if rival in DEFAULTS
        }
        field = name.replace("-", "_")
        changes[field] = self.settings[name].parsed(value) if value else DEFAULTS[field]
        arguments = self.arguments.replace(**changes)
        search = arguments.search()
        check_fields(arguments.output(), self.index)
        self.plan, matching = plan_for(self.index, search), self.index.check_where(search.where)
        self.arguments = arguments
        if name == "where":
            say(f"{matching:,} of {counted(self.index.rows, 'document')}")
        if name == "rerank" and search.rerank and self.is_full:
            say(":rerank does nothing at the full dimension: set a smaller :dim")

    def _follow(self) -> None:
        """Open the index again if it has changed. Raises IndexNotFoundError if it is gone."""
        if self.index.has_moved_on():
            self.replace_index(self.open_named(self.name))
            self.index.warm()
            documents = counted(self.index.manifest.documents, "document")
            say(f"{self.index.name} has changed: it has {documents} now")

    def replace_index(self, index: "Index") -> None:
        """Take another index, and search as before if it can."""
        arguments = self.arguments
        try:
            plan = index.plan(arguments.search())
            index.check_where(arguments.where)
        except UsageError as error:
            say(f"{error}; back to the full dimension and all documents")
            arguments = arguments.replace(dim=None, rerank=0, plan=None, mode=None, recall=None, where=None)
            plan = index.plan(arguments.search())
        self.index.close()
        self.index, self.plan, self.arguments = index, plan, arguments

    def completions(self, before: str) -> list[str]:
        """The completions of the last word of a line."""
        name, space, value = before[1:].partition(" ")
        if not before.startswith(":"):
            return []
        if not space:
            return [f":{command} " for command in (*self.settings, *COMMANDS) if command.startswith(name)]
        values, word = self._values(self.find(name)), value.rpartition(" ")[2]
        return [choice for choice in values if choice.startswith(word)]

    def _values(self, name: str) -> Iterable[str]:
        """What the value of a command may be."""
        if name not in self.settings:
            return self.names() if name == "index" else ()
        if name == "dim":
            return map(str, self.index.dims)
        if name == "where":
            return self.index.columns()
        option = self.settings[name].option
        return ("on", "off") if option.is_flag else getattr(option.type, "choices", ())


def _help(session: Session, _: str) -> None:
    lines = [(f":{name}", setting.option.help) for name, setting in session.settings.items()]
    lines += [(f":{name} {one.value}".rstrip(), one.help) for name, one in COMMANDS.items()]
    lines += [
        (":NAME alone", "sets the default"),
        ("any other text", "is searched; a blank line searches the last one again"),
        ("Ctrl-C", "clears the line, or stops the search; Ctrl-D leaves"),
    ]
    show_details(lines)


def _settings(session: Session, _: str) -> None:
    values = {name: getattr(session.arguments, name.replace("-", "_")) for name in session.settings}
    values |= {"index": session.index.name, "plan": session.plan}
    show_details((name, str(value)) for name, value in values.items() if value is not None)


def _show(session: Session, number: str) -> None:
    hit = session.hit(number)
    head = [hit.title, f"id: {hit.id}", hit.url, *(f"{key}: {value}" for key, value in hit.metadata.items())]
    for line in (*filter(None, map(plain, head)), "", *plain_lines(hit.text)):
        show(line)


def _index(session: Session, name: str) -> None:
    if name:
        session.replace_index(session.open_named(name))
        session.name, session.hits, session.again = name, [], None
        session.greet()
        return
    for name in session.names():
        say(f"{'*' if name == session.index.name else ' '} {name}")


class Command(NamedTuple):
    """A command of the prompt that is no setting; `value` shows what it takes."""

    value: str
    help: str
    run: Callable[[Session, str], None]


COMMANDS = {
    "show": Command("N", "Show the whole text of hit N.", _show),
    "similar": Command("N", "Search the documents nearest to hit N.", Session.similar),
    "open": Command(
        "N", "Open the url of hit N in the browser.", lambda session, n: open_hit(session.hit(n))
    ),
    "index": Command("NAME", "Search another index; alone: list them.", _index),
    "settings": Command("", "Show the settings.", _settings),
    "help": Command("", "Show this help.", _help),
    "quit": Command("", "Leave; so does Ctrl-D.", lambda session, _: None),
}

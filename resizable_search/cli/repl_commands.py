"""The commands of the prompt: what each is called, takes and does, and how it is completed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from resizable_search.cli import tables
from resizable_search.errors import UsageError
from resizable_search.text import plain, plain_lines, quoted

if TYPE_CHECKING:
    from resizable_search.cli.repl_session import Session
    from resizable_search.search.results import Hit

MOST_DIGITS = 18
LONGEST_LAID_OUT = 10_000
"""Characters of a line that is broken between words: beyond that, the terminal breaks it."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `value` is how its value is written, `values` what may be completed there.

    `run` gets what stands behind the name, and says whether the prompt goes on.
    """

    name: str
    value: str
    help: str
    run: "Callable[[Session, str], bool]"
    values: "Callable[[Session], Iterable[str]]" = lambda session: ()


def find(name: str) -> Command:
    """The command of that name, or the only one that begins with it. Raises UsageError."""
    if name in COMMANDS:
        return COMMANDS[name]
    meant = [command for command in COMMANDS if name and command.startswith(name)]
    if len(meant) == 1:
        return COMMANDS[meant[0]]
    if meant:
        raise UsageError(f":{name} may be {' or '.join(f':{command}' for command in meant)}: write it out")
    near = get_close_matches(name, COMMANDS, 1)
    guess = f"did you mean :{near[0]}? " if near else ""
    raise UsageError(f"there is no :{plain(name)[:20]}: {guess}`:help` lists the commands")


def completions(session: "Session", before: str) -> list[str]:
    """What the last word of a line that has come so far may be."""
    if not before.startswith(":"):
        return []
    name, space, value = before[1:].partition(" ")
    if not space:
        return [f":{command} " for command in COMMANDS if command.startswith(name)]
    word = value.rpartition(" ")[2]
    return [choice for choice in find(name).values(session) if choice.startswith(word)]


def _help(session: "Session", _: str) -> bool:
    table = _two_columns()
    for command in COMMANDS.values():
        table.add_row(f":{command.name} {command.value}".rstrip(), command.help)
    table.add_row("any other text", "is looked for; a blank line looks for the last one again")
    table.add_row("Ctrl-C", "clears the line, or breaks off what is being done; Ctrl-D leaves")
    tables.show_table(table, tables.stdout_console())
    return True


def _settings(session: "Session", _: str) -> bool:
    table, settings = _two_columns(), session.settings
    told = {
        "index": session.index.name,
        **{field.name: getattr(settings, field.name) for field in fields(settings)},
        "plan": session.plan,
        "dim": settings.dim or f"the full {session.index.full_dim}",
        "where": "all documents" if settings.where is None else settings.where,
    }
    if settings.plan is not None or settings.recall is not None:
        del told["dim"], told["rerank"]
    if settings.recall is None:
        del told["recall"]
    for name, value in told.items():
        shown = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
        table.add_row(name, Text(plain(shown)))
    tables.show_table(table, tables.stdout_console())
    return True


def _show(session: "Session", value: str) -> bool:
    hit = session.hit(_number("show", value))
    console = tables.stdout_console()
    for line in _whole(hit):
        if len(line) > LONGEST_LAID_OUT:
            console.file.write(f"{line}\n")
        else:
            console.print(Text(line))
    return True


def _whole(hit: "Hit") -> Iterator[str]:
    """All of a document, in lines that a terminal may be given."""
    yield from filter(None, (plain(hit.title), f"id: {plain(hit.id)}", plain(hit.url)))
    for name, value in hit.metadata.items():
        yield plain(f"{name}: {value}")
    yield ""
    yield from plain_lines(hit.text)


def _similar(session: "Session", value: str) -> bool:
    session.like(session.hit(_number("similar", value)))
    return True


def _open(session: "Session", value: str) -> bool:
    session.open(_number("open", value))
    return True


def _index(session: "Session", value: str) -> bool:
    if value:
        session.switch(value)
        return True
    for name in session.names():
        tables.stdout_console().print(Text(f"{'*' if name == session.index.name else ' '} {plain(name)}"))
    return True


def _k(session: "Session", value: str) -> bool:
    session.set(k=_number("k", value) if value else 10)
    return True


def _snippet(session: "Session", value: str) -> bool:
    length = _number("snippet", value) if value else 0
    if length < 0:
        raise UsageError(f":snippet must be 0 (none) or more characters, not {length}")
    session.set(snippet=length)
    return True


def _dim(session: "Session", value: str) -> bool:
    session.set(dim=_number("dim", value) if value else None, plan=None, recall=None)
    return True


def _rerank(session: "Session", value: str) -> bool:
    session.set(rerank=_number("rerank", value) if value else 0, plan=None, recall=None)
    return True


def _plan(session: "Session", value: str) -> bool:
    session.set(dim=None, rerank=0, plan=value or None, recall=None)
    return True


def _recall(session: "Session", value: str) -> bool:
    try:
        wanted = float(value) if value else None
    except ValueError:
        raise UsageError(f":recall takes a number such as 0.99, not {quoted(value)}") from None
    session.set(dim=None, rerank=0, plan=None, recall=wanted)
    return True


def _where(session: "Session", value: str) -> bool:
    session.set(where=value or None)
    return True


def _switch(name: str) -> "Callable[[Session, str], bool]":
    """What turns a setting on and off."""

    def run(session: "Session", value: str) -> bool:
        choices = {"on": True, "off": False, "": not getattr(session.settings, name)}
        if value not in choices:
            raise UsageError(f":{name} is on or off, not {quoted(value)}")
        session.set(**{name: choices[value]})
        tables.stdout_console().print(Text(f"{name} {'on' if choices[value] else 'off'}", style="dim"))
        return True

    return run


def _number(name: str, value: str) -> int:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS):
        raise UsageError(f":{name} takes a number, not {quoted(value)}")
    return int(value)


def _on_or_off(session: "Session") -> Iterable[str]:
    return ("on", "off")


def _two_columns() -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    return table


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "dim",
            "D",
            "scan the first D dimensions; alone: the full dimension",
            _dim,
            lambda session: map(str, session.index.dims),
        ),
        Command("rerank", "R", "score R x k candidates again at the full dimension; alone: none", _rerank),
        Command("k", "N", "hits wanted; alone: 10", _k),
        Command("where", "SQL", "only documents that this is true of; alone: all", _where,
                lambda session: session.index.columns()),
        Command("plan", "STAGES", "search by a plan such as 256:100,768; alone: the full dimension", _plan),
        Command("recall", "R", "search by the plan tuned for that overlap, tuned now if need be; alone: the "
                "full dimension", _recall,
                lambda session: (f"{tuned.recall:g}" for tuned in session.index.tuned_plans())),
        Command("compare", "on|off", "tell how many hits the full dimension has too, and its time",
                _switch("compare"), _on_or_off),
        Command("explain", "on|off", "tell what each stage read, kept and took", _switch("explain"),
                _on_or_off),
        Command("group", "on|off", "of each document in chunks, the best one alone", _switch("group"),
                _on_or_off),
        Command("snippet", "N", "print the N characters that match best; alone: none", _snippet),
        Command("show", "N", "all of hit N's text", _show),
        Command("similar", "N", "the documents nearest to hit N", _similar),
        Command("open", "N", "open hit N's url in the browser", _open),
        Command("index", "NAME", "search another index; alone: which there are", _index,
                lambda session: session.names()),
        Command("settings", "", "what is set", _settings),
        Command("help", "", "this", _help),
        Command("quit", "", "leave, as Ctrl-D does", lambda session, value: False),
    )
}  # fmt: skip

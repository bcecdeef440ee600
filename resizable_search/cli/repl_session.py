"""What a prompt does with each line, apart from the terminal: texts are asked, `:commands` are obeyed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from resizable_search.cli import repl_commands as prompt_commands
from resizable_search.cli import tables
from resizable_search.cli.output import OutputOptions, above_min_score, open_hit, print_answer
from resizable_search.cli.searching import with_tuned_plan
from resizable_search.errors import UsageError
from resizable_search.text import counted, plain

if TYPE_CHECKING:
    from resizable_search.engine.plan import Plan
    from resizable_search.search.index import Index
    from resizable_search.search.options import SearchOptions
    from resizable_search.search.results import Answer, Hit


@dataclass(frozen=True, slots=True)
class Settings:
    """How the next question is asked."""

    k: int = 10
    dim: int | None = None
    rerank: int = 0
    plan: str | None = None
    recall: float | None = None
    where: str | None = None
    group: bool = False
    snippet: int = 0
    explain: bool = False
    compare: bool = False

    @property
    def search(self) -> "SearchOptions":
        """The options of the search. Raises UsageError for those that make no sense together."""
        from resizable_search.search.options import SearchOptions

        return SearchOptions(self.k, self.dim, self.rerank, self.plan, self.recall, self.where, self.group)


COMPARED = 3
"""How often two plans are timed against one another."""

FULL: dict[str, Any] = {"dim": None, "rerank": 0, "plan": None, "recall": None}
"""The settings of a search at the full dimension: each way to name another one begins with these."""


class Session:
    """An index that is open, what is set, and what was found last. Prints on stdout, raises RsearchError.

    `open_named` opens an index by name or folder, `names` are those there are. It owns `index`, which was
    opened as `named`; an index that is changed or replaced meanwhile is opened anew by the next question.
    """

    def __init__(
        self,
        index: "Index",
        named: str,
        open_named: "Callable[[str], Index]",
        names: Callable[[], list[str]],
        settings: Settings,
        form: OutputOptions,
    ) -> None:
        self.index: Index = index
        self.names: Callable[[], list[str]] = names
        self.settings = settings
        self.options = with_tuned_plan(index, settings.search)
        self._named = named
        self._open = open_named
        self._form = form
        self._search: Callable[[SearchOptions], Answer] | None = None
        self._found: Answer | None = None

    @property
    def plan(self) -> "Plan":
        """The plan of the next search."""
        return self.index.plan(self.options)

    @property
    def is_full(self) -> bool:
        """Whether the answer is the full dimension's whatever is measured."""
        return str(self.plan) == str(self.index.full_dim)

    @property
    def prompt(self) -> str:
        """What stands before the cursor: the index, and how it is searched."""
        return f"{plain(self.index.name)}{'' if self.is_full else f' {self.plan}'}> "

    def greet(self) -> None:
        """Say what is searched, and by what."""
        index = self.index
        engine = index.warm()
        threads = f" on {counted(index.threads, 'thread')}" if engine == "numba" else ""
        say(f"{index.name} · {index.rows:,} × {index.full_dim} · {engine}{threads}")
        if index.remark:
            say(index.remark)

    def take(self, line: str) -> bool:
        """Do what a line says; False: it says to leave. A blank line asks the last question again."""
        line = line.strip()
        if line.startswith(":"):
            name, _, value = line[1:].replace("\t", " ").partition(" ")
            return prompt_commands.find(name).run(self, value.strip())
        if line:
            self.ask(partial(self._answer, line))
        elif self._search is not None:
            self.ask(self._search)
        return True

    def ask(self, search: "Callable[[SearchOptions], Answer]") -> None:
        """Search by what is set, and show the hits; with `compare`, also what the full dimension finds."""
        self._follow()
        self._search = search
        found = search(self.options)
        self._found = above_min_score(found, self._form)
        print_answer(self._found, self.index, self.form, explain=self.settings.explain)
        if self.settings.compare and not self.is_full:
            say(compared(search, self.options, self.index.full_dim))

    def like(self, hit: "Hit") -> None:
        """Ask for the documents nearest to a hit."""
        self.ask(partial(self._answer_similar, hit.id))

    def open(self, number: int) -> None:
        """Open the url of a hit in the browser."""
        self.hit(number)
        if self._found is not None:
            open_hit(self._found, replace(self._form, open=number))

    def hit(self, number: int) -> "Hit":
        """The hit of that number in the last answer. Raises UsageError."""
        hits = self._found.hits if self._found is not None else []
        if not hits:
            raise UsageError("there are no hits yet: ask for something first")
        if not 1 <= number <= len(hits):
            raise UsageError(f"there is no hit {number}: the last answer has 1 to {len(hits)}")
        return hits[number - 1]

    @property
    def form(self) -> OutputOptions:
        """How hits are printed."""
        return replace(self._form, snippet=self.settings.snippet)

    def set(self, **changes: Any) -> None:
        """Change settings, if they can be had together on this index; else nothing. Raises UsageError.

        A recall that no plan was tuned for is tuned now.
        """
        settings = replace(self.settings, **changes)
        options = with_tuned_plan(self.index, settings.search)
        matching = self.index.check_where(settings.where)
        self.settings, self.options = settings, options
        if "where" in changes:
            say(f"{matching:,} of {counted(self.index.rows, 'document')}")

    def switch(self, named: str) -> None:
        """Search another index from here on. Raises RsearchError, and stays where it is."""
        self._replace(self._open(named))
        self._named, self._found, self._search = named, None, None
        self.greet()

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def _answer(self, text: str, options: "SearchOptions") -> "Answer":
        return self.index.search([text], options)[0]

    def _answer_similar(self, id_: str, options: "SearchOptions") -> "Answer":
        return self.index.search_similar(id_, options)

    def _follow(self) -> None:
        """Open the index anew if it is another one by now. Raises IndexNotFoundError if it is gone."""
        if not self.index.has_moved_on():
            return
        was = self.index.manifest
        self._replace(self._open(self._named))
        self.index.warm()
        now = self.index.manifest
        if replace(was, plans=now.plans) != now:
            say(f"{self.index.name} has changed: it has {counted(now.documents, 'document')} now")

    def _replace(self, index: "Index") -> None:
        """Go on with another index, and with what is set as far as it fits that."""
        settings = self.settings
        try:
            options = settings.search.with_plan(index.plan(settings.search))
        except UsageError as error:
            say(f"{error}; back to the full dimension")
            settings = replace(settings, **FULL)
            options = settings.search.with_plan(index.plan(settings.search))
        try:
            index.check_where(settings.where)
        except UsageError as error:
            say(f"{error}; all documents are searched")
            settings, options = replace(settings, where=None), replace(options, where=None)
        self.index.close()
        self.index, self.settings, self.options = index, settings, options


def compared(search: "Callable[[SearchOptions], Answer]", options: "SearchOptions", full: int) -> str:
    """How many hits another plan finds too, and what each takes, embedding apart: the best of a few runs.

    They take turns: what one has just read is not in the other's favour alone.
    """
    found, most = zip(
        *((search(options), search(options.with_plan(None))) for _ in range(COMPARED)), strict=True
    )
    rows = {hit.row for hit in most[0].hits}
    same = sum(hit.row in rows for hit in found[0].hits)
    took, takes = (
        min(answer.timings_ms.scan + answer.timings_ms.rerank for answer in answers)
        for answers in (found, most)
    )
    return (
        f"{same} of {len(rows)} as at {full}; best of {COMPARED}: {took:.2f} ms, at {full} {takes:.2f} ms "
        f"({takes / took:.1f} × as long)"
    )


def say(words: str) -> None:
    """A line that is no hit."""
    from rich.text import Text

    tables.stdout_console().print(Text(plain(words), style="dim"), soft_wrap=True)

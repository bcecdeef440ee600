"""How hits are printed (--format, --fields, --snippet, --min-score, --open), and JSON on stdout."""

import json
import math
import re
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from resizable_search.cli.help import with_flags
from resizable_search.errors import RsearchError, UsageError
from resizable_search.text import plain, quoted, rarity, snippet

if TYPE_CHECKING:
    from resizable_search.search.index import Index
    from resizable_search.search.results import Answer, Hit

HIT_FIELDS = ("rank", "row", "score", "id", "title", "url", "text")
MORE_FIELDS = ("snippet", "copies", "metadata", "ranks")  # that --fields may name
SHOWN_SCORE = 0.0005  # of a hit for people
SNIPPET = 200  # characters of a snippet if --fields names one and --snippet gives no length


class ServedIndex(NamedTuple):
    """What the output needs to know of an index that a service has searched, and how it was searched."""

    rows: int
    full_dim: int
    column_names: tuple[str, ...]
    explain: list[dict[str, Any]]
    remark: str = ""

    def columns(self) -> tuple[str, ...]:
        """The fields that a hit may have."""
        return self.column_names


class OutputOptions(NamedTuple):
    """How hits are printed: the fields in order (None: those of the format), and the options of `query`."""

    format: str
    fields: tuple[str, ...] | None = None
    snippet: int = 0
    min_score: float | None = None
    open: int | None = None
    explain: bool = False

    def names(self) -> tuple[str, ...]:
        """The fields in order."""
        if self.fields is not None:
            return self.fields
        if self.format in ("json", "jsonl"):
            return (*HIT_FIELDS, "snippet") if self.snippet else HIT_FIELDS
        return ("rank", "score", "id", "title", "url", "snippet" if self.snippet else "text")


def check_fields(options: OutputOptions, index: "Index | ServedIndex") -> None:
    """Refuse an unknown field. Raises UsageError."""
    names, known = options.fields or (), (*HIT_FIELDS, *MORE_FIELDS)
    if not set(names).issubset(known):
        fields = dict.fromkeys((*known, *index.columns()))
        for name in names:
            if name not in fields:
                raise UsageError(f"--fields: unknown field {quoted(name)}: choose among {', '.join(fields)}")


def above_min_score(answer: "Answer", options: OutputOptions) -> "Answer":
    """The answer without the hits below the least score; in cards and tables none is shown as 0.000."""
    least = options.min_score
    if least is None:
        least = SHOWN_SCORE if options.format in ("cards", "table") else -math.inf
    return replace(answer, hits=[hit for hit in answer.hits if hit.score >= least])


def answer_record(answer: "Answer", index: "Index | ServedIndex", options: OutputOptions) -> dict[str, Any]:
    """An answer as the object that is printed as JSON."""
    from resizable_search.search.results import fields

    if isinstance(index, ServedIndex):
        record = fields(answer) | ({"explain": index.explain} if options.explain else {})
    else:
        record = fields(answer, threads=index.threads if options.explain else None)
    return {**record, "hits": hit_records(answer, options._replace(format="json"))}


def hit_records(answer: "Answer", options: OutputOptions) -> list[dict[str, Any]]:
    """Each hit as a dict of its fields. JSON has the metadata, too, unless fields are named."""
    names = options.names()
    weights = rarity(answer.query, (hit.text for hit in answer.hits)) if "snippet" in names else {}
    in_json = options.fields is None and options.format in ("json", "jsonl")
    records = []
    for hit in answer.hits:
        own = {name: getattr(hit, name) for name in (*HIT_FIELDS, "copies", "ranks")}
        values = {**hit.metadata, **own, "metadata": dict(hit.metadata)}
        if "snippet" in names:
            values["snippet"] = snippet(hit.text, weights, options.snippet or SNIPPET)
        more = [name for name in ("metadata", "copies", "ranks") if in_json and values[name]]
        records.append({name: values.get(name) for name in (*names, *more)})
    return records


def print_answer(answer: "Answer", index: "Index | ServedIndex", options: OutputOptions) -> None:
    """Print the hits of an answer on stdout."""
    for part in answer.missing:
        note(f"this answer of {answer.index} lacks documents: {part}")
    if options.format in ("cards", "table"):
        _print_hits(answer, index, options)
    elif options.format == "json":
        json_object(answer_record(answer, index, options))
    elif options.format == "jsonl":
        for record in hit_records(answer, options):
            json_object(record, indent=None)
    elif options.format == "plain":
        for record in hit_records(answer, options):
            lines = [f"{name}: {plain(cell_text(value))}".rstrip() for name, value in record.items()]
            sys.stdout.write("\n".join(lines) + "\n\n")
    else:
        # CSV is as RFC 4180 but with bare line feeds; TSV has no quotes.
        rows = [[cell_text(value) for value in hit.values()] for hit in hit_records(answer, options)]
        if options.format == "csv":
            import csv

            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(options.names())
            writer.writerows(map(plain, row) if sys.stdout.isatty() else row for row in rows)
        else:
            for row in ([*options.names()], *rows):
                sys.stdout.write("\t".join(map(plain, row)) + "\n")


def _print_hits(answer: "Answer", index: "Index | ServedIndex", options: OutputOptions) -> None:
    """Print the hits as cards or as a table, and below them what was searched, how, and how long it took."""
    from resizable_search.cli import tables

    hits = answer.hits
    weights = rarity(answer.query, (hit.text for hit in hits))
    if not hits:
        tables.show("no documents")
    elif options.format == "cards":
        width = min(tables.terminal_width() or tables.PIPED_WIDTH, tables.WIDEST_CARD)
        for hit in hits:
            for line in tables.card(hit, len(hits), weights, width, options.snippet):
                tables.show(line, soft=True)
            tables.show("")
    elif options.fields is not None or options.snippet:
        records = [
            {name: f"{value:.4f}" if name == "score" else cell_text(value) for name, value in record.items()}
            for record in hit_records(answer, options)
        ]
        tables.show_table(tables.hits_table(hits, weights, records))
    else:
        tables.show_table(tables.hits_table(hits, weights))
        if any(hit.copies for hit in hits):
            tables.show("+n: n or more others with the same text", "dim")
    times = asdict(answer.timings_ms).items()
    shown = " · ".join(f"{name} {ms:.1f}" for name, ms in times if ms or name in ("embed", "scan"))
    how = f"{index.rows:,} × {index.full_dim} · plan {answer.plan}"
    tables.show(f"{answer.index} · {how} · {shown} ms", "dim")
    if options.explain:
        tables.show_table(tables.explain_table(answer_record(answer, index, options)["explain"]))


def say(words: str) -> None:
    """Print a line that is no hit on stdout, in words of the command line."""
    from resizable_search.cli.tables import show

    show(plain(with_flags(words)), "dim", soft=True)


def note(message: str) -> None:
    """Print a line on stderr, in words of the command line."""
    if sys.stderr is not None:
        with suppress(OSError):  # its reader has gone, or its disk is full
            sys.stderr.write(f"rsearch: {plain(with_flags(message))}\n")
            sys.stderr.flush()


def cell_text(value: Any) -> str:
    """A field as text: JSON for a dict, a list or a bool."""
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)


def json_object(value: Any, indent: int | None = 2) -> None:
    """Print a dict or dataclasses as JSON; without an indent as one line, at once."""
    # UTF-8 lacks lone surrogates alone, and what `main` has stdout write for one is JSON's own escape.
    is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=not is_utf8, indent=indent, default=asdict) + "\n")
    if indent is None:
        sys.stdout.flush()


def open_hit(hit: "Hit") -> None:
    """Open the url of a hit in the browser. Raises RsearchError."""
    if not (re.fullmatch(r"(https?|file)://[^\s\[]\S*", hit.url) and hit.url.isprintable()):
        shown = quoted(hit.url)
        raise RsearchError(f"hit {hit.rank} has the url {shown}: only http, https and file are opened")
    import webbrowser

    opened = False
    with suppress(webbrowser.Error):
        opened = webbrowser.open(hit.url)
    if not opened:
        raise RsearchError(f"there is no browser to open {hit.url}: set $BROWSER")

"""How hits are printed (--format, --fields, --snippet, --min-score, --open), and JSON on stdout."""

import csv
import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from resizable_search.errors import RsearchError, UsageError
from resizable_search.text import plain, quoted

if TYPE_CHECKING:
    from resizable_search.cli.remote import ServedIndex
    from resizable_search.search.index import Index
    from resizable_search.search.results import Answer, Hit

FORMATS = ("table", "json", "jsonl", "csv", "tsv", "plain")
HIT_FIELDS = ("rank", "row", "score", "id", "title", "url", "text")
SNIPPET = 200  # characters of a snippet if --fields names one and --snippet gives no length


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How hits are printed: the fields in order (None: those of the format), and the options of `query`."""

    format: str
    fields: tuple[str, ...] | None = None
    snippet: int = 0
    min_score: float | None = None
    open: int | None = None

    @property
    def has_default_fields(self) -> bool:
        """Whether each hit is printed with the fields that its format has by default."""
        return self.fields is None and not self.snippet

    def names(self) -> tuple[str, ...]:
        """The fields in order."""
        if self.fields is not None:
            return self.fields
        if self.format in ("json", "jsonl"):
            return (*HIT_FIELDS, "snippet") if self.snippet else HIT_FIELDS
        return ("rank", "score", "id", "title", "url", "snippet" if self.snippet else "text")


def check_fields(options: OutputOptions, index: "Index | ServedIndex") -> None:
    """Refuse an unknown field. Raises UsageError."""
    known = (*HIT_FIELDS, "snippet", "metadata")
    if unknown := [name for name in options.fields or () if name not in known]:
        fields = dict.fromkeys((*known, *index.columns()))
        for name in unknown:
            if name not in fields:
                raise UsageError(f"--fields: unknown field {quoted(name)}: choose among {', '.join(fields)}")


def above_min_score(answer: "Answer", options: OutputOptions) -> "Answer":
    """The answer without the hits below the least score."""
    least = options.min_score
    return answer if least is None else replace(answer, hits=[h for h in answer.hits if h.score >= least])


def answer_record(
    answer: "Answer", index: "Index | ServedIndex", options: OutputOptions, *, explain: bool
) -> dict[str, Any]:
    """An answer as the object that is printed as JSON; with `explain`, what each stage did."""
    from resizable_search.search.results import fields

    record = fields(answer, threads=index.threads if explain else None)
    return {**record, "hits": hit_records(answer, replace(options, format="json"))}


def hit_records(answer: "Answer", options: OutputOptions) -> list[dict[str, Any]]:
    """Each hit as a dict of its fields. JSON has the metadata, too, unless fields are named."""
    in_json = options.fields is None and options.format in ("json", "jsonl")
    return [
        {
            name: _field(hit, name, answer.query, options)
            for name in (*options.names(), *(["metadata"] if in_json and hit.metadata else []))
        }
        for hit in answer.hits
    ]


def _field(hit: "Hit", name: str, query: str, options: OutputOptions) -> Any:
    if name == "snippet":
        from resizable_search.text import snippet

        return snippet(hit.text, query, options.snippet or SNIPPET)
    if name == "metadata":
        return dict(hit.metadata)
    return getattr(hit, name) if name in HIT_FIELDS else hit.metadata.get(name)


def print_answer(
    answer: "Answer", index: "Index | ServedIndex", options: OutputOptions, *, explain: bool
) -> None:
    """Print the hits of an answer on stdout."""
    if options.format == "table":
        from resizable_search.cli.tables import print_hits

        print_hits(answer, index, options, explain=explain)
    elif options.format == "json":
        json_object(answer_record(answer, index, options, explain=explain))
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
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(options.names())
            writer.writerows(map(plain, row) if sys.stdout.isatty() else row for row in rows)
        else:
            for row in ([*options.names()], *rows):
                sys.stdout.write("\t".join(map(plain, row)) + "\n")


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
    url = hit.url
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https", "file") or not url.isprintable() or " " in url:
        raise RsearchError(f"hit {hit.rank} has the url {quoted(url)}: only http, https and file are opened")
    import webbrowser

    try:
        opened = webbrowser.open(url)
    except webbrowser.Error:
        opened = False
    if not opened:
        raise RsearchError(f"there is no browser to open {url}: set $BROWSER")

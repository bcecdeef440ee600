"""Indexes as a person sees them: built, listed, described, removed, examined."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from resizable_search.cli.app import with_flags
from resizable_search.cli.output import json_object
from resizable_search.cli.tables import one_line, show_table, stdout_console
from resizable_search.errors import RsearchError
from resizable_search.text import counted, dimensions, duration, plain, size

if TYPE_CHECKING:
    from resizable_search.admin.doctor import HealthCheck
    from resizable_search.admin.overview import IndexInfo, OverviewEntry
    from resizable_search.build.delete import Removal
    from resizable_search.build.report import BuildReport, Changes
    from resizable_search.embedders.request_pool import Usage


def build_report(
    report: "BuildReport", limit: int | None, remark: str, example: str, home: Path | None = None
) -> None:
    """What a build came to, and what to do next.

    `example` is a query to try, '' where there is none; `home` that of the index, if it was named.
    """
    lines = build_lines(report, limit, remark)
    trial = f'query "{example}"' if example else "bench"
    place = f" --home {shlex.quote(str(home))}" if home is not None else ""
    lines.append(f"next: rsearch {trial} --index {shlex.quote(report.name)}{place}")
    sys.stdout.write("\n".join(lines) + "\n")


def build_lines(report: "BuildReport", limit: int | None, remark: str) -> list[str]:
    """What a build came to: what is there now, what was left out, what it cost."""
    manifest = report.manifest
    documents = counted(manifest.documents, "document")
    dims = dimensions(manifest.dims)
    lines = []
    pace = f" in {report.seconds:,.0f} s" if report.seconds >= 1 else ""
    if report.changes is not None:
        lines.append(f"{report.name}: {documents} at {dims}{pace}")
        lines.append(changes(report))
    elif report.added:
        whole = "" if report.added == manifest.documents else f" ({report.added:,} of them now)"
        lines.append(f"{report.name}: {documents}{whole} at {dims}{pace}")
    else:
        lines.append(f"{report.name} is complete: {documents} at {dims}")
    if manifest.source.exhausted and limit is not None and manifest.source.read < limit:
        lines.append(
            f"the corpus ended at {counted(manifest.source.read, 'document')}, before the limit of {limit:,}"
        )
    if report.left_out:
        lines.append(
            f"left out {len(report.left_out):,} of {manifest.source.read:,}: {reasons(report.left_out)}"
        )
    if report.total.requests:
        lines.append(costs(report))
    if remark:
        lines.append(with_flags(remark))
    return [plain(line) for line in lines]


def changes(report: "BuildReport") -> str:
    """What became of the documents of an index that was there."""
    found = report.changes
    if found is None or not found.any:
        return "nothing has changed, and nothing was written"
    return f"{figures(found)}; {counted(report.added, 'text')} embedded"


def figures(found: "Changes") -> str:
    """How many documents a change adds, changes, renames, removes and leaves alone."""
    return ", ".join(
        f"{count:,} {name}"
        for name in ("added", "changed", "renamed", "removed", "unchanged")
        if (count := getattr(found, name))
    )


def costs(report: "BuildReport") -> str:
    """What was asked of a service, by this run and by all runs of the build."""
    line = _asked(report.spent)
    if report.runs > 1:
        line += f"; in all {report.runs} runs {_asked(report.total)}, {duration(report.total_seconds)}"
    return line


def _asked(spent: "Usage") -> str:
    repeated = f" ({spent.repeats:,} repeated)" if spent.repeats else ""
    tokens = f", {counted(spent.tokens, 'token')}" if spent.tokens else ""
    return f"{counted(spent.requests, 'request')}{repeated}{tokens}"


def reasons(left_out: Any) -> str:
    """The first few documents that did not make it, with why."""
    shown = [f"{entry['id']} ({entry['reason']})" for entry in left_out[:3]]
    return ", ".join(shown) + (" …" if len(left_out) > 3 else "")


def listing(entries: "Sequence[OverviewEntry]", home: Path, *, as_json: bool) -> None:
    """The indexes of a home."""
    if as_json:
        json_object(entries)
        return
    console = stdout_console()
    if not entries:
        console.print(f"no index in {home}: build one with `rsearch build pydoc`", soft_wrap=True)
        return
    show_table(listing_table(entries), console)


def listing_table(entries: "Sequence[OverviewEntry]") -> Table:
    """A line for each index; on a narrow terminal names give way, and the counts stay."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    least = {"index": 8, "documents": max(len(f"{entry.rows:,}") for entry in entries)}
    for name in ("index", "documents", "dims", "model", "size", "changed", ""):
        right = name in ("documents", "size")
        table.add_column(
            one_line(name),
            justify="right" if right else "left",
            no_wrap=name == "documents",
            min_width=least.get(name),
        )
    for entry in entries:
        dims = f"{entry.dims[0]}–{entry.dims[-1]}" if len(entry.dims) > 1 else ",".join(map(str, entry.dims))
        state = "" if entry.state == "ready" else entry.state
        cells = (
            entry.name,
            f"{entry.rows:,}",
            dims,
            entry.model,
            size(entry.bytes),
            entry.changed[:10],
            state,
        )
        table.add_row(*(one_line(plain(cell)) for cell in cells))
    return table


def info(found: "IndexInfo", *, as_json: bool) -> None:
    """What an index is made of."""
    if as_json:
        json_object(found)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in info_lines(found):
        if words:
            table.add_row(name, Text(plain(words)))
    show_table(table, stdout_console())


def info_lines(found: "IndexInfo") -> list[tuple[str, str]]:
    """What `info` says: a word and its line; a line that is empty is not shown."""
    spec, corpus = found.embedder, found.corpus
    said = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in corpus.items()}
    options = ", ".join(f"{k} {v}" for k, v in said.items() if v not in (None, "") and k != "columns")
    left_out = f", {found.left_out:,} left out" if found.left_out else ""
    centred = ", centred" if spec["centred"] else ""
    files = ", ".join(f"{name} {size(count)}" for name, count in found.files.items())
    reads = ", ".join(f"{size(count)} at {dim}" for dim, count in found.scan_bytes.items())
    parts = counted(found.parts, "part")
    compact = f": `rsearch compact {found.name}` takes them off the disk" if found.deleted else ""
    deleted = f", {found.deleted:,} deleted{compact}" if found.deleted else ""
    unfitted = f"{found.unfitted:,} of {found.rows:,} documents came after it was fitted"
    due = "; a refit is due: build it again with --refit" if 2 * found.unfitted > found.rows else ""
    strange = ", ".join(found.strange)
    return [
        ("index", f"{found.name}  {found.folder}"),
        ("documents", f"{found.rows:,} of {found.source_rows:,} read{left_out}{deleted}"),
        ("corpus", found.label + (", to its end" if found.corpus_exhausted else "")),
        ("", options),
        ("embedder", f"{spec['kind']}: {spec['model']}, {spec['width']} dimensions{centred}"),
        ("", prefixes(spec["options"])),
        ("", with_flags(found.remark)),
        ("", unfitted + due if found.unfitted else ""),
        ("dims", f"{', '.join(map(str, found.dims))}; any other up to the last can be scanned"),
        ("on disk", f"{size(found.bytes)}: {files}"),
        ("a query", f"{found.embed_cost}; a scan reads {reads}"),
        ("built", f"{found.created}, changed {found.changed}, generation {found.generation}, {parts}"),
        ("by", f"{found.written_by}, embedder fingerprint {found.fingerprint}"),
        ("verified", found.verified),
        ("damaged", "; ".join(found.damaged)),
        ("strange", f"{strange}: not the index's; move it away" if strange else ""),
    ]


def prefixes(options: dict[str, Any]) -> str:
    """What stands before texts, and which variable holds the key, of an embedder that is told such things."""
    sides = (("documents", "document_prefix"), ("queries", "query_prefix"))
    words = [f"{side} as '{options[option]}…'" for side, option in sides if options.get(option)]
    if "api_key_env" in options:
        words.append(f"a key, if one is wanted, from {options['api_key_env']}")
    return ", ".join(words)


def removed(target: "Removal", left: Sequence[str]) -> None:
    """That it is gone, and what was not the index's and stays."""
    sys.stdout.write(f"removed {plain(target.words)}\n")
    if left:
        shown = ", ".join(left[:3]) + (" …" if len(left) > 3 else "")
        raise RsearchError(
            f"{target.folder} stays, for what is not the index's: {shown}; look at it, and delete it"
        )


def finding(found: "HealthCheck") -> None:
    """One line of the doctor's."""
    console = stdout_console()
    mark, style = ("ok", "green") if found.state == "ok" else ("wrong", "bold red")
    line = Text(f"{plain(found.what):<14}  ")
    line.append(f"{mark:<7}", style)
    line.append(plain(found.words))
    console.print(line, soft_wrap=True)

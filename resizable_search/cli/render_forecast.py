"""What `--dry-run` tells: what a build would do, cost and take."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from resizable_search.cli.render_indexes import figures
from resizable_search.cli.tables import show_table, stdout_console
from resizable_search.text import counted, duration, plain, size

if TYPE_CHECKING:
    from resizable_search.build.dry_run import DryRun

FILES_SHOWN = 6


def forecast(found: "DryRun") -> None:
    """A line for each thing that a person may want to know before."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in forecast_lines(found):
        table.add_row(name, Text(plain(words)))
    show_table(table, stdout_console())


def forecast_lines(found: "DryRun") -> list[tuple[str, str]]:
    """A word and its line; a line is left out where there is nothing to say."""
    lines = [("index", f"{found.name}  {found.folder}"), ("would be", _state(found))]
    if found.changes is not None:
        lines.append(("changes", f"{figures(found.changes)}; {counted(found.texts or 0, 'text')} to embed"))
    if found.state not in ("complete", "follows"):
        lines.append(("documents", _documents(found)))
    if found.state not in ("complete", "follows") or (found.changes and found.changes.any):
        lines += [*_costs(found), *_disk(found)]
    for finding in found.findings:
        lines.append((finding.what, f"{'ok' if finding.ok else 'wrong'}: {finding.words}"))
    lines.append(("", f"nothing was written; {found.billed or 'nothing was billed'}"))
    return lines


def _state(found: "DryRun") -> str:
    safe = f"{counted(found.safe, 'document')} embedded already"
    return {
        "new": "built anew",
        "goes on": f"gone on with: {safe}",
        "replaces": "replaced, once the new one is whole",
        "extends": f"extended: {safe}",
        "complete": f"left as it is: it is complete, with {counted(found.safe, 'document')} read",
        "follows": "brought to what its corpus holds now",
    }[found.state]


def _documents(found: "DryRun") -> str:
    if found.documents is None:
        return f"all of {found.corpus}, which does not tell how many it has"
    return f"{found.documents:,} of {found.corpus}"


def _costs(found: "DryRun") -> list[tuple[str, str]]:
    lines = []
    if found.requests is not None:
        most = f"of up to {counted(found.batch_size, 'text')}"
        lines.append(("requests", f"{found.requests:,} to {found.embedder}, {most}"))
    if found.tokens is not None and found.sampled:
        by = "" if found.changes else f" from the first {counted(found.sampled, 'document')}"
        seen = f"estimated{by}, 4 characters a token"
        lines.append(("tokens", f"about {_rough(found.tokens):,}: {seen}"))
    if found.minutes is not None and found.requests_per_minute:
        rate = f"{found.requests_per_minute:,.0f} requests a minute"
        lines.append(("time", f"{duration(60 * found.minutes)} at least, at {rate}"))
    elif found.requests:
        lines.append(("time", "as fast as the service answers: there is no limit, and --rate would set one"))
    return lines


def _disk(found: "DryRun") -> list[tuple[str, str]]:
    lines = []
    if found.files:
        names = list(found.files.items())
        shown = ", ".join(f"{name} {size(count)}" for name, count in names[:FILES_SHOWN])
        if rest := names[FILES_SHOWN:]:
            shown += f", {len(rest)} more {size(sum(count for _, count in rest))}"
        lines.append(("on disk", f"{size(sum(found.files.values()))}: {shown}"))
        lines.append(("meanwhile", f"{size(found.peak_bytes)} at most; texts are estimated"))
    room = "" if found.fits else ": too little; free some, or choose another home with --home"
    lines.append(("free", f"{size(found.free_bytes)}{room}"))
    return lines


def _rough(count: int) -> int:
    """To three digits: an estimate has no more."""
    return int(float(f"{count:.3g}"))

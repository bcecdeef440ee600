"""Reports of builds and updates, and of --dry-run."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Exit

from resizable_search.cli.help import with_flags
from resizable_search.specs import EmbedderSpec
from resizable_search.text import counted, dimensions, duration, listed, plain, plain_lines, size

if TYPE_CHECKING:
    from resizable_search.build.dry_run import DryRun
    from resizable_search.build.report import BuildReport, Changes
    from resizable_search.embedders.base import Embedder
    from resizable_search.store.manifest import Manifest

CHARS_A_TOKEN = 4  # of English text: OpenAI's rule of thumb, and close to BERT's word pieces
REASONS_SHOWN = 4


def write_lines(*lines: str) -> None:
    """Print lines on stdout, without control characters."""
    sys.stdout.write("".join(f"{plain(line)}\n" for line in lines))


def build_report(
    report: "BuildReport", limit: int | None, remark: str, example: str, home: Path | None = None
) -> None:
    """Print what a build did, and the next command, with the `example` of a query."""
    trial = f'query "{example}"' if example else "bench"
    option = f" --home {shlex.quote(str(home))}" if home is not None else ""
    write_lines(*build_lines(report, limit, remark))
    # Spaces in a quoted folder count.
    following = f"next: rsearch {trial} --index {shlex.quote(report.name)}{option}"
    sys.stdout.write("".join(plain_lines(following)) + "\n")


def embedder_line(embedder: "Embedder", manifest: "Manifest") -> str:
    """What embedded the documents, what users must know of it, and how to have Nomic's model instead."""
    spec = EmbedderSpec.from_json(manifest.embedder)
    remark = embedder.remark_on(spec)
    if not embedder.embeds:
        return remark
    if not embedder.remote and spec.model.startswith(spec.kind):
        return f"embedded locally by {spec.kind}; for Nomic's model: --embedder nomic --restart"
    words = f"embedded {'' if embedder.remote else 'locally '}by {spec.kind} ({spec.model})"
    return f"{words}: {remark}" if remark else words


def build_lines(report: "BuildReport", limit: int | None, remark: str) -> list[str]:
    """What a build did: what the index has now, what was left out, what it cost."""
    manifest = report.manifest
    documents = counted(manifest.documents, "document")
    dims = dimensions(manifest.dims)
    pace = f" in {report.spent.seconds:,.0f} s" if report.spent.seconds >= 1 else ""
    if report.changes is not None:
        lines = [f"{report.name}: {documents} at {dims}{pace}", change_line(report)]
    elif report.added:
        whole = "" if report.added == manifest.documents else f" ({report.added:,} of them now)"
        lines = [f"{report.name}: {documents}{whole} at {dims}{pace}"]
    else:
        lines = [f"{report.name} is complete: {documents} at {dims}"]
    if manifest.source.exhausted and limit is not None and manifest.source.read < limit:
        count = counted(manifest.source.read, "document")
        lines.append(f"the corpus ended at {count}, before the limit of {limit:,}")
    if report.left_out:
        count = f"{len(report.left_out):,} of {report.read:,}"
        lines.append(f"left out {count}: {_by_reason(report.left_out)}")
    if report.total.requests:
        cost = report.spent.words
        if report.runs > 1:
            cost += f"; all {report.runs} runs: {report.total.words}, {duration(report.total.seconds)}"
        lines.append(cost)
    if remark:
        lines.append(with_flags(remark))
    return [plain(line) for line in lines]


def _by_reason(left_out: Sequence[Mapping[str, Any]]) -> str:
    """Some of the documents that were left out, and how many more, for each of the usual reasons."""
    ids: dict[str, list[str]] = {}
    for entry in left_out:
        ids.setdefault(entry["reason"], []).append(entry["id"])
    reasons = sorted(ids, key=lambda reason: -len(ids[reason]))
    shown = [f"{listed(ids[reason], 2)} ({reason})" for reason in reasons[:REASONS_SHOWN]]
    return "; ".join(shown) + (" …" if len(reasons) > REASONS_SHOWN else "")


def change_line(report: "BuildReport") -> str:
    """How an update changed the documents of an index."""
    changes = report.changes
    if changes is None or not changes.any:
        return "no changes: nothing was written"
    return f"{_counts(changes)}; {counted(report.added, 'text')} embedded"


def _counts(changes: "Changes") -> str:
    names = ("added", "changed", "renamed", "removed", "unchanged")
    counts = {name: f"{count:,} {name}" for name in names if (count := getattr(changes, name))}
    if changes.removed:
        counts["removed"] += changes.exclusions
    return ", ".join(counts.values())


def dry_run(plan: "DryRun") -> None:
    """Print what a build would do, cost and take. Raises typer.Exit with the code of the command."""
    from resizable_search.cli.tables import show_details

    show_details(dry_run_lines(plan))
    raise Exit(0 if plan.ok else 1)


def dry_run_lines(plan: "DryRun") -> list[tuple[str, str]]:
    """The lines of a dry run, each with its name."""
    workspace, corpus, embedder = plan.update.workspace, plan.update.corpus, plan.update.embedder
    lines = [("index", f"{workspace.options.name}  {workspace.folder}"), ("would be", _state(plan))]
    if plan.changes is not None:
        lines.append(("changes", f"{_counts(plan.changes)}; {counted(plan.texts, 'text')} to embed"))
    builds = plan.state not in ("complete", "follows")
    if builds:
        documents = "all, of unknown size," if plan.documents is None else f"{plan.documents:,}"
        lines.append(("documents", f"{documents} of {corpus.label}"))
    if builds or (plan.changes and plan.changes.any):
        lines += [*_costs(plan), *_disk(plan)]
    for what, words in plan.findings.items():
        lines.append((what, f"{'ok' if isinstance(words, str) else 'wrong'}: {with_flags(str(words))}"))
    lines.append(("", f"nothing was written; {embedder.check_costs or 'nothing was billed'}"))
    return lines


def _state(plan: "DryRun") -> str:
    safe = f"{counted(plan.safe, 'document')} embedded already"
    return {
        "new": "built from the start",
        "goes on": f"resumed: {safe}",
        "replaces": "replaced once the new one is complete",
        "extends": f"extended: {safe}",
        "complete": f"left as is: complete, with {counted(plan.safe, 'document')} read",
        "follows": "updated to the current corpus",
    }[plan.state]


def _costs(plan: "DryRun") -> list[tuple[str, Any]]:
    embedder = plan.update.embedder
    if plan.requests is None:
        return []
    texts = counted(embedder.batch_size, "text")
    lines = [("requests", f"{plan.requests:,} to {embedder.kind}, of up to {texts}")]
    if plan.sampled:
        by = "" if plan.changes else f" from {counted(plan.sampled, 'document')}"
        rounded = int(float(f"{plan.chars // CHARS_A_TOKEN:.3g}"))
        lines.append(("tokens", f"about {rounded:,}: estimated{by}, {CHARS_A_TOKEN} characters a token"))
    rate = plan.update.workspace.options.requests_per_minute or embedder.requests_per_minute
    if rate:
        seconds = 60 * plan.requests / rate
        lines.append(("time", f"{duration(seconds)} at least, at {rate:,.0f} requests a minute"))
    elif plan.requests:
        lines.append(("time", "as fast as the service answers; --rate sets a limit"))
    return lines


def _disk(plan: "DryRun") -> list[tuple[str, str]]:
    lines = []
    if plan.files:
        total, peak = size(sum(plan.files.values())), size(plan.peak_bytes)
        lines.append(("on disk", f"{total}; {peak} at most meanwhile; texts are estimated"))
    free = size(plan.free_bytes)
    if plan.peak_bytes > plan.free_bytes:
        free += ": too little; free some space, or choose another --home"
    lines.append(("free", free))
    return lines

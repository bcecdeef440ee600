"""What a build did and cost, and the report that stays beside the index."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resizable_search.build.journal import Journal
from resizable_search.build.workspace import Workspace
from resizable_search.embedders.request_pool import Usage
from resizable_search.engine.kernel_cache import compile_if_worth
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest
from resizable_search.system import replace_file
from resizable_search.text import counted


class BuildUsage:
    """What a build has `requested` in this run, and spent in all its `runs`: the journal keeps it."""

    def __init__(self, journal: Journal) -> None:
        saved: dict[str, Any] = journal.get("spent") or {}
        self.runs = saved.pop("runs", 0) + 1
        self.requested = Usage()
        self._earlier, self._began = Usage(**saved), time.perf_counter()

    @property
    def spent(self) -> Usage:
        """What this run has spent."""
        return replace(self.requested, seconds=time.perf_counter() - self._began)

    @property
    def total(self) -> Usage:
        """What all runs have spent."""
        return self._earlier + self.spent

    def to_json(self) -> dict[str, Any]:
        """The total and the number of runs, for the journal."""
        return {**asdict(self.total), "runs": self.runs}


@dataclass(frozen=True, slots=True)
class Changes:
    """Numbers of documents; a renamed one has the text of one that is gone, `excluded` ones exist."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    renamed: int = 0
    unchanged: int = 0
    excluded: int = 0

    @property
    def any(self) -> bool:
        """Whether anything changes."""
        return bool(self.added or self.changed or self.removed or self.renamed)

    @property
    def exclusions(self) -> str:
        """How many of those removed are excluded, in brackets; '' if none is."""
        words = f" ({self.excluded:,} of files that are still there: left out now, or without text)"
        return words if self.excluded else ""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did: documents `read` and `added` by this call, what it `spent`, and `total` of `runs`."""

    name: str
    folder: Path
    manifest: Manifest
    added: int = 0
    left_out: Sequence[Mapping[str, Any]] = ()
    spent: Usage = Usage()
    total: Usage = Usage()
    runs: int = 0
    changes: Changes | None = None
    read: int = 0


def finish(workspace: Workspace, report: BuildReport) -> BuildReport:
    """Write the report of a complete update, if the disk allows, and compile the kernels of a large index."""
    log, path = workspace.log, workspace.home.state(report.name) / NAMES.report
    if report.changes is not None and not report.changes.any:
        log.log(f"nothing has changed: {counted(report.changes.unchanged, 'document')}")
        return report
    content = {
        "finished": report.manifest.changed,
        "rows": report.manifest.rows,
        "documents": report.manifest.documents,
        "added": report.added,
        **({"changes": asdict(report.changes)} if report.changes else {}),
        **_rounded(report.spent),
        "total": {"runs": report.runs, **_rounded(report.total)},
        "left_out": list(report.left_out),
    }
    try:
        replace_file(path, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        log.note(f"the index is complete, but {path} cannot be written ({error.strerror})")
    left = f", {counted(len(report.left_out), 'document')} left out" if report.left_out else ""
    cost = f", {report.spent.words}" if report.spent.requests else ""
    documents = counted(report.manifest.documents, "document")
    log.log(f"finished: {documents}{left}{cost}, {report.spent.seconds:,.1f} s")
    with suppress(KeyboardInterrupt):  # the index is complete: this ends only the compilation
        compile_if_worth(report.manifest.documents * report.manifest.full_dim, log, workspace.stop)
    return report


def _rounded(usage: Usage) -> dict[str, Any]:
    return {**asdict(usage), "seconds": round(usage.seconds, 3)}

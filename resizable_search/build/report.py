"""What a build did, and where that is kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resizable_search.embedders.request_pool import Usage
from resizable_search.progress import LoggedProgress
from resizable_search.store.manifest import Manifest
from resizable_search.system import replace_file
from resizable_search.text import counted


@dataclass(frozen=True, slots=True)
class Changes:
    """How many documents a change adds, replaces by another content, removes, renames and leaves alone.

    A renamed one has the text of one that vanished, and its vector.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    renamed: int = 0
    unchanged: int = 0

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.added or self.changed or self.removed or self.renamed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What an index and its corpus differ in.

    `texts` have no vector yet, `chars` long in all; `rows` documents come, which take `bytes` on disk.
    """

    changes: Changes
    read: int
    texts: int
    chars: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did. `added` is how many documents this call embedded; the other rows were there.

    `spent` and `seconds` are of this call, `total` and `total_seconds` of all `runs` of the build.
    `changes` is what became of the documents where an index that was there has been changed.
    """

    name: str
    folder: Path
    manifest: Manifest
    added: int = 0
    left_out: Sequence[dict[str, Any]] = field(default_factory=list)
    spent: Usage = Usage()
    seconds: float = 0.0
    total: Usage = Usage()
    total_seconds: float = 0.0
    runs: int = 0
    changes: Changes | None = None


def keep_report(report: BuildReport, path: Path, progress: LoggedProgress) -> None:
    """Leave what the build did beside the index: what was left out, and why, is of interest later.

    The index is in its place by now, so a disk without room for this does not make the build fail.
    """
    told = {
        "finished": report.manifest.changed,
        "rows": report.manifest.rows,
        "documents": report.manifest.documents,
        "added": report.added,
        **({"changes": asdict(report.changes)} if report.changes else {}),
        **asdict(report.spent),
        "seconds": round(report.seconds, 3),
        "total": {
            "runs": report.runs,
            **asdict(report.total),
            "seconds": round(report.total_seconds, 3),
        },
        "left_out": list(report.left_out),
    }
    try:
        replace_file(path, (json.dumps(told, indent=1) + "\n").encode())
    except OSError as error:
        progress.note(f"the index is complete, but {path} cannot be written ({error.strerror})")
    left = f", {counted(len(report.left_out), 'document')} left out" if report.left_out else ""
    progress.log(
        f"finished: {counted(report.manifest.documents, 'document')}{left}, "
        f"{counted(report.spent.requests, 'request')}, {report.spent.repeats:,} of them repeated, "
        f"{counted(report.spent.tokens, 'token')}, {report.seconds:,.1f} s"
    )

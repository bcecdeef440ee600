"""What has changed in an index, or was exported from it, in words."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resizable_search.text import counted, dimensions, plain, size

if TYPE_CHECKING:
    from resizable_search.build.compact import Compaction
    from resizable_search.build.delete import Deletion
    from resizable_search.export.export import Exported


def deleted(found: "Deletion", *, dry_run: bool) -> None:
    """What was deleted, or would be."""
    verb = "would delete" if dry_run else "deleted"
    documents = counted(len(found.rows), "document")
    lines = [f"{found.index}: {verb} {documents if found.rows else 'nothing'}, {found.left:,} left"]
    if found.missing:
        lines.append(f"passed over {counted(len(found.missing), 'id')} that it does not have")
    if found.rows and not dry_run:
        lines.append(f"their rows stay on the disk until `rsearch compact {found.index}`")
    sys.stdout.write("".join(f"{plain(line)}\n" for line in lines))


def compacted(done: "Compaction") -> None:
    """What compacting came to."""
    documents = counted(done.documents, "document")
    if not done.done:
        line = f"{done.index} is compact: {documents} in one part, none deleted"
    else:
        line = (
            f"{done.index}: {documents} in one part ({counted(done.parts, 'part')} and "
            f"{done.deleted:,} deleted before), {size(done.before)} became {size(done.after)}"
        )
    lines = [line]
    if done.done and done.deleted and done.fitted:
        lines.append(
            "its embedder was fitted on the corpus and still knows the words of what was deleted: "
            "build it with --refit to have it forget them"
        )
    sys.stdout.write("".join(f"{plain(line)}\n" for line in lines))


def exported(done: "Exported", dest: Path) -> None:
    """What was exported, to `dest` as it was named, and what its check came to."""
    settings = "".join(f", {name} {value}" for name, value in done.settings.items())
    lines = [
        f"{dest}: {counted(done.documents, 'document')} at {dimensions([done.dim])}, "
        f"{size(done.bytes)}, {done.format}{settings}"
    ]
    asked = f"{counted(done.asked, 'row')} of its own asked for the {done.k} nearest"
    if done.is_exact:
        lines.append(f"checked with {done.library}: {asked}, which are those of the exact scan")
    else:
        lines.append(
            f"checked with {done.library}: {asked}: overlap@{done.k} {done.overlap:.3f}, "
            f"{done.overlap_low:.3f} at least (95 %)"
        )
    sys.stdout.write("".join(f"{plain(line)}\n" for line in lines))

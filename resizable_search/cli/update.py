"""`rsearch update`, `add`, `delete`, `compact` and `merge`: change an index, or make one of several."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from resizable_search.cli import completion, render_build
from resizable_search.cli.options import (
    DryRunOption,
    HomeOption,
    IndexArgument,
    RequiredIndexArgument,
    UpdateArguments,
    YesOption,
    index_folder,
    takes,
)
from resizable_search.cli.progress import command_to_go_on, confirm, piped_in, shown_progress, stop_on_signal
from resizable_search.errors import ShrinkError, UsageError
from resizable_search.store.layout import home_of, resolve_index
from resizable_search.text import counted, size

if TYPE_CHECKING:
    from resizable_search.build.report import BuildReport
    from resizable_search.build.workspace import BuildOptions

STDIN = Path("-")


def _build_options(options: UpdateArguments, folder: Path) -> "BuildOptions":
    from resizable_search.build.workspace import BuildOptions

    return BuildOptions(
        folder.resolve().name,
        concurrency=options.concurrency,
        requests_per_minute=options.rate,
        command=command_to_go_on(),
    )


def _change(
    how: "Callable[..., BuildReport]",
    options: UpdateArguments,
    folder: Path,
    *inputs: object,
    **more: bool,
) -> "BuildReport":
    """Change the index in `folder`; on a cluster by its own embedder."""
    from resizable_search.build.build import own_embedder
    from resizable_search.cluster.embedder import on_cluster

    cluster = options.cluster(options.gpus_per_worker)
    with shown_progress() as progress, stop_on_signal() as stop, ExitStack() as stack:
        embedder = None  # the index finds its own
        if cluster is not None:
            own = own_embedder(folder.resolve())
            embedder = stack.enter_context(on_cluster(own, cluster, stop))
        asked = _build_options(options, folder)
        return how(folder, *inputs, options=asked, embedder=embedder, progress=progress, stop=stop, **more)


@takes(UpdateArguments)
def update(
    options: UpdateArguments,
    index: IndexArgument = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Update an index to the files it was built from.

    The manifest says which files, which options and which embedder. Only new and
    changed texts are embedded; documents whose files are gone are deleted. It
    asks before it deletes more than half of an index. `pydoc` is read again too.
    """
    from resizable_search.build.build import follow
    from resizable_search.build.dry_run import dry_follow

    folder = index_folder(index, options.home)
    if dry_run:
        with shown_progress() as progress:
            plan = dry_follow(folder, _build_options(options, folder), progress)
        render_build.dry_run(plan)
    try:
        report = _change(follow, options, folder, shrink=yes)
    except ShrinkError as error:
        confirm(error.action)
        report = _change(follow, options, folder, shrink=True)
    render_build.write_lines(*render_build.build_lines(report, None, ""))


@takes(UpdateArguments)
def add(
    options: UpdateArguments,
    index: RequiredIndexArgument,
    files: Annotated[list[Path], Argument(help="Files and folders; `-`: JSON lines from stdin.")],
    replace: Annotated[bool, Option("--replace", help="Replace documents that have the same id.")] = False,
) -> None:
    """Add documents to an index.

    Unchanged documents are skipped. A document with an existing id and another
    content is refused without --replace. Run the same command again to resume.
    """
    from resizable_search.build.build import add as adding

    folder = index_folder(index, options.home)
    if STDIN in files and len(files) > 1:
        raise UsageError("stdin cannot be mixed with files: add each by itself")
    inputs = [piped_in() if file == STDIN else file for file in files]
    report = _change(adding, options, folder, inputs, replace=replace)
    render_build.build_report(report, None, "", "", options.home)


def delete(
    index: RequiredIndexArgument,
    ids: Annotated[list[str] | None, Argument(help="Ids; `-`: one a line from stdin.")] = None,
    where: Annotated[str | None, Option(help="Delete the documents that match this SQL expression.")] = None,
    missing_ok: Annotated[bool, Option("--missing-ok", help="Skip unknown ids.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Show what would be deleted; write nothing.")] = False,
    yes: YesOption = False,
    home: HomeOption = None,
) -> None:
    """Delete documents. `rsearch compact` reclaims the space.

    An unknown id aborts the deletion, unless --missing-ok is given.
    """
    from resizable_search.build import delete as deleting

    if where is not None and (ids or missing_ok):
        raise UsageError("--where cannot be combined with ids: give one of them")
    folder = index_folder(index, home)
    wanted = [] if where is not None else _read_ids(ids or [])

    def ask(planned: deleting.Deletion) -> None:
        if not yes:
            confirm(f"delete {counted(len(planned.rows), 'document')} of {planned.index}")

    if dry_run:
        deletion = deleting.plan_deletion(folder, wanted, where=where, missing_ok=missing_ok)
    else:
        deletion = deleting.delete(folder, wanted, where=where, missing_ok=missing_ok, confirm=ask)
    verb = "would delete" if dry_run else "deleted"
    documents = counted(len(deletion.rows), "document") if deletion.rows else "nothing"
    render_build.write_lines(f"{deletion.index}: {verb} {documents}, {deletion.left:,} left")
    if deletion.missing:
        render_build.write_lines(f"skipped {counted(len(deletion.missing), 'unknown id')}")
    if deletion.rows and not dry_run:
        render_build.write_lines(f"`rsearch compact {deletion.index}` reclaims the space")


def _read_ids(words: list[str]) -> list[str]:
    """The ids, each once, in order. Raises UsageError without any."""
    ids: list[str] = []
    for word in words:
        if word == "-":
            ids += [line for raw in sys.stdin or () if (line := raw.rstrip("\r\n"))]
        else:
            ids.append(word)
    if not ids:
        raise UsageError("no id given: `rsearch query --json` shows ids; or choose documents with --where")
    return list(dict.fromkeys(ids))


def compact(index: IndexArgument = None, home: HomeOption = None) -> None:
    """Rewrite an index as one part without deleted documents.

    Answers stay the same. This needs as much free disk space as the index has.
    Open readers keep the old files.
    """
    from resizable_search.build import build as building

    folder = index_folder(index, home)
    with shown_progress() as progress, stop_on_signal() as stop:
        old, new = building.compact(folder, progress, stop)
    name, documents = folder.resolve().name, counted(new.documents, "document")
    if old == new:
        render_build.write_lines(f"{name} is compact: {documents} in one part, none deleted")
        return
    deleted = old.rows - old.documents
    before, after = (size(sum(file.bytes for file in one.all_files().values())) for one in (old, new))
    render_build.write_lines(
        f"{name}: {documents} in one part ({counted(len(old.parts), 'part')} and "
        f"{deleted:,} deleted before), {before} became {after}"
    )
    if deleted and old.files:
        words = "its lsa model still knows words of deleted documents: build again with --refit"
        render_build.write_lines(words)


def merge(
    name: Annotated[str, Argument(help="Name of the new index.")],
    indexes: Annotated[
        list[str], Argument(help="Names or folders, in order.", autocompletion=completion.indexes)
    ],
    home: HomeOption = None,
) -> None:
    """Merge indexes into a new one.

    They need the same model and dims, and different ids. Shards come in their own
    order, and none may be missing. The indexes stay as they are; files are
    linked, or copied to another disk. Run the same command again to resume.
    """
    from resizable_search.build.merge import merge as merged
    from resizable_search.build.workspace import BuildOptions

    folder = home_of(home)
    folders = [resolve_index(index, folder) for index in indexes]
    options = BuildOptions(name, command=command_to_go_on())
    with shown_progress() as progress, stop_on_signal() as stop:
        report = merged(folders, folder, options, progress, stop)
    parts = counted(len(report.manifest.parts), "part")
    render_build.build_report(report, None, f"in {parts}: `compact {name}` makes them one", "", home)

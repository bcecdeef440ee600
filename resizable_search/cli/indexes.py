"""Commands on whole indexes: list, info, export, remove, warm, verify, repair; and doctor."""

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from resizable_search.cli import completion
from resizable_search.cli.help import with_flags
from resizable_search.cli.options import (
    HomeOption,
    IndexArgument,
    JsonOption,
    RayArguments,
    RequiredIndexArgument,
    YesOption,
    index_folder,
    index_name,
    open_index,
)
from resizable_search.cli.output import json_object
from resizable_search.cli.progress import confirm, shown_progress, stop_on_signal
from resizable_search.cli.render_build import write_lines
from resizable_search.cli.settings import Configuration
from resizable_search.errors import IndexFormatError, RsearchError
from resizable_search.store.layout import home_of, none_yet
from resizable_search.text import counted, dimensions, listed, plain, size

if TYPE_CHECKING:
    from resizable_search.admin.overview import IndexInfo, OverviewEntry
    from resizable_search.cli.tables import Column


def list_indexes(json: JsonOption = False, home: HomeOption = None) -> None:
    """List the indexes and unfinished builds of the home."""
    from resizable_search.admin.overview import overview
    from resizable_search.cli.tables import show_table

    entries = overview(home_of(home))
    if json:
        json_object(entries)
    elif entries:
        show_table(listing_table(entries))
    else:
        write_lines(with_flags(str(none_yet(home_of(home)))))


def listing_table(entries: "Sequence[OverviewEntry]") -> "list[Column]":
    """One line for each index. On a narrow terminal names are cut, counts are not."""
    from resizable_search.cli.tables import columns_of

    rows = []
    for entry in entries:
        dims = f"{entry.dims[0]}–{entry.dims[-1]}" if len(entry.dims) > 1 else ",".join(map(str, entry.dims))
        state = "" if entry.state == "ready" else entry.state
        used, changed = size(entry.bytes), entry.changed[:10]
        cells = (entry.name, f"{entry.rows:,}", dims, entry.model, used, changed, state)
        rows.append([plain(cell) for cell in cells])
    names = ("index", "documents", "dims", "model", "size", "changed", "")
    index, documents, *others = columns_of(names, rows, right=("documents", "size"), give=True)
    documents = documents._replace(give=False, least=max(map(len, documents.cells)))
    return [index._replace(least=8), documents, *others]


def info(
    index: IndexArgument = None,
    files: Annotated[bool, Option("--files", help="Also show the files, and how they were built.")] = False,
    json: JsonOption = False,
    ray: Annotated[
        str | None, Option(metavar="auto|HOST:PORT", help="Show which parts each node of Ray can read.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Show what an index holds, its size, and the cost of a query."""
    from resizable_search.admin.overview import describe_index
    from resizable_search.cli.tables import show_details

    with open_index(index, home) as opened:
        described = describe_index(opened)
    if (cluster := RayArguments(ray=ray).cluster()) is not None:
        from resizable_search.cluster.search import nodes_of

        described = replace(described, nodes=nodes_of(cluster, Path(described.folder), described.generation))
    if json:
        json_object(described)
    else:
        show_details((name, words) for name, words in info_lines(described, files) if words)


def info_lines(info: "IndexInfo", files: bool = False) -> list[tuple[str, str]]:
    """The lines of `info`, each with its name; those without words are not shown."""
    spec = info.embedder
    options = ", ".join(
        f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in info.corpus.items()
        if value not in (None, "", []) and key != "columns"
    )
    read = f"{info.rows:,}; {info.source_rows:,} read from the corpus"
    if info.left_out:
        read += f", {info.left_out:,} left out"
    if info.deleted:
        read += f", {info.deleted:,} deleted: `rsearch compact {info.name}` reclaims the space"
    unfitted = ""
    if info.unfitted:
        due = "; build again with --refit" if 2 * info.unfitted > info.rows else ""
        unfitted = f"{info.unfitted:,} of {info.rows:,} documents came after lsa was fitted{due}"
    sides = (("documents", "document_prefix"), ("queries", "query_prefix"))
    prefixes = [f"{side} as '{words}…'" for side, option in sides if (words := spec["options"].get(option))]
    if "api_key_env" in spec["options"]:
        prefixes.append(f"a key, if needed, from {spec['options']['api_key_env']}")
    centred = ", centred" if spec["centred"] else ""
    parts = counted(info.parts, "part")
    reads = ", ".join(f"{size(count)} at {dim}" for dim, count in info.scan_bytes.items())
    rows = [f"{number}: {count:,} rows" for number, count in enumerate(info.part_rows, 1)]
    nodes = [f"{name} reads {_parts_words(parts, info.parts)}" for name, parts in info.nodes]
    unexpected = f"{', '.join(info.strange)}: not part of the index; move it away" if info.strange else ""
    details = [
        ("built", f"{info.created}, generation {info.generation}, {parts}"),
        ("by", f"{info.written_by}, embedder fingerprint {info.fingerprint}"),
        ("", options),
        ("", ", ".join(prefixes)),
        *(("" if number else "files", f"{n} {size(c)}") for number, (n, c) in enumerate(info.files.items())),
    ]
    return [
        ("index", f"{info.name}  {info.folder}"),
        ("documents", read),
        ("corpus", info.label + (", to its end" if info.corpus_exhausted else "")),
        ("embedder", f"{spec['kind']}: {spec['model']}, {spec['width']} dimensions{centred}"),
        ("", with_flags(info.remark)),
        ("", unfitted),
        ("dims", f"{', '.join(map(str, info.dims))}; a query may use any other up to the last"),
        ("on disk", f"{size(info.bytes)} in {counted(len(info.files), 'file')}"),
        ("a query", f"{info.embed_cost}; a scan reads {reads}"),
        ("parts", listed(rows, 8) if len(rows) > 1 or nodes else ""),
        *(("" if number else "nodes", words) for number, words in enumerate(nodes)),
        ("mode", info.mode),
        ("changed", info.changed),
        ("verified", info.verified),
        ("damaged", "; ".join(info.damaged)),
        ("unexpected", unexpected),
        *(details if files else []),
    ]


def _parts_words(parts: list[int], count: int) -> str:
    if len(parts) in (0, count):
        return "all parts" if parts else "no part: the folder is not there, or not the same"
    return f"only {listed([f'part {number}' for number in parts], 8)}"


def export(
    index: RequiredIndexArgument,
    dest: Annotated[Path, Argument(help="File (parquet) or folder to write.")],
    format: Annotated[
        Literal["parquet", "datasets", "faiss-flat", "faiss-pq", "usearch"] | None,
        Option(
            "--format", "--to", metavar="FORMAT", help="parquet, datasets, faiss-flat, faiss-pq, usearch."
        ),
    ] = None,
    dim: Annotated[int | None, Option(help="Cut the rows to DIM dimensions, renormalised.")] = None,
    force: Annotated[bool, Option("--force", help="Replace an earlier export.")] = False,
    home: HomeOption = None,
) -> None:
    """Write documents and rows for another program.

    They are checked with that program's library.
    """
    from resizable_search.export import export as exporting

    form = exporting.format_of(format, dest)
    folder = index_folder(index, home)
    with shown_progress() as progress, stop_on_signal() as stop:
        done = exporting.export(folder, dest, form.name, dim=dim, force=force, progress=progress, stop=stop)
    settings = "".join(f", {name} {value}" for name, value in done.settings.items())
    dims = dimensions([done.dim])
    result = " as in the exact scan"
    if not form.is_exact:
        result = f", overlap@{done.k} {done.overlap:.3f}, at least {done.overlap_low:.3f} (95 %)"
    documents = counted(done.documents, "document")
    write_lines(
        f"{dest}: {documents} at {dims}, {size(done.bytes)}, {form.name}{settings}",
        f"checked with {form.library}: {done.k} nearest of {counted(done.asked, 'row')}{result}",
    )


def remove(
    index: Annotated[str, Argument(help="Name or folder.", autocompletion=completion.indexes)],
    yes: YesOption = False,
    home: HomeOption = None,
) -> None:
    """Delete an index, or an unfinished build.

    Other files in its folder are kept.
    """
    from resizable_search.admin import remove as removing

    ask = None if yes else lambda words: confirm(f"delete {words}")
    removed = removing.remove(index, home_of(home), ask)
    write_lines(f"removed {removed.words}")
    if removed.left:
        files = listed(removed.left, 3)
        raise RsearchError(f"kept {removed.folder} with other files: {files}; delete it yourself")


def warm(
    index: Annotated[
        str | None, Argument(help="Derive missing tiers of it.", autocompletion=completion.indexes)
    ] = None,
    home: HomeOption = None,
) -> None:
    """Compile the kernels of the engine now.

    A large build does so too. A query never compiles: without kernels numpy
    searches, slower and with the same answer.
    """
    from resizable_search.admin.doctor import warm as warm_up

    with shown_progress() as progress:
        done = warm_up(home_of(home), index, progress)
    write_lines(*done)


def verify(
    index: IndexArgument = None,
    full: Annotated[bool, Option("--full", help="Check every derived row, not a sample.")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Check every file of an index against its checksum.

    The exit code is 1 if one is damaged. Also checks the database, that rows are
    finite and of norm 1, and that derived files follow from the full vectors, bit
    for bit.
    """
    from resizable_search.store import verify as repairing

    home_folder = home_of(home)
    name = index_name(index, home_folder)
    with shown_progress() as progress:
        verified = repairing.verify(name, home_folder, full=full, progress=progress)
    if json:
        json_object(verified)
    else:
        write_lines(*(f"damaged {damage.file}: {damage.wrong}" for damage in verified.damaged))
    if verified.damaged:
        count = f"{counted(len(verified.damaged), 'damaged file')} of {verified.files}"
        remedy = f"`rsearch repair {shlex.quote(name)}` rebuilds derived ones"
        raise IndexFormatError(f"{verified.index} has {count}: {remedy}")
    if not json:
        rows = "every derived row" if verified.full else "a sample of the derived rows (--full: all)"
        files = f"{counted(verified.files, 'file')}, {size(verified.bytes)}"
        write_lines(f"{verified.index}: {files}, all sound; {rows} checked")


def repair(index: IndexArgument = None, home: HomeOption = None) -> None:
    """Rebuild damaged derived files; report what is lost."""
    from resizable_search.store import verify as repairing

    home_folder = home_of(home)
    name = index_name(index, home_folder)
    with shown_progress() as progress:
        done = repairing.repair(name, home_folder, progress)
    write_lines(*(f"rebuilt {file}" for file in done.mended))
    write_lines(*(f"lost {file}: {with_flags(remedy)}" for file, remedy in done.lost.items()))
    if done.lost:
        count = counted(len(done.lost), "file")
        raise IndexFormatError(
            f"{count} of {name} cannot be rebuilt: restore a copy, or build with --restart"
        )
    if not done.mended:
        write_lines(f"{name} has no damaged file")


STATE_STYLES = {"ok": "green", "not set up": "dim", "wrong": "bold red"}


def doctor(context: typer.Context, home: HomeOption = None, json: JsonOption = False) -> None:
    """Check configuration, credentials, hub, disk, kernels and indexes.

    The exit code is 1 if something that is configured, or that an index uses, is
    wrong. What is not set up is only named.
    """
    from resizable_search.admin.doctor import HealthCheck, examine
    from resizable_search.cli.tables import show, styled

    configuration = Configuration(context.find_root().command, home)
    files = ", ".join(str(file.path) for file in configuration.files if file.exists)
    state: Literal["ok", "wrong"] = "wrong" if configuration.problems else "ok"
    words = configuration.problems or [files or "no file", *configuration.warnings]
    own = [HealthCheck("configuration", state, line) for line in words]
    checks = []
    for check in itertools.chain(own, examine(home_of(home))):
        checks.append(replace(check, words=with_flags(check.words)))
        if not json:
            shown = styled(f"{check.state:<12}", STATE_STYLES[check.state])
            show(f"{plain(check.what):<14}  {shown}{plain(checks[-1].words)}", soft=True)
    if json:
        json_object(checks)
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(1)

"""`rsearch verify` and `rsearch repair`: whether an index is as it was written, and can be again."""

from typing import Annotated

import typer

from resizable_search.cli.options import HomeOption, IndexArgument, JsonOption, home_of, index_name


def verify(
    index: IndexArgument = None,
    full: Annotated[
        bool, typer.Option("--full", help="Derive all rows again and compare, not a sample.")
    ] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Prove that every file of an index is as it was written; exit code 1 names each that is not.

    Sizes and checksums, SQLite's own check, finite rows of norm 1, and that the
    smaller dimensions and tiers follow from the full vectors, bit for bit.
    """
    from resizable_search.cli import render_verify
    from resizable_search.cli.progress import shown_progress
    from resizable_search.store import repair as verification

    places = home_of(home)
    name = index_name(index, places)
    with shown_progress() as progress:
        found = verification.verify(name, places, full=full, progress=progress)
    render_verify.verified(found, name, as_json=json)


def repair(index: IndexArgument = None, home: HomeOption = None) -> None:
    """Make damaged files anew that follow from the full vectors, without the network; tells what is lost."""
    from resizable_search.cli import render_verify
    from resizable_search.cli.progress import shown_progress
    from resizable_search.store import repair as verification

    places = home_of(home)
    name = index_name(index, places)
    with shown_progress() as progress:
        done = verification.repair(name, places, progress)
    render_verify.repaired(done, name)

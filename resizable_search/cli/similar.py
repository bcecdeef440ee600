"""`rsearch similar`: more documents like one of the index."""

from typing import Annotated

import typer

from resizable_search.cli import completion, remote
from resizable_search.cli.arguments import takes
from resizable_search.cli.searching import SearchArguments


@takes(SearchArguments)
def similar(
    options: SearchArguments,
    id: Annotated[
        str, typer.Argument(help="The id of a document of the index.", autocompletion=completion.ids)
    ],
) -> int:
    """Find the documents nearest to one of the index, itself left out.

    It needs no embedder and no network: the document's own vector is the query.
    """
    form = options.form()
    served = remote.search(id, options, similar=True)
    if served is not None:
        options.present(*served, form)
        return 0
    with options.opened() as index:
        found = index.search_similar(id, options.checked(index, form))
        options.present(found, index, form)
    return 0

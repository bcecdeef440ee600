"""`rsearch similar`: more documents like one of the index."""

from typing import Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.forms import (
    FieldsOption,
    FormatOption,
    MinScoreOption,
    OpenOption,
    SnippetOption,
    WhereOption,
    check_fields,
    form_of,
    kept,
    open_hit,
    show,
)
from resizable_search.cli.options import (
    EngineOption,
    HomeOption,
    IndexOption,
    JsonOption,
    KOption,
    ThreadsOption,
    home_of,
    index_name,
)
from resizable_search.cli.query import (
    DimOption,
    ExplainOption,
    PlanOption,
    RecallOption,
    RerankOption,
    chosen_plan,
    tell_remark,
)


def similar(
    id: Annotated[
        str, typer.Argument(help="The id of a document of the index.", autocompletion=completion.ids)
    ],
    index: IndexOption = None,
    k: KOption = 10,
    dim: DimOption = None,
    rerank: RerankOption = 0,
    plan: PlanOption = None,
    recall: RecallOption = None,
    where: WhereOption = None,
    format: FormatOption = "table",
    json: JsonOption = False,
    fields: FieldsOption = None,
    snippet: SnippetOption = 0,
    min_score: MinScoreOption = None,
    open: OpenOption = None,
    explain: ExplainOption = False,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    home: HomeOption = None,
) -> None:
    """Find the documents nearest to one of the index, itself left out.

    It needs no embedder and no network: the document's own vector is the query.
    """
    form = form_of(format, json, fields, snippet, min_score, open)

    from resizable_search.search import open_index

    places = home_of(home)
    with open_index(index_name(index, places), home=places.path, threads=threads, engine=engine) as opened:
        check_fields(form, opened)
        chosen = chosen_plan(opened, k, dim, rerank, plan, recall)
        answer = kept(opened.answer_similar(id, k, plan=chosen, where=where), form)
        show(answer, opened, form, explain=explain)
        open_hit(answer, form)
        tell_remark(opened.remark)

"""Search requests, and their answers as JSON."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
from starlette.responses import Response

from resizable_search.errors import RsearchError, UsageError
from resizable_search.search.index import Index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import Answer, fields
from resizable_search.service import identity
from resizable_search.service.refusals import json_response, refusal_of, typed
from resizable_search.service.schemas import LocalSearchRequest, OldSearchRequest, SearchRequest
from resizable_search.service.service import Service
from resizable_search.text import rarity, snippet

SNIPPET = 300  # characters of a passage, if nobody says how many
MOST_TEXT = 50_000_000  # characters of the texts of an answer


async def search(service: Service, request: OldSearchRequest) -> Any:
    """What a search is answered, as JSON. Raises RsearchError."""
    options = request.options()
    texts = request.query if isinstance(request.query, list) else [request.query or ""]
    answers = await _answers(service, request, texts, options)
    answered = full = [answer for answer in answers if isinstance(answer, Answer)]
    if request.compare:
        exact = options.with_plan(None)
        is_exact = replace(options, mode=options.mode or exact.mode) == exact
        if not is_exact or "lexical" in answered[0].plan:
            again = await _answers(service, request, [answer.query for answer in answered], exact)
            full = [answer for answer in again if isinstance(answer, Answer)]
    _refuse_long([*answered, *full], request)
    compared = iter(full)  # after a first answer, the same texts are answered again

    def shown() -> list[dict[str, Any]]:
        return [
            _content(answer, next(compared), request, service.pool.threads)
            if isinstance(answer, Answer)
            else {"query": text, "error": refusal_of(answer).shown()}
            for text, answer in zip(texts, answers, strict=True)
        ]

    results = await anyio.to_thread.run_sync(shown) if _snippet_length(request) else shown()
    return {"results": results} if isinstance(request.query, list) else results[0]


async def local_search(service: Service, request: LocalSearchRequest) -> Response:
    """Answer a search from the home's Unix socket; with `expects`, only to a process like this one."""
    pool, wanted = service.pool, request.expects

    def describe(index: Index) -> dict[str, Any] | None:
        threads = pool.threads if wanted and wanted.get("threads") else None
        if wanted != identity(index.folder, str(pool.engine), threads):
            return None
        return {
            "rows": index.rows,
            "full_dim": index.full_dim,
            "columns": index.columns(),
            "process": os.getpid(),
        }

    served = None
    if wanted is not None and (served := await service.with_index(request.index, describe)) is None:
        return json_response({"error": "this service has another version, index, engine or endpoint"}, 412)
    if request.similar:
        answer = await service.similar(request.index, str(request.query), request.options())
        content = fields(answer, threads=pool.threads if request.explain else None)
    else:
        content = await search(service, request)
    return json_response({**content, "served": served} if served else content)


async def _answers(
    service: Service, request: OldSearchRequest, texts: Sequence[str], options: SearchOptions
) -> Sequence[Answer | RsearchError]:
    """An answer to each text or to what stands for it; in a list, also an error."""
    if not isinstance(request, SearchRequest):
        return await service.search(request.index, texts, options)
    document = request.similar_row if request.similar is None else request.similar
    if document is not None:
        return [await service.similar(request.index, document, options)]
    if request.vector is not None:
        return await service.search(request.index, texts, options, request.vector)
    return await service.search_each(request.index, texts, options)


def _has_text(request: OldSearchRequest) -> bool:
    """Whether a hit has its whole text."""
    if not isinstance(request, SearchRequest):
        return True
    return request.snippet is None if request.fields is None else "text" in request.fields


def _snippet_length(request: OldSearchRequest) -> int:
    """Characters of a hit's passage; 0: it has none."""
    if not isinstance(request, SearchRequest):
        return 0
    if request.fields is None:
        return request.snippet or 0
    return (request.snippet or SNIPPET) if "snippet" in request.fields else 0


def _refuse_long(answers: Sequence[Answer], request: OldSearchRequest) -> None:
    """Raise UsageError if the texts of these answers are too long to send."""
    characters = sum(len(hit.text) for answer in answers for hit in answer.hits) if _has_text(request) else 0
    if characters > MOST_TEXT:
        raise UsageError(
            f"the texts of these hits have {characters:,} characters, and an answer may have {MOST_TEXT:,}: "
            "lower k, or ask for snippet"
        )


def _content(answer: Answer, full: Answer, request: OldSearchRequest, threads: int) -> dict[str, Any]:
    """An answer as JSON; if requested, with the full dimension's and the share of its hits it has."""
    content = _shown(answer, request, threads)
    if request.compare:
        wanted = {hit.row for hit in full.hits}
        overlap = len(wanted & {hit.row for hit in answer.hits}) / len(wanted) if wanted else 1.0
        shown = _shown(full, request, threads)
        for name in ("query", "index", "k"):
            del shown[name]
        content["full"] = {**shown, "overlap": overlap}
    return content


def _shown(answer: Answer, request: OldSearchRequest, threads: int) -> dict[str, Any]:
    """An answer as `rsearch query --json` prints it; of v1, with the requested fields and round numbers."""
    stages = threads if request.explain else None
    if not isinstance(request, SearchRequest):
        return fields(answer, threads=stages)
    content = fields(answer, threads=stages, hits=_hits(answer, request))
    content["query"] = answer.query if request.vector is None else None
    content["k"] = request.k
    if answer.remark:
        content["remark"] = typed(answer.remark)
    content["timings_ms"] = {name: round(ms, 3) for name, ms in content["timings_ms"].items()}
    for stage in content.get("explain", ()):
        stage["ms"] = round(stage["ms"], 3)
    return content


def _hits(answer: Answer, request: SearchRequest) -> list[dict[str, Any]]:
    """The hits of a page with the requested fields."""
    hits = answer.hits[request.offset :]
    if request.min_score is not None:
        hits = [hit for hit in hits if hit.score >= request.min_score]
    length, has_text = _snippet_length(request), _has_text(request)
    query = "" if request.query is None else answer.query
    weights = rarity(query, [hit.text for hit in hits]) if length else {}
    shown = []
    for hit in hits:
        content = {
            "rank": hit.rank,
            "row": hit.row,
            "score": round(hit.score, 6),
            "id": hit.id,
            "title": hit.title,
            "url": hit.url,
        }
        if has_text:
            content["text"] = hit.text
        if length:
            content["snippet"] = snippet(hit.text, weights, length)
        content["text_length"] = len(hit.text)
        content["metadata"] = dict(hit.metadata)
        content["copies"] = hit.copies
        content["ranks"] = None if hit.ranks is None else dict(hit.ranks)
        if request.fields is not None:
            content = {name: content[name] for name in request.fields}
        shown.append(content)
    return shown

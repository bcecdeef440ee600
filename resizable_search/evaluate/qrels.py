"""Queries and relevance judgements (qrels) from the files of BEIR and TREC, and from TSV; their metrics."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.corpora.decoding import DAMAGED, SourceFile, UnreadableError, checked_codec
from resizable_search.corpora.formats import format_of
from resizable_search.corpora.tables import parse_line
from resizable_search.environment import needs
from resizable_search.errors import CorpusError, UsageError
from resizable_search.text import quoted

USUAL = ("nDCG@10", "R@10", "R@100", "RR@10")  # the default metrics
MOST_CUT = 10_000  # the largest cut-off: each query holds this many hits

_SIMPLE = re.compile(r"(\w+)(?:@(\d{1,5}))?")
_SEPARATOR = re.compile(r"[,\s]+(?![^(]*\))")  # outside parentheses

_QRELS = "query-id, corpus-id and score with tabs between, or TREC's query-id 0 document-id relevance"
_MOST_GRADE = 10**6  # grades are small; a larger number is some other column


@dataclass(frozen=True, slots=True)
class Qrels:
    """The texts of judged queries by id, in the order of their file, and the grades of documents for each."""

    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, int]]  # a grade above 0 is relevant
    source: str = "judgements"
    unasked: tuple[str, ...] = ()  # judged ids without a text

    @property
    def documents(self) -> set[str]:
        """The ids of all judged documents."""
        return {id_ for grades in self.relevance.values() for id_ in grades}

    @property
    def hopeless(self) -> list[str]:
        """Queries without a relevant document; they always count as 0."""
        return [query for query, grades in self.relevance.items() if not any(g > 0 for g in grades.values())]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics in order. `depth`: the largest cut-off; None if a metric has none and needs all hits."""

    names: tuple[str, ...]
    depth: int | None
    _measures: tuple[Any, ...]

    @classmethod
    def parse(cls, words: str | Sequence[str] = USUAL) -> "Metrics":
        """Metrics by their names in ir-measures, such as `nDCG@10,P(rel=2)@5`. Raises UsageError."""
        if isinstance(words, str):
            words = [word for word in _SEPARATOR.split(words) if word]
        if not words:
            raise UsageError(f"`measures` is empty: name some, e.g. {','.join(USUAL)}")
        measures = tuple(dict.fromkeys(_measure(word) for word in words))
        cuts = [measure.params.get("cutoff") for measure in measures]
        for cut in cuts:
            if cut is not None and not 1 <= cut <= MOST_CUT:
                raise UsageError(f"`measures`: a cut-off must be 1 to {MOST_CUT:,}, not {cut}")
        depth = None if None in cuts else max(cuts)
        return cls(tuple(map(str, measures)), depth, measures)

    def of(
        self, relevance: Mapping[str, Mapping[str, int]], ranked: Mapping[str, Sequence[str]]
    ) -> NDArray[np.float64]:
        """The values (queries of `relevance`, metrics) of the documents found for each query, best first."""
        found = ((query, ids) for query, ids in ranked.items() if ids)
        run = {query: {id_: float(-rank) for rank, id_ in enumerate(ids)} for query, ids in found}
        grades = {query: dict(of_query) for query, of_query in relevance.items()}
        row = {query: number for number, query in enumerate(relevance)}
        column = {measure: number for number, measure in enumerate(self._measures)}
        values = np.zeros((len(row), len(column)))
        for metric in _provider().iter_calc(self._measures, grades, run):
            values[row[metric.query_id], column[metric.measure]] = metric.value
        return values


def read_qrels_folder(queries: str | Path, qrels: str | Path, encoding: str | None = None) -> Qrels:
    """The judged queries of two files, which may be `.gz` or `.zst`, in this encoding if not in UTF-8.

    Raises UsageError for a missing file, CorpusError with file and line for what makes no sense.
    """
    codec = checked_codec(encoding)
    relevance = read_qrels(Path(qrels), codec)
    texts = read_queries(Path(queries), codec)
    known = {query: text for query, text in texts.items() if query in relevance}
    unasked = tuple(query for query in relevance if query not in texts)
    if not known:
        first = f"the first ids are {quoted(next(iter(relevance)))} and {quoted(next(iter(texts)))}"
        raise CorpusError(f"{qrels} judges no query of {queries}: {first}; name files that belong together")
    return Qrels(known, {query: relevance[query] for query in known}, str(qrels), unasked)


def read_queries(path: Path, codec: str = "") -> dict[str, str]:
    """The queries of a file by id: JSON lines with `_id` and `text`, or lines of id, tab and text."""
    form, _ = format_of(path.name)
    queries: dict[str, str] = {}
    for number, line in text_lines(path, codec, "name a file of queries with `queries`"):
        if form == "jsonl" or (not queries and line.lstrip().startswith("{")):
            form = "jsonl"
            record = parse_line(number, line)
            if record.problem:
                wrong = f"cannot be read ({record.problem})"
                raise _bad(path, number, f"{wrong}: write a JSON object with _id and text")
            id_, text = record.values.get("_id"), record.values.get("text")
            if not isinstance(id_, str | int) or isinstance(id_, bool) or not isinstance(text, str):
                raise _bad(path, number, "has no _id and text: write a JSON object with both")
        else:
            id_, tab, text = line.partition("\t")
            if not tab:
                raise _bad(path, number, "has no tab: write the id, a tab and the text")
        id_ = str(id_).strip()
        if not id_:
            raise _bad(path, number, "has no id: give each query its own")
        if id_ in queries:
            raise _bad(path, number, f"repeats the id {quoted(id_)}: give each query its own")
        queries[id_] = text.strip()
    if not queries:
        raise CorpusError(f"{path} has no query: write JSON lines of _id and text, or id, tab, text")
    return queries


def read_qrels(path: Path, codec: str = "") -> dict[str, dict[str, int]]:
    """The grades of a file by query and document: BEIR's three columns, or TREC's four."""
    relevance: dict[str, dict[str, int]] = {}
    is_first = True
    for number, line in text_lines(path, codec, "name a file of judgements with `qrels`"):
        words = line.split("\t") if line.count("\t") == 2 else line.split()
        if len(words) == 4:
            words = [words[0], *words[2:]]
        if len(words) != 3:
            raise _bad(path, number, f"has {len(words)} columns: write {_QRELS}")
        query, document, score = (word.strip() for word in words)
        grade = _grade(score)
        is_header = is_first and grade is None and not any(c.isdigit() for c in score)
        is_first = False
        if is_header:
            continue
        if grade is None or not query or not document:
            wrong = f"has {quoted(score)} for a grade, a whole number" if query and document else "has no id"
            raise _bad(path, number, f"{wrong}: write {_QRELS}")
        if relevance.setdefault(query, {}).setdefault(document, grade) != grade:
            twice = f"judges {quoted(document)} for {quoted(query)} twice, differently"
            raise _bad(path, number, f"{twice}: leave one out")
    if not relevance:
        raise CorpusError(f"{path} has no judgements: write {_QRELS}, one a line")
    return relevance


def _grade(word: str) -> int | None:
    """A whole number, also if written as 1.0; None for anything else."""
    try:
        grade = float(word)
    except ValueError:
        return None
    return int(grade) if abs(grade) <= _MOST_GRADE and grade == int(grade) else None


def text_lines(path: Path, codec: str, remedy: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Raises UsageError, CorpusError."""
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}: {remedy}")
    try:
        for number, line in SourceFile(str(path), format_of(path.name)[1], codec).lines():
            if line is None or DAMAGED.search(line):
                raise _bad(path, number, f"is {'too long' if line is None else 'not UTF-8'}: {remedy}")
            if line.strip():
                yield number, line.rstrip("\r\n")
    except UnreadableError as error:
        raise CorpusError(f"{path}: {error}: name another file") from None


def _bad(path: Path, number: int, what: str) -> CorpusError:
    return CorpusError(f"{path}, line {number}: it {what}")


def _measure(word: str) -> Any:
    """The metric of that name, if ir-measures can compute it here."""
    with needs("eval"):
        import ir_measures
    try:
        if (simple := _SIMPLE.fullmatch(word)) and simple[1] in ir_measures.measures.registry:
            # The parser needs names of `ast` that Python 3.14 no longer has.
            made = ir_measures.measures.registry[simple[1]]
            measure = made(**({made.AT_PARAM: int(simple[2])} if simple[2] else {}))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about those names
                measure = ir_measures.parse_measure(word)
        measure.validate_params()
        is_sum = isinstance(measure.aggregator(), ir_measures.measures.SumAgg)
        if not is_sum and _provider().supports(measure):
            return measure
    except (ValueError, NameError, AssertionError, AttributeError, TypeError, KeyError):
        pass
    usual = f"use names of ir-measures, such as {', '.join(USUAL)}, P@5, AP"
    raise UsageError(f"`measures`: {quoted(word)} is not a supported measure: {usual}")


def _provider() -> Any:
    """All providers of ir-measures but gdeval, a Perl script that needs numbers as ids."""
    import ir_measures

    others = [each for each in ir_measures.DefaultPipeline.providers if each is not ir_measures.gdeval]
    return ir_measures.providers.FallbackProvider(others)

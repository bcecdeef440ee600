"""Queries and relevance judgements (qrels), read from the files of BEIR and TREC, and from TSV."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from resizable_search.corpora.files.decoding import UnreadableError, open_unpacked
from resizable_search.corpora.files.formats import FileFormat, format_of
from resizable_search.corpora.tables import lines_of, parse_line
from resizable_search.errors import CorpusError, UsageError
from resizable_search.text import quoted

_QRELS = "query-id, corpus-id and score with tabs between, or TREC's query-id 0 document-id relevance"
_MOST_GRADE = 10**6
"""Grades are small; a larger number is some other column."""


@dataclass(frozen=True, slots=True)
class Qrels:
    """Queries and the grades of their documents.

    `queries`: the texts of the judged queries by id, in the order of their file. `relevance`: for each of
    them the grades of documents by id; above 0 is relevant. `unasked`: judged ids without a text.
    """

    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, int]]
    source: str = "judgements"
    unasked: tuple[str, ...] = ()

    @property
    def documents(self) -> set[str]:
        """The ids of all judged documents."""
        return {id_ for grades in self.relevance.values() for id_ in grades}

    @property
    def hopeless(self) -> list[str]:
        """Queries without a relevant document; they always count as 0."""
        return [query for query, grades in self.relevance.items() if not any(g > 0 for g in grades.values())]


def read_qrels_folder(queries: str | Path, qrels: str | Path) -> Qrels:
    """The judged queries of two files, which may be `.gz` or `.zst`.

    Raises UsageError for a missing file, CorpusError with file and line for one that cannot be read, that
    contradicts itself, or that does not fit the other.
    """
    relevance = read_qrels(Path(qrels))
    texts = read_queries(Path(queries))
    known = {query: text for query, text in texts.items() if query in relevance}
    unasked = tuple(query for query in relevance if query not in texts)
    if not known:
        raise CorpusError(
            f"{qrels} judges no query of {queries}: the first ids are {quoted(next(iter(relevance)))} and "
            f"{quoted(next(iter(texts)))}; name files that belong together"
        )
    return Qrels(known, {query: relevance[query] for query in known}, str(qrels), unasked)


def read_queries(path: Path) -> dict[str, str]:
    """The queries of a file by id: JSON lines with `_id` and `text`, or lines of id, tab and text.

    Raises as `read_qrels_folder`.
    """
    form, _ = format_of(path.name)
    queries: dict[str, str] = {}
    for number, line in _lines(path, "name a file of queries with `queries`"):
        if form is FileFormat.jsonl or (not queries and line.lstrip().startswith("{")):
            form = FileFormat.jsonl
            id_, text = _query_of(line, path, number)
        else:
            id_, tab, text = line.partition("\t")
            if not tab:
                raise _bad(path, number, "has no tab: write the id, a tab and the text")
        id_ = id_.strip()
        if not id_:
            raise _bad(path, number, "has no id: give each query its own")
        if id_ in queries:
            raise _bad(path, number, f"repeats the id {quoted(id_)}: give each query its own")
        queries[id_] = text.strip()
    if not queries:
        raise CorpusError(f"{path} has no query: write JSON lines of _id and text, or id, tab, text")
    return queries


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """The grades of a file by query and document: BEIR's three columns, or TREC's four.

    Raises as `read_qrels_folder`.
    """
    relevance: dict[str, dict[str, int]] = {}
    first = True
    for number, line in _lines(path, "name a file of judgements with `qrels`"):
        words = line.split("\t") if line.count("\t") == 2 else line.split()
        if len(words) == 4:
            words = [words[0], *words[2:]]
        if len(words) != 3:
            raise _bad(path, number, f"has {len(words)} columns: write {_QRELS}")
        query, document, score = (word.strip() for word in words)
        grade = _grade(score)
        if grade is None and first and not any(c.isdigit() for c in score):
            first = False  # the header
            continue
        first = False
        if grade is None or not query or not document:
            wrong = f"has {quoted(score)} for a grade, a whole number" if query and document else "has no id"
            raise _bad(path, number, f"{wrong}: write {_QRELS}")
        if relevance.setdefault(query, {}).setdefault(document, grade) != grade:
            raise _bad(
                path,
                number,
                f"judges {quoted(document)} for {quoted(query)} twice, differently: leave one out",
            )
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


def _query_of(line: str, path: Path, number: int) -> tuple[str, str]:
    record = parse_line(number, line)
    if record.problem:
        raise _bad(path, number, f"cannot be read ({record.problem}): write a JSON object with _id and text")
    id_, text = record.values.get("_id"), record.values.get("text")
    if not isinstance(id_, str | int) or isinstance(id_, bool) or not isinstance(text, str):
        raise _bad(path, number, "has no _id and text: write a JSON object with both")
    return str(id_), text


def _lines(path: Path, remedy: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}: {remedy}")
    try:
        with open_unpacked(str(path), format_of(path.name)[1]) as file:
            for number, line in lines_of(file):
                if line is None or any("\udc80" <= c <= "\udcff" for c in line):
                    raise _bad(path, number, f"is {'too long' if line is None else 'not UTF-8'}: {remedy}")
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnreadableError as error:
        raise CorpusError(f"{path}: {error}: name another file") from None


def _bad(path: Path, number: int, what: str) -> CorpusError:
    return CorpusError(f"{path}, line {number}: it {what}")

"""Queries and judgements of what answers them, read from files: BEIR's, TREC's, and plain TSV."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from resizable_search.corpora.files.decoding import UnreadableError, open_unpacked
from resizable_search.corpora.files.formats import FileFormat, format_of
from resizable_search.corpora.tables import lines_of, parse_line
from resizable_search.errors import CorpusError, UsageError
from resizable_search.text import quoted

Place = tuple[Path, int]
"""A file and a line of it, from 1."""

_QRELS = "query-id, corpus-id and score with tabs between, or TREC's query-id 0 document-id relevance"
_MOST_GRADE = 10**6
"""Grades are small numbers; what is larger is a column of something else."""


@dataclass(frozen=True, slots=True)
class Qrels:
    """What is to be asked, and what answers it.

    `queries`: the texts of the queries that have judgements, by id, in the order of their file.
    `relevance`: for each of those the grades of its documents by their id; above 0 is relevant.
    `unasked`: ids that are judged and that the file of queries lacks: nothing can be asked of them.
    """

    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, int]]
    source: str = "judgements"
    unasked: tuple[str, ...] = field(default=())

    @property
    def documents(self) -> set[str]:
        """The ids of all documents that are judged."""
        return {id_ for grades in self.relevance.values() for id_ in grades}

    @property
    def hopeless(self) -> list[str]:
        """Queries that no document is relevant to: whatever is found, they count as 0."""
        return [query for query, grades in self.relevance.items() if not any(g > 0 for g in grades.values())]


def read_qrels_folder(queries: str | Path, qrels: str | Path) -> Qrels:
    """Read both files, `.gz` and `.zst` too, and keep the queries that are judged.

    Raises UsageError for a file that is not there, CorpusError with file and line for what cannot be
    read, is told twice in two ways, or does not fit together.
    """
    relevance = read_qrels(Path(qrels))
    texts = read_queries(Path(queries))
    known = {query: text for query, text in texts.items() if query in relevance}
    unasked = tuple(query for query in relevance if query not in texts)
    if not known:
        raise CorpusError(
            f"no query of {queries} is judged in {qrels}, which names {quoted(next(iter(relevance)))} first "
            f"where the queries begin with {quoted(next(iter(texts)))}: name files that belong together"
        )
    return Qrels(known, {query: relevance[query] for query in known}, str(qrels), unasked)


def read_queries(path: Path) -> dict[str, str]:
    """The queries of a file by id: JSON lines with `_id` and `text`, else an id, a tab and a text a line.

    Raises as `read_qrels_folder`.
    """
    form, _ = format_of(path.name)
    found: dict[str, str] = {}
    for number, line in _lines(path, "name a file of queries with --queries"):
        if form is FileFormat.jsonl or (not found and line.lstrip().startswith("{")):
            form = FileFormat.jsonl
            id_, text = _query_of(line, (path, number))
        else:
            id_, tab, text = line.partition("\t")
            if not tab:
                raise _bad((path, number), "has no tab: write a query as its id, a tab and its text")
        id_ = id_.strip()
        if not id_:
            raise _bad((path, number), "has no id: each query needs one of its own")
        if id_ in found:
            raise _bad(
                (path, number), f"has the id {quoted(id_)} of an earlier query: each needs one of its own"
            )
        found[id_] = text.strip()
    if not found:
        raise CorpusError(f"{path} has no query: write JSON lines with _id and text, or ids, tabs and texts")
    return found


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """The grades of a file by query and document: BEIR's three columns, or TREC's four.

    Raises as `read_qrels_folder`.
    """
    found: dict[str, dict[str, int]] = {}
    first = True
    for number, line in _lines(path, "name a file of judgements with --qrels"):
        words = line.split("\t") if line.count("\t") == 2 else line.split()
        if len(words) == 4:
            words = [words[0], *words[2:]]
        if len(words) != 3:
            raise _bad((path, number), f"has {len(words)} columns: write {_QRELS}")
        query, document, score = (word.strip() for word in words)
        grade = _grade(score)
        if grade is None and first and not any(c.isdigit() for c in score):
            first = False  # the header
            continue
        first = False
        if grade is None or not query or not document:
            wrong = f"has {quoted(score)} for a grade, a whole number" if query and document else "has no id"
            raise _bad((path, number), f"{wrong}: write {_QRELS}")
        if found.setdefault(query, {}).setdefault(document, grade) != grade:
            raise _bad(
                (path, number),
                f"judges {quoted(document)} for {quoted(query)} again, and differently: leave one out",
            )
    if not found:
        raise CorpusError(f"{path} judges nothing: write {_QRELS}, a judgement a line")
    return found


def _grade(word: str) -> int | None:
    """A whole number, also one that is written as 1.0; None for anything else."""
    try:
        grade = float(word)
    except ValueError:
        return None
    return int(grade) if abs(grade) <= _MOST_GRADE and grade == int(grade) else None


def _query_of(line: str, place: Place) -> tuple[str, str]:
    record = parse_line(place[1], line)
    if record.problem:
        raise _bad(place, f"cannot be read ({record.problem}): write a JSON object with _id and text")
    id_, text = record.values.get("_id"), record.values.get("text")
    if not isinstance(id_, str | int) or isinstance(id_, bool) or not isinstance(text, str):
        raise _bad(place, "has no _id and text: write a JSON object with both")
    return str(id_), text


def _lines(path: Path, remedy: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, by number."""
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}: {remedy}")
    with _told(path), open_unpacked(str(path), format_of(path.name)[1]) as file:
        for number, line in lines_of(file):
            if line is None or any("\udc80" <= c <= "\udcff" for c in line):
                raise _bad((path, number), f"is {'too long' if line is None else 'not UTF-8'}: {remedy}")
            if line.strip():
                yield number, line.rstrip("\r\n")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except UnreadableError as error:
        raise CorpusError(f"{path}: {error}: name another file") from None


def _bad(place: Place, what: str) -> CorpusError:
    path, number = place
    return CorpusError(f"{path}, line {number}: it {what}")

"""Choose by judged queries, or by titles, whether words count by default on an index, and how much.

Half of the queries choose among meaning, words and both with several weights; the others confirm. The index
keeps the choice only if the interval of its gain over meaning alone is above 0 there.
"""

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np

from resizable_search import __version__
from resizable_search.corpora.base import Document
from resizable_search.engine.plan import BY_WORDS, Plan
from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate.bench import BenchOptions
from resizable_search.evaluate.qrels import Metrics, Qrels
from resizable_search.evaluate.relevance import evaluate
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index
from resizable_search.statistics import paired_intervals
from resizable_search.store.tuned_plans import DefaultMode, store_mode
from resizable_search.text import counted

WEIGHTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
METRIC = "nDCG@10"
LEAST_QUERIES = 20  # of fewer, a half says nothing
MOST_ROWS, MOST_TITLES = 5000, 1000  # of the sample that titles are asked of
LEAST_TEXT = 100  # characters of a text that says something without its title


@dataclass(frozen=True, slots=True)
class ModeReport:
    """The `means` of the metric by plan, on the queries that chose, and the choice; `rows` were searched."""

    index: str
    rows: int
    means: dict[str, float]
    choice: DefaultMode
    kept: bool  # the index keeps the choice
    not_kept: str = ""  # why not, if it was proven


def without(text: str, *words: str) -> str:
    """The text less these words, in whatever case and with whatever spaces they stand there."""
    for word in filter(None, words):
        pattern = r"\s+".join(map(re.escape, word.split()))
        text = re.sub(rf"(?<!\w){pattern}(?!\w)", " ", text, flags=re.IGNORECASE)
    return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()


def titles_as_queries(index: Index, seed: int = 0) -> tuple[list[Document], Qrels]:
    """Drawn texts of an index less their titles, and the titles as queries that ask for them.

    Neither words nor vectors may have seen a title in its text. Raises UsageError if there are too few.
    """
    documents: list[Document] = []
    asked: dict[str, dict[str, int]] = {}
    rows = np.random.default_rng(seed).permutation(index.live_rows())[:MOST_ROWS]
    for stored in index.documents(rows):
        title = " ".join(stored.title.split())
        text = without(stored.text, title)
        if len(text) >= LEAST_TEXT:
            documents.append(Document(stored.id, "", "", text))
            if title:
                asked.setdefault(title, {})[stored.id] = 1
    if len(asked) < LEAST_QUERIES:
        titles = counted(len(asked), "title")
        raise UsageError(f"{index.name} has {titles} to ask for texts, too few: give `queries` and `qrels`")
    queries = {f"title {title}": title for title in list(asked)[:MOST_TITLES]}  # an id may be a title
    relevance = {query: asked[title] for query, title in queries.items()}
    return documents, Qrels(queries, relevance, "own titles")


def tune_mode(
    index: Index, qrels: Qrels, *, seed: int = 0, progress: Progress = SILENT, sample: Index | None = None
) -> ModeReport:
    """Choose the mode, and keep it in the index if it is proven better than meaning alone, else none.

    `sample`: an index of `titles_as_queries`, which is searched instead. Raises what `evaluate` does.
    """
    if len(qrels.queries) < LEAST_QUERIES:
        raise UsageError(f"{len(qrels.queries)} judged queries prove nothing: give {LEAST_QUERIES} or more")
    searched = sample or index
    full = Plan.of(None, 0, 10, searched.full_dim)
    plans = [full, BY_WORDS, *(Plan(full.stages, weight) for weight in WEIGHTS)]
    options = BenchOptions(dims=(searched.full_dim,), plans=tuple(map(str, plans[1:])))
    values = evaluate(searched, qrels, options, Metrics.parse(METRIC), seed=seed, progress=progress).values
    order = np.random.default_rng(seed).permutation(values.shape[1])
    choosing, confirming = np.array_split(values[:, order, 0], 2, axis=1)
    means = choosing.mean(axis=1)
    best = int(means.argmax())
    gains = confirming[best] - confirming[0]
    low, high = paired_intervals(gains[:, None], seed)[0].tolist()
    choice = DefaultMode(
        mode=plans[best].mode,
        weight=plans[best].words or 0.0,
        metric=METRIC,
        dense=float(confirming[0].mean()),
        value=float(confirming[best].mean()),
        gain_ci=(low, high),
        queries=len(gains),
        chosen_on=choosing.shape[1],
        source=qrels.source,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )
    is_proven, not_kept = low > 0, ""
    try:
        store_mode(index.folder, index.manifest.generation, asdict(choice) if is_proven else {})
        index.plans.read_again()
    except RsearchError as error:
        not_kept = str(error)
    named = dict(zip(map(str, plans), means.tolist(), strict=True))
    return ModeReport(index.name, searched.rows, named, choice, is_proven and not not_kept, not_kept)

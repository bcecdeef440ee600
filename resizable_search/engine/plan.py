"""A plan: what a search does, as a value that can be printed, parsed and compared.

A plan is a chain of stages `dim:precision:keep`. The first stage scans every row; each later one rescores
the rows that the one before kept. Keeps never grow and are never below k; the last stage keeps k, so it has
no number. Precision `exact`, the default, is left out: `256:100,768`. Scores in int8 or 1bit are not
the cosine similarity, so none can be the last stage.

Words may count too: `256:100,768+lexical:0.3` adds 0.3 of a row's lexical score to 0.7 of its cosine
similarity, for the best rows by either; the weight 0.5 is left out. `lexical` ranks by words alone.
"""

from contextlib import suppress
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from resizable_search.errors import UsageError
from resizable_search.text import quoted

Precision = Literal["exact", "float32", "int8", "1bit", "bits"]
"""How rows are scored.

`exact`: the float32 answer by whatever is fastest. `float32`: read the floats. `int8`: the int8 codes alone.
`1bit`: the signs around the index's mean, with integers of the query. `bits`: an older tier; 1bit now, or
int8 in an index without such codes.
"""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
MOST_STAGES = 32  # more than any useful plan has
MODES = ("dense", "lexical", "hybrid")  # by meaning, by words, or by both
LEXICAL = "lexical"
WORDS_WEIGHT = 0.5  # of the lexical score in a hybrid plan, if none is given
LEAST_FUSED = 100  # rows that a hybrid plan takes from either list, if fewer are wanted
LEAST_RERANKED = 10  # hits that a rerank keeps candidates for, if fewer are wanted


class Stage(NamedTuple):
    """One stage: the dimension it scores at, how precisely, and how many rows it keeps (None: k)."""

    dim: int
    keep: int | None = None
    precision: Precision = "exact"

    def __str__(self) -> str:
        words = [str(self.dim)]
        if self.precision != "exact":
            words.append(self.precision)
        if self.keep is not None:
            words.append(str(self.keep))
        return ":".join(words)


class Plan(NamedTuple):
    """A chain of stages, made by `Plan.of` and `Plan.parse`; `check` checks it against an index.

    `words`: the weight of the lexical score; None: none. A plan of words alone has no stages and weight 1.
    """

    stages: tuple[Stage, ...]
    words: float | None = None

    def __str__(self) -> str:
        dense = ",".join(map(str, self.stages))
        if self.words is None or not dense:
            return dense or LEXICAL
        return f"{dense}+{LEXICAL}" + ("" if self.words == WORDS_WEIGHT else f":{self.words:g}")

    @property
    def dim(self) -> int:
        """The dimension of the first stage; 0 for words alone."""
        return self.stages[0].dim if self.stages else 0

    def in_mode(self, mode: str) -> "Plan":
        """The same stages in another of `MODES`."""
        if mode == "lexical":
            return BY_WORDS
        return self._replace(words=WORDS_WEIGHT if mode == "hybrid" else None)

    @property
    def mode(self) -> str:
        """One of `MODES`."""
        return "lexical" if not self.stages else "dense" if self.words is None else "hybrid"

    @classmethod
    def of(cls, dim: int | None, rerank: int, k: int, full_dim: int) -> "Plan":
        """The plan of a dimension and a rerank: scan `dim`, keep `candidates`, rescore those at full width.

        A rerank of a scan at the full dimension changes nothing and is left out. Raises UsageError.
        """
        if rerank < 0:
            raise UsageError(f"rerank must be 0 (none) or more, not {rerank}")
        dim = full_dim if dim is None else dim
        if rerank == 0 or dim == full_dim:
            return cls((Stage(dim),)).check(k, full_dim)
        return cls((Stage(dim, candidates(rerank, k)), Stage(full_dim))).check(k, full_dim)

    @staticmethod
    @lru_cache(1000)  # each query with a recall parses its tuned plan
    def parse(text: str) -> "Plan":
        """Read what `str` prints. Raises UsageError."""
        if text.strip() == LEXICAL:
            return BY_WORDS
        dense, plus, lexical = text.partition("+")
        words = dense.split(",", MOST_STAGES)
        if len(words) > MOST_STAGES:
            raise UsageError(f"plan {quoted(text)}: it has more than {MOST_STAGES} stages: leave some out")
        stages = tuple(_parse_stage(word.strip(), text) for word in words)
        return Plan(stages, _parse_weight(lexical.strip(), text) if plus else None)

    def check(self, k: int, full_dim: int) -> "Plan":
        """The plan itself. Raises UsageError if it cannot run for k on an index of that full dimension."""
        if k < 1:
            raise UsageError(f"k must be 1 or more, not {k}")
        if not self.stages:
            return self
        *before, last = self.stages
        for stage in self.stages:
            if not 1 <= stage.dim <= full_dim:
                raise UsageError(
                    f"dimension {stage.dim} is not within 1 to {full_dim}, this index's full dimension"
                )
        if last.precision not in ("exact", "float32"):
            longer = f"{self}{'' if last.keep else f':{10 * k}'},{full_dim}"
            rough = f"scores in {last.precision} are rough"
            raise UsageError(f"plan {self}: {rough}: end it with an exact stage, as in {longer}")
        if last.keep not in (None, k):
            raise UsageError(f"plan {self}: the last stage keeps k ({k}); leave its {last.keep} out")
        previous: int | None = None
        for stage in before:
            if stage.keep is None:
                raise UsageError(
                    f"plan {self}: every stage but the last needs the number of rows it keeps: {stage}:100"
                )
            if stage.keep < k:
                raise UsageError(f"plan {self}: stage {stage} keeps fewer than k ({k}) rows")
            if previous is not None and stage.keep > previous:
                raise UsageError(f"plan {self}: stage {stage} keeps more rows than the one before it")
            previous = stage.keep
        return self

    def deepened(self, k: int, depth: int) -> "Plan":
        """The plan for `depth` hits in place of k, with keeps in the same proportion."""
        if depth == k:
            return self
        usual = max(k, LEAST_RERANKED)
        keeps = [stage.keep and max(depth, -(-stage.keep * depth // usual)) for stage in self.stages]
        stages = tuple(s._replace(keep=keep) for s, keep in zip(self.stages, keeps, strict=True))
        return self._replace(stages=stages)

    def fused_depth(self, k: int) -> int:
        """The number of rows that the stages keep in the end for k hits: more where words count too."""
        return k if self.words is None else max(k, LEAST_FUSED)

    def keeps(self, k: int) -> list[int]:
        """The number of rows each stage keeps for k hits."""
        least = 0 if self.words is None else self.fused_depth(k)
        return [max(least, k if stage.keep is None else stage.keep) for stage in self.stages]


BY_WORDS = Plan((), 1.0)


def candidates(rerank: int, k: int) -> int:
    """The rows that a rerank keeps: at least for 10 hits, so fewer hits are the first of these."""
    return rerank * max(k, LEAST_RERANKED)


def _parse_weight(text: str, plan: str) -> float:
    """The weight of `lexical` or `lexical:0.3`."""
    name, colon, weight = text.partition(":")
    with suppress(ValueError):
        value = round(float(weight), 4) if colon else WORDS_WEIGHT
        if name == LEXICAL and 0 < value < 1:
            return value
    raise UsageError(
        f"plan {quoted(plan)}: {quoted(text)} is not {LEXICAL} or {LEXICAL}:0.5, a weight in 0 to 1"
    )


def _parse_stage(word: str, plan: str) -> Stage:
    dim, *rest = word.split(":")
    precision: Precision = "exact"
    if rest and not rest[0].isdigit():
        name = rest.pop(0)
        if name not in PRECISIONS:
            raise UsageError(
                f"plan {quoted(plan)}: no precision {quoted(name)}; there are {', '.join(PRECISIONS)}"
            )
        precision = next(p for p in PRECISIONS if p == name)
    numbers = [dim, *rest]
    if len(rest) > 1 or not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
        raise UsageError(f"plan {quoted(plan)}: {quoted(word)} is not dim, dim:keep or dim:precision:keep")
    return Stage(int(dim), int(rest[0]) if rest else None, precision)


def check_recall(recall: float) -> float:
    """The overlap itself that a plan is tuned for. Raises UsageError if it is none."""
    if not 0.0 < recall <= 1.0:
        raise UsageError(f"recall must be above 0 and at most 1, as 0.99 is, not {recall:g}")
    return recall

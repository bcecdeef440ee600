"""However an index is split into parts, and whatever is deleted, it answers as it does compacted."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resizable_search.build.build import compact
from resizable_search.engine import base
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.build.changes.conftest import Place
from tests.support import TableEmbedder, articles, delete_rows

ROWS = 140
PLANS = (
    "96", "96:float32", "16", "50", "16:40,96", "50:float32:30,96", "96:int8:60,96:int8:30,96",
    "96:int8:40,96:float32", "50:int8:90,50:int8:40,16:20,96",
)  # fmt: skip
"""Without one-bit stages: the mean is that of the first part, until the index is compacted."""


def spread(seed: int) -> TableEmbedder:
    """Rows of which many are equal, so that ties are decided by their order."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((40, 96)).astype(np.float32)
    table = {d.text: kinds[rng.integers(40)] for d in articles(ROWS)}
    return TableEmbedder(width=96, table=table)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.sets(st.integers(1, ROWS - 1), min_size=1, max_size=5),
    gone=st.one_of(st.sets(st.integers(0, ROWS - 1), max_size=ROWS - 1), st.just(set(range(5, 120)))),
    seed=st.integers(0, 99),
    k=st.sampled_from([1, 10, 30]),
)
def test_many_parts_with_deleted_rows_answer_as_one_without(
    compiled, engine, monkeypatch, cuts, gone, seed, k
):
    monkeypatch.setattr(base, "TOO_MANY", 50.0)  # so few rows would be left to the floats
    with tempfile.TemporaryDirectory() as temporary:
        place = Place(Home(Path(temporary)))
        for limit in sorted({*cuts, ROWS}):
            place.build(articles(ROWS), embedder=spread(seed), limit=limit)
        if gone:
            delete_rows(place.folder, sorted(gone))
        shutil.copytree(place.folder, place.home.index("one"))
        compact(place.home.index("one"))
        queries = np.random.default_rng(seed + 1).standard_normal((9, 96)).astype(np.float32)
        with (
            open_index("made", home=temporary, embedder=spread(seed), engine=engine) as parts,
            open_index("one", home=temporary, embedder=spread(seed), engine=engine) as one,
        ):
            kept = np.append(parts.live_rows(), -1)  # where the rows of one lay before
            for plan in PLANS:
                stages = plan.split(",")
                if any(int(word) < k for stage in stages[:-1] for word in stage.split(":")[-1:]):
                    continue
                for asked in (queries, queries[:1]):
                    many, single = (index.scan(asked, k=k, plan=plan) for index in (parts, one))
                    np.testing.assert_array_equal(many.scores, single.scores, plan)
                    np.testing.assert_array_equal(many.rows, kept[single.rows], plan)


def test_rows_of_ids_count_through_the_parts_and_pass_over_what_was_deleted(place):
    place.parts(articles(700), 300, 700)
    delete_rows(place.folder, [3, 650])
    with place.open() as index:
        asked = [f"a{row}" for row in range(700)] + ["a700", "", "a'1", "\udcff"]
        assert index.rows_of(asked) == {f"a{row}": row for row in range(700) if row not in (3, 650)}
        assert index.rows_of([]) == {}

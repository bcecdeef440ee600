import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from resizable_search.engine.base import NO_ROW, Top, gather, select

few_scores = st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]), max_size=40)


@given(few_scores, st.integers(1, 50))
def test_select_is_the_sorted_beginning_ties_by_lower_row(scores, k):
    values = np.array(scores, np.float32)
    rows = np.arange(len(values)) * 3
    best, where = select(values, rows, k)
    expected = sorted(zip((-values).tolist(), rows.tolist(), strict=True))[:k]
    assert [(-s, r) for s, r in zip(best.tolist(), where.tolist(), strict=True)] == expected


def test_gather_fills_with_no_row():
    top = gather([(np.array([0.5], np.float32), np.array([7]))], 3)
    assert isinstance(top, Top)
    assert top.rows.tolist() == [[7, NO_ROW, NO_ROW]]
    assert top.scores.tolist() == [[0.5, -np.inf, -np.inf]]
    assert top.scores.dtype == np.float32
    assert top.rows.dtype == np.int64

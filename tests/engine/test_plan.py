import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizable_search.engine.plan import PRECISIONS, Plan, Stage, check_recall
from resizable_search.errors import UsageError

stages = st.builds(Stage, st.integers(1, 4096), st.integers(1, 10_000), st.sampled_from(PRECISIONS))


@given(st.lists(stages, max_size=4), st.builds(Stage, st.integers(1, 4096), st.none()))
def test_what_is_printed_is_parsed(before, last):
    plan = Plan((*before, last))
    assert Plan.parse(str(plan)) == plan


def test_dim_and_rerank_as_a_plan():
    assert str(Plan.of(256, 10, 10, 768)) == "256:100,768"
    assert str(Plan.of(None, 0, 10, 768)) == "768"
    assert str(Plan.of(300, 0, 10, 768)) == "300"
    assert str(Plan.of(768, 10, 10, 768)) == "768"
    assert Plan.of(256, 10, 20, 768).keeps(20) == [200, 20]


def test_fewer_hits_have_as_many_candidates_as_ten():
    assert Plan.of(256, 10, 7, 768).keeps(7) == [100, 7]
    assert Plan.of(256, 1, 1, 768).keeps(1) == [10, 1]


@pytest.mark.parametrize(
    ("dim", "rerank", "k", "word"),
    [
        (0, 0, 10, "0 is not"),
        (769, 0, 10, "769"),
        (-1, 0, 10, "-1"),
        (64, -1, 10, "rerank"),
        (64, 0, 0, "k must"),
    ],
)
def test_senseless_options_are_refused(dim, rerank, k, word):
    with pytest.raises(UsageError, match=word):
        Plan.of(dim, rerank, k, 768)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not dim"),
        ("abc", "not dim"),
        ("256:", "no precision"),
        ("256:magic:100,768", "no precision 'magic'"),
        ("256:100:100,768", "not dim"),
        ("256,768", "every stage but the last"),
        ("256:9,768", "fewer than k"),
        ("64:50,256:100,768", "more rows than the one before"),
        ("256:100,769", "769 is not within"),
        ("256:100,768:20", "last stage"),
    ],
)
def test_plans_that_make_no_sense_say_why(text, word):
    with pytest.raises(UsageError, match=word):
        Plan.parse(text).check(10, 768)


def test_a_last_stage_may_say_k():
    assert Plan.parse("256:100,768:10").check(10, 768).keeps(10) == [100, 10]


@pytest.mark.parametrize("recall", [0.0, -1.0, 1.01, float("nan"), float("inf")])
def test_a_target_that_is_none_is_wrong_usage(recall):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        check_recall(recall)

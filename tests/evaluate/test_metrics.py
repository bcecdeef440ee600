import math
import random
import sys

import numpy as np
import pytest

from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate.qrels import USUAL, Metrics
from tests.judging import by_definition


def collection(seed: int) -> tuple[dict[str, dict[str, int]], dict[str, list[str]]]:
    """Graded judgements, some of documents that nothing finds, and rankings of various length."""
    rng = random.Random(seed)
    pool = [f"d{i}" for i in range(60)]
    relevance, ranked = {}, {}
    for query in (f"q{i}" for i in range(25)):
        relevance[query] = {id_: rng.choice([0, 0, 1, 2, 3]) for id_ in rng.sample(pool, rng.randint(1, 30))}
        relevance[query]["nowhere"] = rng.choice([0, 1])
        ranked[query] = rng.sample(pool, rng.choice([0, 3, 12, 60]))
    return relevance, ranked


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_the_definitions(seed):
    relevance, ranked = collection(seed)
    names = ("nDCG@10", "R@10", "R@100", "RR@10", "P@5", "AP", "R@2", "nDCG@3", "RR@1")
    values = Metrics.parse(names).of(relevance, ranked)
    expected = [[by_definition(name, relevance[q], ranked[q]) for name in names] for q in relevance]
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_a_worked_example():
    """Grades 3 and 1 at ranks 2 and 3 of what could be 3, 2 and 1."""
    grades = {"a": 3, "b": 2, "c": 1, "d": 0}
    (values,) = Metrics.parse(USUAL).of({"q": grades}, {"q": ["d", "a", "c"]})
    gain = 3 / math.log2(3) + 1 / math.log2(4)
    ideal = 3 + 2 / math.log2(3) + 1 / math.log2(4)
    np.testing.assert_allclose(values, [gain / ideal, 2 / 3, 2 / 3, 1 / 2])


PUBLISHED = {
    "302": (
        77,
        [*range(1, 3), *range(4, 7), 8, 9, *range(11, 20), 21, 22, 24, 27, 28, 30, 31, 34, 36, 37, 39, 42, 43]
        + [44, *range(47, 52), 53, 56, 58, 72, 79, 82, 84, 116, 154, 289, 301, 331, 353, 394, 458],
        [0.7530, 0.6046, 0.6617, 0.0909, 0.5455, 1.0000, 0.4175, 0.7000, 0.5065],
    ),
    "303": (
        10,
        [19, 37, 41, 43, 44, 65, 67, 89, 99, 107],
        [0.0000, 0.3537, 0.3862, 0.0000, 0.9000, 0.0526, 0.0858, 0.0000, 0.0000],
    ),
}
"""Topics of TREC-6 and the run STANDARD, from the tests of NIST's trec_eval (github.com/usnistgov/trec_eval).

The relevant documents, the ranks of those among 500 hits, and what `out.test.aq` there says of them.
"""


def test_values_are_those_that_trec_eval_publishes():
    relevance, ranked, expected = {}, {}, []
    for topic, (relevant, ranks, values) in PUBLISHED.items():
        missed = {f"missed {number}": 1 for number in range(relevant - len(ranks))}
        relevance[topic] = {f"at {rank}": 1 for rank in ranks} | missed
        ranked[topic] = [f"at {rank}" for rank in range(1, 501)]
        expected.append(values)
    values = Metrics.parse("nDCG@10,nDCG@100,nDCG,R@10,R@100,RR,AP,P@10,Rprec").of(relevance, ranked)
    assert values.round(4).tolist() == expected


def test_what_was_found_in_no_order_of_names_is_judged_in_the_order_given():
    for ids in (["a", "b"], ["b", "a"], ["10", "9"], ["9", "10"]):
        (values,) = Metrics.parse("RR@10,P@1").of({"q": {ids[1]: 1}}, {"q": ids})
        assert values.tolist() == [0.5, 0.0]


def test_a_query_without_hits_or_without_a_relevant_document_has_0():
    relevance = {"none": {"a": 1}, "hopeless": {"a": 0}, "missing": {"a": 1}, "negative": {"a": -1, "b": 1}}
    ranked = {"none": [], "hopeless": ["a"], "negative": ["a", "b"]}
    values = Metrics.parse("nDCG@10,R@10,RR@10").of(relevance, ranked)
    assert (values[:3] == 0).all()
    assert values[3].tolist() == [1 / math.log2(3), 1.0, 0.5]


def test_names_are_those_of_ir_measures_each_once_in_order():
    measures = Metrics.parse(" P@5,nDCG@10 MRR@10, P(rel=2)@5,AP,P@5,nDCG(dcg='log2')@10")
    assert measures.names == ("P@5", "nDCG@10", "RR@10", "P(rel=2)@5", "AP")
    assert measures.depth is None
    assert Metrics.parse(USUAL).depth == 100


@pytest.mark.parametrize(
    "words",
    ["", ",", "nDCG@0", "R@10001", "R@-1", "R@x", "P", "foo@10", "NumQ", "alpha_nDCG@10", "1+1", "ERR@10"]
    + ["__import__('os')", "P(rel='a')@5", "P(", "P(foo=1)@5"],
)  # fmt: skip
def test_what_is_no_measure_is_refused(words):
    with pytest.raises(UsageError, match="`measures`"):
        Metrics.parse(words)


def test_without_ir_measures_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(RsearchError, match=r"pip install .*\[eval\]"):
        Metrics.parse(USUAL)

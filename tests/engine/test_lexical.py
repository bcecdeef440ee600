"""Terms of words, and scores by the definition of BM25 in plain Python."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from resizable_search.engine import lexical
from resizable_search.engine.lexical import (
    K1,
    LexicalIndex,
    Postings,
    query_terms,
    term_hash,
    terms_of,
    words,
)

TEXTS = [
    "the cat sat on the mat",
    "the dog sat",
    "cats and dogs",
    "",
    "a fox is no dog, a dog is no fox; the foxes said",
    "the the the the",
]


def terms(text: str) -> list[str]:
    return [term for word in words(text) for term in terms_of(word)]


def postings(texts: list[str]) -> Postings:
    counted = [Counter(map(term_hash, terms(text))) for text in texts]
    hashes = sorted(set().union(*counted))
    rows = [[row for row, own in enumerate(counted) if term in own] for term in hashes]
    counts = [counted[row][term] for term, own in zip(hashes, rows, strict=True) for row in own]
    starts = np.cumsum([0, *map(len, rows)])
    lengths = [own.total() for own in counted]
    return Postings(
        np.array(hashes, np.uint64),
        starts,
        np.array(sum(rows, []), np.uint32),
        np.array(counts, np.uint8),
        np.array(lengths, np.uint32),
    )


def oracle(texts: list[str | None], query: str) -> dict[int, float]:
    """The scores of rows that have a word, by the definition; None is a deleted row."""
    living = {row: Counter(terms(text)) for row, text in enumerate(texts) if text is not None}
    mean = sum(own.total() for own in living.values()) / len(living)
    wanted = [term for term in set(terms(query)) if any(term in own for own in living.values())]
    weights = {}
    for term in wanted:
        having = sum(term in own for own in living.values())
        weights[term] = math.log(1 + (len(living) - having + 0.5) / (having + 0.5))
    scores = {}
    for row, own in living.items():
        norm = K1 * (0.6 + 0.4 * own.total() / mean)
        if any(term in own for term in wanted):
            score = sum(weights[term] * own[term] / (own[term] + norm) for term in wanted)
            scores[row] = score / sum(weights.values())
    return scores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cats", ["cat"]),
        ("cities glass bus basis gas", ["city", "glass", "bus", "basis", "gas"]),
        ("os.path.join", ["os.path.join", "os", "path", "join"]),
        ("HTTPStatus", ["httpstatus", "http", "status"]),
        ("URLs readCSVFile", ["url", "readcsvfile", "read", "csv", "file"]),
        ("read_csv __init__", ["read_csv", "read", "csv", "__init__", "init"]),
        ("json.dumps", ["json.dumps", "json", "dump"]),
        ("utf8", ["utf8", "utf", "8"]),
        ("Straße Müller ÉCOLE", ["strasse", "muller", "ecole"]),
        ("größe_max", ["grosse_max", "grosse", "max"]),
        ("黑猫", ["黑", "猫", "黑猫"]),
        ("猫 ガ", ["猫", "ガ"]),
        ("한국어 abc", ["한", "국", "어", "한국", "국어", "abc"]),
        ("مُحَمَّد", ["محمد"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Ｆｕｌｌ ﬁne", ["full", "fine"]),
        ("... — !", []),
    ],
)
def test_the_terms_of_words(text, expected):
    assert terms(text) == expected


def test_a_very_long_word_is_one_term_and_a_query_has_at_most_a_thousand():
    assert terms("aB" * 200) == ["ab" * 200]
    assert len(terms("a" * 1_000_000)) == 1
    assert len(query_terms(" ".join(f"w{i}x" for i in range(1_000_000)))) == lexical.MOST_TERMS
    assert query_terms("b a b A") == sorted(map(term_hash, "ab"))
    assert query_terms("\ud800") == []


@pytest.mark.parametrize(
    "query", ["dog", "the cat", "cats foxes", "the", "fox fox unknown", "sat Mat the no"]
)
def test_scores_are_those_of_the_definition(query):
    found = LexicalIndex([postings(TEXTS)], [None]).scores(query)
    expected = oracle(TEXTS, query)
    assert found.rows.tolist() == list(expected)
    np.testing.assert_allclose(found.scores, list(expected.values()), rtol=1e-6)
    assert (found.scores < 1).all()
    np.testing.assert_array_equal(found.of(found.rows[::-1]), found.scores[::-1])
    assert found.of(np.array([3])).tolist() == [0.0]


@pytest.mark.parametrize("bounds", [(0, 2, 6), (0, 1, 4, 6)])
def test_parts_and_deleted_rows_give_the_scores_of_one_part_without_them(bounds):
    texts = [*TEXTS[:2], "gone", *TEXTS[2:], "the cat is gone"]
    bounds = (*bounds[:-1], len(texts))
    living = np.array([text in TEXTS for text in texts])
    parts = [postings(texts[a:b]) for a, b in pairwise(bounds)]
    index = LexicalIndex(parts, [living[a:b] for a, b in pairwise(bounds)])
    one = LexicalIndex([postings(TEXTS)], [None])
    for query in ("the cat sat", "dog fox", "cat"):
        found, expected = index.scores(query), one.scores(query)
        np.testing.assert_array_equal(np.flatnonzero(living)[expected.rows], found.rows)
        assert found.scores.tobytes() == expected.scores.tobytes()
    assert not index.knows("gone")
    assert len(index.scores("gone").rows) == 0
    assert index.scores("gone").of(np.array([1])).tolist() == [0.0]


def test_only_selected_rows_are_scored_and_by_the_same_weights():
    index = LexicalIndex([postings(TEXTS)], [None])
    every = index.scores("dog the")
    some = index.scores("dog the", [np.arange(6) % 2 == 0])
    even = every.rows % 2 == 0
    assert some.rows.tolist() == every.rows[even].tolist()
    assert some.scores.tolist() == every.scores[even].tolist()


def test_frequent_words_are_left_out_beside_rarer_ones(monkeypatch):
    monkeypatch.setattr(lexical, "FREQUENT", 2)
    index = LexicalIndex([postings(TEXTS)], [None])
    assert index.scores("the mat").rows.tolist() == [0]
    assert index.scores("the").rows.tolist() == [0, 1, 4, 5]


def test_damaged_postings_are_refused():
    sound = postings(TEXTS)
    for starts, rows in (
        (sound.starts[::-1].copy(), sound.rows),
        (sound.starts, sound.rows + np.uint32(100)),
    ):
        damaged = Postings(sound.terms, starts, rows, sound.counts, sound.lengths)
        with pytest.raises(ValueError, match="make no sense"):
            LexicalIndex([damaged], [None]).scores("dog")

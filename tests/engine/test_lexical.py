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


def scores(index: LexicalIndex, query: str, selected=None, k: int = 1000) -> dict[int, float]:
    """The score of each row that has a word of the query, best first."""
    values, rows = index.best(index.terms(query), k, selected)
    return dict(zip(rows.tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize(
    "query", ["dog", "the cat", "cats foxes", "the", "fox fox unknown", "sat Mat the no"]
)
def test_scores_are_those_of_the_definition(query):
    index = LexicalIndex([postings(TEXTS)], [None])
    found, expected = scores(index, query), oracle(TEXTS, query)
    assert found == pytest.approx(expected, rel=1e-6)
    assert list(found) == sorted(found, key=lambda row: (-found[row], row))
    assert all(0 < score < 1 for score in found.values())
    every = np.arange(len(TEXTS))
    assert index.scores(index.terms(query), every).tolist() == [found.get(row, 0.0) for row in range(6)]


@pytest.mark.parametrize("bounds", [(0, 2, 6), (0, 1, 4, 6)])
def test_parts_and_deleted_rows_give_the_scores_of_one_part_without_them(bounds):
    texts = [*TEXTS[:2], "gone", *TEXTS[2:], "the cat is gone"]
    bounds = (*bounds[:-1], len(texts))
    living = np.array([text in TEXTS for text in texts])
    masks = [None if living[a:b].all() else living[a:b] for a, b in pairwise(bounds)]
    index = LexicalIndex([postings(texts[a:b]) for a, b in pairwise(bounds)], masks)
    one = LexicalIndex([postings(TEXTS)], [None])
    rows = np.flatnonzero(living)
    for query in ("the cat sat", "dog fox", "cat"):
        expected = one.scores(one.terms(query), np.arange(len(TEXTS)))
        assert index.scores(index.terms(query), rows).tobytes() == expected.tobytes()
        assert scores(index, query) == {int(rows[row]): score for row, score in scores(one, query).items()}
    assert index.terms("gone") == []
    assert scores(index, "gone") == {}


def test_only_selected_rows_are_found_and_by_the_same_weights():
    index = LexicalIndex([postings(TEXTS)], [None])
    every, even = scores(index, "dog the"), np.arange(6) % 2 == 0
    assert scores(index, "dog the", [even]) == {row: score for row, score in every.items() if even[row]}
    best = index.best(index.terms("dog the"), 6, None, skip=4)[1].tolist()
    assert best == [row for row in every if row != 4]


@pytest.mark.parametrize("parts", [1, 3])
def test_terms_that_are_looked_up_for_some_rows_alone_change_nothing(monkeypatch, parts):
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 40)
    vocabulary = [f"w{n}x" for n in range(39)]
    texts = [" ".join(rng.choice(vocabulary, 12, p=shares / shares.sum())) for _ in range(600)]
    bounds = np.linspace(0, 600, parts + 1).astype(int)
    masks = [rng.random(b - a) < 0.9 for a, b in pairwise(bounds)]
    index = LexicalIndex([postings(texts[a:b]) for a, b in pairwise(bounds)], masks)
    queries = [" ".join(rng.choice(vocabulary, 8)) for _ in range(40)]
    every = [list(scores(index, query).items()) for query in queries]
    looked_up = []

    def looked_up_scores(*args):
        looked_up.append(args)
        return LexicalIndex.scores(index, *args)

    monkeypatch.setattr(lexical, "PRUNED_FROM", 0)
    monkeypatch.setattr(index, "scores", looked_up_scores)
    for query, expected in zip(queries, every, strict=True):
        for k in (1, 10, 50):
            assert list(scores(index, query, k=k).items()) == expected[:k]
    assert len(looked_up) > 20


def test_frequent_words_are_left_out_beside_rarer_ones(monkeypatch):
    monkeypatch.setattr(lexical, "FREQUENT", 2)
    index = LexicalIndex([postings(TEXTS)], [None])
    assert list(scores(index, "the mat")) == [0]
    assert set(scores(index, "the")) == {0, 1, 4, 5}


def test_damaged_postings_are_refused():
    sound = postings(TEXTS)
    for starts, rows in (
        (sound.starts[::-1].copy(), sound.rows),
        (sound.starts, sound.rows + np.uint32(100)),
    ):
        damaged = Postings(sound.terms, starts, rows, sound.counts, sound.lengths)
        with pytest.raises(ValueError, match="make no sense"):
            LexicalIndex([damaged], [None]).terms("dog")

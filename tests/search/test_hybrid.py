"""Search by words, and by both: parts, deletions, filters, languages, and what cannot be answered so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.build.build import build, compact
from resizable_search.build.delete import delete
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.engine import plan as plans
from resizable_search.engine.plan import BY_WORDS, Plan
from resizable_search.errors import UsageError
from resizable_search.search.index import Index, open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import fields
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from tests.support import ListCorpus, TableEmbedder

WIDTH = 16
WORDS = [
    "red",
    "green",
    "cat",
    "dog",
    "fox",
    "house",
    "river",
    "stone",
    "HTTPStatus",
    "os.path.join",
    "read_csv",
]


def documents(count: int, seed: int = 0) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [
        Document(
            f"{seed}-{i}",
            str(rng.choice(WORDS)),
            "",
            " ".join(rng.choice(WORDS, rng.integers(3, 30))) + f" number {seed} {i}",
            {"even": i % 2 == 0, "heading": str(rng.choice(WORDS))},
        )
        for i in range(count)
    ]


def opened(home, name="made") -> Index:
    return open_index(name, home=home, embedder=TableEmbedder(width=WIDTH))


def built(home, docs: list[Document]) -> None:
    build(ListCorpus(docs), TableEmbedder(width=WIDTH), Home(home), BuildOptions("made", dims=(8,)))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """`made`: 64 documents in three parts, four of them deleted; `one`: the same, compacted."""
    home = tmp_path_factory.mktemp("home")
    for name in ("made", "one"):
        for limit in (30, 45, 64):
            options = BuildOptions(name, dims=(8,), limit=limit)
            build(ListCorpus(documents(64)), TableEmbedder(width=WIDTH), Home(home), options)
        delete(home / name, ["0-3", "0-4", "0-37", "0-63"])
    compact(home / "one")
    return home


def hits(index: Index, query: str, **options):
    found = index.search([query], SearchOptions(**options))[0].hits
    return [(hit.id, np.float32(hit.score).tobytes(), hit.ranks) for hit in found]


@pytest.mark.parametrize(
    "options", [{"mode": "lexical"}, {"mode": "hybrid"}, {"plan": "8:100,16+lexical:0.3"}]
)
@pytest.mark.parametrize("query", ["fox river", "HTTPStatus", "number 42 red", "stone unknown", "unknown"])
def test_parts_and_deletions_answer_as_one_compacted_part(home, options, query):
    with opened(home) as parts, opened(home, "one") as one:
        assert len(parts.manifest.parts) == 3
        for k in (1, 10, 60, 100):
            assert hits(parts, query, k=k, **options) == hits(one, query, k=k, **options)
        assert hits(parts, query, k=3, **options) == hits(parts, query, k=40, **options)[:3]


def test_a_hybrid_score_is_the_weighted_mean_of_both_and_ranks_are_those_of_both(home):
    query = "green house"
    with opened(home) as index:
        dense = {h.id: h for h in index.query(query, 60)}
        lexical = {h.id: h for h in index.query(query, 60, mode="lexical")}
        hybrid = index.query(query, 60, plan="16+lexical:0.3")
    assert set(dense) == {hit.id for hit in hybrid} > set(lexical)
    for hit in hybrid:
        by_words = lexical.get(hit.id)
        expected = 0.7 * dense[hit.id].score + 0.3 * (by_words.score if by_words else 0)
        assert hit.score == pytest.approx(expected, abs=1e-6)
        assert hit.ranks == {"dense": dense[hit.id].rank, "lexical": by_words.rank if by_words else None}
    assert all(hit.ranks == {"dense": None, "lexical": hit.rank} for hit in lexical.values())
    assert all(hit.ranks is None for hit in dense.values())


def test_a_name_is_found_whole_and_by_its_parts(home):
    with opened(home) as index:
        for query in ("HTTPStatus", "httpstatus", "os.path.join", "read_csv"):
            assert query.lower() in index.query(query, 1, mode="lexical")[0].text.lower()
        assert index.query("csv", mode="lexical")[0].score > 0


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
@pytest.mark.parametrize("where", ["even", "id = '0-5'", "id = 'none'"])
def test_a_filter_selects_before_the_ranking(home, mode, where):
    with opened(home) as index:
        every = {hit.id: hit.score for hit in index.query("fox river", 100, mode=mode)}
        found = index.query("fox river", 100, mode=mode, where=where)
        wanted = {"even": 31, "id = '0-5'": 1, "id = 'none'": 0}[where]
        assert len(found) <= wanted
        assert mode == "lexical" or len(found) == wanted
        assert all(hit.score == every[hit.id] for hit in found)


def test_candidates_of_both_lists_are_ranked_where_the_lists_are_short(home, monkeypatch):
    monkeypatch.setattr(plans, "LEAST_FUSED", 12)
    with opened(home) as index:
        found = index.query("fox river", 10, mode="hybrid")
    assert any(hit.ranks["dense"] is None for hit in found)
    assert all(hit.score >= 0.25 for hit in found if hit.ranks["dense"] is None and hit.rank < 3)


def test_a_query_without_a_known_word_says_so(home):
    with opened(home) as index:
        dense, lexical, hybrid = (
            index.search(["xylophone", "fox"], SearchOptions(mode=mode)) for mode in plans.MODES
        )
        assert (dense[0].remark, dense[1].remark, lexical[1].remark, hybrid[1].remark) == ("",) * 4
        assert lexical[0].hits == []
        assert (
            lexical[0].remark == fields(lexical[0])["remark"] == "no hit: none of its words is in the index"
        )
        assert hybrid[0].remark == "none of its words is in the index: this is by meaning alone"
        some = index.search(["a xylophone and a fox"], SearchOptions(mode="hybrid"))[0]
        assert some.remark == "not in the index: xylophone"
        assert [h.id for h in hybrid[0].hits] == [h.id for h in dense[0].hits]
        assert [h.score for h in hybrid[0].hits] == [h.score for h in dense[0].hits]
        assert index.search(["fox"], SearchOptions(mode="lexical", where="id = 'none'"))[0].remark == ""
        assert index.search(["fox"], SearchOptions(mode="lexical"))[0].timings_ms.words > 0
        assert "words" in fields(hybrid[1])["timings_ms"]
        assert json.dumps(fields(hybrid[1])["hits"][0]["ranks"])


def test_a_search_by_words_embeds_nothing(home):
    embedder = TableEmbedder(width=WIDTH)
    with open_index("made", home=home, embedder=embedder) as index:
        assert index.query("fox never asked", mode="lexical")
    assert embedder.asked == []


def test_chunks_are_grouped_by_any_mode(tmp_path):
    texts = ["alpha beta", "alpha gamma", "beta gamma", "alpha", "delta"]
    docs = [
        Document(f"d{i // 2}#c{i % 2}", "", "", text, {"document": f"d{i // 2}"})
        for i, text in enumerate(texts)
    ]
    built(tmp_path, docs)
    with opened(tmp_path) as index:
        index.manifest.corpus["chunk"] = "400t"
        for mode in plans.MODES:
            found = index.query("alpha", 3, mode=mode)
            names = [hit.id.partition("#")[0] for hit in found]
            assert len(set(names)) == len(names) == (2 if mode == "lexical" else 3)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("敏捷的狐狸", "一只敏捷的棕色狐狸跳过了懒狗。"),
        ("größte städte", "Die größten Städte und die GRÖSSTE STADT des Landes"),
        ("الثعلب السريع", "قفز الثَّعْلَبُ البني السَّرِيعُ فوق الكلب"),
        ("すばやい狐", "すばやい茶色の狐はのろまな犬を飛び越える"),
        ("여우", "재빠른 갈색 여우가 뛰어넘는다"),
        ("לומד עברית", "הוא לוֹמֵד עברית"),
    ],
)
def test_texts_of_many_scripts_are_found(tmp_path, query, text):
    built(tmp_path, [*documents(10), Document("it", "", "", text)])
    with opened(tmp_path) as index:
        assert index.query(query, 1, mode="lexical")[0].id == "it"
        assert {h.id: h.ranks["lexical"] for h in index.query(query, 11, mode="hybrid")}["it"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "other"}, "mode must be one of dense, lexical, hybrid"),
        ({"mode": "lexical", "dim": 8}, "leave dimension, rerank and recall out"),
        ({"mode": "dense", "plan": "16+lexical"}, "is hybrid, not dense"),
        ({"mode": "lexical", "plan": "16"}, "is dense, not lexical"),
        ({"plan": "16+words"}, "is not lexical or lexical:0.5"),
        ({"plan": "16+lexical:2"}, "a weight in 0 to 1"),
        ({"plan": "16+lexical:x"}, "a weight in 0 to 1"),
    ],
)
def test_options_that_disagree_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        SearchOptions(**options)


def test_plans_with_words_are_values():
    for text in ("lexical", "16+lexical", "8:100,16+lexical:0.3"):
        assert str(Plan.parse(text)) == text
    assert Plan.parse(" lexical ") == BY_WORDS == BY_WORDS.deepened(10, 40).check(10, 16)
    assert Plan.parse("16 + lexical:0.50") == Plan.parse("16")._replace(words=0.5)
    assert [Plan.parse(text).mode for text in ("16", "lexical", "16+lexical")] == list(plans.MODES)
    assert Plan.parse("8:100,16+lexical").keeps(10) == [100, 100]
    assert SearchOptions(plan="lexical", mode="lexical").plan is BY_WORDS
    assert SearchOptions(plan="16", mode="hybrid").with_plan(None).mode == "dense"


def test_vectors_alone_have_no_words(home):
    with opened(home) as index:
        for options in ({"plan": "16+lexical"}, {"plan": "lexical"}):
            with pytest.raises(UsageError, match="a search by vectors has no words"):
                index.scan(np.ones((1, WIDTH), np.float32), **options)
        with pytest.raises(UsageError, match="a search by vectors has no words"):
            index.search_similar("0-1", SearchOptions(mode="hybrid"))


def test_an_index_without_the_tier_answers_by_meaning_and_says_so(home, tmp_path):
    built(tmp_path, documents(5))
    folder = tmp_path / "made"
    manifest = read_manifest(folder)
    files = {n: e for n, e in manifest.parts[0].files.items() if n not in NAMES.lexical}
    replace(manifest, parts=(replace(manifest.parts[0], files=files),)).write(folder)
    with opened(tmp_path) as index:
        for options in ({"mode": "hybrid"}, {"mode": "lexical"}, {"plan": "lexical"}, {"plan": "16+lexical"}):
            answer = index.search(["fox"], SearchOptions(**options))[0]
            assert answer.plan == "16"
            assert "by meaning alone: derive it with `warm made`" in answer.remark
            assert len(answer.hits) == 5
        with pytest.raises(UsageError, match="has no lexical tier"):
            index.run(np.ones((1, WIDTH), np.float32), BY_WORDS, 3, texts=["fox"])

"""The HTTP API: what the command line answers, from a process that stays."""

import json
import subprocess
import sys

import numpy as np
import pytest

from resizable_search.build.build import build_index, build_vectors
from resizable_search.build.workspace import BuildOptions
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.service.conftest import Running, running


def test_an_answer_is_the_object_that_query_json_prints(served: Running, made_once):
    result = served.search("tree leaf", k=3, dim=32, rerank=4).json
    command = [sys.executable, "-m", "resizable_search", "query", "tree leaf", "--json", "-k", "3"]
    command += [
        "--dim",
        "32",
        "--rerank",
        "4",
        "--home",
        str(made_once),
        "--index",
        "made",
        "--engine",
        "numpy",
    ]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert result.pop("generation") == served.ask("GET", "/api/indexes").json["indexes"][0]["generation"]
    assert list(result) == list(printed)
    for timing in (result, printed):
        assert set(timing.pop("timings_ms")) == {"embed", "scan", "rerank"}
    assert result == printed
    assert result["hits"][0]["metadata"]["year"] >= 1900


def test_metadata_of_any_size_of_number_is_answered(tmp_path):
    build_index("made", [{"text": "tree leaf", "stars": 10**24}], home=tmp_path).close()
    with running(tmp_path) as served:
        assert served.search().json["hits"][0]["metadata"] == {"stars": 10**24}


def test_a_list_of_texts_has_a_result_for_each_in_order(served: Running):
    texts = ["tree leaf", "storm", "tree leaf", "queue heap"]
    result = served.search(texts, k=5).json["results"]
    assert [one["query"] for one in result] == texts
    for text, one in zip(texts, result, strict=True):
        assert one["hits"] == served.search(text, k=5).json["hits"]
    assert served.search(["storm"]).json["results"][0]["query"] == "storm"


def test_compare_gives_the_full_dimensions_answer_and_how_much_of_it_is_found(served: Running, made_once):
    result = served.search("tree leaf", k=10, dim=4, compare=True, explain=True).json
    with open_index("made", home=made_once, engine="numpy") as index:
        full = [hit.row for hit in index.query("tree leaf")]
        cut = [hit.row for hit in index.query("tree leaf", dim=4)]
    assert [hit["row"] for hit in result["hits"]] == cut
    assert [hit["row"] for hit in result["full"]["hits"]] == full
    assert result["full"]["overlap"] == len(set(full) & set(cut)) / 10
    assert 0 < result["full"]["overlap"] < 1
    assert result["plan"] == "4"
    assert result["explain"][0]["bytes"] < result["full"]["explain"][0]["bytes"]
    assert served.search("tree leaf", compare=True).json["full"]["overlap"] == 1


def test_where_chooses_before_anything_is_ranked(served: Running):
    result = served.search("tree leaf", k=5, where="year = 1907 OR id = 'd3'").json
    assert {hit["id"] for hit in result["hits"]} == {"d7", "d107", "d3"}


def test_what_there_is_is_listed_with_its_dimensions_and_columns(served: Running):
    result = served.ask("GET", "/api/indexes").json
    assert [one["name"] for one in result["indexes"]] == ["made", "other"]
    made = result["indexes"][0]
    assert (made["rows"], made["problem"]) == (120, None)
    assert made["dims"][-1] == made["full_dim"]
    assert {"id", "title", "url", "year"} <= set(made["columns"])
    assert made["embedder"]["kind"] == "lsa"
    assert result["default"] is None
    assert result["limits"]["k"] == 1000


def test_an_index_without_an_embedder_is_listed_with_that_and_searched_by_no_text(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(16, 8, dtype=np.float32) + 1)
    build_vectors(tmp_path / "rows.npy", Home(tmp_path / "home"), BuildOptions("given"))
    with running(tmp_path / "home") as service:
        (card,) = service.ask("GET", "/api/indexes").json["indexes"]
        assert card["problem"] == "it has no embedder: search it with vectors (index.scan in Python)"
        assert (card["rows"], card["full_dim"]) == (16, 8)
        refused = service.search("tree", index="given")
        assert refused.status == 409
        assert "no embedder is known for these vectors" in refused.error
        assert service.ask("GET", "/api/documents/given/3").status == 200


def test_a_document_is_given_by_its_row(served: Running):
    hit = served.search("storm snow", k=1).json["hits"][0]
    result = served.ask("GET", f"/api/documents/made/{hit['row']}").json
    assert result == {"index": "made", **{name: hit[name] for name in result if name != "index"}}
    assert "no document at row 120" in served.ask("GET", "/api/documents/made/120").error


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"query": "  "}, 400, "blank"),
        ({"query": "zebra"}, 400, "no word of"),
        ({"query": "tree", "dim": 5000}, 400, "5000"),
        ({"query": "tree", "dim": 8, "plan": "8:100,32"}, 400, "a plan says dimension"),
        ({"query": "tree", "plan": "nonsense"}, 400, "nonsense"),
        ({"query": "tree", "recall": 0.99}, 400, "no plan tuned"),
        ({"query": "tree", "where": "year > (SELECT 1)"}, 400, "where"),
        ({"query": "tree", "rerank": 1000, "k": 1000}, 400, "100,000"),
        ({"query": "tree", "index": "nope"}, 404, "there are made, other"),
        ({"query": "tree", "index": "../made"}, 404, "no index"),
        ({"query": "tree", "index": None}, 404, "which index"),
        ({"query": "tree", "k": 0}, 422, "k: "),
        ({"query": "tree", "k": 1001}, 422, "k: "),
        ({"query": "tree", "k": "10"}, 422, "k: "),
        ({"query": []}, 422, "query: "),
        ({"query": ["tree"] * 101}, 422, "at most 100 items"),
        ({"query": "x" * 8193}, 422, "query: "),
        ({"query": 5}, 422, "query: Input should be a valid string"),
        ({"query": "tree", "recall": "0.9"}, 422, "recall: "),
        ({"query": "tree", "dimension": 5}, 422, "dimension: "),
        ({}, 422, "query: "),
        ([], 422, "the request is not a JSON object"),
        (b"{", 422, "the request is not JSON"),
        (b"", 422, "the request is not JSON"),
        (b'{"query": "\xff"}', 422, "the request is not JSON"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_one_line(served: Running, asked, status: int, message: str):
    if isinstance(asked, dict) and "index" not in asked:
        asked = {"index": "made", **asked}
    answer = served.ask("POST", "/api/search", asked)
    assert answer.status == status
    assert message in answer.error


def test_a_request_that_is_no_json_is_refused(served: Running):
    answer = served.ask("POST", "/api/search", b"query=tree", Content_Type="text/plain")
    assert (answer.status, "application/json" in answer.error) == (415, True)


@pytest.mark.parametrize(
    "asked",
    [{"query": "tree leaf", "k": 3}, {"query": "tree", "k": 0}, {"query": "tree", "bad": 1}, {"query": [1]},
     {}, [], b"{", {"query": "tree", "index": "nope"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/search", "/api/v1/search"])
def test_the_quick_route_answers_as_the_documented_one(served: Running, monkeypatch, asked, path: str):
    if isinstance(asked, dict) and "index" not in asked:
        asked = {"index": "made", **asked}
    quick = served.ask("POST", path, asked)
    middleware = served.server.config.app
    monkeypatch.setattr(middleware, "_search", middleware._app)
    documented = served.ask("POST", path, asked)
    answers = [answer.json for answer in (quick, documented)]
    for answer in answers:
        answer.pop("timings_ms", None)
    assert (quick.status, answers[0]) == (documented.status, answers[1])


def test_other_paths_and_methods_are_told_too(served: Running):
    assert "/docs" in served.ask("GET", "/api/nothing").error
    assert "another method" in served.ask("GET", "/api/search").error
    assert served.ask("GET", "/page/..%2fapi.py").status == 404
    assert served.ask("GET", "/page/%2e%2e/api.py").status == 404


def test_health_metrics_and_documentation_are_there_without_another_host(served: Running):
    assert served.ask("GET", "/healthz").json["status"] == "ok"
    served.search("tree leaf")
    metrics = served.ask("GET", "/metrics").body.decode()
    assert 'rsearch_requests_total{route="/api/search",status="200"}' in metrics
    assert 'rsearch_stage_seconds_bucket{index="made",le="0.001",stage="scan"}' in metrics
    page = served.ask("GET", "/docs").body.decode()
    assert "://" not in page
    for file in ("docs.css", "docs.js"):
        assert f'"page/{file}"' in page
        assert served.ask("GET", f"/page/{file}").status == 200
    assert "/api/search" in served.ask("GET", "/openapi.json").json["paths"]


def test_only_the_indexes_that_are_named_are_served(made_once):
    with running(made_once, only=("other",)) as service:
        result = service.ask("GET", "/api/indexes").json
        assert ([one["name"] for one in result["indexes"]], result["default"]) == (["other"], "other")
        assert service.search("storm").status == 404
        assert service.ask("POST", "/api/search", {"query": "storm"}).json["index"] == "other"


def test_a_home_without_indexes_says_how_to_build_one(tmp_path):
    with running(tmp_path) as service:
        assert service.ask("GET", "/api/indexes").json["indexes"] == []
        answer = service.ask("POST", "/api/search", {"query": "tree"})
        assert (answer.status, "`rsearch build pydoc --home" in answer.error) == (404, True)

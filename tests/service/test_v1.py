"""API v1: queries of every kind, what is given of a hit, and errors with a code."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from resizable_search.build.build import build_vectors
from resizable_search.build.workspace import BuildOptions
from resizable_search.search.index import Index, open_index
from resizable_search.service import searches
from resizable_search.service.middleware import AccessRules
from resizable_search.service.refusals import CODES, Refusal
from resizable_search.service.schemas import MOST_HITS
from resizable_search.store.layout import Home
from tests.service.conftest import HttpAnswer, Running, built, running

DOCS = Path(__file__).parents[2] / "docs" / "service.md"


def search(served: Running, **asked: Any) -> HttpAnswer:
    return served.ask("POST", "/api/v1/search", {"index": "made", **asked})


def error(answer: HttpAnswer) -> tuple[int, str, str]:
    """Its status, code, and message with hint."""
    problem = answer.json["error"]
    assert list(problem) == ["code", "message", "hint", "field"]
    assert CODES[problem["code"]][0] == answer.status
    return answer.status, problem["code"], f"{problem['message']}: {problem['hint']}"


def ids(answer: HttpAnswer) -> list[str]:
    assert answer.status == 200, answer.body
    return [hit["id"] for hit in answer.json["hits"]]


def test_a_hit_has_all_its_fields_and_round_numbers(served: Running):
    result = search(served, query="tree leaf", k=3, explain=True).json
    old = served.search("tree leaf", k=3).json
    for hit, before in zip(result["hits"], old["hits"], strict=True):
        more = {"text_length": len(before["text"]), "copies": 0, "ranks": None}
        assert hit == {**before, **more, "score": round(before["score"], 6)}
    numbers = [*result["timings_ms"].values(), *(stage["ms"] for stage in result["explain"])]
    assert all(round(number, 3) == number for number in numbers)
    assert result["k"] == 3


def test_fields_and_snippet_choose_what_is_given_of_a_hit(served: Running):
    (hit,) = search(served, query="tree", k=1, fields=["title", "id"]).json["hits"]
    assert list(hit) == ["title", "id"]
    (hit,) = search(served, query="tree", k=1, snippet=20).json["hits"]
    assert "text" not in hit
    assert "tree" in hit["snippet"]
    assert len(hit["snippet"]) <= 22 < hit["text_length"]
    (hit,) = search(served, query="tree", k=1, fields=["snippet", "text"]).json["hits"]
    assert hit["snippet"] == hit["text"]  # which is short
    full = search(served, query="tree", dim=4, snippet=9, compare=True).json["full"]
    assert "text" not in full["hits"][0]


def test_pages_fit_together_and_leave_out_low_scores(served: Running):
    whole = search(served, query="tree leaf", k=6).json
    page = search(served, query="tree leaf", k=2, offset=4).json
    assert page["hits"] == whole["hits"][4:]
    assert [hit["rank"] for hit in page["hits"]] == [5, 6]
    assert page["k"] == 2
    good = search(served, query="tree leaf", k=6, min_score=whole["hits"][2]["score"] - 1e-5).json
    assert good["hits"] == whole["hits"][:3]


def test_a_vector_is_searched_as_the_text_that_it_is_of(served: Running, made_once: Path):
    with open_index("made", home=made_once, engine="numpy") as index:
        vector = index.embed_queries(["tree leaf"])[0].tolist()
    found = search(served, vector=vector, dim=8, rerank=2)
    assert found.json["query"] is None
    assert ids(found) == ids(search(served, query="tree leaf", dim=8, rerank=2))
    assert ids(search(served, vector=[1e300] + [0.0] * 31, k=2))


def test_a_document_is_searched_by_its_id_or_row(served: Running, made_once: Path):
    with open_index("made", home=made_once, engine="numpy") as index:
        expected = [hit.id for hit in index.similar("d7", k=3)]
    by_row = search(served, similar_row=7, k=3)
    assert ids(search(served, similar="d7", k=3)) == ids(by_row) == expected
    assert by_row.json["query"] == "d7"
    compared = search(served, similar="d7", k=3, dim=4, compare=True).json["full"]
    assert [hit["id"] for hit in compared["hits"]] == expected


def test_a_search_fits_into_an_address(served: Running):
    address = "/api/v1/search?index=made&k=2&fields=id,score&fields=snippet&snippet=9&offset=1&compare=true"
    asked = {"k": 2, "fields": ["id", "score", "snippet"], "snippet": 9, "offset": 1}
    by_text = served.ask("GET", f"{address}&q=tree+leaf")
    assert by_text.json["hits"] == search(served, query="tree leaf", **asked).json["hits"]
    assert by_text.json["full"]["overlap"] == 1
    assert ids(served.ask("GET", f"{address}&similar=d7")) == ids(search(served, similar="d7", **asked))


def test_a_text_that_cannot_be_embedded_fails_alone(served: Running):
    results = search(served, query=["tree", "zebra", " ", "storm"], k=1).json["results"]
    assert [one["query"] for one in results] == ["tree", "zebra", " ", "storm"]
    assert [one.get("error", {}).get("code") for one in results] == [
        None, "query_not_embeddable", "invalid_option", None
    ]  # fmt: skip
    for one in (results[0], results[3]):
        assert one["hits"] == search(served, query=one["query"], k=1).json["hits"]
    compared = search(served, query=["zebra", "tree"], dim=4, compare=True).json["results"]
    assert compared[1]["full"]["hits"] == search(served, query="tree").json["hits"]
    assert error(search(served, query=["zebra", "quagga"]))[:2] == (400, "query_not_embeddable")
    assert served.search(["tree", "zebra"]).status == 400  # as before v1


def test_documents_are_read_by_row_and_by_id(served: Running):
    by_row = served.ask("GET", "/api/v1/documents/made/7").json
    assert served.ask("GET", "/api/v1/documents/made?id=d7").json == by_row
    assert error(served.ask("GET", "/api/v1/documents/made?id=zz"))[1] == "document_not_found"


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        ({}, "invalid_option", "no query: give one of query, vector, similar, similar_row"),
        ({"query": "tree", "similar": "d7"}, "invalid_option", "has query and similar"),
        ({"vector": [0.5] * 5}, "invalid_option", "made takes 32"),
        ({"vector": ["x"]}, "invalid_request", "number"),
        ({"similar": "zz"}, "document_not_found", "zz"),
        ({"similar_row": 120}, "document_not_found", "120"),
        ({"similar": "d7", "mode": "hybrid"}, "invalid_option", "no words"),
        ({"query": "tree", "offset": 991}, "invalid_option", "k and offset are 1,001"),
        ({"query": "tree", "offset": 1, "recall": 0.9}, "invalid_option", "offset or recall"),
        ({"query": "tree", "fields": ["body"]}, "invalid_request", "Input should be 'rank'"),
        ({"query": ["tree"] * 100, "k": MOST_HITS // 100 + 1}, "invalid_option", "10,000 hits"),
        ({"query": ["tree"] * 100, "k": MOST_HITS // 100, "compare": True}, "invalid_option", "20,000"),
        ({"query": "  "}, "invalid_option", "the query is blank: give it a word or more"),
        ({"query": "tree", "k": 0}, "invalid_request", "/docs shows the form"),
        ({"query": "tree", "index": "nope"}, "index_not_found", "there are made, other"),
    ],
    ids=str,
)
def test_an_error_has_a_code_a_message_and_a_hint(served: Running, asked: Any, code: str, message: str):
    status, found, line = error(search(served, **asked))
    assert (status, found) == (CODES[code][0], code)
    assert message in line


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/nothing", "route_not_found"),
        ("/api/v1/documents/made/1_0", "invalid_request"),
        ("/api/v1/documents/made/+1", "invalid_request"),
        ("/api/v1/documents/made/%201", "invalid_request"),
        ("/api/v1/documents/made/01", "invalid_request"),
        ("/api/v1/search?similar_row=01", "invalid_request"),
        ("/api/v1/search?q=tree&k=1_0", "invalid_request"),
        ("/api/v1/search?q=tree&size=5", "invalid_request"),
        ("/api/v1/search?q=tree&min_score=nan", "invalid_request"),
    ],
)
def test_an_address_that_makes_no_sense_has_a_code(served: Running, path: str, code: str):
    assert error(served.ask("GET", path))[1] == code


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("it is blank: give it a word", "it is blank", "give it a word"),
        ("it is blank; give it a word", "it is blank", "give it a word"),
        ("no token: send `Authorization: Bearer T`", "no token", "send `Authorization: Bearer T`"),
        ("no index 'a: b'", "no index 'a: b'", ""),
        ("damaged (row 1: NaN): repair it", "damaged (row 1: NaN)", "repair it"),
        ("Input should be a number", "Input should be a number", ""),
    ],
)
def test_a_line_is_parted_where_it_says_what_to_do(line: str, message: str, hint: str):
    shown = Refusal("invalid_option", line).shown()
    assert (shown["message"], shown["hint"]) == (message, hint)
    assert Refusal("invalid_option", line, "k").shown(v1=False) == f"k: {line}"


def test_a_hint_has_an_operators_command_as_it_is_typed(served: Running, tmp_path: Path):
    hint = search(served, query="tree", recall=0.99).json["error"]["hint"]
    assert hint == "measure one with `rsearch tune --index made --recall 0.99`"
    with running(tmp_path) as empty:
        problem = empty.ask("GET", "/api/v1/search?q=tree").json["error"]
        assert problem["hint"] == f"build one with `rsearch build pydoc --home {tmp_path}`"


def test_a_remark_and_a_fault_of_the_service_are_told(served: Running, monkeypatch):
    assert "none of its words" in search(served, query="zebra", mode="lexical").json["remark"]
    monkeypatch.setattr(Index, "search_vectors", lambda *_: 1 / 0)
    assert error(search(served, query="tree"))[:2] == (500, "internal_error")
    assert error(served.ask("GET", "/api/v1/search?index=made&q=tree"))[:2] == (500, "internal_error")


def test_the_wrong_field_is_named(served: Running):
    assert search(served, query="tree", k=0).json["error"]["field"] == "k"
    assert search(served, query="tree", **{"a\nb": 1}).json["error"]["field"] == "a b"
    assert search(served, query="tree", index="nope").json["error"]["field"] is None


def test_refusals_before_the_routes_have_a_code_too(served: Running):
    asked = "POST", "/api/v1/search", b'{"query": "tree"}'
    assert error(served.ask(*asked, Content_Type="text/plain"))[1] == "unsupported_media_type"
    assert error(served.ask(*asked, Host="evil.example"))[1] == "unknown_host"
    assert error(served.ask(*asked, Origin="https://evil.example"))[1] == "forbidden_origin"
    wrong = served.ask("PUT", "/api/v1/search", {})
    assert (error(wrong)[1], wrong.headers["allow"]) == ("method_not_allowed", "GET, POST")


def test_texts_that_are_too_long_for_an_answer_are_refused(served: Running, monkeypatch):
    monkeypatch.setattr(searches, "MOST_TEXT", 500)
    assert "ask for snippet" in error(search(served, query="tree"))[2]
    assert search(served, query="tree", snippet=20).status == 200


def test_a_long_answer_is_compressed_for_those_who_accept_it(served: Running):
    asked = {"query": "tree", "index": "made", "k": 50}
    packed = served.ask("POST", "/api/v1/search", asked, Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert b'"hits"' in gzip.decompress(packed.body)
    assert "content-encoding" not in search(served, query="tree", k=50).headers
    short = served.ask("POST", "/api/v1/search", {**asked, "k": 1}, Accept_Encoding="gzip")
    assert "content-encoding" not in short.headers


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/api/v1/indexes", "/favicon.ico"])
def test_whatever_can_be_read_has_a_head(served: Running, path: str):
    head, whole = served.ask("HEAD", path), served.ask("GET", path)
    assert (head.status, head.body) == (200, b"")
    for name in ("content-type", "content-length", "cross-origin-resource-policy"):
        assert head.headers[name] == whole.headers[name]


def test_the_documented_codes_are_those_of_the_service():
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (.+) \|$", DOCS.read_text(), re.M)
    assert {code: (int(status), meaning) for code, status, meaning in rows} == CODES


def test_an_index_is_described_with_titles_and_the_curve_that_bench_measured(tmp_path: Path):
    built(tmp_path, count=40)
    with running(tmp_path) as service:
        before = service.ask("GET", "/api/v1/indexes/made").json
        listed = service.ask("GET", "/api/v1/indexes").json["indexes"][0]
        assert before == {**before, **listed, "local": True, "curve": None}
        assert len(set(before["questions"])) == 3
        for question in before["questions"]:  # lsa knows no word of the titles there
            assert service.ask("GET", f"/api/v1/search?{urlencode({'q': question})}").status == 200
        run = ["bench", "--home", str(tmp_path), "--sample", "20", "--dims", "4", "--rerank", "2"]
        run += ["--precisions", "exact,float32"]
        subprocess.run([sys.executable, "-m", "resizable_search", *run], check=True, capture_output=True)
        after = service.ask("GET", "/api/v1/indexes/made").json
        assert after["questions"] == before["questions"]
        curve = after["curve"]
        assert (curve["k"], curve["source"]) == (10, "own rows")
        measured = [(point["dim"], point["rerank"]) for point in curve["points"]]
        assert measured == [(4, 0), (4, 2), (32, 0)]
        low, high = curve["points"][0]["overlap_ci"]
        assert low < curve["points"][0]["overlap"] < high < curve["points"][-1]["overlap"] == 1
        built(tmp_path, count=50, restart=True)
        assert service.ask("GET", "/api/v1/indexes/made").json["curve"] is None


def test_an_index_that_is_damaged_or_gone_is_described_as_such(tmp_path: Path):
    built(tmp_path, count=20)
    (tmp_path / "made" / "manifest.json").write_text("{")
    with running(tmp_path) as service:
        described = service.ask("GET", "/api/v1/indexes/made").json
        assert "damaged" in described["problem"]
        assert (described["questions"], described["curve"]) == ([], None)
        assert error(service.ask("GET", "/api/v1/indexes/nope"))[1] == "index_not_found"


def test_every_example_of_the_description_runs(served: Running):
    paths = served.ask("GET", "/openapi.json").json["paths"]
    examples = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            place = {one["name"]: str(one.get("example", "")) for one in operation.get("parameters", ())}
            asked = {name: value for name, value in place.items() if value and f"{{{name}}}" not in path}
            address = f"{path.format(**place)}?{urlencode(asked)}"
            bodies = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in bodies.get("examples", {"none": {"value": None}}).values():
                answer = served.ask(method.upper(), address, example["value"])
                assert answer.status == 200, (method, address, example, answer.body)
                examples += 1
            assert operation["summary"]
            assert len(operation["tags"]) == 1
    assert examples > len(paths)


def test_the_description_of_a_service_with_a_token_has_a_scheme_and_names_no_index(made_once: Path):
    with running(made_once, AccessRules.of("127.0.0.1", token="0123456789abcdef")) as service:
        description = service.ask("GET", "/openapi.json")
        assert description.json["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        assert description.json["paths"]["/api/v1/search"]["post"]["security"] == [{"token": []}]
        assert b'"made"' not in description.body
    assert "securitySchemes" not in description.json["paths"]


def test_the_description_of_no_index_and_of_one_without_an_embedder_has_examples(tmp_path: Path):
    np.save(tmp_path / "rows.npy", np.eye(16, 8, dtype=np.float32) + 1)
    with running(tmp_path / "home") as service:
        for _ in range(2):
            post = service.ask("GET", "/openapi.json").json["paths"]["/api/v1/search"]["post"]
            example = post["requestBody"]["content"]["application/json"]["examples"]["A question"]["value"]
            assert example == {"index": None, "query": "tree data structures", "dim": 128, "rerank": 10}
            build_vectors(tmp_path / "rows.npy", Home(tmp_path / "home"), BuildOptions("given"))


@pytest.mark.parametrize("language", ["sh", "py"])
def test_the_clients_of_the_docs_run(served: Running, language: str):
    known = {"8765": str(served.port), '"docs"': '"made"', "docs": "made", "delete": "tree", "rename": "leaf"}
    known |= {'"dim": 128': '"dim": 16'}
    client = DOCS.read_text().partition(f"### With {'curl' if language == 'sh' else 'Python'}")[2]
    client = client.partition(f"```{language}\n")[2].partition("```")[0]
    for word, here in known.items():
        client = client.replace(word, here)
    command = ["bash", "-euc", client] if language == "sh" else [sys.executable, "-c", client]
    if language == "sh" and shutil.which("curl") is None:
        pytest.skip("there is no curl")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RSEARCH_TOKEN": ""})
    assert done.returncode == 0, done.stderr
    assert "Title" in done.stdout
    if language == "python":
        assert len(client.splitlines()) <= 25
        refused = client.replace("tree documents", "zebra")
        done = subprocess.run([sys.executable, "-c", refused], capture_output=True, text=True)
        assert done.stderr.startswith("query_not_embeddable: no word of 'zebra'")


def test_an_index_without_an_embedder_is_searched_by_vectors_and_documents(tmp_path: Path):
    np.save(tmp_path / "rows.npy", np.eye(16, 8, dtype=np.float32) + 1)
    build_vectors(tmp_path / "rows.npy", Home(tmp_path / "home"), BuildOptions("given"))
    with running(tmp_path / "home") as service:
        address = "POST", "/api/v1/search"
        assert error(service.ask(*address, {"query": "tree"}))[1] == "no_embedder"
        by_vector = service.ask(*address, {"vector": [2.0] + [1.0] * 7, "k": 1}).json
        assert [hit["row"] for hit in by_vector["hits"]] == [0]
        by_row = service.ask(*address, {"similar_row": 0, "k": 2, "compare": True, "dim": 4})
        assert (by_row.status, len(by_row.json["hits"])) == (200, 2)

"""`--embedder openai` from the command line: builds, queries, and what goes wrong with an endpoint."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from resizable_search.admin import doctor
from resizable_search.embedders import request_pool
from tests.cli.conftest import Inside, closed_address, errs, errs_at_last
from tests.cli.test_damage import edit_manifest
from tests.servers import nomic_api
from tests.servers.nomic_api import status
from tests.servers.openai_api import KEY, OpenAIServer

FEW = ("build", "pydoc", "--limit", 40, "--dims", "64")
NEVER = "sk-never-to-be-seen"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor asks the hub and the kernels elsewhere; here it takes half a minute to hear nothing."""
    check = doctor._check

    def look(what: str, *how: Any) -> doctor.HealthCheck:
        if what in ("credentials", "hub", "kernels"):
            return doctor.HealthCheck(what, "ok", "not looked at")
        return check(what, *how)

    monkeypatch.setattr(doctor, "_check", look)


@pytest.fixture
def endpoint() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


def at(api: OpenAIServer, model: str = "nomic-embed-text") -> tuple[str, ...]:
    return ("--embedder", "openai", "--base-url", api.base_url, "--model", model)


def left_nothing(inside: Inside) -> bool:
    return all(path.name in ("build.lock", "build.log") for path in inside.files())


def test_an_index_is_built_and_its_queries_find_the_endpoint_again(inside: Inside, endpoint: OpenAIServer):
    built = inside.run(*FEW, *at(endpoint))
    assert built.code == 0, built
    assert "40 documents at 64, 768 dimensions" in built.out
    assert all(text.startswith("search_document: ") for text in endpoint.answered if "a tree" not in text)
    assert endpoint.answered.total() == 40 + 1
    ran = inside.run("query", "walk a directory tree", "-k", 1, "--json")
    assert endpoint.last_request["input"] == ["search_query: walk a directory tree"]
    assert len(ran.json["hits"]) == 1
    info = inside.run("info", "--files").out
    assert "openai: nomic-embed-text-v1.5, 768 dimensions, centred" in info
    assert f"one request to {endpoint.base_url} (nomic-embed-text)" in info
    assert "documents as 'search_document: …', queries as 'search_query: …'" in info


def test_a_model_that_is_not_known_is_asked_for_its_width_and_remarked_on(
    inside: Inside, endpoint: OpenAIServer
):
    built = inside.run(*FEW, *at(endpoint, "mine"), "--document-prefix", "d: ", "--query-prefix", "q: ")
    assert "40 documents at 64, 96 dimensions" in built.out
    assert "whether mine was trained for truncation (Matryoshka) is unknown" in built.out
    assert endpoint.last_request["input"][0].startswith("d: ")
    inside.run("query", "tree")
    assert endpoint.last_request["input"] == ["q: tree"]
    assert inside.run(*FEW, *at(endpoint, "mine")).code == 0  # the prefixes are the index's
    errs(
        inside.run(*FEW, *at(endpoint, "mine"), "--document-prefix", ""), 1,
        "was built with --document-prefix 'd: ', not '' as asked now", "--restart",
    )  # fmt: skip


def test_the_key_is_sent_and_never_kept(inside: Inside):
    with OpenAIServer(keys=(KEY,)) as api:
        inside.setenv("MY_KEY", KEY)
        ran = inside.run(*FEW, *at(api, "bge-m3"), "--api-key-env", "MY_KEY")
        assert ran.code == 0, ran
        assert "bge-m3 was not trained for truncation" in ran.out
        ran = inside.run("query", "tree", "--explain")
        assert ran.code == 0, ran
    assert not [path for path in inside.files() if KEY.encode() in path.read_bytes()]
    assert inside.run("info", "--json").json["embedder"]["options"]["api_key_env"] == "MY_KEY"


def test_a_key_that_is_missing_wrong_or_expires_midway_is_told(inside: Inside):
    with OpenAIServer(keys=(KEY,)) as api:
        errs(inside.run(*FEW, *at(api)), 1, "wants a key in OPENAI_API_KEY, which is not set (HTTP 401")
        inside.setenv("OPENAI_API_KEY", NEVER)
        ran = inside.run(*FEW, *at(api))
        errs(ran, 1, "refuses the key from OPENAI_API_KEY (HTTP 401")
        assert NEVER not in ran.err
        inside.setenv("OPENAI_API_KEY", KEY)
        api.spoil(status(401, marker="text 35 of"), None)
        ran = inside.run(*FEW, *at(api), "--concurrency", 1)
        errs_at_last(ran, 1, "refuses the key from OPENAI_API_KEY (HTTP 401: spoiled)")
        assert KEY not in ran.err
        api.heal()
        assert api.answered.total() == 32 + 1
        assert inside.run(*FEW, *at(api)).code == 0
        assert api.answered.total() == 40 + 2
    assert not [path for path in inside.files() if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("path", "words"), [("", ("HTTP 404", "is /v1 missing?")), ("/v2", ("HTTP 404", "check --base-url"))]
)
def test_an_address_that_has_no_embeddings_is_told(
    inside: Inside, endpoint: OpenAIServer, path: str, words: tuple[str, ...]
):
    asked = ("--embedder", "openai", "--model", "bge-m3", "--base-url", f"{endpoint.url}{path}")
    errs(inside.run(*FEW, *asked), 1, *words)
    assert left_nothing(inside)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--base-url", "here"), 2, ("'here' is no address", "like http://")),
        (("--base-url", "http://me:S3cret@h/v1"), 2, ("must have no user, password",)),
        (("--api-key-env", "sk-S3cret"), 2, ("must be the name of the environment variable",)),
        ((), 1, ("no key for https://api.openai.com/v1: set OPENAI_API_KEY",)),
    ],
)
def test_options_that_make_no_sense_are_told(
    inside: Inside, options: tuple[str, ...], code: int, words: tuple[str, ...]
):
    ran = inside.run(*FEW, "--embedder", "openai", "--model", "bge-m3", *options)
    errs(ran, code, *words)
    assert "S3cret" not in ran.err
    assert left_nothing(inside)


def test_no_model_is_told(inside: Inside):
    errs(inside.run(*FEW, "--embedder", "openai"), 2, "needs --model")
    errs(inside.run(*FEW, "--embedder", "sentence-transformers"), 2, "needs --model")
    errs(inside.run(*FEW, "--base-url", "http://x/v1"), 2, "'wordllama' has no option --base-url")


def test_an_answer_of_another_width_is_told_before_a_text_is_read(inside: Inside, endpoint: OpenAIServer):
    endpoint.models["bge-m3"] = 96
    errs(inside.run(*FEW, *at(endpoint, "bge-m3")), 1, "vectors of 96 dimensions where 1024 were expected")
    assert left_nothing(inside)


def test_a_query_that_is_answered_in_another_width_is_told(inside: Inside, endpoint: OpenAIServer):
    assert inside.run(*FEW, *at(endpoint, "mine")).code == 0
    endpoint.models["mine"] = 64
    errs(inside.run("query", "tree"), 1, "vectors of 64 dimensions where 96 were expected")
    endpoint.models["mine"] = 96
    endpoint.spoil(nomic_api.Fault("status", 307, location="http://example.invalid/v1/embeddings"))
    errs(inside.run("query", "tree"), 1, "redirects to http://example.invalid/v1, which is not sent")


def test_a_text_that_is_refused_is_left_out_and_one_too_long_is_cut(inside: Inside):
    with OpenAIServer(most_words=30) as api:
        api.spoil(status(400, marker="text 7 of"), None)
        ran = inside.run(*FEW, *at(api))
        assert ran.code == 0, ran
        assert "left out 1 of 40" in ran.out
        assert "a text is too long for nomic-embed-text: only the first" in ran.err
        assert max(len(text.split()) for text in api.answered) == 30


@pytest.mark.parametrize("kind", ["status", "drop", "nan", "too_few", "zeros"])
def test_a_text_that_the_server_always_fails_on_is_left_out_by_name(
    inside: Inside, endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """The others of its request are embedded: the server runs."""
    monkeypatch.setattr(request_pool, "FIRST_PAUSE", 0.001)
    endpoint.spoil(nomic_api.Fault(kind, marker="text 7 of"), None)
    ran = inside.run(*FEW, *at(endpoint))
    assert ran.code == 0, ran
    assert "left out 1 of 40" in ran.out
    assert "embeds other texts" in (inside.home / ".state" / "pydoc" / "report.json").read_text()


@pytest.mark.parametrize("vector", ["zeros", "no_rows"])
def test_an_endpoint_whose_vectors_are_none_is_refused_at_once(
    inside: Inside, endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, vector: str
):
    """Before a text is read."""
    monkeypatch.setattr(request_pool, "FIRST_PAUSE", 0.001)
    endpoint.spoil(nomic_api.Fault(vector), None)
    ran = inside.run(*FEW, *at(endpoint))
    errs(ran, 1, "answered")
    assert left_nothing(inside)


def test_an_endpoint_that_is_gone_is_told_by_query_and_doctor(inside: Inside, endpoint: OpenAIServer):
    assert inside.run(*FEW, *at(endpoint)).code == 0
    findings = {f["what"]: f for f in inside.run("doctor", "--json").json}
    assert findings["endpoint"]["state"] == "ok"
    assert findings["endpoint"]["words"].startswith(f"{endpoint.base_url} embeds with nomic-embed-text (768")
    gone = f"{closed_address()}/v1"
    manifest = json.loads((inside.home / "pydoc" / "manifest.json").read_text())
    manifest["embedder"]["options"]["base_url"] = gone
    edit_manifest(inside.home / "pydoc", embedder=manifest["embedder"])
    errs(inside.run("query", "tree"), 1, f"cannot reach {gone}: Connection refused")
    findings = {f["what"]: f for f in inside.run("doctor", "--json").json}
    assert findings["endpoint"]["state"] == "wrong"
    assert "Connection refused" in findings["endpoint"]["words"]


def test_queries_may_be_embedded_at_another_place_that_runs_the_model(
    inside: Inside, endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch
):
    np.save(inside.folder / "v.npy", np.eye(3, 768, dtype=np.float32))
    built = inside.run("build", "vectors", "v.npy", "--model", "nomic-embed-text-v1.5", "--embedder", "nomic")
    assert built.code == 0, built
    ran = inside.run("query", "a new tree", *at(endpoint))
    assert ran.code == 0, ran
    assert endpoint.last_request["input"] == ["search_query: a new tree"]
    errs(
        inside.run("query", "tree", *at(endpoint, "bge-m3")), 1,
        "was embedded by nomic-embed-text-v1.5 (768 dim", "bge-m3 (1024 dimensions) cannot be compared",
    )  # fmt: skip


def test_an_index_goes_on_at_another_address(inside: Inside, endpoint: OpenAIServer):
    with OpenAIServer() as gone:
        assert inside.run(*FEW, *at(gone), "--limit", 20).code == 0
    errs_at_last(inside.run(*FEW, *at(gone)), 1, "cannot reach")
    assert inside.run(*FEW, *at(endpoint)).code == 0
    assert endpoint.answered.total() == 20 + 1
    assert inside.run("query", "tree", "-k", 1).code == 0
    assert endpoint.last_request["input"] == ["search_query: tree"]


def test_a_model_may_have_another_name_at_another_address(inside: Inside, endpoint: OpenAIServer):
    assert inside.run(*FEW, *at(endpoint, "mine")).code == 0
    with OpenAIServer(models={"renamed": 96}) as other:
        errs(
            inside.run("query", "tree", "--base-url", other.base_url),
            1,
            "does not serve 'mine'",
            "or name another with --model",
        )
        ran = inside.run("query", "tree", "--base-url", other.base_url, "--model", "renamed")
        assert ran.code == 0, ran
        assert other.last_request["model"] == "renamed"


def test_another_place_that_is_none_is_told(inside: Inside):
    np.save(inside.folder / "v.npy", np.eye(3, 768, dtype=np.float32))
    assert inside.run("build", "vectors", "v.npy", "--model", "nomic-embed-text-v1.5").code == 0
    errs(inside.run("query", "x", "--model", "nomic-embed-text"), 2, "--base-url or --embedder")
    for kind in ("lsa", "given"):
        errs(inside.run("query", "x", "--embedder", kind), 2, f"{kind} cannot run the model")
    errs(inside.run("query", "x", "--embedder", "nomic", "--base-url", "http://x/v1"), 2, "has no option")


def test_an_index_of_a_stranger_gets_no_key_unless_its_user_says_so(inside: Inside, endpoint: OpenAIServer):
    assert inside.run(*FEW, *at(endpoint)).code == 0
    manifest = json.loads((inside.home / "pydoc" / "manifest.json").read_text())
    stranger = "http://192.0.2.1:9/v1"
    manifest["embedder"]["options"] |= {"base_url": stranger, "api_key_env": "AWS_SECRET_ACCESS_KEY"}
    edit_manifest(inside.home / "pydoc", embedder=manifest["embedder"])
    inside.setenv("AWS_SECRET_ACCESS_KEY", NEVER)
    ran = inside.run("query", "tree")
    errs(
        ran,
        1,
        stranger,
        "would get the key in AWS_SECRET_ACCESS_KEY",
        "--api-key-env AWS_SECRET_ACCESS_KEY",
    )
    findings = {f["what"]: f for f in inside.run("doctor", "--json").json}
    assert "would get the key" in findings["endpoint"]["words"]
    named = ("--api-key-env", "AWS_SECRET_ACCESS_KEY")
    errs(inside.run("query", "tree", *named), 1, stranger, "would get the key")
    here = ("--base-url", endpoint.base_url)
    assert inside.run("query", "tree", *here).code == 0
    assert "Authorization" not in endpoint.last_headers  # that variable was the stranger's idea
    assert not (inside.home / ".state" / "trusted.json").exists()
    assert inside.run("query", "another tree", *here, *named).code == 0
    assert endpoint.last_headers["Authorization"] == f"Bearer {NEVER}"


def test_adopted_vectors_are_queried_at_an_endpoint(inside: Inside, endpoint: OpenAIServer):
    np.save(inside.folder / "v.npy", endpoint.vectors("mine", ["red trees", "blue violins"]))
    ran = inside.run("build", "vectors", "v.npy", *at(endpoint, "mine"))
    assert ran.code == 0, ran
    assert endpoint.requests == 0
    [hit] = inside.run("query", "blue violins", "-k", 1, "--json").json["hits"]
    assert (hit["row"], round(hit["score"], 4)) == (1, 1.0)
    errs(
        inside.run("build", "vectors", "v.npy", *at(endpoint, "bge-m3"), "--name", "other"), 1,
        "holds vectors of 96 numbers, and those of bge-m3 have 1024",
    )  # fmt: skip

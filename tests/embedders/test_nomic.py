import inspect
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import nomic
import nomic.cli
import nomic.dataset
import nomic.embed
import numpy as np
import pytest
import requests

from resizable_search.embedders.nomic import NomicEmbedder
from resizable_search.errors import (
    BadAnswerError,
    CredentialsError,
    EmbedderError,
    QuotaError,
    RefusedTextError,
    ServiceError,
    UsageError,
)
from tests.servers import nomic_api
from tests.servers.nomic_api import NomicServer, status
from tests.support import TEST_DATA

KEY = "nk-test"
SECRET = "nk-S3cret_do-not-show"
RECORDINGS = TEST_DATA / "nomic" / "api-recordings.json"


@pytest.fixture
def api():
    with NomicServer(keys=[KEY, SECRET]) as server:
        yield server


@pytest.fixture(autouse=True)
def home(api, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ATLAS_API_PATH", api.url)
    monkeypatch.setenv("NOMIC_API_KEY", KEY)
    monkeypatch.setattr(nomic.cli, "nomic_base_path", tmp_path / ".nomic")
    monkeypatch.setattr(nomic.embed, "atlas_class", None)
    return tmp_path


@pytest.fixture
def slept(monkeypatch):
    """The pauses of the client's back-off, which take no time."""
    pauses = []
    monkeypatch.setattr(nomic.embed, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def log_in(home, login):
    folder = home / ".nomic"
    folder.mkdir()
    text = login if isinstance(login, str) else json.dumps(login)
    (folder / "credentials").write_text(text)


def login_of(token=KEY, **others):
    return {"refresh_token": None, "token": token, "tenant": "production", "expires": None, **others}


def message_of(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert KEY not in text
    assert SECRET not in text
    return text


class TestSeam:
    """What this package relies on in the client; a client without it needs another embedder."""

    def test_the_request_function(self):
        attribute = getattr(nomic.embed, "text_api_request", None)
        assert attribute is not None, "nomic.embed has lost text_api_request, which sends one request"
        assert list(inspect.signature(attribute).parameters) == [
            "texts",
            "model",
            "task_type",
            "dimensionality",
            "long_text_mode",
        ], "nomic.embed.text_api_request takes other arguments than before"

    def test_the_module_variable(self):
        assert hasattr(nomic.embed, "atlas_class"), (
            "nomic.embed has lost atlas_class, which holds the account"
        )
        assert "atlas_class" in nomic.embed.text_api_request.__code__.co_names, (
            "nomic.embed.text_api_request no longer reads atlas_class"
        )

    def test_the_credentials_property(self):
        attribute = getattr(nomic.dataset.AtlasClass, "credentials", None)
        assert isinstance(attribute, property), "nomic's AtlasClass has lost its credentials property"
        assert "credentials" in nomic.dataset.AtlasClass.__init__.__code__.co_names, (
            "nomic's AtlasClass no longer takes its token from its credentials property"
        )


class TestSpec:
    def test_of_the_default_model(self):
        spec = NomicEmbedder().spec
        assert (spec.kind, spec.model, spec.width) == ("nomic", "nomic-embed-text-v1.5", 768)
        assert (spec.document_task, spec.query_task) == ("search_document", "search_query")
        assert spec.centred

    def test_v1_is_not_centred(self):
        assert not NomicEmbedder(model="nomic-embed-text-v1").spec.centred

    def test_an_unknown_model_is_refused_by_name(self):
        with pytest.raises(UsageError, match=r"'ada'.*nomic-embed-text-v1\.5, nomic-embed-text-v1"):
            NomicEmbedder(model="ada")

    def test_the_rate_limit_is_the_hosted_services(self, monkeypatch):
        assert NomicEmbedder().requests_per_minute is None
        monkeypatch.delenv("ATLAS_API_PATH")
        assert NomicEmbedder().requests_per_minute == 240

    def test_its_limits(self):
        assert (NomicEmbedder.remote, NomicEmbedder.batch_size, NomicEmbedder.concurrency) == (True, 10, 8)


class TestAnswers:
    def test_vectors_in_the_texts_order(self, api):
        texts = ["the roman empire", "tree data structures", "the empire of rome"]
        vectors = NomicEmbedder().embed(texts, "search_document")
        assert (vectors.shape, vectors.dtype) == ((3, 768), np.float32)
        assert vectors.flags.c_contiguous
        singly = [NomicEmbedder().embed([text], "search_document")[0] for text in texts]
        np.testing.assert_array_equal(vectors, singly)
        assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]

    def test_the_task_reaches_the_service(self, api):
        embedder = NomicEmbedder()
        document, query = (embedder.embed(["tree"], task) for task in ("search_document", "search_query"))
        assert api.last_request["task_type"] == "search_query"
        assert 0.5 < (document @ query.T).item() < 0.99

    def test_ten_texts_are_one_request(self, api):
        embedder = NomicEmbedder()
        for count in (1, 5, 10):
            before = api.requests
            embedder.embed([f"text {i}" for i in range(count)], "search_document")
            assert api.requests == before + 1
        assert api.user_requests == 1

    def test_the_request_is_the_clients_own(self, api):
        NomicEmbedder().embed(["a text"], "search_document")
        assert api.last_headers["User-Agent"].startswith("py-nomic/3.")
        assert api.last_headers["Authorization"] == f"Bearer {KEY}"
        assert api.last_request == {
            "texts": ["a text"],
            "model": "nomic-embed-text-v1.5",
            "task_type": "search_document",
            "dimensionality": 768,
            "long_text_mode": "truncate",
        }

    def test_many_threads_share_one_client(self, api):
        api.latency = 0.05
        embedder = NomicEmbedder()
        texts = [f"text number {i}" for i in range(32)]
        with ThreadPoolExecutor(8) as pool:
            rows = list(pool.map(lambda text: embedder.embed([text], "search_document")[0], texts))
        assert api.user_requests == 1
        assert api.most_at_once > 1
        assert set(api.answered.values()) == {1}
        np.testing.assert_array_equal(rows[:10], embedder.embed(texts[:10], "search_document"))

    def test_two_embedders_keep_their_accounts(self, api, monkeypatch):
        first = NomicEmbedder()
        first.embed(["a text"], "search_document")
        monkeypatch.setenv("NOMIC_API_KEY", SECRET)
        NomicEmbedder().embed(["a text"], "search_document")
        assert api.last_headers["Authorization"] == f"Bearer {SECRET}"
        first.embed(["a text"], "search_document")
        assert api.last_headers["Authorization"] == f"Bearer {KEY}"

    @pytest.mark.skipif(not RECORDINGS.exists(), reason="no recordings: set RSEARCH_TEST_DATA")
    def test_recorded_answers_are_replayed(self, monkeypatch):
        pairs = json.loads(RECORDINGS.read_text())
        with NomicServer(recordings=RECORDINGS) as api:
            monkeypatch.setenv("ATLAS_API_PATH", api.url)
            for pair in pairs:
                answer = requests.post(
                    f"{api.url}/v1/embedding/text",
                    json=pair["request"],
                    headers={"Authorization": f"Bearer {KEY}"},
                    timeout=10,
                )
                assert answer.json() == pair["response"]
            full = next(pair for pair in pairs if len(pair["response"]["embeddings"][0]) == 768)
            vectors = NomicEmbedder().embed(full["request"]["texts"], "search_document")
        np.testing.assert_array_equal(vectors, np.array(full["response"]["embeddings"], np.float32))


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "error", "remedy"),
        [
            (401, CredentialsError, "NOMIC_API_KEY"),
            (403, CredentialsError, "nomic login"),
            (402, QuotaError, "atlas.nomic.ai"),
            (400, RefusedTextError, "on_bad_text=skip"),
            (413, RefusedTextError, "on_bad_text=skip"),
            (422, RefusedTextError, "on_bad_text=skip"),
            (404, EmbedderError, "ATLAS_API_PATH"),
        ],
    )
    def test_by_status(self, api, code, error, remedy):
        api.spoil(status(code))
        with pytest.raises(error) as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        assert type(caught.value) is error
        assert f"HTTP {code}: spoiled" in message_of(caught)
        assert remedy in message_of(caught)
        assert api.requests == 1

    @pytest.mark.parametrize("code", [429, 500, 503])
    def test_that_outlast_the_clients_own_tries(self, api, slept, code):
        api.spoil(status(code, retry_after="7"), None)
        with pytest.raises(ServiceError, match=f"HTTP {code}: spoiled.*try again") as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        message_of(caught)
        assert slept == [1, 2, 4, 8, 16]
        assert api.requests == 6

    def test_that_the_client_gets_over(self, api, slept):
        api.spoil(status(503), times=3)
        assert NomicEmbedder().embed(["a text"], "search_document").shape == (1, 768)
        assert (api.asked["a text"], api.answered["a text"]) == (4, 1)

    def test_what_the_client_repeats_asks_for_its_turn_each_time(self, api, slept):
        embedder, turns = NomicEmbedder(), []
        embedder.before_repeat = lambda: turns.append(api.asked["x"])
        api.spoil(status(503), 3)
        embedder.embed(["x"], "search_document")
        assert turns == [1, 2, 3]
        assert api.asked["x"] == 4

    def test_what_has_no_turn_is_not_repeated(self, api, slept):
        embedder = NomicEmbedder()

        def refuse():
            raise ServiceError("the work has ended")

        embedder.before_repeat = refuse
        api.spoil(status(503), 3)
        with pytest.raises(ServiceError, match="the work has ended"):
            embedder.embed(["x"], "search_document")
        assert api.asked["x"] == 1

    def test_a_call_that_was_given_up_sends_nothing_more(self, api, monkeypatch):
        pause = threading.Event()
        monkeypatch.setattr(nomic.embed, "time", SimpleNamespace(sleep=lambda seconds: pause.wait(10)))
        embedder = NomicEmbedder(timeout=0.5)
        embedder.embed(["before"], "search_document")
        api.spoil(status(503), 1)
        with pytest.raises(ServiceError, match="did not answer within"):
            embedder.embed(["x"], "search_document")
        pause.set()
        time.sleep(0.2)
        assert api.asked["x"] == 1

    def test_of_a_text_with_a_marker(self, api):
        api.spoil(status(422, marker="poison"), None)
        embedder = NomicEmbedder()
        with pytest.raises(RefusedTextError):
            embedder.embed(["fine", "some poison here"], "search_document")
        embedder.embed(["fine"], "search_document")

    def test_of_an_empty_text(self):
        with pytest.raises(RefusedTextError, match="not empty"):
            NomicEmbedder().embed([""], "search_document")

    @pytest.mark.parametrize("code", [401, 402, 422, 500])
    def test_do_not_show_a_key_that_the_body_echoes(self, api, slept, monkeypatch, code):
        monkeypatch.setenv("NOMIC_API_KEY", SECRET)
        api.spoil(status(code, body='{"detail": "bad \\u001b[31m\\nkey {key}, Bearer {key}"}'), None)
        with pytest.raises(EmbedderError, match=r"bad \[31m key \*\*\*, Bearer \*\*\*") as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        assert message_of(caught).isprintable()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    def test_of_html_are_told_without_it(self, api):
        api.spoil(status(403, body="<html>" + "x" * 1000))
        with pytest.raises(CredentialsError, match=r"\(HTTP 403\)"):
            NomicEmbedder().embed(["a text"], "search_document")

    def test_of_a_key_are_asked_about_again(self, api):
        embedder = NomicEmbedder()
        api.spoil(status(401))
        with pytest.raises(CredentialsError):
            embedder.embed(["a text"], "search_document")
        embedder.embed(["a text"], "search_document")
        assert api.user_requests == 2


class TestBadAnswers:
    @pytest.mark.parametrize(
        ("fault", "words", "again"),
        [
            (nomic_api.TOO_FEW, "1 vectors for 2 texts", True),
            (nomic_api.NAN, "NaN", True),
            (nomic_api.WRONG_WIDTH, "767 dimensions where 768", False),
            (nomic_api.OTHER_MODEL, "'another-model' where nomic-embed-text-v1.5", False),
            (nomic_api.NO_ROWS, "without embeddings", True),
        ],
        ids=lambda value: getattr(value, "kind", None),
    )
    def test_are_told(self, api, fault, words, again):
        api.spoil(fault)
        with pytest.raises(BadAnswerError) as caught:
            NomicEmbedder().embed(["one", "two"], "search_document")
        assert words in message_of(caught)
        assert caught.value.again is again

    @pytest.mark.parametrize(
        "rows", [[[1.0, 2.0], [1.0]], [["a"], ["b"]], [[None], [None]], [[1e300] * 768] * 2]
    )
    def test_that_are_no_matrix_of_numbers(self, api, rows):
        body = json.dumps({"embeddings": rows, "model": "nomic-embed-text-v1.5", "usage": {}})
        api.spoil(status(200, body=body))
        with pytest.raises(BadAnswerError):
            NomicEmbedder().embed(["one", "two"], "search_document")

    @pytest.mark.parametrize("body", ["[]", "null", '{"model": "nomic-embed-text-v1.5"}'])
    def test_of_another_form(self, api, body):
        api.spoil(status(200, body=body))
        with pytest.raises(BadAnswerError, match="without embeddings"):
            NomicEmbedder().embed(["one"], "search_document")

    def test_html_may_be_cured_by_another_try(self, api):
        api.spoil(nomic_api.HTML)
        with pytest.raises(ServiceError, match="not JSON"):
            NomicEmbedder().embed(["one"], "search_document")


class TestConnection:
    def test_a_dropped_one(self, api):
        api.spoil(nomic_api.DROP)
        with pytest.raises(ServiceError, match="cannot reach .*: Remote end closed connection"):
            NomicEmbedder().embed(["a text"], "search_document")

    def test_a_hung_one_is_given_up(self, api):
        api.spoil(nomic_api.HANG)
        embedder = NomicEmbedder(timeout=0.5)
        began = time.monotonic()
        with pytest.raises(ServiceError, match=r"did not answer within 0\.5 s"):
            embedder.embed(["a text"], "search_document")
        assert time.monotonic() - began < 5
        assert embedder.embed(["another"], "search_document").shape == (1, 768)
        api.release()

    def test_a_service_that_hangs_from_the_start(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            monkeypatch.setenv("ATLAS_API_PATH", f"http://127.0.0.1:{deaf.getsockname()[1]}")
            with pytest.raises(ServiceError, match=r"did not answer within 0\.3 s"):
                NomicEmbedder(timeout=0.3).embed(["a text"], "search_document")

    def test_an_unreachable_service_is_named(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            url = f"http://127.0.0.1:{gone.getsockname()[1]}"
        monkeypatch.setenv("ATLAS_API_PATH", url.replace("//", "//user:password@"))
        with pytest.raises(ServiceError) as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        assert message_of(caught).startswith(f"cannot reach {url} (ATLAS_API_PATH): Connection refused; ")
        assert "password" not in message_of(caught)

    def test_the_hosted_service_is_named(self, monkeypatch):
        monkeypatch.delenv("ATLAS_API_PATH")

        def unreachable(url, **kwargs):
            raise requests.ConnectionError("no network", request=requests.Request("GET", url).prepare())

        monkeypatch.setattr(nomic.dataset.requests, "get", unreachable)
        with pytest.raises(ServiceError, match=r"^cannot reach Nomic: no network; check the network"):
            NomicEmbedder().embed(["a text"], "search_document")

    @pytest.mark.parametrize("address", ["127.0.0.1:80", "here", "http://[", "ftp://127.0.0.1"])
    def test_an_address_that_is_none(self, monkeypatch, address):
        monkeypatch.setenv("ATLAS_API_PATH", address)
        with pytest.raises(EmbedderError, match="is no address, .*; check ATLAS_API_PATH") as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        assert not isinstance(caught.value, ServiceError)

    def test_a_service_that_fails_at_the_greeting(self, api):
        api.user_status = 503
        with pytest.raises(ServiceError, match="is failing"):
            NomicEmbedder().embed(["a text"], "search_document")
        assert api.requests == 0


LOGIN_REMEDY = "credentials is damaged, or has expired and could not be renewed; run `nomic login` again"


class TestCredentials:
    def test_none(self, monkeypatch, home):
        monkeypatch.setenv("NOMIC_API_KEY", " ")
        with pytest.raises(CredentialsError) as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        assert str(caught.value) == ("no Nomic credentials: run `nomic login`, or set NOMIC_API_KEY")
        assert list(home.rglob("*")) == []

    def test_the_login_file(self, api, monkeypatch, home):
        monkeypatch.delenv("NOMIC_API_KEY")
        log_in(home, login_of(SECRET))
        NomicEmbedder().embed(["a text"], "search_document")
        assert api.last_headers["Authorization"] == f"Bearer {SECRET}"

    def test_the_variable_comes_first_without_its_white_space(self, api, monkeypatch, home):
        monkeypatch.setenv("NOMIC_API_KEY", f" {KEY}\n")
        log_in(home, login_of("nk-another"))
        NomicEmbedder().embed(["a text"], "search_document")
        assert api.last_headers["Authorization"] == f"Bearer {KEY}"

    def test_an_enterprise_login_keeps_its_domain(self, monkeypatch, home):
        monkeypatch.delenv("NOMIC_API_KEY")
        monkeypatch.delenv("ATLAS_API_PATH")
        domains = {"api_domain": "api.example.com", "frontend_domain": "example.com"}
        log_in(home, login_of(tenant="enterprise", **domains))
        monkeypatch.setattr(nomic.dataset.requests, "get", fake_get(asked := []))
        NomicEmbedder()._connected(5)
        assert asked == ["https://api.example.com/v1/user"]

    @pytest.mark.parametrize(
        "login",
        [
            "",
            "{not json",
            "[]",
            "{}",
            '{"token": "nk-x"}',
            json.dumps(login_of(token=None)),
            json.dumps(login_of(tenant="nowhere")),
            json.dumps(login_of(tenant="enterprise")),
            json.dumps(login_of(expires="soon")),
        ],
    )
    def test_a_damaged_login_file(self, api, monkeypatch, home, login):
        monkeypatch.delenv("NOMIC_API_KEY")
        log_in(home, login)
        with pytest.raises(CredentialsError, match=LOGIN_REMEDY) as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        assert "nk-x" not in message_of(caught)
        assert api.user_requests == 0

    def test_a_login_file_that_cannot_be_opened(self, monkeypatch, home):
        monkeypatch.delenv("NOMIC_API_KEY")
        (home / ".nomic" / "credentials").mkdir(parents=True)
        with pytest.raises(CredentialsError, match=LOGIN_REMEDY):
            NomicEmbedder().embed(["a text"], "search_document")

    @pytest.mark.parametrize("answer", [401, 503, None])
    def test_an_expired_login(self, monkeypatch, home, answer):
        monkeypatch.delenv("NOMIC_API_KEY")
        log_in(home, login_of(refresh_token=SECRET, expires=1))
        monkeypatch.setattr(nomic.cli.requests, "get", fake_get([], answer))
        with pytest.raises(CredentialsError, match=LOGIN_REMEDY) as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        message_of(caught)

    @pytest.mark.parametrize("key", ["nk-a b", "nk-a\nb", "nk-ä", "nk-\x00"])
    def test_a_key_that_is_none(self, home, monkeypatch, key):
        log_in(home, login_of(key))
        monkeypatch.delenv("NOMIC_API_KEY")
        with pytest.raises(CredentialsError, match="characters that no key has") as caught:
            NomicEmbedder().embed(["a text"], "search_document")
        assert key not in message_of(caught)

    def test_a_refused_key_leaves_no_trace(self, api, home):
        program = (
            "from resizable_search.embedders.nomic import NomicEmbedder\n"
            "from resizable_search.errors import CredentialsError\n"
            "try: NomicEmbedder().embed(['a text'], 'search_document')\n"
            "except CredentialsError as error: print(error)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "NOMIC_API_KEY": "nk-refused"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert " refuses the key from NOMIC_API_KEY (HTTP 401: Invalid" in run.stdout
        assert "nk-" not in run.stdout
        assert not any(b"nk-refused" in path.read_bytes() for path in home.rglob("*") if path.is_file())
        assert not (home / ".nomic").exists()


def fake_get(asked, code=200):
    """`requests.get` that notes URLs; None: it cannot connect."""

    def get(url, **kwargs):
        asked.append(url)
        if code is None:
            raise requests.ConnectionError(url)
        answer = requests.Response()
        answer.status_code = code
        return answer

    return get


class TestCheckCredentials:
    def test_a_good_key(self, api):
        answer = NomicEmbedder().check()
        assert answer == f"the key from NOMIC_API_KEY is accepted by {api.url}"
        assert api.requests == 0

    def test_a_good_login(self, home, monkeypatch):
        monkeypatch.delenv("NOMIC_API_KEY")
        log_in(home, login_of())
        assert NomicEmbedder().check().startswith(f"the key from {home}/.nomic/credentials is")

    def test_a_refused_key(self, monkeypatch):
        monkeypatch.setenv("NOMIC_API_KEY", "nk-refused")
        with pytest.raises(CredentialsError, match="HTTP 401") as caught:
            NomicEmbedder().check()
        assert "nk-refused" not in message_of(caught)

    def test_a_failing_service(self, api):
        embedder = NomicEmbedder()
        embedder.check()
        api.user_status = 503
        with pytest.raises(ServiceError, match="HTTP 503"):
            embedder.check()


def test_the_module_does_not_import_the_client():
    program = (
        "import sys, resizable_search.embedders.nomic\n"
        "print(sorted({'nomic', 'requests', 'gpt4all', 'loguru'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "[]\n"


class TestServer:
    def test_its_vectors_look_like_the_services(self):
        words = [f"word{i}" for i in range(500)]
        texts = [" ".join(words[i : i + 1 + i % 60]) for i in range(400)] + ["!", "the of", "木"]
        vectors = nomic_api.Vectors().of(texts, "search_document")
        np.testing.assert_array_equal(vectors, vectors.astype(np.float16))
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        assert norms.min() > 0.9998
        assert norms.max() < 1.0005
        assert np.abs(vectors.astype(np.float64).mean(axis=1)).max() < 3e-6

    @pytest.mark.parametrize("width", [768, 256, 128])
    def test_texts_that_share_words_are_close_in_every_prefix(self, width):
        vectors = nomic_api.Vectors().of(
            [
                "A binary tree is a tree data structure in which each node has at most two children",
                "The children of a node in a binary search tree",
                "The Roman Empire ruled the Mediterranean and was in its prime for two centuries",
            ],
            "search_document",
        )
        tree, search_tree, rome = nomic_api.rounded(vectors[:, :width])
        assert tree @ search_tree > 0.15 + tree @ rome

    def test_a_smaller_dimension_is_cut_and_normalised(self, api):
        answers = {
            width: np.array(
                requests.post(
                    f"{api.url}/v1/embedding/text",
                    json={"texts": ["a tree"], "model": "nomic-embed-text-v1.5", "dimensionality": width},
                    headers={"Authorization": f"Bearer {KEY}"},
                    timeout=10,
                ).json()["embeddings"][0]
            )
            for width in (64, 768)
        }
        expected = answers[768][:64] / np.linalg.norm(answers[768][:64])
        np.testing.assert_allclose(answers[64], expected, atol=2e-4)

    def test_faults_with_a_probability_are_repeatable(self):
        def outcomes():
            with NomicServer(seed=3) as api:
                api.spoil(status(402), None, probability=0.5)
                return [
                    requests.post(
                        f"{api.url}/v1/embedding/text",
                        json={"texts": ["a"], "model": "nomic-embed-text-v1.5"},
                        headers={"Authorization": f"Bearer {KEY}"},
                        timeout=10,
                    ).status_code
                    for _ in range(12)
                ]

        first = outcomes()
        assert set(first) == {200, 402}
        assert outcomes() == first

    def test_more_than_ten_texts_are_refused(self):
        with pytest.raises(RefusedTextError, match="between 1 and 10"):
            NomicEmbedder().embed(["a"] * 11, "search_document")

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from resizable_search.embedders import base, registry
from resizable_search.embedders.nomic import NomicEmbedder
from resizable_search.embedders.openai import OpenAIEmbedder, rows_of
from resizable_search.embedders.request_pool import RequestPool, embed_all
from resizable_search.errors import (
    BadAnswerError,
    CredentialsError,
    EmbedderError,
    IndexFormatError,
    QuotaError,
    RateLimitedError,
    RefusedTextError,
    ServiceError,
    UsageError,
)
from resizable_search.specs import EmbedderSpec
from tests.servers import nomic_api
from tests.servers.nomic_api import Fault, status
from tests.servers.openai_api import KEY, OpenAIServer
from tests.support import TEST_DATA

SECRET = "sk-S3cret_do-not-show"
RECORDINGS = TEST_DATA / "nomic" / "ollama-nomic-embed-text.jsonl"


@pytest.fixture
def api():
    with OpenAIServer() as server:
        yield server


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # no proxy leads to this machine
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def embedder_of(api, model="nomic-embed-text", **options):
    return OpenAIEmbedder(model=model, base_url=api.base_url, **options)


def message_of(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert KEY not in text
    assert SECRET not in text
    return text


def endpoint_of(embedder):
    return embedder._endpoint.base_url


class TestSpec:
    def test_a_known_model_has_its_cards_facts_without_a_request(self, api):
        spec = embedder_of(api).spec
        assert (spec.kind, spec.model, spec.width) == ("openai", "nomic-embed-text-v1.5", 768)
        assert (spec.document_task, spec.query_task, spec.centred) == (
            "search_document",
            "search_query",
            True,
        )
        assert api.requests == 0

    def test_the_embedder_of_an_index_asks_no_endpoint_for_its_width(self, api):
        spec = embedder_of(api, "mine").spec
        before = api.requests
        assert registry.reopen(spec, Path()).spec == spec
        assert api.requests == before

    def test_the_same_model_is_comparable_wherever_it_runs(self, api):
        hosted = NomicEmbedder().spec
        assert embedder_of(api).spec.space == hosted.space
        assert embedder_of(api, "nomic-ai/nomic-embed-text-v1.5").spec.space == hosted.space
        assert embedder_of(api, document_prefix="").spec.space != hosted.space
        assert embedder_of(api, document_prefix="search_document: ").spec.space == hosted.space

    def test_an_unknown_models_width_is_asked_for_once(self, api):
        embedder = embedder_of(api, "mine")
        assert (embedder.spec.width, embedder.spec.document_task) == (96, "")
        embedder.embed(["a text"], "search_document")
        assert api.requests == 2

    def test_it_holds_all_that_reopens_it_and_no_key(self, api, monkeypatch):
        monkeypatch.setenv("MY_KEY", SECRET)
        embedder = embedder_of(api, "mine", api_key_env="MY_KEY", document_prefix="doc: ")
        data = embedder.spec.to_json()
        assert SECRET not in json.dumps(data)
        assert data["options"] == {
            "base_url": api.base_url,
            "api_key_env": "MY_KEY",
            "served_as": "mine",
            "document_prefix": "doc: ",
            "query_prefix": "",
            "width": 96,
            "centred": False,
        }
        asked = api.requests
        again = registry.reopen(EmbedderSpec.from_json(data), Path())
        assert again.spec == embedder.spec
        assert api.requests == asked

    def test_an_index_is_opened_alike_when_more_models_are_known(self, api):
        """A model that is known by now, as an index keeps it that was built when it was not."""
        old = EmbedderSpec(
            "openai", "org/bge-m3", 1024, "d", "q",
            options={
                "base_url": api.base_url, "api_key_env": "X", "served_as": "bge-m3", "document_prefix": "d",
                "query_prefix": "q", "width": 1024, "centred": False,
            },
        )  # fmt: skip
        assert registry.reopen(old, Path()).spec == old

    @pytest.mark.parametrize(
        "options", [{"base_url": 5}, {"base_url": "ftp://x"}, {"document_prefix": 7}, {"api_key_env": "a b"}]
    )
    def test_options_of_an_index_that_make_no_sense_are_refused(self, options):
        with pytest.raises(IndexFormatError, match="does not take the index's options"):
            registry.reopen(EmbedderSpec("openai", "x", 3, options={"width": 3, **options}), Path())

    def test_without_a_model_it_says_so(self):
        with pytest.raises(UsageError, match="needs `model`"):
            OpenAIEmbedder()

    def test_openai_itself_is_meant_unless_another_endpoint_is_named(self, monkeypatch):
        assert endpoint_of(OpenAIEmbedder(model="ada-002")) == "https://api.openai.com/v1"
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/")
        assert endpoint_of(OpenAIEmbedder(model="ada-002")) == "http://127.0.0.1:1/v1"

    def test_a_server_of_this_machine_gets_fewer_requests_at_once(self, api):
        assert embedder_of(api).concurrency == 2
        assert OpenAIEmbedder(model="text-embedding-3-small").concurrency == 8
        assert OpenAIEmbedder(model="text-embedding-3-small").requests_per_minute is None


class TestAnswers:
    def test_vectors_in_the_texts_order_behind_their_prefix(self, api):
        texts = ["the roman empire", "tree data structures", "the empire of rome"]
        vectors = embedder_of(api).embed(texts, "search_document")
        assert (vectors.shape, vectors.dtype) == ((3, 768), np.float32)
        assert api.last_request["input"] == [f"search_document: {text}" for text in texts]
        np.testing.assert_array_equal(vectors, api.vectors("nomic-embed-text", api.last_request["input"]))
        embedder_of(api).embed(["rome"], "search_query")
        assert api.last_request["input"] == ["search_query: rome"]

    def test_prefixes_may_be_ones_own(self, api):
        embedder = embedder_of(api, document_prefix="", query_prefix="ask: ")
        embedder.embed(["rome"], "search_document")
        assert api.last_request["input"] == ["rome"]
        embedder.embed(["rome"], "search_query")
        assert api.last_request["input"] == ["ask: rome"]

    @pytest.mark.parametrize("understood", ["answers", "ignores", "refuses", "fails", "empties"])
    def test_base64_is_asked_for_and_floats_are_taken_too(self, understood):
        with OpenAIServer(base64=understood) as api:
            embedder = embedder_of(api)
            first = embedder.embed(["one", "two"], "search_document")
            requests = api.requests
            np.testing.assert_array_equal(embedder.embed(["one", "two"], "search_document"), first)
            assert api.requests == requests + 1
            takes = understood in ("answers", "ignores")
            assert ("encoding_format" in api.last_request) == takes
            assert requests == (1 if takes else 2)

    @pytest.mark.parametrize("encoding", ["base64", "float"])
    def test_an_encoding_that_is_given_is_asked_for_and_recorded(self, api, encoding):
        embedder = embedder_of(api, encoding_format=encoding)
        embedder.embed(["one"], "search_document")
        assert api.last_request.get("encoding_format", "float") == encoding
        assert embedder.spec.options["encoding_format"] == encoding
        assert "encoding_format" not in embedder_of(api).spec.options
        with pytest.raises(UsageError, match="base64 or float, not 'int8'"):
            embedder_of(api, encoding_format="int8")

    def test_are_put_in_the_order_that_they_are_numbered_in(self, api):
        api.spoil(nomic_api.SHUFFLED)
        embedder = embedder_of(api)
        shuffled = embedder.embed(["one", "two", "three"], "search_document")
        np.testing.assert_array_equal(shuffled, embedder.embed(["one", "two", "three"], "search_document"))

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param([{"embedding": [1, 2]}, {"embedding": [3, 4]}], id="no numbers"),
            pytest.param([{"embedding": [1, 2]}, {"embedding": [3, 4], "index": 1}], id="Gemini: no 0"),
            pytest.param([{"embedding": [3, 4], "index": 1}, {"embedding": [1, 2]}], id="no 0, shuffled"),
            pytest.param(
                [{"embedding": [3, 4], "index": 1.0}, {"embedding": [1, 2], "index": 0.0}], id="floats"
            ),
            pytest.param(
                [{"embedding": [3, 4], "index": "1"}, {"embedding": [1, 2], "index": "0"}], id="texts"
            ),
            pytest.param([{"embedding": [1, 2], "index": 0}, {"embedding": [3, 4], "index": 0}], id="all 0"),
            pytest.param([{"embedding": [3, 4], "index": 2}, {"embedding": [1, 2], "index": 1}], id="from 1"),
            pytest.param(
                [{"embedding": "AACAPwAAAEA=", "index": 0}, {"embedding": [3, 4], "index": 1}], id="base64"
            ),
        ],
    )
    def test_in_every_form_that_servers_are_known_for(self, data):
        rows = rows_of({"data": data}, 2, "it")
        np.testing.assert_array_equal(rows, [[1, 2], [3, 4]])

    def test_many_threads_share_one_client(self, api):
        api.latency = 0.05
        embedder = embedder_of(api)
        texts = [f"text number {i}" for i in range(16)]
        with ThreadPoolExecutor(8) as pool:
            rows = list(pool.map(lambda text: embedder.embed([text], "search_query")[0], texts))
        assert api.most_at_once > 1
        np.testing.assert_array_equal(rows, embedder.embed(texts, "search_query"))

    @pytest.mark.skipif(not RECORDINGS.exists(), reason="no recordings: set RSEARCH_TEST_DATA")
    def test_ollamas_own_are_replayed(self):
        recorded = [json.loads(line) for line in RECORDINGS.read_text().splitlines()]
        latest = [entry for entry in recorded if entry["model"] == "nomic-embed-text:latest"]
        with OpenAIServer(recordings=RECORDINGS) as api:
            embedder = embedder_of(api, "nomic-embed-text:latest", document_prefix="", query_prefix="")
            rows = embed_all(embedder, [entry["text"] for entry in latest], "search_query")
        np.testing.assert_array_equal(rows, np.array([entry["embedding"] for entry in latest], np.float32))


class TestBadAnswers:
    @pytest.mark.parametrize(
        ("fault", "what", "again"),
        [
            (nomic_api.TOO_FEW, "1 vectors for 2 texts", True),
            (nomic_api.NAN, "NaN", True),
            (nomic_api.WRONG_WIDTH, "767 dimensions where 768", False),
            (nomic_api.ONE_INDEX, "numbered its 2 vectors 1, 1", True),
            (nomic_api.NO_ROWS, "without embeddings", True),
        ],
        ids=lambda value: getattr(value, "kind", None),
    )
    def test_are_told(self, api, fault, what, again):
        api.spoil(fault, None)  # in whatever encoding
        with pytest.raises(BadAnswerError) as caught:
            embedder_of(api).embed(["one", "two"], "search_document")
        assert what in message_of(caught)
        assert caught.value.again is again

    @pytest.mark.parametrize(
        "rows",
        [
            [[1.0, 2.0], [1.0]],
            [["a"], ["b"]],
            [None, None],
            [[], []],
            ["AAAA", "no base64!"],
            ["AAA=", "AAA="],
            [1.0, 2.0],
        ],
    )
    def test_that_are_no_rows_of_numbers(self, rows):
        with pytest.raises(BadAnswerError, match="not rows of numbers"):
            rows_of({"data": [{"embedding": row} for row in rows]}, 2, "it")

    def test_a_vector_for_each_token_names_the_remedy(self):
        with pytest.raises(BadAnswerError, match="--pooling mean"):
            rows_of({"data": [{"embedding": [[1.0], [2.0]]}]}, 1, "it")

    @pytest.mark.parametrize("answer", [[], None, "x", {}, {"data": 5}, {"data": [5]}, {"error": "no"}])
    def test_of_another_form(self, answer):
        with pytest.raises(BadAnswerError, match="without embeddings"):
            rows_of(answer, 1, "it")

    def test_numbers_too_large_for_float32_are_infinite_and_refused(self, api):
        row = [1e300] * 768
        api.spoil(status(200, body=json.dumps({"data": [{"embedding": row}]})), None)
        with pytest.raises(BadAnswerError, match="infinity"):
            embedder_of(api).embed(["one"], "search_document")

    def test_html_may_be_cured_by_another_try(self, api):
        api.spoil(nomic_api.HTML)
        with pytest.raises(ServiceError, match="not JSON"):
            embedder_of(api).embed(["one"], "search_document")

    def test_another_models_name_is_only_told_and_once(self, api):
        embedder, notes = embedder_of(api), []
        embedder.on_note = notes.append
        api.spoil(nomic_api.OTHER_MODEL, 2)
        for _ in range(3):
            embedder.embed(["one"], "search_document")
        assert len(notes) == 1
        assert "'another-model'" in notes[0]
        assert "'nomic-embed-text'" in notes[0]

    @pytest.mark.parametrize(
        "named", ["nomic-embed-text:latest", "/m/nomic-embed-text-v1.5.Q8_0.gguf", "", None]
    )
    def test_the_same_model_by_another_name_is_not(self, api, named):
        embedder, notes = embedder_of(api), []
        embedder.on_note = notes.append
        packed = base64.b64encode(np.ones(768, "<f4").tobytes()).decode()
        api.spoil(status(200, body=json.dumps({"data": [{"embedding": packed}], "model": named})))
        embedder.embed(["one"], "search_document")
        assert notes == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "error", "remedy"),
        [
            (401, CredentialsError, "which is not set"),
            (403, CredentialsError, "api_key_env"),
            (409, ServiceError, "try again later"),
            (499, ServiceError, "try again later"),
            (402, QuotaError, "add to the account"),
            (400, RefusedTextError, "on_bad_text=skip"),
            (413, RefusedTextError, "on_bad_text=skip"),
            (422, RefusedTextError, "on_bad_text=skip"),
            (429, RateLimitedError, "`rate`"),
            (500, ServiceError, "try again later"),
            (503, ServiceError, "try again later"),
            (405, EmbedderError, "check `base_url`"),
            (501, EmbedderError, "check `base_url`"),
        ],
    )
    def test_by_status(self, api, code, error, remedy):
        api.spoil(status(code), None)
        with pytest.raises(error) as caught:
            embedder_of(api).embed(["a text"], "search_document")
        assert type(caught.value) is error
        assert f"HTTP {code}: spoiled" in message_of(caught)
        assert remedy in message_of(caught)

    def test_a_quota_that_is_used_up_is_no_haste(self, api):
        body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
        api.spoil(status(429, body=json.dumps(body)))
        with pytest.raises(QuotaError, match="You exceeded your current quota"):
            embedder_of(api).embed(["a text"], "search_document")

    @pytest.mark.parametrize(
        ("body", "error", "words"),
        [
            ({"error": {"message": "model is loading"}}, ServiceError, "HTTP 500: model is loading"),
            ({"error": {"message": "slow", "code": 429}}, RateLimitedError, "HTTP 429: slow"),
            ({"error": "Unexpected endpoint"}, ServiceError, "HTTP 500: Unexpected endpoint"),
        ],
    )
    def test_that_a_gateway_sends_as_a_success(self, api, body, error, words):
        api.spoil(status(200, body=json.dumps(body)), None)
        with pytest.raises(error, match=words):
            embedder_of(api).embed(["a text"], "search_document")

    def test_a_success_by_another_number_is_one(self, api):
        packed = {"data": [{"embedding": [1.0] * 768}]}
        api.spoil(status(201, body=json.dumps(packed)))
        assert embedder_of(api).embed(["a text"], "search_document").shape == (1, 768)

    def test_a_model_that_is_not_served(self, api):
        with pytest.raises(EmbedderError, match=r"does not serve 'no-such'.*ollama pull.*`model`") as caught:
            embedder_of(api, "no-such").check()
        assert not isinstance(caught.value, ServiceError)

    @pytest.mark.parametrize("body", ['{"detail": "spoiled"}', '{"detail": "no such model"}'])
    def test_one_of_an_address_that_has_answered_may_pass(self, api, body):
        api.spoil(status(404, body=body))
        embedder = embedder_of(api)
        with pytest.raises(EmbedderError) as caught:
            embedder.embed(["one"], "search_document")
        assert not isinstance(caught.value, ServiceError)
        embedder.embed(["one"], "search_document")
        api.spoil(status(404, body=body))
        with pytest.raises(ServiceError, match="is failing .*HTTP 404"):
            embedder.embed(["two"], "search_document")

    def test_an_address_without_v1(self, api):
        with pytest.raises(EmbedderError, match=rf"HTTP 404.*is /v1 missing\? try `base_url={api.url}/v1`"):
            OpenAIEmbedder(model="bge-m3", base_url=api.url).check()

    def test_an_address_with_another_path(self, api):
        with pytest.raises(EmbedderError, match=r"HTTP 404.*check `base_url`"):
            OpenAIEmbedder(model="bge-m3", base_url=f"{api.url}/v2").check()

    def test_a_word_that_nobody_could_refuse_is_no_texts_fault(self, api):
        api.spoil(status(400), None)
        with pytest.raises(EmbedderError, match="may be no embedding model") as caught:
            embedder_of(api).check()
        assert not isinstance(caught.value, RefusedTextError)

    def test_a_llama_cpp_without_pooling_is_told_how_to_start(self, api):
        api.spoil(status(400, body="Pooling type 'none' is not OAI compatible."), None)
        with pytest.raises(
            EmbedderError, match=r"'a tree': start it with pooling \(llama.cpp: --pooling mean"
        ):
            embedder_of(api).check()

    @pytest.mark.parametrize("code", [401, 402, 422, 500])
    def test_do_not_show_a_key_that_the_body_echoes(self, api, monkeypatch, code):
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        api.spoil(status(code, body='{"error": {"message": "bad key {key} or sk-abc***xyz"}}'), None)
        with pytest.raises(EmbedderError, match=r"bad key \*\*\* or \*\*\*") as caught:
            embedder_of(api).embed(["a text"], "search_document")
        message_of(caught)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


class TestWaiting:
    @pytest.mark.parametrize("code", [429, 503])
    def test_is_handed_to_who_tries_again(self, api, code):
        api.spoil(status(code, retry_after="7"))
        with pytest.raises(ServiceError) as caught:
            embedder_of(api).embed(["a text"], "search_document")
        assert caught.value.retry_after == 7.0

    def test_is_kept_by_the_dispatcher(self, api):
        embedder, notes = embedder_of(api), []
        api.spoil(Fault("status", 503, retry_after="300"))
        pool = RequestPool(embedder, "search_document", concurrency=1, on_retry=notes.append)
        pool.submit([0], ["x"])
        until = time.monotonic() + 5
        while not notes and time.monotonic() < until:
            time.sleep(0.01)
        pool.drain(0)
        assert "trying again in 300 s" in notes[0]

    def test_for_hours_is_left_to_the_user(self, api):
        api.spoil(status(429, retry_after="7200"))
        with pytest.raises(EmbedderError, match="no request for 120 minutes") as caught:
            embedder_of(api).embed(["a text"], "search_document")
        assert not isinstance(caught.value, ServiceError)


class TestLongTexts:
    @pytest.fixture
    def strict(self):
        with OpenAIServer(most_words=50) as server:
            yield server

    def test_one_among_others_is_refused_for_the_halves_to_tell_which(self, strict):
        with pytest.raises(RefusedTextError, match="too long"):
            embedder_of(strict).embed(["short", "word " * 80], "search_document")

    def test_one_alone_is_cut_to_what_is_taken_and_told(self, strict):
        embedder, notes = embedder_of(strict), []
        embedder.on_note = notes.append
        text = " ".join(f"word{i}" for i in range(80))
        rows = embedder.embed([text], "search_document")
        taken = strict.last_request["input"][0]
        assert f"search_document: {text}".startswith(taken)
        assert 40 < len(taken.split()) <= 50
        np.testing.assert_array_equal(rows, strict.vectors("nomic-embed-text", [taken]))
        assert notes == [
            f"a text is too long for nomic-embed-text: only the first {len(taken) - 17} of its {len(text)} "
            "characters are embedded"
        ]

    def test_what_llama_cpp_says_with_status_500_is_understood(self, api):
        body = {
            "error": {
                "code": 500,
                "message": "input is too large to process. increase the physical batch size",
            }
        }
        api.spoil(status(500, body=json.dumps(body)))
        embedder = embedder_of(api)
        assert embedder.embed(["word " * 100], "search_document").shape == (1, 768)
        assert len(api.last_request["input"][0]) == len("search_document: ") + 250

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (400, "This model's maximum context length is 512 tokens. However, you requested 1451 tokens"),
            (400, "Invalid 'input[0]': maximum input length is 8192 tokens."),
            (413, "Input validation error: `inputs` must have less than 512 tokens. Given: 527"),
            (413, "Input validation error: `inputs` must have less than 32000 characters. Given: 67337"),
            (400, "The decoder prompt (length 21535) is longer than the maximum model length of 16384."),
            (400, "Input length 548 exceeds maximum allowed token size 512"),
            (400, "Too many input tokens. Max input tokens: 8192, request input token count: 10000"),
            (400, "The input token count (3475108) exceeds the maximum number of tokens allowed (1048576)."),
            (400, "Unable to submit: the input token count is 25000 but the model supports up to 20000."),
            (400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 8192]"),
            (413, "length of prompt_tokens (57535) must be less than max_seq_len (32768)"),
            (422, "Single text cannot exceed 8192 tokens. 9237 tokens given."),
            (400, "Too many tokens in batch. Max is 16384 got 20000"),
            (500, "The expanded size of the tensor (913) must match the existing size (514)"),
            (500, "the input length exceeds the context length"),
            (429, "Request too large for m on tokens per min (TPM): Limit 150000, Requested 160000."),
            (400, "输入 Prompt 超长"),
        ],
    )
    def test_are_known_by_the_words_of_every_server(self, api, code, words):
        api.spoil(status(code, body=json.dumps({"error": {"message": words}})))
        embedder = embedder_of(api)
        assert embedder.embed(["word " * 100], "search_document").shape == (1, 768)
        assert len(api.last_request["input"][0]) < 500

    @pytest.mark.parametrize(
        ("code", "words", "kind"),
        [
            (400, "Value error, batch size is invalid, it should not be larger than 10", RefusedTextError),
            (422, "batch size 33 > maximum allowed batch size 32", RefusedTextError),
            (400, "Too many inputs in request, split into more batches.", RefusedTextError),
            (422, "encoding_format: Input should be 'float'", RefusedTextError),
            (400, "Expected a value <= 1536 for dimensions, but got 2000", RefusedTextError),
            (429, "Quota exceeded: tokens per minute limit 10000 exceeded", RateLimitedError),
            (503, "Model is overloaded, input queue length exceeded", ServiceError),
            (500, "CUDA out of memory, max split size", ServiceError),
        ],
    )
    def test_are_not_what_other_refusals_speak_of(self, api, code, words, kind):
        api.spoil(status(code, body=json.dumps({"error": {"message": words}})), None)
        with pytest.raises(kind) as caught:
            embedder_of(api).embed(["word " * 100], "search_document")
        assert "too long" not in message_of(caught)

    def test_one_that_is_never_short_enough_is_refused(self, api):
        api.spoil(status(413, body="Payload Too Large"), None)
        with pytest.raises(RefusedTextError, match="Payload Too Large"):
            embedder_of(api).embed(["x" * 100], "search_document")
        assert api.requests < 10

    def test_a_repeated_request_asks_for_its_turn(self, strict):
        embedder, turns = embedder_of(strict), []
        embedder.before_repeat = lambda: turns.append(strict.requests)
        embedder.embed(["word " * 80], "search_document")
        assert turns == list(range(1, strict.requests))


class TestBatches:
    def test_have_as_many_texts_as_the_endpoint_takes(self):
        assert OpenAIEmbedder(model="text-embedding-3-small").fit_in(["a"] * 1000) == 256
        assert OpenAIEmbedder(model="bge-m3").fit_in(["a"] * 1000) == 32
        assert OpenAIEmbedder(model="bge-m3").fit_in(["a"] * 3) == 3

    def test_have_as_many_tokens_as_the_endpoint_takes(self):
        embedder = OpenAIEmbedder(model="text-embedding-3-small")
        assert embedder.fit_in(["x" * 10_000] * 256) == 37
        assert embedder.fit_in(["木" * 6_000] * 256) == 20

    def test_a_text_that_may_be_too_long_goes_alone_where_long_ones_are_refused(self):
        embedder = OpenAIEmbedder(model="text-embedding-3-small")
        assert embedder.fit_in(["a", "b", "x" * 30_000, "c"]) == 2
        assert embedder.fit_in(["x" * 30_000, "c"]) == 1

    def test_what_is_too_long_is_learnt_from_the_endpoint(self):
        with OpenAIServer(most_words=50) as api:
            embedder = embedder_of(api)
            assert embedder.fit_in(["word " * 80] * 3) == 3
            embedder.embed(["word " * 80], "search_document")
            assert embedder.fit_in(["short", "word " * 80]) == 1

    def test_queries_are_asked_in_such_batches(self, api):
        embedder = embedder_of(api, "mine")
        rows = embed_all(embedder, [f"text {i}" for i in range(70)], "search_query")
        assert api.requests == 1 + 3
        np.testing.assert_array_equal(rows, api.vectors("mine", [f"text {i}" for i in range(70)]))


class TestRedirects:
    @pytest.mark.parametrize("code", [301, 302, 307, 308])
    def test_are_not_followed(self, api, monkeypatch, code):
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        with OpenAIServer() as other:
            api.spoil(Fault("status", code, location=f"{other.base_url}/embeddings?key={SECRET}"))
            words = f"redirects to {other.base_url}, which is not sent"
            with pytest.raises(EmbedderError, match=words) as caught:
                embedder_of(api).embed(["a text"], "search_document")
            assert other.requests == 0
        message_of(caught)

    @pytest.mark.parametrize(
        ("location", "shown"),
        [
            ("/v2/embeddings", "{api}/v2"),
            ("https://127.0.0.1:1/v1", "https://127.0.0.1:1/v1"),
            ("//other/v1", "http://other/v1"),
            ("http://u:p@127.0.0.1/", "http://127.0.0.1/"),
        ],
    )
    def test_are_shown_as_an_address_to_give(self, api, location, shown):
        api.spoil(Fault("status", 308, location=location))
        with pytest.raises(EmbedderError) as caught:
            embedder_of(api).embed(["a text"], "search_document")
        assert f"redirects to {shown.format(api=api.url)}, which is not sent" in message_of(caught)

    def test_to_nowhere_are_other_failures(self, api):
        api.spoil(Fault("status", 302))
        with pytest.raises(EmbedderError, match="does not take the request"):
            embedder_of(api).embed(["a text"], "search_document")


class TestConnection:
    def test_a_dropped_one(self, api):
        api.spoil(nomic_api.DROP)
        with pytest.raises(ServiceError, match=f"cannot reach {api.base_url}: "):
            embedder_of(api).embed(["a text"], "search_document")

    def test_a_hung_one_is_given_up(self, api):
        api.spoil(nomic_api.HANG)
        embedder = embedder_of(api, timeout=3.0)
        with pytest.raises(ServiceError, match=r"did not answer within 3 s|timed out"):
            embedder.embed(["a text"], "search_document")
        assert embedder.embed(["another"], "search_document").shape == (1, 768)
        api.release()

    def test_a_query_is_given_up_sooner_than_a_build(self, api, monkeypatch):
        monkeypatch.setattr(base, "QUERY_SECONDS", 0.3)
        api.spoil(nomic_api.HANG)
        with pytest.raises(ServiceError, match=r"did not answer within 0\.3 s|timed out"):
            embedder_of(api).embed(["a text"], "search_query")
        api.release()
        assert base.seconds_for("search_query", 11, 600.0) == 20.3
        assert base.seconds_for("search_query", 1000, 600.0) == 600
        assert base.seconds_for("search_document", 1, 600.0) == 600

    def test_a_server_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            url = f"http://127.0.0.1:{gone.getsockname()[1]}/v1"
        with pytest.raises(
            ServiceError, match=f"cannot reach {url}: Connection refused; check that the server"
        ):
            OpenAIEmbedder(model="bge-m3", base_url=url).embed(["a text"], "search_document")

    def test_a_proxy_that_cannot_be_used_is_not_quoted(self, monkeypatch):
        monkeypatch.setenv("ALL_PROXY", "gopher://me:S3cret@proxy")
        with pytest.raises(
            EmbedderError, match="ALL_PROXY=gopher://proxy is no proxy that can be used"
        ) as caught:
            OpenAIEmbedder(model="bge-m3", base_url="http://192.0.2.1/v1").embed(["x"], "search_query")
        assert "S3cret" not in str(caught.value)

    def test_no_connection_is_left_open(self, api):
        def use():
            embedder_of(api).embed(["a text"], "search_document")

        before = threading.active_count()
        use()  # an unclosed socket is a warning, and warnings are errors
        assert threading.active_count() <= before + 2


class TestKeys:
    @pytest.fixture
    def locked(self):
        with OpenAIServer(keys=(KEY, SECRET)) as server:
            yield server

    def test_come_from_the_variable_that_is_named(self, locked, monkeypatch):
        monkeypatch.setenv("MY_KEY", f" {KEY}\n")
        embedder = embedder_of(locked, api_key_env="MY_KEY")
        assert embedder.check().endswith("(768 dimensions), with the key from MY_KEY")
        assert locked.last_headers["Authorization"] == f"Bearer {KEY}"

    def test_are_not_needed_where_nobody_asks(self, api):
        assert embedder_of(api).check().endswith("without a key")
        assert "Authorization" not in api.last_headers

    def test_are_told_of_where_one_is_missing(self, locked):
        with pytest.raises(
            CredentialsError,
            match=r"wants a key in OPENAI_API_KEY, which is not set \(HTTP 401.*; set it .* or name another",
        ):
            embedder_of(locked).check()

    def test_that_are_wrong_are_told_and_not_shown(self, locked, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
        with pytest.raises(
            CredentialsError, match=r"refuses the key from OPENAI_API_KEY \(HTTP 401"
        ) as caught:
            embedder_of(locked).check()
        assert "somebody" not in str(caught.value)

    def test_openais_own_endpoint_is_not_asked_without_one(self):
        with pytest.raises(
            CredentialsError, match=r"no key for https://api\.openai\.com/v1: set OPENAI_API_KEY"
        ):
            OpenAIEmbedder(model="text-embedding-3-small").check()

    @pytest.mark.parametrize("key", [SECRET, "hf_AbCdEfGhIjKlMnOpQrStUv", "gsk_0123456789abcdefghij", ""])
    def test_a_key_in_place_of_a_variables_name_is_not_shown(self, api, key):
        with pytest.raises(UsageError, match="not the key itself") as caught:
            embedder_of(api, api_key_env=key)
        assert key == "" or key not in message_of(caught)

    @pytest.mark.parametrize("key", ["sk-a b", "sk-a\nb", "sk-ä"])
    def test_that_are_none_are_refused_before_they_are_sent(self, api, monkeypatch, key):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(CredentialsError, match="characters that no key has") as caught:
            embedder_of(api).check()
        assert key not in str(caught.value)

    def test_may_be_renewed_while_it_works(self, locked, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        embedder = embedder_of(locked)
        embedder.embed(["a text"], "search_document")
        locked.spoil(status(401))
        with pytest.raises(CredentialsError):
            embedder.embed(["a text"], "search_document")
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        embedder.embed(["a text"], "search_document")
        assert locked.last_headers["Authorization"] == f"Bearer {SECRET}"


def test_the_module_does_not_import_the_client():
    program = (
        "import sys, resizable_search.embedders.openai, resizable_search.embedders.sentence_transformers\n"
        "print(sorted({'httpx2', 'requests', 'torch', 'sentence_transformers', 'nomic'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "[]\n"

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resizable_search.embedders.openai import OpenAIEmbedder
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.errors import CredentialsError
from tests.support import TableEmbedder

ADDRESS = "https://embeddings.example.org/v1"


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-S3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3cret")


def embedder_at(address=ADDRESS, variable="OPENAI_API_KEY"):
    return OpenAIEmbedder(model="bge-m3", base_url=address, api_key_env=variable)


def test_a_secret_goes_nowhere_that_its_owner_did_not_say(tmp_path):
    trust = TrustedEndpoints(tmp_path / "home" / "trusted.json")
    with pytest.raises(
        CredentialsError, match=f"wiki .* at {ADDRESS}, .* in OPENAI_API_KEY: if you"
    ) as caught:
        trust.require(embedder_at(), "wiki")
    assert "S3cret" not in str(caught.value)
    trust.add(embedder_at())
    trust.require(embedder_at(), "wiki")
    with pytest.raises(CredentialsError, match="AWS_SECRET_ACCESS_KEY"):
        trust.require(embedder_at(variable="AWS_SECRET_ACCESS_KEY"), "wiki")
    with pytest.raises(CredentialsError, match="AWS_SECRET_ACCESS_KEY"):
        trust.require(embedder_at("http://127.0.0.1:11434/v1", "AWS_SECRET_ACCESS_KEY"), "wiki")
    with pytest.raises(CredentialsError, match="other"):
        trust.require(embedder_at("https://other.example.org/v1"), "wiki")
    assert "S3cret" not in (tmp_path / "home" / "trusted.json").read_text()


def test_nobody_is_asked_where_a_stranger_gains_nothing(tmp_path, monkeypatch):
    trust = TrustedEndpoints(tmp_path / "trusted.json")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for embedder in (
        TableEmbedder(),
        OpenAIEmbedder(model="bge-m3"),
        embedder_at("http://127.0.0.1:11434/v1"),
        embedder_at("http://localhost:11434/v1"),
        embedder_at("http://[::1]:11434/v1"),
        embedder_at(variable="A_VARIABLE_THAT_IS_NOT_SET"),
    ):
        trust.require(embedder, "wiki")
        trust.add(embedder)
    assert not (tmp_path / "trusted.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "[1]", '{"a": "b"}', '[["a"]]', "null"])
def test_a_file_that_is_damaged_entitles_nobody(tmp_path, content):
    path = tmp_path / "trusted.json"
    path.write_text(content)
    with pytest.raises(CredentialsError):
        TrustedEndpoints(path).require(embedder_at(), "wiki")
    TrustedEndpoints(path).add(embedder_at())
    TrustedEndpoints(path).require(embedder_at(), "wiki")


def test_what_was_trusted_before_stays(tmp_path):
    trust = TrustedEndpoints(tmp_path / "trusted.json")
    trust.add(embedder_at())
    trust.add(embedder_at("https://other.example.org/v1"))
    trust.require(embedder_at(), "wiki")


def test_two_writers_at_once_lose_no_entry(tmp_path, monkeypatch):
    path = tmp_path / "trusted.json"
    both_have_read = threading.Barrier(2)
    read = TrustedEndpoints._pairs

    def read_late(trust):
        pairs = read(trust)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_read.wait(0.2)
        return pairs

    monkeypatch.setattr(TrustedEndpoints, "_pairs", read_late)
    embedders = [embedder_at(f"https://{name}.example.org/v1") for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(TrustedEndpoints(path).add, embedder) for embedder in embedders]:
            done.result()
    monkeypatch.undo()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-S3cret")
    for embedder in embedders:
        TrustedEndpoints(path).require(embedder, "wiki")
    assert {file.name for file in tmp_path.iterdir()} <= {"trusted.json", "trusted.json.lock"}

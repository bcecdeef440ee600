import pytest

from resizable_search.embedders.openai import OpenAIEmbedder
from resizable_search.embedders.trusted_endpoints import TrustedEndpoints
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
        trust.ask(embedder_at(), "wiki")
    assert "S3cret" not in str(caught.value)
    trust.give(embedder_at())
    trust.ask(embedder_at(), "wiki")
    with pytest.raises(CredentialsError, match="AWS_SECRET_ACCESS_KEY"):
        trust.ask(embedder_at(variable="AWS_SECRET_ACCESS_KEY"), "wiki")
    with pytest.raises(CredentialsError, match="AWS_SECRET_ACCESS_KEY"):
        trust.ask(embedder_at("http://127.0.0.1:11434/v1", "AWS_SECRET_ACCESS_KEY"), "wiki")
    with pytest.raises(CredentialsError, match="other"):
        trust.ask(embedder_at("https://other.example.org/v1"), "wiki")
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
        trust.ask(embedder, "wiki")
        trust.give(embedder)
    assert not (tmp_path / "trusted.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "[1]", '{"a": "b"}', '[["a"]]', "null"])
def test_a_file_that_is_damaged_entitles_nobody(tmp_path, content):
    path = tmp_path / "trusted.json"
    path.write_text(content)
    with pytest.raises(CredentialsError):
        TrustedEndpoints(path).ask(embedder_at(), "wiki")
    TrustedEndpoints(path).give(embedder_at())
    TrustedEndpoints(path).ask(embedder_at(), "wiki")


def test_what_was_trusted_before_stays(tmp_path):
    trust = TrustedEndpoints(tmp_path / "trusted.json")
    trust.give(embedder_at())
    trust.give(embedder_at("https://other.example.org/v1"))
    trust.ask(embedder_at(), "wiki")

"""A variable that a client of the network cannot use is named with its value, and nothing else is blamed."""

import shlex
import sys
from pathlib import Path

import certifi
import pytest

from resizable_search.corpora import hub_client
from resizable_search.embedders.nomic import NomicEmbedder
from resizable_search.embedders.openai import OpenAIEmbedder
from resizable_search.environment import install_command, needs, unusable_setting
from resizable_search.errors import EmbedderError, HubError

CERTIFICATES = certifi.where()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds a damaged file; nothing is set in the environment."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "junk.pem").write_text("junk")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SSL_CERT_FILE", "/nonexistent/ca.pem", "holds no certificates"),
        ("SSL_CERT_FILE", "/tmp", "holds no certificates"),
        ("REQUESTS_CA_BUNDLE", "junk.pem", "holds no certificates"),
        ("SSLKEYLOGFILE", "/nonexistent/log", "cannot be written (No such file or directory)"),
        ("ALL_PROXY", "gopher://me:S3cret@proxy", "is no proxy that can be used"),
        ("http_proxy", "http://127.0.0.1:abc", "is no proxy that can be used"),
        ("HTTPS_PROXY", "http://[::1", "is no proxy that can be used"),
        ("HF_HUB_ETAG_TIMEOUT", "abc", "is not a number"),
    ],
)
def test_the_variable_and_its_value_are_named(folder, monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    error = ValueError("invalid literal for int() with base 10: 'abc'")
    shown = value.replace("me:S3cret@", "")
    assert unusable_setting(error) == f"{name}={shown} {words}: correct it, or unset it"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REQUESTS_CA_BUNDLE", "/tmp"),
        ("HTTPS_PROXY", "http://me:pw@proxy:3128"),
        ("ALL_PROXY", "proxy:80"),
        ("A", "abc"),
    ],
)
def test_what_can_be_used_is_not_blamed(folder, monkeypatch, name, value):
    """Nor is a number that another error is about."""
    monkeypatch.setenv(name, value)
    assert unusable_setting(OSError("another error about 'abc'")) == ""


def test_the_one_at_fault_is_named(folder, monkeypatch):
    """Good certificates stand beside it."""
    monkeypatch.setenv("SSL_CERT_FILE", CERTIFICATES)
    monkeypatch.setenv("SSLKEYLOGFILE", "/nonexistent/log")
    with pytest.raises(EmbedderError, match="SSLKEYLOGFILE=/nonexistent/log cannot be written"):
        OpenAIEmbedder(model="bge-m3", base_url="https://192.0.2.1/v1").embed(["x"], "search_query")


def test_embedders_and_the_hub_say_so(folder, monkeypatch):
    """Each client fails in its own way."""
    monkeypatch.setenv("NOMIC_API_KEY", "nk-test")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "junk.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "gone.pem"))
    with pytest.raises(EmbedderError, match="SSL_CERT_FILE=.*junk.pem holds no certificates"):
        OpenAIEmbedder(model="bge-m3", base_url="https://192.0.2.1/v1").embed(["x"], "search_query")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(EmbedderError, match="REQUESTS_CA_BUNDLE=.*gone.pem holds no certificates"):
        NomicEmbedder().embed(["x"], "search_query")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy")
    with pytest.raises(HubError, match="ALL_PROXY=gopher://proxy is no proxy"):
        hub_client.find_commit("o/x", None)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (None, ["resizable_search[serve]"]),
        ('{"dir_info": {"editable": true}, "url": "file:///my%20code/rs"}', ["-e", "/my code/rs[serve]"]),
        ('{"dir_info": {}, "url": "file:///code"}', ["/code[serve]"]),
        (
            '{"vcs_info": {"vcs": "git"}, "url": "https://example.org/rs"}',
            ["resizable_search[serve] @ git+https://example.org/rs"],
        ),
        ('{"archive_info": {}, "url": "file:///rs.whl"}', ["resizable_search[serve] @ file:///rs.whl"]),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came(monkeypatch, tmp_path, origin, words):
    class Package:
        def read_text(self, name):
            return origin

    monkeypatch.setattr("importlib.metadata.distributions", lambda name: iter([Package()]))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shlex.split(install_command("serve")) == [sys.executable, "-m", "pip", "install", *words]
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: iter(()))
    assert install_command("serve").endswith(" install 'resizable_search[serve]'")
    (tmp_path / "pip").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert install_command("serve") == "pip install 'resizable_search[serve]'"


def test_a_mistake_of_this_package_is_not_taken_for_a_missing_library():
    with pytest.raises(ImportError, match="^cannot import name"), needs("ray"):
        from resizable_search.errors import NoSuchError  # noqa: F401

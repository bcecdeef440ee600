"""The openai embedder against servers that others wrote, on loopback, with models made on the spot.

They are not among the development packages, since llama-cpp-python is compiled for minutes and the
others bring PyTorch. Where they are missing, tests say so:

    pip install gguf "llama-cpp-python[server]"
    pipx install "infinity-emb[server,torch]"     # and in .venv: pip install torch ".[sentence-transformers]"
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.openai import OpenAIEmbedder
from resizable_search.embedders.sentence_transformers import SentenceTransformersEmbedder
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.servers.gguf_model import CONTEXT, WIDTH, write_model
from tests.support import ListCorpus, articles

PATIENCE = 60.0
"""Seconds that a server may take to start."""


@contextmanager
def serving(*command: str, port: int, folder: Path) -> Iterator[str]:
    """Run a server until its port answers, and end it afterwards; the base URL of its API."""
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            until = time.monotonic() + PATIENCE
            while not _answers(f"http://127.0.0.1:{port}/v1/models"):
                if server.poll() is not None or time.monotonic() > until:
                    raise AssertionError((folder / "log").read_text()[-2000:])
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """llama-cpp-python's server; its model means nothing, which here is enough."""
    missing = [name for name in ("llama_cpp", "gguf", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f'no {", ".join(missing)}: pip install gguf "llama-cpp-python[server]"')
    folder = tmp_path_factory.mktemp("llama")
    write_model(folder / "tiny.gguf")
    port = free_port()
    command = (sys.executable, "-m", "llama_cpp.server", "--model", str(folder / "tiny.gguf"))
    options = ("--embedding", "true", "--n_ctx", str(CONTEXT), "--host", "127.0.0.1", "--port", str(port))
    with serving(*command, *options, port=port, folder=folder) as url:
        yield url


def embedder_at(url, **options):
    return OpenAIEmbedder(model="tiny", base_url=url, **options)


def test_llama_cpp_tells_its_width_and_embeds_in_order(llama, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    embedder = embedder_at(llama)
    assert embedder.spec.width == WIDTH
    assert embedder.check() == f"{llama} embeds with tiny ({WIDTH} dimensions), without a key"
    texts = ["a tree", "the violin", "rocks and ice"]
    rows = embedder.embed(texts, "search_document")
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_allclose(embedder.embed([text], "search_query")[0], row, atol=1e-5)
    assert np.abs(rows[0] - rows[1]).max() > 0.1


def test_llama_cpp_is_sent_the_prefixes(llama):
    plain, prefixed = embedder_at(llama), embedder_at(llama, query_prefix="query: ")
    np.testing.assert_allclose(
        prefixed.embed(["a tree"], "search_query"),
        plain.embed(["query: a tree"], "search_query"),
        atol=1e-5,
    )


def test_an_index_is_built_with_llama_cpp_and_finds_it_again(llama, tmp_path):
    documents = articles(40)
    report = build(ListCorpus(documents), embedder_at(llama), Home(tmp_path), BuildOptions("real"))
    assert (report.added, report.manifest.dims) == (40, (WIDTH,))
    with open_index("real", home=tmp_path) as index:
        [hit] = index.query(documents[7].text, k=1)
        assert hit.id == "a7"
        assert hit.score == pytest.approx(1.0, abs=1e-4)


def test_a_text_that_is_too_long_for_llama_cpp_is_embedded_all_the_same(llama):
    assert embedder_at(llama).embed(["tree " * 1000], "search_document").shape == (1, WIDTH)


@pytest.fixture(scope="module")
def infinity(tmp_path_factory, tiny_model):
    """Infinity's server, with the same model as the sentence-transformers embedder."""
    command = shutil.which("infinity_emb")
    if command is None:
        pytest.skip('no infinity_emb: pipx install "infinity-emb[server,torch]"')
    folder, port = tmp_path_factory.mktemp("infinity"), free_port()
    options = (
        "--model-id", str(tiny_model), "--served-model-name", "tiny", "--engine", "torch", "--device", "cpu",
        "--no-bettertransformer", "--no-model-warmup", "--url-prefix", "/v1", "--host", "127.0.0.1",
        "--port", str(port),
    )  # fmt: skip
    with serving(command, "v2", *options, port=port, folder=folder) as url:
        yield url


def test_infinity_gives_the_vectors_that_sentence_transformers_gives(infinity, tiny_model):
    here = SentenceTransformersEmbedder(model=str(tiny_model))
    there = embedder_at(infinity, document_prefix="document: ", query_prefix="query: ")
    texts = ["a tree", "the violin, played with a bow", "rocks and ice"]
    for task in ("search_document", "search_query"):
        rows = here.embed(texts, task)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # as infinity answers them
        np.testing.assert_allclose(there.embed(texts, task), rows, atol=1e-5)
    assert there.spec.space == here.spec.space
    assert there._encoding == "base64"

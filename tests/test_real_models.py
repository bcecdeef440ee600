"""A real model, all-MiniLM-L6-v2, run by sentence-transformers, by llama.cpp's server and by Infinity's.

CONTRIBUTING.md says how to install them; `pipx install "infinity-emb[server,torch]"` brings Infinity's. The
tests skip without them.
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
from resizable_search.corpora.base import Document
from resizable_search.embedders.http import TooLongError
from resizable_search.embedders.openai import OpenAIEmbedder
from resizable_search.embedders.sentence_transformers import SentenceTransformersEmbedder
from resizable_search.errors import EmbedderError
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.conftest import PROMPTS
from tests.servers import llama
from tests.support import ListCorpus

PATIENCE = 60.0
"""Seconds that a server may take to start."""
WIDTH = 384
TEXTS = (
    "Roots take up water from the soil, and leaves lose it to the air.",
    "A violin has four strings and is played with a bow.",
    "Granite is a rock that cooled slowly, deep in the crust.",
    "Bread rises because yeast makes gas in the dough.",
)
QUESTIONS = ("how do plants drink", "instruments of an orchestra", "geology", "baking")
"""Each is answered by the text at its place."""
ODD_TEXTS = ("", " ", "x", "naïve café", "日本語の文章", "😀", "a\tb\nc", "don't (stop) #1 http://x.y/z?q=1")
LONG = "The roots of the tree reach the water below the rocks. " * 300


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
    except urllib.error.HTTPError as error:
        return error.code != 503  # it loads the model
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving_llama(model: Path, folder: Path, *pooling: str) -> Iterator[str]:
    missing = [name for name in ("gguf", "xllamacpp") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: pip install gguf xllamacpp")
    port = free_port()
    command = (sys.executable, llama.__file__, str(model), str(folder / "model.gguf"), str(port), *pooling)
    with serving(*command, port=port, folder=folder) as url:
        yield url


@pytest.fixture(scope="module")
def llama_url(tmp_path_factory, minilm):
    with serving_llama(minilm, tmp_path_factory.mktemp("llama")) as url:
        yield url


@pytest.fixture(scope="module")
def infinity_url(tmp_path_factory, minilm):
    command = shutil.which("infinity_emb")
    if command is None:
        pytest.skip('no infinity_emb: pipx install "infinity-emb[server,torch]"')
    folder, port = tmp_path_factory.mktemp("infinity"), free_port()
    options = (
        "--model-id", str(minilm), "--served-model-name", "all-MiniLM-L6-v2", "--engine", "torch",
        "--device", "cpu", "--no-bettertransformer", "--no-model-warmup", "--url-prefix", "/v1",
        "--host", "127.0.0.1", "--port", str(port),
    )  # fmt: skip
    with serving(command, "v2", *options, port=port, folder=folder) as url:
        yield url


@pytest.fixture(scope="module")
def here(minilm):
    """The model run by sentence-transformers, with its own prompts."""
    return SentenceTransformersEmbedder(model=str(minilm))


def embedder_at(url: str) -> OpenAIEmbedder:
    prefixes = {"document_prefix": PROMPTS["passage"], "query_prefix": PROMPTS["query"]}
    return OpenAIEmbedder(model="all-MiniLM-L6-v2", base_url=url, **prefixes)


def made(embedder, home: Path, texts=TEXTS):
    documents = [Document(f"d{i}", "", "", text) for i, text in enumerate(texts)]
    return build(ListCorpus(documents), embedder, Home(home), BuildOptions("real"))


def test_an_index_by_sentence_transformers_answers_by_meaning(here, tmp_path):
    report = made(here, tmp_path)
    assert (report.added, report.manifest.dims) == (4, (64, 128, 256, WIDTH))
    with open_index("real", home=tmp_path) as index:
        assert [index.query(question, k=1)[0].id for question in QUESTIONS] == ["d0", "d1", "d2", "d3"]


def test_a_text_that_is_too_long_for_the_model_is_cut_and_told(here):
    notes = []
    here.on_note = notes.append
    assert here.embed([TEXTS[0], LONG], "search_document").shape == (2, WIDTH)
    (note,) = notes
    assert note.startswith("a text is too long for all-minilm-l6-v2: only the first 256 of its ")


def test_llama_cpp_gives_the_vectors_that_sentence_transformers_gives(llama_url, here):
    there = embedder_at(llama_url)
    assert there.check() == f"{llama_url} embeds with all-MiniLM-L6-v2 ({WIDTH} dimensions), without a key"
    for task in ("search_document", "search_query"):
        texts = [*TEXTS, *ODD_TEXTS]
        np.testing.assert_allclose(there.embed(texts, task), here.embed(texts, task), atol=2e-3)
    assert there.spec.space == here.spec.space
    assert there._encoding == "base64"


def test_an_index_by_llama_cpp_is_searched_by_sentence_transformers(llama_url, here, tmp_path):
    made(embedder_at(llama_url), tmp_path)
    for embedder in (None, here):
        with open_index("real", home=tmp_path, embedder=embedder) as index:
            assert [index.query(question, k=1)[0].id for question in QUESTIONS] == ["d0", "d1", "d2", "d3"]


def test_a_text_that_is_too_long_for_llama_cpp_is_cut_and_told(llama_url, tmp_path):
    embedder, notes = embedder_at(llama_url), []
    embedder.on_note = notes.append
    with pytest.raises(TooLongError, match="too large to process"):
        embedder.embed([TEXTS[0], LONG], "search_document")
    assert embedder.embed([LONG], "search_document").shape == (1, WIDTH)
    (note,) = notes
    assert note.startswith("a text is too long for all-MiniLM-L6-v2: only the first ")
    assert made(embedder_at(llama_url), tmp_path, [*TEXTS, LONG]).added == 5


def test_llama_cpp_without_pooling_is_told_what_to_start(minilm, tmp_path):
    with serving_llama(minilm, tmp_path, "NONE") as url:
        embedder = embedder_at(url)
        with pytest.raises(EmbedderError, match="--pooling mean") as caught:
            embedder.check()
        assert "\n" not in str(caught.value)


def test_infinity_gives_the_vectors_that_sentence_transformers_gives(infinity_url, here):
    there = embedder_at(infinity_url)
    for task in ("search_document", "search_query"):
        np.testing.assert_allclose(there.embed(TEXTS, task), here.embed(TEXTS, task), atol=1e-5)
    assert there.spec.space == here.spec.space
    assert there._encoding == "base64"

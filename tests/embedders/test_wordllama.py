import hashlib
import threading
from importlib.metadata import distribution

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from resizable_search import build_index, open_index
from resizable_search.embedders import wordllama
from resizable_search.embedders.registry import create, reopen
from resizable_search.embedders.wordllama import (
    MODEL,
    TOKENIZER,
    TOKENS_MODEL,
    WEIGHTS,
    WordLlamaEmbedder,
    words_of,
)
from resizable_search.errors import EmbedderError, EmbedderMismatchError, IndexFormatError, UsageError
from resizable_search.text import STOP_WORDS

TEXTS = [
    "who invented the telephone",
    "",
    "A tree is a widely used abstract data type.",
    "the the the",
    " ",
    "Zażółć gęślą jaźń",
    "word " * 3000,
]


def oracle(texts, power=1.0):
    """The mean of the tokens' rows, in float64; the sum of a token's rows is n ** power of them."""
    package = distribution("wordllama")
    table = load_file(package.locate_file(WEIGHTS))["embedding.weight"].astype(np.float64)
    tokenizer = Tokenizer.from_file(str(package.locate_file(TOKENIZER)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    counts = [np.array([each.count(token) for token in each]) for each in ids]
    weights = [count ** (power - 1) for count in counts]
    pairs = zip(ids, weights, strict=True)
    return np.stack([(table[i] * w[:, None]).mean(0) if i else np.zeros(256) for i, w in pairs])


@pytest.fixture(scope="module", params=[MODEL, TOKENS_MODEL])
def embedder(request):
    return WordLlamaEmbedder(model=request.param)


def test_a_vector_is_the_mean_of_the_rows_of_its_tokens():
    rows = WordLlamaEmbedder(model=TOKENS_MODEL).embed(TEXTS, "search_document")
    assert (rows.shape, rows.dtype) == ((7, 256), np.float32)
    np.testing.assert_allclose(rows, oracle(TEXTS), atol=2e-5)
    assert not rows[1].any()


def test_a_vector_of_the_words_model_is_that_of_the_words_with_repeats_weighing_less():
    texts = [*TEXTS, "A tree, a tree: `tree`!", "tree tree tree root"]
    rows = WordLlamaEmbedder().embed(texts, "search_document")
    np.testing.assert_allclose(rows, oracle([words_of(text) for text in texts], 0.9), atol=2e-5)
    assert not rows[1].any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What does `--rerank` do?", "rerank"),
        ("It is the IT department's C++ and C# code", "IT department's C++ C# code"),
        ("| a | b |\n|---|---|\n| 3.11 | move_to_end |", "b 3 11 move_to_end"),
        ("Who are you?", "Who are you"),
        ("— … —", "— … —"),
        ("cafe\u0301 हिन्दी", "cafe\u0301 हिन्दी"),
        ("", ""),
    ],
)
def test_the_words_of_a_text_are_without_stop_words_and_markup(text, words):
    assert words_of(text) == words


def test_the_numbers_of_a_text_never_change():
    """Indexes hold them: another list of stop words, for one, needs another model."""
    text = "What does the `--rerank` option do, and is rerank worth its time? C++ too."
    row = WordLlamaEmbedder().embed([text], "search_query")[0]
    np.testing.assert_allclose(row[:4], [-0.74970597, -0.09338824, -0.13100353, -0.31751612], rtol=1e-5)
    assert hashlib.sha256(" ".join(sorted(STOP_WORDS)).encode()).hexdigest()[:16] == "e65cc146b86cd602"


def test_a_text_has_the_same_bits_alone_in_a_batch_and_in_another_thread(embedder):
    batch = embedder.embed(TEXTS * 9, "search_document")
    other = WordLlamaEmbedder(model=embedder.spec.model)
    alone = np.concatenate([other.embed([text], "search_query") for text in TEXTS])
    np.testing.assert_array_equal(batch, np.tile(alone, (9, 1)))
    found = {}

    def work(number):
        found[number] = embedder.embed(TEXTS * 9, "search_document")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows in found.values():
        np.testing.assert_array_equal(rows, batch)
    assert len(found) == 4


def test_near_texts_are_near_at_every_trained_dimension(embedder):
    rows = embedder.embed(
        ["how do I read a file line by line", "reading the lines of a file", "the price of butter"],
        "search_query",
    )
    for dim in (256, 128, 64):
        cut = rows[:, :dim] / np.linalg.norm(rows[:, :dim], axis=1, keepdims=True)
        assert cut[0] @ cut[1] > cut[0] @ cut[2] + 0.2


def test_an_index_opens_it_again_and_refuses_other_files(tmp_path):
    spec = create("wordllama").spec
    assert (spec.kind, spec.width, spec.centred) == ("wordllama", 256, False)
    assert reopen(spec, tmp_path).spec == spec
    other = type(spec)(spec.kind, spec.model, spec.width, options={**spec.options, "weights": "another"})
    with pytest.raises(IndexFormatError, match="it has other options"):
        reopen(other, tmp_path)
    assert other.fingerprint != spec.fingerprint


def test_the_models_are_different_spaces_and_an_index_keeps_its_own(tmp_path):
    texts = ["tree structures", "sorting of lists"]
    build_index("old", texts, embedder=create("wordllama", TOKENS_MODEL), home=tmp_path).close()
    for embedder in ("wordllama", None):
        texts.append(f"walking the folder of {embedder}")
        with build_index("old", texts, embedder=embedder, home=tmp_path) as index:
            assert (index.rows, index.manifest.embedder["model"]) == (len(texts), TOKENS_MODEL)
            row = WordLlamaEmbedder(model=TOKENS_MODEL).embed(texts[-1:], "search_document")[0]
            np.testing.assert_allclose(
                index.vectors([len(texts) - 1])[0], row / np.linalg.norm(row), atol=1e-6
            )
    with pytest.raises(EmbedderMismatchError, match="query it with its own embedder"):
        open_index("old", home=tmp_path, embedder=WordLlamaEmbedder())


def test_another_model_is_refused():
    with pytest.raises(UsageError, match="leave `model` out"):
        create("wordllama", "nomic-embed-text-v1.5")


def test_a_package_without_its_files_is_told(monkeypatch):
    monkeypatch.setattr(wordllama, "WEIGHTS", "wordllama/weights/gone.safetensors")
    with pytest.raises(EmbedderError, match="reinstall it"):
        WordLlamaEmbedder()


def test_a_damaged_file_is_told(tmp_path, monkeypatch):
    embedder = WordLlamaEmbedder()
    (tmp_path / "broken").write_bytes(b"not a table")
    embedder._paths = (tmp_path / "broken", tmp_path / "broken")
    with pytest.raises(EmbedderError, match="cannot read the data of the package wordllama"):
        embedder.embed(["a"], "search_query")


def test_a_damaged_table_or_a_package_that_is_gone_is_told(tmp_path, monkeypatch):
    embedder = WordLlamaEmbedder()
    (tmp_path / "broken").write_bytes(b"not a table")
    embedder._paths = (tmp_path / "broken", embedder._paths[1])
    with pytest.raises(
        EmbedderError, match=r"^cannot read the data of the package wordllama .*: reinstall it$"
    ):
        embedder.embed(["a"], "search_query")
    monkeypatch.setattr(wordllama, "PACKAGE", "no-such-package")
    with pytest.raises(
        EmbedderError, match="the package no-such-package is missing or has other files: rein"
    ):
        WordLlamaEmbedder()


def test_an_installation_that_records_no_hashes_is_the_same_model(monkeypatch):
    recorded = WordLlamaEmbedder().spec
    files = wordllama._files()
    for path in files.values():
        path.hash = None
    monkeypatch.setattr(wordllama, "_files", lambda: files)
    assert WordLlamaEmbedder().spec == recorded


@pytest.mark.parametrize(("text", "notes"), [("今天天气很好我们去公园", 1), ("the weather is fine", 0)])
def test_texts_of_a_language_that_it_does_not_know_are_told_once(text, notes):
    embedder, told = WordLlamaEmbedder(), []
    embedder.on_note = told.append
    for _ in range(4):
        embedder.embed([text] * 60, "search_document")
    assert len(told) == notes

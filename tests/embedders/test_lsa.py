import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resizable_search.embedders import lsa
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.embedders.registry import create, reopen
from resizable_search.errors import EmbedderError, IndexFormatError, UsageError
from tests.support import TEST_DATA

FILES = {"lsa.json", "terms.json", "idf.npy", "components.npy"}
TOPICS = 12


def topic_text(topic, chance):
    """Half words of its topic, half of anything."""
    own = [f"t{topic}x{chance.randrange(40)}" for _ in range(15)]
    return " ".join([*own, *(f"any{chance.randrange(300)}" for _ in range(15))])


def topic_corpus(n, seed=1):
    chance = random.Random(seed)
    return [topic_text(i % TOPICS, chance) for i in range(n)]


def fit(folder, texts, **options):
    embedder = LsaEmbedder(**options)
    embedder.fit(iter(texts), folder)
    return embedder


def documents(embedder, texts):
    return embedder.embed(texts, "search_document")


@pytest.fixture(scope="module")
def corpus():
    return topic_corpus(400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("lsa") / "state"
    fit(folder, corpus, width=48)
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    """A state of one's own to damage."""
    return Path(shutil.copytree(folder, tmp_path / "state"))


def test_a_fitted_one_and_its_reload_are_the_same(tmp_path, corpus):
    fitted = fit(tmp_path, corpus, width=48, seed=3)
    loaded = LsaEmbedder.load(tmp_path)
    assert loaded.spec == fitted.spec == reopen(fitted.spec, tmp_path).spec
    assert fitted.spec.options == {"width": 48, "seed": 3, "sample": 10_000}
    assert fitted.spec.width == 48
    assert not fitted.spec.centred
    assert documents(loaded, corpus).tobytes() == documents(fitted, corpus).tobytes()


def test_the_registry_makes_it():
    assert isinstance(create("lsa"), LsaEmbedder)


def test_a_text_has_the_same_bits_alone_and_in_any_batch(folder, corpus):
    embedder = LsaEmbedder.load(folder)
    whole = documents(embedder, corpus)
    assert whole.dtype == np.float32
    assert whole.flags.c_contiguous
    assert whole.shape == (400, 48)
    alone = np.concatenate([embedder.embed([text], "search_query") for text in corpus])
    backwards = documents(embedder, corpus[::-1])[::-1]
    assert whole.tobytes() == alone.tobytes() == backwards.tobytes()


def test_the_projection_is_that_of_the_fit(folder, corpus):
    # The rows of a fitted corpus are U * S: orthogonal columns, whose norms are the singular values.
    gram = documents(LsaEmbedder.load(folder), corpus).astype(np.float64)
    gram = gram.T @ gram
    values = np.diag(gram)
    assert (np.diff(values[:TOPICS]) <= 0).all()
    assert values[:TOPICS].min() > 2 * values[TOPICS:].max()
    assert np.abs(gram - np.diag(values))[:TOPICS, :TOPICS].max() < 0.02 * values[0]


FIT = """
import sys
from pathlib import Path
from tests.embedders.test_lsa import fit, topic_corpus
fit(Path(sys.argv[1]), topic_corpus(600), width=64, sample=500)
"""


def run(program, *arguments, **environment):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_two_processes_fit_the_same_bits_whatever_their_threads(tmp_path):
    fit(tmp_path / "here", topic_corpus(600), width=64, sample=500)
    run(FIT, tmp_path / "there", OPENBLAS_NUM_THREADS="1", PYTHONHASHSEED="1")
    rows = [
        documents(LsaEmbedder.load(tmp_path / name), topic_corpus(90, seed=2)).tobytes()
        for name in ("here", "there")
    ]
    assert rows[0] == rows[1]
    for name in FILES:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_a_query_imports_neither_sklearn_nor_scipy(folder):
    program = """
import sys
from pathlib import Path
from resizable_search.embedders.lsa import LsaEmbedder
assert LsaEmbedder.load(Path(sys.argv[1])).embed(["t1x1 t1x2"], "search_query").any()
print([name for name in sys.modules if name.partition(".")[0] in ("sklearn", "scipy", "threadpoolctl")])
"""
    assert run(program, folder) == "[]\n"


def test_another_corpus_or_seed_is_another_space(tmp_path, folder, corpus):
    first = LsaEmbedder.load(folder).spec
    other = fit(tmp_path / "corpus", corpus[1:], width=48).spec
    seeded = fit(tmp_path / "seed", corpus, width=48, seed=1).spec
    assert len({first.space, other.space, seeded.space}) == 3
    assert len({first.fingerprint, other.fingerprint, seeded.fingerprint}) == 3


@pytest.mark.parametrize("dims", [16, 32, 48])
def test_the_first_dimensions_still_tell_topics_apart(folder, corpus, dims):
    embedder = LsaEmbedder.load(folder)
    chance = random.Random(2)
    queries = documents(embedder, [topic_text(i % TOPICS, chance) for i in range(120)])[:, :dims]
    rows = documents(embedder, corpus)[:, :dims]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    assert np.mean(best % TOPICS == (np.arange(120) % TOPICS)[:, None]) > 0.95


SMALL = {
    "one word": (["hello"], 1),
    "one document": (["a tree is a graph without cycles"], 1),
    "one with words": (["", "hello world", "?!"], 1),
    "twins": (["alpha beta", "alpha beta"], 1),
    "all alike": (["alpha beta gamma"] * 1_200, 1),
    "three": (["red tree", "blue river", "green hill"], 3),
    "fewer documents than dimensions": ([f"common word{i} word{i + 1}" for i in range(50)], 50),
    "fewer terms than documents": ([f"x{i % 2} y{i % 3}" for i in range(90)], 4),
    "no word twice": ([f"v{i} w{i}" for i in range(1_000)], 768),
}


@pytest.mark.parametrize(("texts", "width"), SMALL.values(), ids=SMALL)
def test_a_small_corpus_makes_a_narrow_width(tmp_path, texts, width):
    embedder = fit(tmp_path, texts)
    rows = documents(embedder, texts)
    assert embedder.spec.width == width
    assert rows.shape == (len(texts), width)
    assert np.isfinite(rows).all()
    assert reopen(embedder.spec, tmp_path).spec == embedder.spec
    if width < 768:
        assert [bool(row.any()) for row in rows] == [any(map(str.isalnum, text)) for text in texts]


@pytest.mark.parametrize("texts", [[], ["", "  "], ["?!", "..."]], ids=str)
def test_a_corpus_without_a_word_is_refused(tmp_path, texts):
    with pytest.raises(EmbedderError, match=r"^[^\n]*no word that lsa[^\n]*`embedder=nomic`$"):
        fit(tmp_path / "state", texts)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", ["zyzzyva", "?", "\ud800", "\0"], ids=ascii)
def test_a_text_without_a_known_word_is_zeros(folder, text):
    rows = LsaEmbedder.load(folder).embed(["t1x1", text], "search_query")
    assert rows.dtype == np.float32
    assert rows[0].any()
    assert not rows[1].any()


def test_words_meet_whatever_their_case_accents_and_script(tmp_path):
    embedder = fit(tmp_path, ["Café Trees", "Москва река", "日本語の本", "OrderedDict move_to_end"])
    for pair in (
        ("cafe\u0301 tree", "CAFÉ TREE'S"),
        ("МОСКВА", "москва"),
        ("日本", "日本"),
        ("dict", "Dict"),
    ):
        first, second = documents(embedder, list(pair))
        assert first.any()
        assert first.tobytes() == second.tobytes()


class Text(str):
    """A text whose instances are counted."""

    alive = 0
    most = 0

    def __init__(self, _):
        Text.alive += 1
        Text.most = max(Text.most, Text.alive)

    def __getitem__(self, part):
        return self  # else the sample would hold plain copies

    def __del__(self):
        Text.alive -= 1


def test_a_large_corpus_is_read_once_and_only_its_sample_held(tmp_path):
    read = iter(range(25_000))
    embedder = LsaEmbedder(width=8, sample=500)
    embedder.fit((Text(f"w{i % 50} v{i % 7}") for i in read), tmp_path)
    assert next(read, None) is None
    assert 500 <= Text.most <= 510
    assert Text.alive == 0


def test_the_sample_is_seeded_and_of_the_whole_stream(tmp_path):
    def terms(name, seed):
        fit(tmp_path / name, (f"w{i}" for i in range(5_000)), width=4, sample=500, seed=seed)
        return {int(term[1:]) for term in json.loads((tmp_path / name / "terms.json").read_bytes())}

    first, again, other = terms("a", 0), terms("b", 0), terms("c", 1)
    assert first == again != other
    assert len(first) == 500
    assert 2_200 < sum(first) / 500 < 2_800


def test_the_state_is_json_and_plain_arrays(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    head = json.loads((folder / "lsa.json").read_bytes())
    terms = json.loads((folder / "terms.json").read_bytes())
    idf = np.load(folder / "idf.npy", allow_pickle=False)
    components = np.load(folder / "components.npy", allow_pickle=False)
    assert terms == sorted(terms)
    assert (head["terms"], head["width"]) == components.shape == (len(terms), 48)
    assert idf.dtype == components.dtype == np.float32
    assert components.flags.c_contiguous


def test_the_components_are_mapped_not_read(folder):
    state = LsaEmbedder.load(folder)._fitted
    assert isinstance(state.components.base, np.memmap)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(IndexFormatError, match=rf"{name} is missing[;:] .*`restart`"):
        LsaEmbedder.load(copy)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\x93NUMPY\x01\x00v\x00{'descr': ("], ids=ascii)
def test_a_damaged_file_is_named(copy, name, content):
    (copy / name).write_bytes(content)
    with pytest.raises(IndexFormatError, match=rf"{name} (is|has) .*`restart`"):
        LsaEmbedder.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array[:-1],
        lambda array: array[:, :-1],
        lambda array: array.astype(np.float64),
        np.asfortranarray,
        lambda array: array.astype(object),
    ],
    ids=["fewer terms", "narrower", "float64", "Fortran order", "pickle"],
)
def test_components_of_another_shape_are_refused(copy, change):
    path = copy / "components.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(IndexFormatError, match=r"components.npy (is|has) .*`restart`"):
        LsaEmbedder.load(copy)


def test_cut_components_are_refused(copy):
    path = copy / "components.npy"
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(IndexFormatError, match=r"components.npy has 149,884 bytes where 149,888 belong"):
        LsaEmbedder.load(copy)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("version", 2, "use the version that wrote it"), ("rules", 9, "word rules 9"), ("width", 7, "checksum")],
)
def test_a_newer_or_altered_head_is_refused(copy, key, value, message):
    head = json.loads((copy / "lsa.json").read_bytes())
    (copy / "lsa.json").write_text(json.dumps({**head, key: value}))
    with pytest.raises(IndexFormatError, match=message):
        LsaEmbedder.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"width": "7"},
        {"files": {}},
        {"files": "x"},
        {"parameters": {"depth": 1}},
        {"parameters": {"width": 0}},
    ],
)
def test_a_head_whose_checksum_fits_may_be_anybodys(copy, change):
    head = {**json.loads((copy / "lsa.json").read_bytes()), **change}
    (copy / "lsa.json").write_text(json.dumps({**head, "checksum": lsa._checksum(head)}))
    with pytest.raises(IndexFormatError, match=r"lsa.json is damaged: it describes no state|components.npy"):
        LsaEmbedder.load(copy)


def test_a_fit_that_cannot_be_written_leaves_no_state(copy, corpus, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        fit(copy, corpus, width=48)
    with pytest.raises(IndexFormatError, match="lsa.json is missing"):
        LsaEmbedder.load(copy)


def test_an_unfitted_one_says_so():
    embedder = LsaEmbedder()
    with pytest.raises(EmbedderError, match="fit it"):
        _ = embedder.spec
    with pytest.raises(EmbedderError, match="fit it"):
        documents(embedder, ["tree"])


def test_a_fitted_one_is_frozen(folder, tmp_path):
    with pytest.raises(EmbedderError, match="frozen"):
        LsaEmbedder.load(folder).fit(["tree"], tmp_path)


@pytest.mark.parametrize("options", [{"width": 0}, {"sample": 0}], ids=str)
def test_senseless_options_are_refused(options):
    with pytest.raises(UsageError):
        LsaEmbedder(**options)


ARTICLES = TEST_DATA / "wikipedia" / "20231101.en"
TREES = {"Tree (data structure)", "B-tree", "AVL tree", "Red–black tree", "Splay tree", "Trie"}


@pytest.mark.skipif(not ARTICLES.is_dir(), reason="no articles: set RSEARCH_TEST_DATA")
def test_real_articles_are_found_by_their_subject_and_their_other_half(tmp_path):
    import pyarrow.parquet as parquet

    tables = [
        parquet.read_table(path, columns=["title", "text"]) for path in sorted(ARTICLES.glob("*.parquet"))
    ]
    rows = [(row["title"], row["text"][:1200]) for table in tables for row in table.to_pylist()]
    rows = [row for i, row in enumerate(rows) if i % 12 == 0 or row[0] in TREES]
    titles, texts = zip(*rows, strict=True)
    embedder = fit(tmp_path, texts[::2] + tuple(text for title, text in rows if title in TREES), width=256)

    def best(queries, rows, dims):
        cut = rows[:, :dims] / np.maximum(np.linalg.norm(rows[:, :dims], axis=1, keepdims=True), 1e-9)
        return np.argsort(-(queries[:, :dims] @ cut.T), axis=1)[:, :10]

    query = embedder.embed(["tree data structures"], "search_query")
    whole = documents(embedder, texts)
    for dims, least in ((64, 4), (128, 4), (256, 5)):
        assert len(TREES & {titles[i] for i in best(query, whole, dims)[0]}) >= least
    held_out = np.arange(1, len(rows), 2)
    firsts = documents(embedder, [texts[i][: len(texts[i]) // 2] for i in held_out])
    seconds = documents(embedder, [text[len(text) // 2 :] for text in texts])
    recall = [
        (best(firsts, seconds, dims) == held_out[:, None]).any(axis=1).mean() for dims in (64, 128, 256)
    ]
    assert recall[0] > 0.4
    assert recall == sorted(recall)

"""Builds that go well: what lies on disk afterwards, and what a second command does with it."""

import json
import re
import shlex
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from resizable_search.engine import vectors
from resizable_search.search.index import open_index
from tests.cli.conftest import ARTICLES, DIMS, PYDOC_ROWS, ROWS, Machine, Shelf, another_api, free_of_key
from tests.servers.hub import HubServer
from tests.servers.nomic_api import KEY, NomicServer


def stored(folder: Path, dim: int) -> np.ndarray:
    return np.load(folder / f"{dim}.npy", mmap_mode="r")


def test_the_next_command_is_quoted_for_the_shell_and_names_the_home(machine: Machine):
    home = machine.folder / "two  words"
    ran = machine.run("build", "wiki", "--lang", "one", "--embedder", "lsa", "--name", "a b", "--home", home)
    assert ran.code == 0
    assert ran.out.startswith("a b: 1 document at ")
    follows = shlex.split(ran.out.splitlines()[-1].removeprefix("next: rsearch "))
    assert follows == ["query", "tree data structures", "--index", "a b", "--home", str(home)]


def texts(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "documents.sqlite")) as db:
        texts = [text for (text,) in db.execute("SELECT text FROM texts ORDER BY row")]
    db.close()
    return texts


def test_a_build_says_what_there_is_now_and_what_to_do_with_it(shelf: Shelf):
    ran = shelf.builds["wiki100k"]
    assert ran.out.startswith(f"wiki100k: {ROWS} documents at 64, 128, 256, 512, 768 dimensions")
    assert re.search(r'\nnext: rsearch query ".+" --index wiki100k\n$', ran.out)
    assert all(line.startswith("rsearch: ") for line in ran.err.splitlines())


def test_a_build_with_lsa_says_what_embedded(shelf: Shelf):
    assert "embedded locally by lsa" in shelf.builds["pydoc"].out


def test_every_dimension_is_a_plain_file_of_float32_unit_rows(shelf: Shelf):
    for dim in DIMS:
        rows = stored(shelf.home / "wiki100k", dim)
        assert rows.shape == (ROWS, dim)
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_each_smaller_dimension_is_the_full_one_centred_cut_and_normalised(shelf: Shelf):
    full = stored(shelf.home / "wiki100k", 768).astype(np.float64)
    centred = full - full.mean(axis=1, keepdims=True)
    for dim in DIMS:
        cut = centred[:, :dim]
        expected = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        np.testing.assert_allclose(stored(shelf.home / "wiki100k", dim), expected, rtol=0, atol=1e-6)


def test_each_row_is_the_vector_that_the_service_gives_for_its_text(shelf: Shelf, api: NomicServer):
    folder = shelf.home / "wiki100k"
    chosen = texts(folder)[::37]
    asked = {
        "model": "nomic-embed-text-v1.5",
        "texts": chosen,
        "task_type": "search_document",
        "dimensionality": 768,
    }
    request = urllib.request.Request(
        f"{api.url}/v1/embedding/text", json.dumps(asked).encode(), {"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(request) as answer:
        raw = np.array(json.load(answer)["embeddings"], np.float32)
    np.testing.assert_allclose(
        stored(folder, 768)[::37], vectors.prepare(raw, 768, centred=True), rtol=0, atol=1e-6
    )


def test_a_text_is_cut_to_its_first_1200_characters(shelf: Shelf):
    assert max(map(len, texts(shelf.home / "wiki100k"))) == 1200


def test_nothing_but_the_index_is_left_of_a_build(shelf: Shelf):
    manifest = json.loads((shelf.home / "wiki100k" / "manifest.json").read_text())
    folder = shelf.home / "wiki100k"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"manifest.json", *manifest["parts"][0]["files"]}
    assert shelf.unfinished() == []


def test_the_key_is_in_no_file(shelf: Shelf):
    free_of_key(shelf.folder)


def test_dims_may_have_spaces_and_the_full_one_is_added_and_said(shelf: Shelf):
    ran = shelf.builds["wiki-odd"]
    assert "at 64, 128, 768 dimensions" in ran.out
    assert "rsearch: 768 is stored too: the full dimension always is\n" in ran.err


def test_fewer_documents_than_dimensions_make_a_narrower_index_and_say_so(shelf: Shelf):
    with open_index(shelf.home / "pydoc") as index:
        width = index.full_dim
    assert 256 < width <= PYDOC_ROWS
    assert f"at 64, 256, {width} dimensions" in shelf.builds["pydoc"].out


def test_a_corpus_that_ends_before_the_limit_is_complete_and_said_to_have_ended(shelf: Shelf):
    ran = shelf.builds["wiki-one"]
    assert ran.out.startswith("wiki-one: 1 document at 1 dimension")
    assert "the corpus ended at 1 document, before the limit of 7\n" in ran.out
    assert "rsearch: the corpus gives 1 dimensions, not 768: its documents or words are few\n" in ran.err


@pytest.mark.parametrize("limit", [ROWS, ROWS // 2])
def test_the_same_command_again_says_complete_and_asks_nobody(
    machine: Machine, shelf: Shelf, hub: HubServer, limit: int
):
    machine.take(shelf, "wiki100k")
    before = machine.holdings()
    requests = len(hub.requests)
    with another_api(machine) as api:
        ran = machine.run("build", "wiki100k", "--limit", limit)
        assert api.requests == api.user_requests == 0
    assert ran.code == 0
    assert ran.out.startswith(f"wiki100k is complete: {ROWS} documents at ")
    assert ran.err == ""
    assert len(hub.requests) == requests
    assert machine.holdings() == before


def test_a_larger_limit_adds_a_part_and_answers_like_a_fresh_build(machine: Machine, shelf: Shelf):
    folder = machine.take(shelf, "wiki100k")
    first = {name: content for name, content in machine.holdings().items() if "manifest" not in name}
    with another_api(machine) as api:
        ran = machine.run("build", "wiki100k", "--limit", ARTICLES)
        assert len(api.asked) == ARTICLES - ROWS
    assert ran.code == 0
    assert f"wiki100k: {ARTICLES} documents ({ARTICLES - ROWS} of them now)" in ran.out
    assert {name: machine.holdings()[name] for name in first} == first
    assert stored(folder / "parts" / "2", 256).shape == (ARTICLES - ROWS, 256)

    with another_api(machine):
        assert machine.run("build", "wiki100k", "--limit", ARTICLES, "--name", "fresh").code == 0
    queries = np.random.default_rng(0).standard_normal((20, 768), np.float32)
    with (
        open_index("wiki100k", home=machine.home) as extended,
        open_index("fresh", home=machine.home) as fresh,
    ):
        for options in ({"dim": 768}, {"dim": 100}, {"dim": 64, "rerank": 3}):
            mine, theirs = extended.scan(queries, 25, **options), fresh.scan(queries, 25, **options)
            np.testing.assert_array_equal(mine.rows, theirs.rows)
            np.testing.assert_array_equal(mine.scores, theirs.scores)
            assert (mine.rows >= ROWS).any()
            for one in mine.rows:
                assert extended.documents(one) == fresh.documents(one)

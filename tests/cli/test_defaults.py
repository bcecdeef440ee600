"""What a build is not told: the defaults of new indexes, and of an index that exists its own options."""

import json
import sys
from pathlib import Path

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.files import RULES, FilesCorpus
from resizable_search.embedders import registry
from resizable_search.embedders.wordllama import MODEL, TOKENS_MODEL, WordLlamaEmbedder
from resizable_search.errors import BuildStoppedError
from resizable_search.store.layout import Home
from resizable_search.store.manifest import read_manifest
from tests.cli.conftest import Inside, Machine, another_api, errs, errs_at_last
from tests.cli.test_endpoints import at
from tests.cli.test_query import imported
from tests.servers.nomic_api import status
from tests.servers.openai_api import KEY, OpenAIServer

GUIDE = (
    "# Trees\n\nA tree is a set of nodes.\n\n## Roots\n\n" + "The root of a tree has no parent node. " * 60
)
TOLD = "embedded locally by wordllama; for Nomic's model: --embedder nomic --restart"


@pytest.fixture
def notes(inside: Inside) -> Path:
    folder = inside.folder / "notes"
    folder.mkdir()
    (folder / "guide.md").write_text(GUIDE)
    (folder / "log.txt").write_text("A log of the ship: wind, waves and a broken mast.\n")
    (folder / "rows.jsonl").write_text('{"id": "r1", "text": "A captain", "year": 1680, "body": "Pirates"}\n')
    return folder


def built_before(
    inside: Inside,
    notes: Path,
    kind: str,
    *,
    model: str | None = None,
    dims: tuple[int, ...] | None = None,
    **reading,
):
    """An index of the notes, with the corpus's options of the first version where none are given."""
    embedder = registry.create(kind, model)
    build(FilesCorpus([notes], **reading), embedder, Home(inside.home), BuildOptions("notes", dims=dims))


def manifest(inside: Inside, name: str = "notes"):
    return read_manifest(inside.home / name)


def follow(inside: Inside, notes: Path, *more: object) -> str:
    """The short command, twice: nothing has changed, then a text is new. What the second prints."""
    before = manifest(inside)
    ran = inside.run("build", "files", notes, *more)
    assert ran.code == 0, ran
    assert "no changes: nothing was written" in ran.out
    (notes / "new.md").write_text("A new note on pruning.")
    ran = inside.run("build", "files", notes, *more)
    assert ran.code == 0, ran
    assert "1 added" in ran.out
    after = manifest(inside)
    assert (after.corpus, after.embedder, after.dims) == (before.corpus, before.embedder, before.dims)
    return ran.out


def test_new_indexes_of_ones_own_texts_need_no_key_and_say_what_embedded_them(inside: Inside, notes: Path):
    for command in (("build", "files", notes), ("build", "pydoc")):
        ran = inside.run(*command)
        assert ran.code == 0, ran
        assert f"{TOLD}\n" in ran.out
        assert "request" not in ran.out
    assert manifest(inside).embedder["kind"] == manifest(inside, "pydoc").embedder["kind"] == "wordllama"
    assert manifest(inside).dims == (64, 128, 256)
    report = json.loads((inside.home / ".state" / "notes" / "report.json").read_text())
    assert report["requests"] == 0
    assert "request" not in (inside.home / ".state" / "notes" / "build.log").read_text()
    follow(inside, notes)


def test_a_query_of_such_an_index_imports_no_large_library(machine: Machine):
    (machine.folder / "notes").mkdir()
    (machine.folder / "notes" / "guide.md").write_text(GUIDE)
    assert machine.run("build", "files", "notes").code == 0
    ran = machine.run("query", "parents of trees", PYTHONPROFILEIMPORTTIME="1")
    assert ran.code == 0
    assert imported(ran.err) >= {"numpy", "tokenizers", "safetensors"}
    assert not imported(ran.err) & {"scipy", "sklearn", "numba", "nomic", "datasets", "huggingface_hub"}


def test_texts_in_a_language_that_it_does_not_know_are_told(inside: Inside):
    lines = [json.dumps({"id": str(i), "text": f"今天天气很好我们去公园 {i}"}) for i in range(150)]
    (inside.folder / "notes.jsonl").write_text("\n".join(lines))
    ran = inside.run("build", "files", "notes.jsonl")
    assert ran.code == 0, ran
    told = "rsearch: most of these texts are not in a language that wordllama knows: expect poor answers; "
    assert f"{told}build again with another --embedder and --restart\n" in ran.err


def test_a_folder_of_judged_documents_needs_no_key(inside: Inside):
    folder = inside.folder / "trees"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "title": "", "text": "chess"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "chess"}\n')
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    assert inside.run("eval", folder).code == 0
    assert manifest(inside, "trees").embedder["kind"] == "wordllama"


def test_datasets_of_the_hub_keep_nomic_and_name_the_embedder_without_a_key(machine: Machine):
    del machine.env["NOMIC_API_KEY"]
    for source in (("wiki100k",), ("wiki",), ("hf", "wikimedia/wikipedia", "--config", "20231101.en")):
        ran = machine.run("build", *source, "--limit", 5)
        words = (
            "no Nomic credentials: add `--embedder wordllama`, which needs none, run `nomic login`, or set"
        )
        errs_at_last(ran, 1, words)
        planned = machine.run("build", *source, "--limit", 5, "--dry-run")
        assert planned.code == 1
        assert "--embedder wordllama" in " ".join(planned.out.split())
    ran = machine.run("build", "wiki100k", "--limit", 5, "--embedder", "wordllama")
    assert ran.code == 0, ran
    assert machine.run("build", "wiki100k", "--limit", 7).out.startswith("wiki100k: 7 documents (2 of them")


def test_an_index_by_nomic_follows_its_folder_and_pays_for_what_is_new(machine: Machine):
    notes = machine.folder / "notes"
    notes.mkdir()
    (notes / "guide.md").write_text(GUIDE)
    with another_api(machine) as api:
        assert machine.run("build", "files", notes, "--embedder", "nomic", "--dims", "64").code == 0
        paid = api.answered.total()
        ran = machine.run("build", "files", notes)
        assert "no changes" in ran.out, ran
        assert api.answered.total() == paid
        (notes / "new.md").write_text("A new note.")
        ran = machine.run("build", "files", notes)
        assert "1 added" in ran.out, ran
        assert "embedded by nomic (nomic-embed-text-v1.5)" in ran.out
        assert api.answered.total() == paid + 1
        del machine.env["NOMIC_API_KEY"]
        (notes / "newer.md").write_text("A newer note.")
        refused = machine.run("build", "files", notes)
        errs_at_last(refused, 1, "no Nomic credentials: run `nomic login`, or set")
        assert "wordllama" not in refused.err  # that would be refused: the index is Nomic's
        assert machine.run("query", "tree").code == 1


def test_an_index_by_lsa_follows_its_folder_and_is_fitted_again_as_lsa(inside: Inside, notes: Path):
    built_before(inside, notes, "lsa")
    assert "embedded locally by lsa" in follow(inside, notes)
    assert inside.run("build", "files", notes, "--refit").code == 0
    assert manifest(inside).embedder["kind"] == "lsa"


def test_an_index_of_an_endpoint_follows_its_folder_without_naming_it_again(inside: Inside, notes: Path):
    with OpenAIServer() as api:
        made = ("build", "files", notes, *at(api, "mine"), "--document-prefix", "d: ", "--dims", "64")
        assert inside.run(*made).code == 0
        assert "embedded by openai (mine)" in follow(inside, notes)
        assert api.last_request["input"] == ["d: new.md\n\nA new note on pruning."]
        assert set(api.answered.values()) - {api.answered["a tree"]} == {1}
        # The model named again has the index's prefix, and an address that is named is asked.
        with OpenAIServer() as other:
            (notes / "newer.md").write_text("A newer note.")
            ran = inside.run("build", "files", notes, *at(other, "mine"))
            assert ran.code == 0, ran
            assert other.last_request["input"] == ["d: newer.md\n\nA newer note."]


def test_a_key_goes_only_where_the_user_has_sent_it(inside: Inside, notes: Path):
    inside.setenv("MY_KEY", KEY)
    with OpenAIServer() as api:
        made = ("build", "files", notes, *at(api, "mine"), "--api-key-env", "MY_KEY", "--dims", "64")
        assert inside.run(*made).code == 0
        (inside.home / ".state" / "trusted.json").unlink()  # as if somebody else had made the index
        (notes / "new.md").write_text("A new note.")
        asked = api.requests
        for command in (("build", "files", notes), ("add", "notes", notes / "new.md")):
            errs_at_last(inside.run(*command), 1, "would get the key in MY_KEY")
        assert api.requests == asked
        assert inside.run(*made).code == 0
        assert inside.run("build", "files", notes).code == 0


@pytest.mark.parametrize(
    "reading",
    [
        {},
        {"chars": None},
        {"chunk": "20", "chunk_overlap": 5, "chars": None},
        {"chunk": "90c", "chars": 300},
        {"text_column": "body", "metadata": ("year",)},
    ],
    ids=str,
)
def test_texts_are_read_as_before(inside: Inside, notes: Path, reading):
    built_before(inside, notes, "wordllama", dims=(32,), **reading)
    follow(inside, notes)
    assert manifest(inside).dims == (32, 256)


def test_a_configuration_counts_for_new_indexes_only(inside: Inside, notes: Path):
    built_before(inside, notes, "lsa")
    text = '[build]\nembedder = "openai"\nmodel = "m"\ndims = [16]\n[build.files]\nchunk = "50"\n'
    (inside.home / "rsearch.toml").write_text(text)
    follow(inside, notes)
    with OpenAIServer() as api:
        inside.setenv("OPENAI_BASE_URL", api.base_url)
        ran = inside.run("build", "files", notes, "--name", "other")
    assert "m" in ran.err, ran  # it asks for the model of the configuration


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--embedder", "lsa"), "--embedder wordllama, not lsa"),
        (("--embedder", "nomic"), "--embedder wordllama, not nomic"),
        (("--chars", 50), "--chars 1200, not 50"),
        (("--chunk", 30), "--chunk 0, not 30t"),
        (("--dims", "64"), "--dims 32,256, not 64,256"),
        (("--text-column", "body"), "--text-column the default, not body"),
        (("--metadata", "year"), "--metadata none, not year"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_option_that_differs_is_refused_by_its_name_and_rebuilds(
    inside: Inside, notes: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[object, ...], words: str
):
    built_before(inside, notes, "wordllama", dims=(32,))
    monkeypatch.setattr(sys, "argv", ["rsearch", "build", "files", "notes", *map(str, option)])
    monkeypatch.setenv("NOMIC_API_KEY", "")
    errs(
        inside.run("build", "files", notes, *option), 1,
        f"notes was built with {words} as asked now: `{' '.join(sys.argv)} --restart` builds it again",
    )  # fmt: skip
    before = manifest(inside)
    if "nomic" in option:
        return
    assert inside.run("build", "files", notes, *option, "--restart").code == 0
    after = manifest(inside)
    changed = (
        {"embedder", "model"} if "--embedder" in option else {str(option[0]).strip("-").replace("-", "_")}
    )
    kept = {"text_column", "metadata", "chars", "chunk", "chunk_overlap"} - changed
    kept -= {"chars"} if "--chunk" in option else set()
    assert all(after.corpus[name] == before.corpus[name] for name in kept)
    assert (after.embedder == before.embedder) == ("--embedder" not in option)
    assert (after.dims == before.dims) == ("--dims" not in option and "--embedder" not in option)


def test_chunks_that_are_advised_for_texts_that_were_cut_take_all_of_them(inside: Inside, notes: Path):
    built_before(inside, notes, "wordllama")
    assert inside.run("build", "files", notes, "--chunk", 400, "--restart").code == 0
    assert (manifest(inside).corpus["chars"], manifest(inside).corpus["chunk"]) == (None, "400t")


def test_another_folder_of_that_name_is_refused_and_not_read_as_the_first(inside: Inside, notes: Path):
    built_before(inside, notes, "lsa", text_column="body")
    other = inside.folder / "other"
    other.mkdir()
    (other / "rows.jsonl").write_text('{"id": "r1", "text": "A captain"}\n')
    build_other = ("build", "files", other, "--name", "notes")
    errs(inside.run(*build_other), 1, "notes was built with paths", "--restart")
    assert inside.run(*build_other, "--restart").code == 0
    assert manifest(inside).corpus["text_column"] is None


def test_a_dataset_is_extended_without_naming_its_columns_again(machine: Machine):
    made = ("build", "hf", "wikimedia/wikipedia", "--config", "20231101.en", "--shuffle-seed", 3)
    made += ("--text-column", "title", "--metadata", "url", "--chunk", "50", "--embedder", "lsa")
    assert machine.run(*made, "--limit", 50).code == 0
    ran = machine.run("build", "hf", "wikimedia/wikipedia", "--limit", 60)
    assert ran.out.startswith("wikipedia: 60 documents (10 of them now)"), ran
    other = machine.run("build", "hf", "wikimedia/wikipedia", "--limit", 60, "--id-column", "url")
    errs_at_last(other, 1, "was built with --id-column the default, not url")


def test_a_wikipedia_is_extended_from_its_own_dump(machine: Machine):
    made = ("build", "wiki", "--lang", "odd", "--chars", 80, "--embedder", "lsa")
    assert machine.run(*made, "--limit", 5).code == 0
    ran = machine.run("build", "wiki", "--lang", "odd", "--limit", 6)
    assert ran.code == 0, ran
    errs_at_last(
        machine.run("build", "wiki", "--lang", "odd", "--date", "20200101"),
        1,
        "was built with --date 20231101, not 20200101 as asked now",
    )


def test_a_build_that_was_begun_is_resumed_with_its_embedder(machine: Machine):
    notes = machine.folder / "notes"
    notes.mkdir()
    for number in range(30):
        (notes / f"{number}.md").write_text(f"Note {number} on trees.")
    with another_api(machine) as api:
        api.spoil(status(402, body='{"detail": "no tokens left"}', marker="Note 25"), None)
        ran = machine.run("build", "files", notes, "--embedder", "nomic", "--concurrency", 1)
        errs_at_last(ran, 1, "is used up (HTTP 402", "the same command resumes")
        paid = set(api.answered)
    with another_api(machine) as api:
        ran = machine.run("build", "files", notes)
        assert ran.code == 0, ran
        assert not paid & set(api.answered)


def test_an_unfinished_build_by_the_model_of_before_goes_on_with_it(inside: Inside, notes: Path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(WordLlamaEmbedder, "embed", stop)
        with pytest.raises(BuildStoppedError):
            built_before(inside, notes, "wordllama", model=TOKENS_MODEL, rules=RULES, chunk="400", chars=None)
    assert inside.run("build", "files", notes).code == 0
    assert manifest(inside).embedder["model"] == TOKENS_MODEL


@pytest.mark.parametrize("named", [(), ("--embedder", "wordllama")], ids=str)
def test_an_index_by_the_model_of_before_is_followed_by_it_until_another_is_named(
    inside: Inside, notes: Path, named: tuple[str, ...]
):
    built_before(inside, notes, "wordllama", model=TOKENS_MODEL, dims=(32,))
    follow(inside, notes, *named)
    assert manifest(inside).embedder["model"] == TOKENS_MODEL
    assert inside.run("build", "files", notes, "--model", MODEL, "--restart").code == 0
    assert manifest(inside).embedder["model"] == MODEL

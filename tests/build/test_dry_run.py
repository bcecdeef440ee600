import pytest

from resizable_search.build.build import build
from resizable_search.build.dry_run import dry_run
from resizable_search.build.workspace import BuildOptions
from resizable_search.cli.render_build import dry_run_lines
from resizable_search.corpora.base import Document
from resizable_search.errors import BuildStateError, BuildStoppedError, CredentialsError, HubError, UsageError
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from tests.support import ListCorpus, TableEmbedder, articles


class RemoteCorpus(ListCorpus):
    """A list that is said to lie elsewhere; `hint` is how long it is said to be."""

    hint: int | None = None
    failure: Exception | None = None

    @property
    def is_remote(self):
        return True

    def check(self):
        if self.failure:
            raise self.failure
        return "there it is"

    def size_hint(self):
        return self.hint


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def look(home, corpus=None, embedder=None, **options):
    corpus = corpus or ListCorpus(articles(95))
    embedder = embedder or TableEmbedder(remote=True, concurrency=2)
    found = dry_run(corpus, embedder, home, BuildOptions(**{"name": "made", **options}))
    assert embedder.asked == []
    return found


def held(home):
    return {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}


def test_it_tells_what_the_build_then_does_and_writes_nothing(home):
    found = look(home, dims=(16, 64))
    assert not home.path.exists()
    assert (found.state, found.documents, found.safe, found.requests) == ("new", 95, 0, 10)
    assert found.ok
    embedder = TableEmbedder(remote=True)
    build(ListCorpus(articles(95)), embedder, home, BuildOptions("made", dims=(16, 64)))
    files = read_manifest(home.index("made")).all_files()
    assert set(found.files) == {*files, "tiers/lexical"}.difference(NAMES.lexical)
    for name, entry in files.items():
        if name not in (NAMES.documents, *NAMES.lexical):
            assert found.files[name] == entry.bytes
    lexical = sum(files[name].bytes for name in NAMES.lexical)
    assert found.files["tiers/lexical"] == pytest.approx(lexical, rel=0.9)
    assert found.files[NAMES.documents] == pytest.approx(files[NAMES.documents].bytes, rel=0.7)
    characters = sum(map(len, embedder.asked))
    assert found.chars == pytest.approx(characters, abs=1)


def test_texts_of_a_remote_corpus_are_a_sample(home):
    corpus = RemoteCorpus(articles(500))
    corpus.hint = 500
    found = look(home, corpus)
    assert (found.documents, found.sampled, found.requests) == (500, 200, 50)
    corpus.hint = None
    found = look(home, corpus)
    assert (found.documents, found.requests, found.files) == (None, None, {})
    assert look(home, corpus, limit=300).documents == 300
    few = RemoteCorpus(articles(40))
    assert look(home, few, limit=300).documents == 40


def test_minutes_follow_from_the_rate(home):
    def time(*args, **options):
        return dict(dry_run_lines(look(home, *args, **options)))["time"]

    assert time(requests_per_minute=2) == "5 min at least, at 2 requests a minute"
    assert time() == "as fast as the service answers; --rate sets a limit"
    paced = TableEmbedder(remote=True)
    paced.requests_per_minute = 20
    assert time(None, paced) == "30 s at least, at 20 requests a minute"


def test_what_goes_on_extends_replaces_or_is_complete(home):
    stopping = TableEmbedder(remote=True)
    stopping.before = lambda texts: (
        (_ for _ in ()).throw(BuildStoppedError("x")) if len(stopping.asked) > 20 else None
    )
    with pytest.raises(BuildStoppedError):
        build(ListCorpus(articles(95)), stopping, home, BuildOptions("made"))
    before = held(home)
    found = look(home)
    assert (found.state, found.safe, found.requests) == ("goes on", len(stopping.asked), 7)
    assert look(home, restart=True).state == "new"
    with pytest.raises(BuildStateError, match="was begun with `version` 1, not 2"):
        look(home, ListCorpus(articles(95), version="2"))
    assert held(home) == before

    build(ListCorpus(articles(95)), TableEmbedder(remote=True), home, BuildOptions("whole", limit=40))
    before = held(home)
    found = look(home, name="whole", limit=90)
    assert (found.state, found.safe, found.documents, found.requests) == ("extends", 40, 90, 5)
    assert (look(home, name="whole", limit=30).state, look(home, name="whole", limit=30).files) == (
        "complete",
        {},
    )
    assert look(home, name="whole", restart=True).state == "replaces"
    with pytest.raises(BuildStateError, match="was built with `version` 1, not 2"):
        look(home, ListCorpus(articles(95), version="2"), name="whole")
    assert held(home) == before


def test_what_stands_against_it_is_told(home, monkeypatch):
    class Locked(TableEmbedder):
        def check(self):
            raise CredentialsError("no key; get one")

    corpus = RemoteCorpus(articles(5))
    corpus.failure = HubError("the hub is away; wait")
    found = look(home, corpus, Locked(remote=True), limit=50)
    assert not found.ok
    assert [str(error) for error in found.findings.values()] == ["the hub is away; wait", "no key; get one"]
    assert found.documents == 50
    monkeypatch.setattr("resizable_search.build.dry_run.free_bytes", lambda folder: 1000)
    assert not look(home).ok


def test_what_the_build_refuses_it_refuses(home):
    with pytest.raises(UsageError, match="97 is not within 1 to 96"):
        look(home, dims=(97,))
    with pytest.raises(UsageError, match="no name for an index"):
        look(home, name="a/b")
    home.index("made").mkdir(parents=True)
    (home.index("made") / "thesis.txt").write_text("mine")
    with pytest.raises(BuildStateError, match="is no index"):
        look(home)


def test_documents_without_text_cost_nothing(home):
    found = look(home, ListCorpus([Document("e", "", "", ""), *articles(3)]))
    assert (found.documents, found.chars) == (4, sum(len(d.text) for d in articles(3)))

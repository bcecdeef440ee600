"""What a build tells: how far it came, how to go on, what it cost, what it waits for; and what it refuses."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.build.build import build, build_vectors, compact
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.request_pool import Usage
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    QuotaError,
    RefusedTextError,
    ServiceError,
    StorageError,
)
from resizable_search.progress import Progress
from resizable_search.store.layout import NAMES, Home
from tests.support import ListCorpus, TableEmbedder, articles

COMMAND = "rsearch build made --limit 95"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("resizable_search.embedders.request_pool.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("resizable_search.build.embed.GRACE_SECONDS", 1.0)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


class Paid(TableEmbedder):
    """A service that bills a token a text; `fail_at` raises `failure` from so many texts on."""

    def __init__(self, fail_at=None, failure=None, **options):
        super().__init__(**{"remote": True, "concurrency": 1, **options})

        def before(texts):
            if fail_at is not None and len(self.asked) >= fail_at:
                raise failure
            self.on_usage(len(texts))

        self.before = before


class Told(Progress):
    def __init__(self):
        self.notes, self.statuses = [], []

    def note(self, message):
        self.notes.append(message)

    def status(self, words):
        self.statuses.append(words)


def run(home, embedder, corpus=None, progress=None, stop=None, **options):
    corpus = corpus or ListCorpus(articles(95))
    options = BuildOptions(**{"name": "made", "command": COMMAND, **options})
    return build(corpus, embedder, home, options, progress or Told(), stop)


def log_of(home):
    return (home.state("made") / NAMES.log).read_text()


def test_a_build_that_gives_up_says_how_far_it_came_and_how_to_go_on(home):
    with pytest.raises(QuotaError) as caught:
        run(home, Paid(30, QuotaError("no quota left; pay")))
    kept = f"30 documents are embedded and safe; the same command resumes: `{COMMAND}`"
    assert str(caught.value) == f"no quota left; pay; {kept}"
    assert f"ended: no quota left; pay; {kept}" in log_of(home)
    told = Told()
    run(home, Paid(), progress=told)
    assert told.notes[0] == "resuming made: 30 documents are embedded already"


def test_answers_that_wait_for_one_before_them_are_safe_too(home):
    embedder = Paid(concurrency=2)
    first = threading.Event()

    def before(texts):
        if "text 0 of a" in texts:
            first.wait(10)
            raise QuotaError("no quota left")
        if len(embedder.asked) == 20:
            first.set()

    embedder.before = before
    with pytest.raises(QuotaError, match="no quota left; (2|3)0 documents are embedded and safe"):
        run(home, embedder)
    paid = set(embedder.asked)
    again = Paid()
    run(home, again)
    assert not paid & set(again.asked)


def test_a_build_that_had_nothing_keeps_nothing_and_says_nothing_of_it(home):
    with pytest.raises(QuotaError, match="^pay$"):
        run(home, Broke())
    assert not home.building("made").exists()


class Broke(TableEmbedder):
    """A service that refuses before anything was read."""

    def check(self):
        raise QuotaError("pay")


def test_other_options_are_no_way_to_go_on(home):
    with pytest.raises(QuotaError):
        run(home, Paid(30, QuotaError("pay")))
    with pytest.raises(BuildStateError) as caught:
        run(home, Paid(), dims=(16,))
    assert str(caught.value).endswith("`restart` builds it again, another `name` keeps both")


def test_going_on_with_a_replacement_leaves_restart_out(home):
    run(home, Paid())
    with pytest.raises(QuotaError, match=f"the same command without `restart` resumes: `{COMMAND}`"):
        run(home, Paid(30, QuotaError("pay")), restart=True)


def test_the_report_counts_this_run_and_all(home):
    with pytest.raises(QuotaError):
        run(home, Paid(30, QuotaError("pay")))
    embedder = Paid()
    flaky, tries = embedder.before, []

    def before(texts):
        tries.append(texts)
        if len(tries) in (2, 3):
            raise ServiceError("busy")
        flaky(texts)

    embedder.before = before
    report = run(home, embedder)
    assert report.total.seconds >= report.spent.seconds > 0
    assert replace(report.spent, seconds=0.0) == Usage(requests=9, repeats=2, tokens=65)
    assert report.runs == 2
    assert replace(report.total, seconds=0.0) == Usage(requests=13, repeats=2, tokens=95)
    told = json.loads((home.state("made") / NAMES.report).read_text())
    assert (told["added"], told["requests"], told["repeats"], told["tokens"]) == (65, 9, 2, 65)
    assert (told["total"]["runs"], told["total"]["requests"], told["total"]["tokens"]) == (2, 13, 95)
    log = log_of(home)
    assert log.count("busy; trying again in 0 s") == 2
    assert "finished: 95 documents, 9 requests (2 repeated), 65 tokens, " in log
    assert log.count("begun: rsearch ") == 2


def test_no_more_texts_are_under_way_than_a_kill_may_cost(home):
    embedder, told = Paid(), Told()
    embedder.batch_size = 50
    lock, under_way, most = threading.Lock(), 0, 0
    four = threading.Barrier(4)

    def before(texts):
        nonlocal under_way, most
        with lock:
            under_way += len(texts)
            most = max(most, under_way)
        four.wait(10)
        with lock:
            under_way -= len(texts)

    embedder.before = before
    run(home, embedder, ListCorpus(articles(1000)), told, concurrency=16)
    assert most == 200
    assert told.notes[0].startswith("4 requests at once, not 16: if this process died, more than 200 texts")


@pytest.mark.parametrize("kind", ["build", "extend", "compact"])
def test_rows_that_are_zero_vectors_are_told_by_every_kind_of_build(home, kind):
    zeros = {f"text {i} of a": np.zeros(96, np.float32) for i in (1, 3, 12, 13)}
    embedder, told = TableEmbedder(table=zeros), Told()
    run(home, embedder, progress=told, limit=10)
    assert told.notes == ["2 rows are zero vectors (a1, a3); kept as is"]
    if kind == "extend":
        run(home, embedder, progress=told, limit=30)
        assert told.notes[1] == "2 rows are zero vectors (a12, a13); kept as is"
    if kind == "compact":
        run(home, embedder, limit=30)
        compact(home.index("made"), told)
        assert told.notes[1] == "4 rows are zero vectors (a1, a3, a12 and 1 other); kept as is"


def test_a_request_that_was_too_large_is_not_sent_again(home):
    sizes = []

    def before(texts):
        sizes.append(len(texts))
        if len(texts) > 3:
            raise RefusedTextError("too many")

    embedder = Paid()
    embedder.before = before
    report = run(home, embedder)
    assert (report.added, embedder.batch_size) == (95, 3)
    assert max(sizes[8:]) <= 3
    assert "3 texts a request from now on" in log_of(home)


@pytest.mark.parametrize("bad", [{3}, {0, 9}, {44}])
def test_a_text_that_is_refused_makes_no_request_smaller(home, bad):
    def before(texts):
        if any(text == f"text {i} of a" for text in texts for i in bad):
            raise RefusedTextError("odd")

    embedder = Paid()
    embedder.before = before
    report = run(home, embedder)
    assert (report.added, embedder.batch_size) == (95 - len(bad), 10)


class Slow(ListCorpus):
    """A corpus that keeps one waiting behind its 40th document until it is let go."""

    def __init__(self, documents):
        super().__init__(documents)
        self.go_on = threading.Event()

    def blocks_nowait(self, position=None):
        for number, block in enumerate(self.blocks(position)):
            while number == 4 and not self.go_on.wait(0.001):
                yield None
            yield block


def test_answers_are_kept_while_the_corpus_keeps_one_waiting(home):
    corpus, embedder = Slow(articles(95)), Paid(concurrency=2)
    stop = threading.Event()

    answer = embedder.before

    def before(texts):
        answer(texts)
        if len(embedder.asked) >= 30:  # these are the last that have come
            threading.Timer(0.1, stop.set).start()

    embedder.before = before
    with pytest.raises(BuildStoppedError, match="40 documents are embedded and safe"):
        run(home, embedder, corpus, stop=stop)
    corpus.go_on.set()
    assert run(home, embedder, corpus).added == 55
    assert len(embedder.asked) == 95


def test_the_status_tells_repeats(home):
    told, embedder = Told(), Paid()
    flaky, tries = embedder.before, []

    def before(texts):
        tries.append(texts)
        if len(tries) == 2:
            raise ServiceError("busy")
        flaky(texts)

    embedder.before = before
    run(home, embedder, ListCorpus(articles(30)), told)
    assert told.statuses[-1].startswith("1 repeated")


def test_a_build_that_the_disk_cannot_hold_does_not_begin(home, monkeypatch, tmp_path):
    monkeypatch.setattr("resizable_search.system.free_bytes", lambda folder: 50_000)
    embedder = Paid()
    with pytest.raises(StorageError, match=r"made takes \d+ kB more at least"):
        run(home, embedder, limit=95)
    assert embedder.asked == []
    assert not home.building("made").exists()
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((500, 64)))
    with pytest.raises(StorageError, match="rows takes .* and 50 kB are free at .*: free some"):
        build_vectors(tmp_path / "rows.npy", home, BuildOptions("rows"))
    run(home, embedder, ListCorpus(articles(20)), limit=20)


def test_a_corpus_that_is_shorter_than_the_limit_needs_less_room(home, monkeypatch):
    monkeypatch.setattr("resizable_search.system.free_bytes", lambda folder: 50_000)
    monkeypatch.setattr("resizable_search.build.update.free_bytes", lambda folder: 50_000)
    corpus = ListCorpus(articles(20))
    monkeypatch.setattr(corpus, "size_hint", lambda: 20, raising=False)
    assert run(home, Paid(), corpus, limit=100_000).manifest.rows == 20

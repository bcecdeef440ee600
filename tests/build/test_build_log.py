from pathlib import Path

from resizable_search import progress as build_log
from resizable_search.progress import Progress, logged


class Told(Progress):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def test_what_the_user_is_told_is_logged_and_what_would_clutter_a_screen_too(tmp_path):
    told, path = Told(), tmp_path / "build.log"
    for words in ("first", "second"):
        with logged(told, path) as progress:
            progress.stage("embedding", 1200, "documents")
            progress.advance(10)
            progress.note(words)
            progress.log("the client repeats\na request")
    lines = [line.split(" ", 2)[2] for line in path.read_text().splitlines()]
    assert lines == [
        "embedding 1,200 documents",
        "first",
        "the client repeats a request",
        "embedding 1,200 documents",
        "second",
        "the client repeats a request",
    ]
    assert told.notes == ["first", "second"]


def test_a_log_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(build_log, "MOST_BYTES", 1000)
    with logged(Told(), tmp_path / "build.log") as progress:
        for number in range(200):
            progress.log(f"line {number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build.log", "build.log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert "line 199" in (tmp_path / "build.log").read_text()


def test_a_log_that_cannot_be_written_ends_no_build(tmp_path, capsys):
    told = Told()
    (tmp_path / "build.log").mkdir()
    with logged(told, tmp_path / "build.log") as progress:
        progress.note("hello")
    with logged(told, Path("/dev/full")) as progress:  # each write of it fails
        progress.note("hello")
    assert told.notes == ["hello", "hello"]
    assert capsys.readouterr().err == ""

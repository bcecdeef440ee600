"""Patterns of a .gitignore mean what they mean to git."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from resizable_search.corpora.discovery import ALL_FILES, Patterns, Root, walk
from resizable_search.corpora.gitignore import GitPatterns
from resizable_search.errors import UsageError

NAMES = ["a", "b", "ab", "a.md", "b.txt", "foo", "foo.c", "x y", "[a]", "ä", "a*b", "build"]
ATOMS = [
    *"ab*?[ä",
    "ab",
    "**",
    "***",
    ".md",
    ".txt",
    "foo",
    "build",
    "x y",
    "a**b",
    "\\*",
    "\\a",
    "\\ ",
    "\\",
]
ATOMS += ["[ab]", "[!a]", "[^a]", "[a-b]", "[b-a]", "[]a]", "[a-]", "[[:alpha:]]", "[[:digit:]b]", "[[:x:]]"]
ATOMS += ["[\\]a]", "[a\\-b]", "[[:a]"]
CASES = 2000

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> list[str]:
    """The names that a command of git prints, in a repository that nothing outside of it configures."""
    done = subprocess.run(
        ["git", "-C", folder, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(folder / ".git")},
    )
    return done.stdout.decode().split("\0")[:-1]


def repository(folder: Path, gitignore: str, *files: str) -> Path:
    """A git repository with these files."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / ".gitignore").write_text(gitignore)
    git(folder, "init", "-q")
    return folder


def read(folder: Path, patterns: Patterns = ALL_FILES) -> list[str]:
    """The files that are read below a folder."""
    return sorted(file.id for file in walk([Root(str(folder))], str(folder), patterns))


def random_pattern(chance: random.Random) -> str:
    """A pattern of one to three names."""
    names = [
        "".join(chance.choices(ATOMS, k=chance.choice([1, 1, 1, 2, 2, 3])))
        for _ in range(chance.randint(1, 3))
    ]
    text = "/".join(names)
    for odds, before, after in (
        (0.2, "/", ""),
        (0.25, "", "/"),
        (0.3, "!", ""),
        (0.05, "", " "),
        (0.03, "", "\t"),
        (0.02, "#", ""),
        (0.05, "", "\r"),
    ):
        if chance.random() < odds:
            text = before + text + after
    return text


def grow(chance: random.Random, folder: Path, depth: int) -> None:
    """Files, folders and patterns at random."""
    folder.mkdir()
    for name in chance.sample(NAMES, chance.randint(2, 4)):
        if depth and chance.random() < 0.5:
            grow(chance, folder / name, depth - 1)
        else:
            (folder / name).touch()
    if depth == 3 or chance.random() < 0.25:
        mark = "\ufeff" * (chance.random() < 0.1)
        lines = [random_pattern(chance) for _ in range(chance.randint(1, 5))]
        (folder / ".gitignore").write_text(mark + "\n".join(lines), encoding="utf-8", newline="")


@needs_git
def test_random_patterns_leave_out_what_git_leaves_out(tmp_path):
    """One repository holds all cases, each in a folder of its own."""
    git(tmp_path, "init", "-q")
    chance = random.Random(0)
    for case in range(CASES):
        grow(chance, tmp_path / f"case {case}", 3)
    seen = git(tmp_path, "ls-files", "-co", "-z", "--exclude-standard")
    assert read(tmp_path) == sorted(name for name in seen if not name.endswith(".gitignore"))


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ("*\n!*/\n!*.md\n", ["a.md", "a/build/s.md", "docs/c.md", "docs/sub/e.md"]),
        ("docs/**\n!docs/**/\n!docs/**/*.md\n", ["a.md", "a/build/s.md", "docs/c.md", "docs/sub/e.md"]),
        ("build/\n!/a/\n", ["a.md", "docs/c.md", "docs/d.txt", "docs/sub/e.md"]),
        ("/*\n!docs/**\n", []),
    ],
)
def test_folders_that_are_kept_or_left_out(tmp_path, lines, left):
    """What git reads: a folder that is left out is not looked into."""
    files = "a.md", "docs/c.md", "docs/sub/e.md", "docs/d.txt", "a/build/s.md"
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text(lines)
    assert read(tmp_path) == left


@needs_git
def test_a_tracked_file_is_read_though_a_pattern_ignores_it(tmp_path):
    """What lies beside it in an ignored folder stays out, whatever a .gitignore there says."""
    repository(
        tmp_path,
        "build/\n*.log\n",
        "a.md",
        "build/keep.md",
        "build/new.md",
        "build/sub/x.md",
        "a.log",
        "b.log",
    )
    (tmp_path / "build" / ".gitignore").write_text("!*\n")
    git(tmp_path, "add", "-f", "build/keep.md", "a.log")
    assert read(tmp_path) == ["a.log", "a.md", "build/keep.md"]
    assert read(tmp_path, Patterns(exclude=["*.log"])) == ["a.md", "build/keep.md"]


@needs_git
def test_a_folder_cannot_have_git_run_a_program(tmp_path):
    """A repository that came from elsewhere brings its configuration along."""
    repository(tmp_path, "*.log\n", "a.log", "a.md")
    git(tmp_path, "add", "-f", "a.log")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    trap.chmod(0o755)
    hooks = tmp_path / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "fsmonitor-watchman"):
        shutil.copy(trap, hooks / name)
    for name in (
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "core.editor",
        "alias.ls-files",
        "core.askPass",
    ):
        git(tmp_path, "config", name, str(trap))
    assert read(tmp_path) == ["a.log", "a.md", "trap"]
    assert not (tmp_path / "sprung").exists()


@needs_git
def test_rules_outside_of_the_folder(tmp_path, monkeypatch):
    """Those of the repository's top, of `.git/info/exclude` and of the user, the nearest first."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "git").mkdir(parents=True)
    (tmp_path / "config" / "git" / "ignore").write_text("*.tmp\n*.bak\n")
    files = "notes/a.md", "notes/a.tmp", "notes/a.bak", "notes/a.log", "notes/own.md", "notes/out/b.md"
    top = repository(tmp_path / "top", "out/\n!*.bak\n", *files)
    (top / ".git" / "info").mkdir(exist_ok=True)
    (top / ".git" / "info" / "exclude").write_text("*.log\nown.md\n")
    assert read(top / "notes") == ["a.bak", "a.md"]
    assert read(top / "notes" / "out") == ["b.md"]  # it is named


def test_a_gitignore_that_is_a_link_is_not_read(tmp_path):
    """As git has it: a link could lead anywhere."""
    (tmp_path / "rules").write_text("*.log\n")
    (tmp_path / "a.log").touch()
    (tmp_path / ".gitignore").symlink_to("rules")
    assert read(tmp_path) == ["a.log", "rules"]


def test_without_git_nothing_is_tracked(tmp_path, monkeypatch):
    """The patterns hold all the same."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "a.log").touch()
    (tmp_path / "a.md").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read(tmp_path) == ["a.md"]


def test_many_stars_cost_little():
    """A pattern is matched in time that grows with its length, and not with its stars' combinations."""
    pattern = GitPatterns.of(["*a" * 60 + "b"])
    assert pattern.ignores("a" * 250, is_folder=False) is None
    assert pattern.ignores("a" * 250 + "b", is_folder=False) is True


@pytest.mark.parametrize("line", ["", "   ", "# note", "[", "a[", "/", "a\\", "[[:none:]]"])
def test_a_pattern_that_matches_nothing_is_refused(line):
    """`--exclude` with it would do nothing."""
    with pytest.raises(UsageError, match="is not a pattern"):
        Patterns(exclude=[line])


def test_spaces_and_escapes():
    """Spaces at the end count only behind a backslash."""
    assert GitPatterns.of(["a  "]).ignores("a", is_folder=False)
    assert GitPatterns.of(["a\\  "]).ignores("a ", is_folder=False)
    assert GitPatterns.of(["\\#a"]).ignores("#a", is_folder=False)
    assert not GitPatterns.of(["a/"]).ignores("a", is_folder=False)

"""Which files are found, in which order, and what is skipped or reported."""

import inspect
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from resizable_search.corpora.discovery import Listing, Patterns, absolute, roots_of, walk
from resizable_search.errors import UsageError


def ids(*paths: object) -> list[str]:
    return [file.id for file in walk(*roots_of([str(path) for path in paths]))]


def test_a_folder_is_read_in_the_order_of_its_names(write):
    folder = write({"b.txt": "", "a/z.txt": "", "a/b/c.txt": "", "B.txt": "", "c.txt": ""})
    assert ids(folder) == ["B.txt", "a/b/c.txt", "a/z.txt", "b.txt", "c.txt"]


def test_hidden_files_are_passed_over_unless_they_are_named(write):
    folder = write({".git/config": "", ".env": "", "a/.b/c.txt": "", "d.txt": ""})
    assert ids(folder) == ["d.txt"]
    assert ids(folder / ".env", folder / "a" / ".b") == [".env", "a/.b/c.txt"]


def test_gitignore_holds_for_its_folder_and_those_below(write):
    folder = write(
        {
            ".gitignore": "*.log\nbuild/\n/top.txt\ndocs/**/draft.md\n!keep.log\n",
            "a.log": "", "keep.log": "", "top.txt": "", "sub/top.txt": "", "build/x.txt": "",
            "sub/build/x.txt": "", "docs/a/b/draft.md": "", "docs/a/b/done.md": "",
            "sub/.gitignore": "!b.log\nkeep.log\n", "sub/b.log": "", "sub/c.log": "", "sub/keep.log": "",
        }
    )  # fmt: skip
    assert ids(folder) == ["docs/a/b/done.md", "keep.log", "sub/b.log", "sub/top.txt"]


def test_what_is_named_is_read_whatever_is_ignored(write):
    folder = write({".gitignore": "*\n", "a.txt": "", "b/c.txt": ""})
    assert ids(folder) == []
    assert ids(folder / "a.txt") == ["a.txt"]
    assert ids(folder / "b") == ["c.txt"]


def test_the_rules_of_a_repository_hold_in_a_folder_of_it_and_others_do_not(write):
    folder = write(
        {".gitignore": "*.log\n", "repo/.gitignore": "*.tmp\n", "repo/sub/a.log": "", "repo/sub/a.tmp": ""}
    )
    assert ids(folder / "repo" / "sub") == ["a.log", "a.tmp"]
    (folder / "repo" / ".git").mkdir()
    assert ids(folder / "repo" / "sub") == ["a.log"]


def test_a_pattern_of_a_gitignore_that_is_none_is_passed_over(write):
    assert ids(write({".gitignore": "!\n[z-a]\n\\\n*.log\n", "a.log": "", "a.txt": ""})) == ["a.txt"]


def test_links_are_followed_and_circles_are_not_followed_twice(write):
    folder = write(
        {
            "a/x.txt": "",
            "a/up -> ..": "",
            "loop -> .": "",
            "self -> self": "",
            "file -> a/x.txt": "",
            "z.txt": "",
        }
    )
    files = list(walk(*roots_of([str(folder)])))
    assert [file.id for file in files] == ["a/x.txt", "file", "self", "z.txt"]
    assert [file.problem for file in files] == ["", "", "it is a broken link", ""]


def test_a_link_to_what_lies_around_the_folder_is_told_and_not_followed(write):
    folder = write({"private.txt": "", "in/a.txt": "", "in/up -> ..": "", "in/deep/all -> /": ""})
    files = list(walk(*roots_of([str(folder / "in")])))
    assert [(file.id, file.problem) for file in files] == [
        ("a.txt", ""),
        ("deep/all", "it links to a folder around this one"),
        ("up", "it links to a folder around this one"),
    ]


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_name_is_found_in_whichever_form_its_accents_are_written(write):
    folder = write({f"{DECOMPOSED}/a.txt": "", f"{DECOMPOSED}/{COMPOSED}.md": ""})
    assert ids(absolute(f"{folder}/{COMPOSED}/a.txt")) == ["a.txt"]
    assert ids(absolute(f"{folder}/{COMPOSED}/{DECOMPOSED}.md")) == [f"{COMPOSED}.md"]
    roots, base = roots_of([absolute(f"{folder}/*{COMPOSED}/{DECOMPOSED}.md")])
    assert [file.id for file in walk(roots, base)] == [f"{DECOMPOSED}/{COMPOSED}.md"]
    roots, base = roots_of([str(folder)])
    taken = Patterns(include=[f"{COMPOSED}/{DECOMPOSED}.md"])
    assert [file.id for file in walk(roots, base, taken)] == [f"{DECOMPOSED}/{COMPOSED}.md"]
    left = Patterns(exclude=[f"{COMPOSED}/"])
    assert list(walk(roots, base, left)) == []
    with pytest.raises(UsageError, match="does not exist"):
        roots_of([absolute(f"{folder}/{COMPOSED}/none.txt")])


def test_a_folder_goes_by_its_own_name_and_not_by_a_link_to_it(write):
    folder = write({"a -> z": "", "z/x.txt": "", "hidden -> .h": "", ".h/y.txt": ""})
    assert ids(folder) == ["z/x.txt", "hidden/y.txt"]


def test_pipes_and_sockets_are_reported_and_not_opened(write):
    folder = write({"a.txt": ""})
    os.mkfifo(folder / "pipe")
    files = list(walk(*roots_of([str(folder), "/dev/null"])))
    problem = "it is a pipe, a socket or a device"
    assert [(Path(file.id).name, file.problem) for file in files] == [
        ("a.txt", ""),
        ("pipe", problem),
        ("null", problem),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_reported(write):
    folder = write({"a/x.txt": "", "b.txt": ""})
    (folder / "a").chmod(0)
    try:
        files = list(walk(*roots_of([str(folder)])))
    finally:
        (folder / "a").chmod(0o700)
    assert [(file.id, bool(file.problem)) for file in files] == [("a", True), ("b.txt", False)]


def test_ids_are_relative_to_what_the_paths_have_in_common(write):
    folder = write({"docs/a.md": "", "docs/b.md": "", "src/a.md": ""})
    assert ids(folder / "docs") == ["a.md", "b.md"]
    assert ids(folder / "docs", folder / "src") == ["docs/a.md", "docs/b.md", "src/a.md"]
    assert ids(folder / "docs" / "b.md", folder / "docs" / "a.md") == ["b.md", "a.md"]


def test_a_file_is_found_once_however_often_it_is_named(write):
    folder = write({"docs/a.md": "", "docs/b.md": "", "c.txt": ""})
    assert ids(folder / "docs", folder, folder / "docs" / "b.md") == [
        "folder/docs/a.md",
        "folder/c.txt",
        "folder/docs/b.md",
    ]
    assert ids(folder / "docs", folder / "**" / "*.md", folder / "*.txt") == [
        "docs/a.md",
        "docs/b.md",
        "c.txt",
    ]


def test_a_pattern_means_files_at_any_depth_but_none_that_is_hidden_or_in_a_circle(write):
    folder = write(
        {
            "a/b/c.md": "",
            "d.md": "",
            "e.txt": "",
            ".x/f.md": "",
            "a/up -> ..": "",
            "skip/g.md": "",
            ".gitignore": "skip/",
        }
    )
    assert ids(folder / "**" / "*.md") == ["a/b/c.md", "d.md"]
    assert ids(folder / "?.md") == ["d.md"]
    assert ids(folder / "[a-c]") == ["a/b/c.md"]


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        ([], [], "a.md b.txt docs/c.md docs/old/d.md"),
        (["*.md"], [], "a.md docs/c.md docs/old/d.md"),
        (["docs/"], [], "docs/c.md docs/old/d.md"),
        (["/*.md", "*.txt"], [], "a.md b.txt"),
        ([], ["*.md", "!c.md"], "b.txt docs/c.md"),
        ([], ["old/"], "a.md b.txt docs/c.md"),
        ([], ["!skip.log", "docs/old"], "a.md b.txt docs/c.md docs/skip.log"),
        (["*.md"], ["docs/*", "!docs/old"], "a.md docs/old/d.md"),
    ],
)
def test_patterns_mean_what_they_mean_in_a_gitignore(write, include, exclude, left: str):
    folder = write({
        "a.md": "", "b.txt": "", "docs/c.md": "", "docs/old/d.md": "", "docs/skip.log": "",
        "docs/.gitignore": "*.log",
    })  # fmt: skip
    files = walk(*roots_of([str(folder)]), Patterns(include, exclude))
    assert [file.id for file in files] == left.split()


def test_patterns_are_read_in_each_folder_that_is_named_and_files_that_are_named_stay(write):
    folder = write({"a/x/1.md": "", "a/2.md": "", "b/x/3.md": "", "b/4.md": "", "x/5.md": ""})
    roots, base = roots_of([str(folder / name) for name in ("a", "b", "x/5.md")])
    assert [file.id for file in walk(roots, base, Patterns(exclude=["/x", "5.md"]))] == [
        "a/2.md", "b/4.md", "x/5.md",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["nothing", "*.nothing", "nothing/*.md"])
def test_what_is_not_there_is_wrong_usage(write, path: str):
    with pytest.raises(UsageError, match="nothing"):
        roots_of([str(write({"a.txt": ""}) / path)])


def test_the_folder_of_an_unknown_user_is_wrong_usage():
    with pytest.raises(UsageError, match="the folder of an unknown user"):
        absolute("~nouser/x")


def test_names_that_are_no_text_are_kept(write):
    folder = write({})
    (folder / os.fsdecode(b"caf\xe9.txt")).touch()
    (folder / "line\nfeed.txt").touch()
    with closing(Listing(walk(*roots_of([str(folder)])))) as listing:
        names = [os.fsencode(file.id) for file in listing.read()]
    assert names == [b"caf\xe9.txt", b"line\nfeed.txt"]


def digest(folder: Path) -> str:
    with closing(Listing(walk(*roots_of([str(folder)])))) as listing:
        return listing.digest


def test_a_listing_tells_a_folder_that_changed(write):
    folder = write({"a.txt": "one", "b.txt": "two"})
    before = digest(folder)
    assert digest(folder) == before
    write({"c.txt": ""})
    with_third = digest(folder)
    (folder / "c.txt").unlink()
    assert digest(folder) == before
    os.utime(folder / "a.txt", ns=(0, 0))
    assert len({before, with_third, digest(folder)}) == 3


def test_a_listing_is_read_as_often_as_it_is_wanted(write):
    folder = write({f"{i:03}.txt": str(i) for i in range(50)})
    with closing(Listing(walk(*roots_of([str(folder)])))) as files:
        whole = list(files.read())
        assert files.count == len(whole) == 50
        assert list(files.read()) == whole


def test_a_folder_may_lie_deeper_than_python_recurses(write):
    depth = 400
    folder = write({"d/" * depth + "x.txt": ""})
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + depth // 2)
    try:
        assert ids(folder) == ["d/" * depth + "x.txt"]
    finally:
        sys.setrecursionlimit(limit)

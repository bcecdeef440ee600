"""`rsearch build --shard` and `rsearch merge`."""

from tests.build.changes.conftest import contents
from tests.cli.conftest import Inside, Machine, errs


def test_five_merged_shards_of_the_test_articles_are_one_build(machine: Machine):
    limited = ("build", "wiki100k", "--limit", 250)
    assert machine.run(*limited, "--name", "whole").code == 0
    for number in range(1, 6):
        ran = machine.run(*limited, "--shard", f"{number}/5")
        assert f"wiki100k-{number}-of-5: 50 documents at " in ran.out, ran
    assert machine.run(*limited, "--shard", "2/5").out.startswith("wiki100k-2-of-5 is complete: 50 ")
    ran = machine.run("merge", "all", *(f"wiki100k-{number}-of-5" for number in (1, 3, 2, 5, 4)))
    assert (ran.code, ran.out.splitlines()[0]) == (
        0,
        "all: 250 documents at 64, 128, 256, 512, 768 dimensions",
    )
    assert "in 5 parts: `rsearch compact all` makes them one" in ran.out
    answers = [machine.run("query", "a comet", "--index", name, "--json").json for name in ("whole", "all")]
    assert answers[0]["hits"] == answers[1]["hits"]
    assert machine.run("compact", "all").code == 0
    one, other = (contents(machine.home / name, ("generation", "source")) for name in ("whole", "all"))
    assert one == other
    ran = machine.run("build", "wiki100k", "--limit", 300, "--name", "all")
    assert ran.out.startswith("all: 300 documents (50 of them now) at "), ran
    assert "corpus     wikimedia/wikipedia 20231101.en" in machine.run("info", "all").out
    assert "shard 2/5" in machine.run("info", "wiki100k-2-of-5", "--files").out


def test_wrong_shards_and_merges_are_refused(inside: Inside):
    (inside.folder / "notes").mkdir()
    for number in range(4):
        (inside.folder / "notes" / f"{number}.md").write_text(f"Note {number} of a tree.")
    errs(inside.run("build", "files", "notes", "--shard", "3/2"), 2, "--shard must be one of all shards")
    errs(inside.run("build", "files", "notes", "--shard", "1/2", "--limit", 3), 2, "--limit", "--shard")
    errs(
        inside.run("build", "files", "-", "--name", "x", "--shard", "1/2"),
        2,
        "--shard is for files, and there are none",
    )
    assert inside.run("build", "files", "notes", "--shard", "1/2").code == 0
    errs(
        inside.run("build", "files", "notes", "--shard", "1/2", "--embedder", "lsa"), 1, "wordllama, not lsa"
    )
    errs(inside.run("update", "notes-1-of-2"), 1, "it is shard 1/2 of its corpus; merge all shards")
    errs(inside.run("merge", "all", "notes-1-of-2"), 2, "two indexes or more")
    errs(inside.run("merge", "all", "notes-1-of-2", "other"), 1, "no index other")

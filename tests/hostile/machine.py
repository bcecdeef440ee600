"""Machines with little of something, or with something amiss: open files, a clock, folders, variables."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cli.conftest import COMMAND, PATIENCE, Machine, Ran, another_api, shown
from tests.hostile import Row
from tests.hostile.full import IN_FLIGHT, billed_again, undated

BACKWARDS = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
/* The wall clock runs backwards, a minute a second; the monotonic one is left alone. */
int clock_gettime(clockid_t clock, struct timespec *found) {
    static long long first;
    struct timespec since;
    int failed = syscall(SYS_clock_gettime, clock, found);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &since);
    long long now = since.tv_sec * 1000LL + since.tv_nsec / 1000000;
    if (!first) first = now;
    long long back = found->tv_sec * 1000LL + found->tv_nsec / 1000000 - 60 * (now - first);
    found->tv_sec = back / 1000;
    found->tv_nsec = back % 1000 * 1000000;
    return 0;
}
int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
"""


def run_limited(machine: Machine, limit: str, *args: object) -> Ran:
    """Run the command under a limit, as `ulimit` sets it."""
    ran = subprocess.run(
        ["bash", "-c", f'ulimit {limit}; exec "$0" "$@"', str(COMMAND), *map(str, args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=machine.env,
        cwd=machine.folder,
        timeout=PATIENCE,
    )
    return Ran(
        [str(arg) for arg in args], ran.returncode, shown(ran.stdout), shown(ran.stderr)
    ).keeps_promises()


def limited(
    machine: Machine, limit: str, remedy: str, words: tuple[object, ...], whole: dict[str, Any] | None = None
) -> Row:
    """A command under a limit works, or names the remedy; a build (of `made`) then goes on without it."""
    situation = f"ulimit {limit}: rsearch {' '.join(map(str, words[:2]))}"
    before = None if whole else machine.holdings()
    wrong = []
    with another_api(machine) as api:
        ran = run_limited(machine, limit, *words)
        outcome = "works" if ran.code == 0 else f"… {remedy} …"
        if ran.code and (ran.code != 1 or remedy not in ran.last or ran.out):
            wrong.append(f"exit code {ran.code}, {ran.last!r}")
        if whole is None:
            if machine.holdings() != before:
                wrong.append("it changed what is there")
            return Row(situation, outcome, wrong="; ".join(wrong))
        again = machine.run(*words)
        twice = billed_again(api.answered)
    if again.code:
        return Row(situation, outcome, False, twice, f"going on: exit code {again.code}, {again.last!r}")
    identical = undated(machine.home / "made") == whole
    if not identical or twice > IN_FLIGHT:
        wrong.append("it did not go on as it should")
    return Row(situation, outcome, identical, twice, "; ".join(wrong))


def backwards(machine: Machine, whole: dict[str, Any], words: tuple[object, ...]) -> Row | None:
    """A build and more while the wall clock runs backwards; None where no such clock can be made."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    source, library = machine.folder / "backwards.c", machine.folder / "backwards.so"
    source.write_text(BACKWARDS)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    clock = {"LD_PRELOAD": str(library)}
    began = datetime.now(UTC).isoformat(timespec="seconds")
    wrong = []
    with another_api(machine) as api:
        for command in (words, ("verify", "made"), ("tune", "-i", "made", "--sample", 20), ("info", "made")):
            ran = machine.run(*command, **clock)
            if ran.code:
                wrong.append(f"rsearch {command[0]}: exit code {ran.code}, {ran.last!r}")
        twice = billed_again(api.answered)
    if not machine.run("info", "made", "--json").json["created"] < began:
        wrong.append("the clock did not run backwards")
    found = undated(machine.home / "made")
    found["manifest.json"]["plans"] = {}
    identical = found == whole
    if not identical or twice:
        wrong.append("the index is another, or texts were billed twice")
    return Row("the clock runs backwards, a minute a second", "works", identical, twice, "; ".join(wrong))


def odd(machine: Machine, shelf: Machine) -> Iterator[Row]:
    """Homes, folders and variables that are not as usual: everything works."""
    name = "mein Index 漢字 é"
    build = ("build", "pydoc", "--limit", 40, "--dims", 16)
    query = ("query", "walk a directory tree", "--json")
    takes = machine.home / "pydoc"
    shutil.copytree(shelf.home / "pydoc", takes)
    link = machine.folder / "a link"
    link.symlink_to(machine.home)
    yield _works(machine, "a name with spaces and Unicode", (*build, "--name", name), (*query, "-i", name))
    yield _works(
        machine, "a symlinked home", *_with(link, build, query, ("verify",), ("remove", "pydoc", "-y"))
    )
    shutil.copytree(shelf.home / "pydoc", takes)
    index = machine.home / "link to another"
    index.symlink_to(takes)
    yield _works(
        machine, "a symlinked index", (*query, "-i", index.name), ("tune", "-i", index.name, "--sample", 20)
    )
    index.unlink()
    for what, variables in {
        "HOME is nowhere": {"HOME": "/nonexistent"},
        "TMPDIR is missing": {"TMPDIR": "/nonexistent"},
        "the C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    }.items():
        commands = (*build, "--name", what), (*query, "-i", what), ("remove", what, "-y")
        yield _works(machine, what, *commands, **variables)
    without = Machine(machine.folder, dict(machine.env))
    del without.env["HOME"], without.env["RSEARCH_HOME"]
    yield _works(without, "HOME is unset", *_with(machine.home, query, ("list",), ("info",)))
    yield _under(machine, "umask 077", "umask 077", (*build, "--name", "mine"), (*query, "-i", "mine"))
    private = [path for path in (machine.home / "mine").rglob("*") if path.stat().st_mode & 0o077]
    yield Row("umask 077: nothing of it is for others", "works", wrong=", ".join(map(str, private[:3])))
    gone = 'mkdir gone; cd gone; rmdir "$PWD"'
    yield _under(machine, "the current folder was deleted", gone, (*query, "-i", "pydoc"), ("list",))
    yield _under(
        machine, "stderr is full", "exec 2>/dev/full", (*build, "--name", "quiet"), ("verify", "quiet")
    )


def _with(home: Path, *commands: tuple[object, ...]) -> list[tuple[object, ...]]:
    names = {
        "query": ("-i", "pydoc"),
        "verify": ("pydoc",),
        "info": ("pydoc",),
        "build": ("--name", "through a link"),
    }
    return [(*words, *names.get(str(words[0]), ()), "--home", home) for words in commands]


def _works(machine: Machine, situation: str, *commands: tuple[object, ...], **env: str) -> Row:
    wrong = []
    for words in commands:
        ran = machine.run(*words, **env)
        if ran.code or not ran.out:
            wrong.append(f"rsearch {words[0]}: exit code {ran.code}, {ran.last!r}")
    return Row(situation, "works", wrong="; ".join(wrong))


def _under(machine: Machine, situation: str, before: str, *commands: tuple[object, ...]) -> Row:
    """As `_works`, after some words of a shell."""
    wrong = []
    for words in commands:
        ran = subprocess.run(
            ["bash", "-c", f'{before}; exec "$0" "$@"', str(COMMAND), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=machine.env,
            cwd=machine.folder,
            timeout=PATIENCE,
        )
        if ran.returncode or not ran.stdout:
            wrong.append(f"rsearch {words[0]}: exit code {ran.returncode}, {ran.stderr!r}")
    return Row(situation, "works", wrong="; ".join(wrong))

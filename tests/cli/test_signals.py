"""Signals and stalls: what a build does about them, and that `--dry-run` does nothing."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from tests.cli.conftest import COMMAND, Machine, another_api, errs_at_last, free_of_key
from tests.servers.dataset import write_wikipedia
from tests.servers.hub import HubServer

BUILD = ("build", "wiki100k", "--limit", 60, "--concurrency", 2)


@pytest.fixture
def stalling(machine: Machine):
    """A hub of this machine's alone, to be stalled."""
    folder = write_wikipedia(machine.folder / "hub", 60, shards=1, rows_per_group=60)
    with HubServer({"wikimedia/wikipedia": folder}) as hub:
        machine.env |= {"HF_ENDPOINT": hub.url, "HF_HUB_DOWNLOAD_TIMEOUT": "60"}
        yield hub


def test_sigterm_while_the_hub_hangs_ends_the_build_at_once_and_says_how_to_go_on(
    machine: Machine, stalling: HubServer
):
    stalling.stall_reads(1, 60.0, after=0)
    process = machine.start(*BUILD)
    for line in process.stderr:
        if "no data from wikimedia/wikipedia 20231101.en for" in line:
            break
    assert "is given up after 60 s" in line
    assert "repeated up to 20 times, 5 s apart" in line
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    ran = machine.end(process)
    assert time.monotonic() - began < 30
    command = "`rsearch build wiki100k --limit 60 --concurrency 2`"
    errs_at_last(ran, 130, f"0 documents are embedded and safe; the same command resumes: {command}")


def test_a_dry_run_writes_nothing_and_pays_nothing(machine: Machine):
    with another_api(machine) as api:
        ran = machine.run(*BUILD, "--dry-run", "--rate", 3)
        assert api.requests == 0
    assert (ran.code, ran.err) == (0, "rsearch: reading 60 documents\n")
    assert not machine.home.exists()
    for line in (
        r"would be +built from the start",
        r"documents +60 of wikimedia/wikipedia 20231101.en",
        r"requests +6 to nomic, of up to 10 texts",
        r"tokens +about \d[\d,]+: estimated from 60 documents",
        r"time +2 min at least, at 3 requests a minute",
        r"on disk +\d+ kB; [\d.]+ [kM]B at most meanwhile; texts are estimated",
        r"free +\d+ GB",
        r"corpus +ok: wikimedia/wikipedia is there",
        r"embedder +ok: the key from NOMIC_API_KEY is accepted",
        r" +nothing was written; nothing was billed",
    ):
        assert re.search(rf"^{line}", ran.out, re.MULTILINE), line
    ran = machine.run(*BUILD, "--dry-run", NOMIC_API_KEY="")
    assert ran.code == 1
    assert "embedder   wrong: no Nomic credentials" in ran.out
    assert not machine.home.exists()


def test_whoever_stops_reading_progress_does_not_end_the_build(machine: Machine):
    words = " ".join(map(str, BUILD))
    script = f'{{ "$0" {words} 2>&1 >out.txt; echo $? >code.txt; }} | head -n 1'
    done = subprocess.run(
        ["bash", "-c", script, COMMAND], env=machine.env, cwd=machine.folder, capture_output=True, text=True
    )
    assert done.stdout.startswith("rsearch: ")
    assert (machine.folder / "code.txt").read_text() == "0\n"
    assert (machine.folder / "out.txt").read_text().startswith("wiki100k: 60 documents at 64, 128")

    out = (machine.folder / "out.txt").read_text()
    assert re.search(r"^6 requests, \d[\d,]+ tokens$", out, re.MULTILINE)
    report = json.loads((machine.home / ".state" / "wiki100k" / "report.json").read_text())
    assert (report["requests"], report["repeats"]) == (6, 0)
    assert report["tokens"] > 1000
    assert (
        "finished: 60 documents, 6 requests"
        in (machine.home / ".state" / "wiki100k" / "build.log").read_text()
    )
    free_of_key(machine.folder)

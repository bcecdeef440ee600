"""Builds that cannot be: one line with the remedy, the right exit code, and nothing half-written."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.cli.conftest import (
    ROWS,
    Machine,
    Shelf,
    another_api,
    closed_address,
    errs,
    errs_at_last,
    free_of_key,
)
from tests.servers.hub import HubServer
from tests.servers.nomic_api import NAN, TOO_FEW, WRONG_WIDTH, NomicServer

FEW = ("build", "wiki100k", "--limit", 20)


@dataclass
class Hopeless:
    """A build that gets bad answers alone to its one request; the pauses between them take seconds."""

    machine: Machine
    api: NomicServer
    process: "subprocess.Popen[str]"


@pytest.fixture(scope="module", autouse=True)
def hopeless(env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hopeless]:
    """Started with the first test of this file and looked at by the last."""
    machine = Machine(tmp_path_factory.mktemp("hopeless"), dict(env))
    with another_api(machine) as api:
        api.spoil(TOO_FEW, 2)
        api.spoil(NAN, None)
        process = machine.start(*FEW, "--concurrency", 1)
        with process:
            yield Hopeless(machine, api, process)
            process.kill()  # where the last test of this file has not run


def left_nothing(machine: Machine) -> None:
    assert machine.holdings() == {}
    assert machine.unfinished() == []
    free_of_key(machine.folder)


def left_no_index(machine: Machine) -> None:
    """Only a build to go on with: the texts that were read and wait for their vectors."""
    assert all(name.startswith(".building/wiki100k/") for name in machine.holdings())
    free_of_key(machine.folder)


def test_an_answer_of_the_wrong_width_is_not_asked_for_again(machine: Machine):
    with another_api(machine) as api:
        api.spoil(WRONG_WIDTH, None)
        ran = machine.run(*FEW, "--concurrency", 1)
        assert api.requests == 1
    errs_at_last(ran, 1, "vectors of 767 dimensions where 768 were expected", "serves the right model")
    left_no_index(machine)


def test_without_credentials_the_ways_to_give_them_are_told(machine: Machine):
    errs(
        machine.run(*FEW, NOMIC_API_KEY=""),
        1,
        "no Nomic credentials",
        "nomic login",
        "NOMIC_API_KEY",
        "wordllama",
    )
    left_nothing(machine)


def test_a_key_that_is_refused_is_told_and_not_shown(machine: Machine):
    ran = machine.run(*FEW, NOMIC_API_KEY="nk-of-somebody-else")
    errs(ran, 1, "refuses the key from NOMIC_API_KEY (HTTP 401", "set it to a valid key")
    assert "somebody" not in ran.err
    left_nothing(machine)


def test_a_service_that_is_not_there_is_told(machine: Machine):
    errs(machine.run(*FEW, ATLAS_API_PATH=closed_address()), 1, "cannot reach", "check ATLAS_API_PATH")
    left_nothing(machine)


def test_a_hub_that_is_not_there_is_told(machine: Machine):
    ran = machine.run(*FEW, HF_ENDPOINT=closed_address())
    errs_at_last(ran, 1, "cannot be reached", "check the network, and HF_ENDPOINT")
    left_nothing(machine)


def test_a_dataset_that_is_not_there_is_told(machine: Machine):
    with HubServer({}) as empty:
        ran = machine.run(*FEW, HF_ENDPOINT=empty.url)
    errs_at_last(ran, 1, "no dataset wikimedia/wikipedia", "or set HF_TOKEN")
    left_nothing(machine)


def test_a_wikipedia_that_is_not_there_is_told_with_those_there_are(machine: Machine):
    ran = machine.run("build", "wiki", "--lang", "xx", "--date", "19991231", "--limit", 20)
    errs_at_last(ran, 1, "no configuration '19991231.xx'", "20231101.en", "20231101.one")
    left_nothing(machine)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_home_that_cannot_be_written_is_told(machine: Machine, below: str):
    file = machine.folder / "a-file"
    file.write_text("mine")
    ran = machine.run("build", "pydoc", "--home", file / below)
    errs(ran, 1, "cannot write to ", "a-file", "--home or $RSEARCH_HOME")
    assert file.read_text() == "mine"


def test_a_folder_that_is_no_index_is_not_built_into(machine: Machine):
    (machine.home / "pydoc").mkdir(parents=True)
    (machine.home / "pydoc" / "thesis.txt").write_text("mine")
    errs(machine.run("build", "pydoc"), 1, "exists and is no index: move it away, or choose another --name")
    assert machine.holdings() == {"pydoc/thesis.txt": b"mine"}


def test_an_index_that_was_built_otherwise_is_not_extended(machine: Machine, shelf: Shelf):
    machine.take(shelf, "wiki100k")
    before = machine.holdings()
    ran = machine.run("build", "wiki100k", "--limit", ROWS, "--chars", 600)
    errs(
        ran,
        1,
        "was built with --chars 1200, not 600",
        "--restart` builds it again, another --name keeps both",
    )
    assert machine.holdings() == before


def test_a_document_without_text_ends_the_build_if_that_is_asked(machine: Machine):
    ran = machine.run("build", "wiki", "--lang", "odd", "--on-bad-text", "fail")
    errs_at_last(ran, 1, "document 'empty' has no text", "--on-bad-text skip")
    left_nothing(machine)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("pydoc", "--limit", 0), ("--limit must be 1 or more, not 0",)),
        (("wiki100k", "--limit", 100_001), ("rsearch build wiki --limit 100001",)),
        (("pydoc", "--dims", "64,128,64"), ("--dims names 64 more than once: name each number once",)),
        (("wiki100k", "--dims", "64,769"), ("769 is not within 1 to 768",)),
        (("pydoc", "--dims", "64,257"), ("257 is not within 1 to 256",)),
        (("wiki100k", "--embedder", "lsa", "--dims", "1024"), ("1024 is not within 1 to 768",)),
        (("pydoc", "--chars", -1), ("--chars", "-1 is not in the range")),
        *(
            (("wiki100k", "--rate", rate), ("--rate must be above 0",))
            for rate in (0, -1, "nan", "inf", 1e-300)
        ),
        *((("wiki100k", "--concurrency", n), ("--concurrency must be 1 to 256",)) for n in (0, 100_000)),
        (("pydoc", "--dims", "9" * 5000), ("--dims: at most 1,000,000, not 999",)),
        (("pydoc", "--name", "a" * 300), ("…' is no name for an index", "up to 100")),
        (("pydoc", "--home", "~nouser/x"), ("~nouser/x names a user that",)),
        (
            ("pydoc", "--embedder", "word2vec"),
            ("no embedder 'word2vec'", "nomic, nomic-local, openai, sentence-transformers, lsa"),
        ),
        (
            ("pydoc", "--embedder", "nomic", "--model", "gpt"),
            ("unknown Nomic model", "nomic-embed-text-v1.5"),
        ),
        (("pydoc", "--name", "漢" * 100), ("is no name for an index",)),
        (("pydoc", "--name", ""), ("'' is no name for an index",)),
        (("pydoc", "--name", "queries.sqlite"), ("'queries.sqlite' is no name for an index",)),
        (("pydoc", "--name", "queries.sqlite-wal"), ("is no name for an index",)),
        (("pydoc", "--name", "serve.sock"), ("is no name for an index",)),
        (("pydoc", "--on-bad-text", "cry"), ("--on-bad-text", "skip", "fail")),
        (("everything",), ("everything", "--help")),
    ],
    ids=lambda value: " ".join(map(str, value))[:40],
)
def test_a_command_that_makes_no_sense_is_wrong_usage(
    machine: Machine, command: tuple[object, ...], words: tuple[str, ...]
):
    errs(machine.run("build", *command), 2, *words)
    left_nothing(machine)


def test_answers_that_never_come_right_end_the_build_and_leave_no_index(hopeless: Hopeless):
    ran = hopeless.machine.end(hopeless.process)
    assert hopeless.api.requests == 5  # four tries, and one that asks whether it is the texts
    assert ran.err.count("Nomic answered 9 vectors for 10 texts; try again later; trying again in ") == 2
    assert ran.err.count("; trying again in ") == 3
    errs_at_last(ran, 1, "Nomic answered a vector with NaN or infinity in it", "try again later")
    left_no_index(hopeless.machine)

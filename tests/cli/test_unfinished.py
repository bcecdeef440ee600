"""A build that ended midway, here because the quota was used up: what each command makes of it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.cli.conftest import Machine, Ran, another_api, errs, errs_at_last, free_of_key
from tests.servers.nomic_api import NomicServer, status

LIMIT = 60


@dataclass
class Broken:
    """A machine on which the quota ended after some of the documents."""

    machine: Machine
    ran: Ran
    paid: set[str]


@pytest.fixture(scope="module")
def broken(env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Broken:
    machine = Machine(tmp_path_factory.mktemp("broken"), dict(env))
    with another_api(machine) as api:
        api.spoil(status(402, body='{"detail": "no tokens left for {key}"}', marker=" 35 is a subject"), None)
        ran = machine.run("build", "wiki100k", "--limit", LIMIT, "--concurrency", 1)
        return Broken(machine, ran, set(api.answered))


def test_a_quota_that_is_used_up_is_told_without_the_key(broken: Broken):
    errs_at_last(broken.ran, 1, "is used up (HTTP 402", "atlas.nomic.ai")
    free_of_key(broken.machine.folder)


def test_what_was_embedded_is_kept_and_there_is_no_index(broken: Broken):
    assert len(broken.paid) == 30
    assert broken.machine.unfinished() == ["wiki100k"]
    assert all(name.startswith(".building/wiki100k/") for name in broken.machine.holdings())


def test_list_shows_it_as_unfinished(broken: Broken):
    (entry,) = broken.machine.run("list", "--json").json
    assert (entry["name"], entry["state"], entry["rows"]) == ("wiki100k", "unfinished", 30)


def test_a_query_says_that_its_build_was_begun(broken: Broken):
    errs(
        broken.machine.run("query", "x"), 1, "the build of wiki100k was begun", "give its build command again"
    )


def test_another_request_of_that_name_is_refused(broken: Broken, api: NomicServer):
    ran = broken.machine.run("build", "wiki100k", "--limit", LIMIT, "--dims", "64", ATLAS_API_PATH=api.url)
    errs_at_last(ran, 1, "was begun with --dims the default, not 64", "--restart", "another --name")


def test_remove_deletes_it(broken: Broken, machine: Machine):
    shutil.copytree(broken.machine.home, machine.home)
    ran = machine.run("remove", "wiki100k", "--yes")
    assert (ran.code, ran.out) == (0, "removed the unfinished build of wiki100k\n")
    assert machine.holdings() == {}
    assert machine.unfinished() == []

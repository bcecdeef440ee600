"""Full, read-only and odd disks: one line that says so, nothing lost, and the same command resumes.

scripts/drills/hostile.py does the same with more sizes, and with the command itself.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shelf
from tests.hostile import Row
from tests.hostile.commands import where_nothing_can_be_written
from tests.hostile.disk import cannot_mount, mounted
from tests.hostile.full import (
    FULL,
    PHASES,
    fills_before,
    fills_by_its_size,
    lacks_inodes,
    limits_files,
    undisturbed,
)
from tests.hostile.inside import Inside

needs_a_disk = pytest.mark.skipif(bool(cannot_mount()), reason=cannot_mount())


def right(row: Row) -> Row:
    assert row.wrong == "", row
    return row


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resizable_search.build.embed.GRACE_SECONDS", 1.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The index of a kind as it is where nothing is in its way."""
    built: dict[str, dict[str, Any]] = {}

    def of(kind: str = "new") -> dict[str, Any]:
        if kind not in built:
            built[kind] = undisturbed(tmp_path_factory.mktemp(kind), kind)
        return built[kind]

    return of


@needs_a_disk
@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "fit"])
def test_a_disk_that_fills_in_any_phase_loses_nothing(tmp_path: Path, whole: Any, phase: str):
    row = right(fills_before(tmp_path / "disk", whole(), phase))
    assert row.identical


@needs_a_disk
@pytest.mark.parametrize("phase", ["fit", "record"])
def test_a_fitted_embedder_that_finds_no_room_goes_on_too(tmp_path: Path, whole: Any, phase: str):
    assert right(fills_before(tmp_path / "disk", whole("fitted"), phase, "fitted")).identical


@needs_a_disk
@pytest.mark.parametrize("kind", ["extended", "restarted"])
@pytest.mark.parametrize("phase", ["begin", "record", "derive", "manifest"])
def test_an_index_serves_on_while_the_disk_is_too_full_for_its_next(
    tmp_path: Path, whole: Any, kind: str, phase: str
):
    assert right(fills_before(tmp_path / "disk", whole(kind), phase, kind)).identical


@needs_a_disk
def test_disks_of_any_size_lose_nothing(tmp_path: Path, whole: Any):
    sizes = (4, 24, 112, 160, 240, 400, 560, 640, 800, 960, 1120, 1200, 1280, 1360)
    rows = [right(fills_by_its_size(tmp_path / "disk", whole(), kib)) for kib in sizes]
    assert sum(FULL in row.outcome for row in rows) >= 12


@needs_a_disk
def test_disks_without_room_for_another_file_lose_nothing(tmp_path: Path, whole: Any):
    rows = [right(lacks_inodes(tmp_path / "disk", whole(), inodes)) for inodes in (2, 5, 8, 10, 12, 22, 23)]
    assert all(FULL in row.outcome for row in rows)


def test_files_that_may_not_grow_are_told_and_nothing_is_lost(tmp_path: Path, whole: Any):
    for kib in (1, 16, 80, 150, 400):
        assert "ulimit -f" in right(limits_files(tmp_path / str(kib), whole(), kib)).outcome


@pytest.fixture(params=["full", "read-only"])
def unwritable(
    request: pytest.FixtureRequest, env: Mapping[str, str], shelf: Shelf, tmp_path: Path
) -> Iterator[Iterator[Row]]:
    with mounted(tmp_path / "disk", 1 << 16) as disk:
        machine = Inside(disk.folder, dict(env))
        yield where_nothing_can_be_written(machine, shelf, disk, request.param, passed=("bench",))


@needs_a_disk
def test_every_command_where_nothing_can_be_written_works_or_says_so(unwritable: Iterator[Row]):
    rows = [right(row) for row in unwritable]
    assert len(rows) > 12

"""One hub with all its datasets, and one client process, for the tests of this folder."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.client import Client, running_client
from tests.servers.dataset import CONFIG, write_card, write_wikipedia
from tests.servers.hub import HubServer
from tests.support import TEST_DATA

ROWS = 550
"""Articles of the generated Wikipedia: no multiple of a block, a row group or a shard."""

REAL = TEST_DATA / "wikipedia"


@pytest.fixture(scope="session")
def hub_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("datasets")
    wikipedia = write_wikipedia(folder / "wikipedia", ROWS, shards=3, rows_per_group=130)
    names = (
        "gated/open",
        "faulty/status",
        "faulty/drop",
        "faulty/stall",
        "faulty/gone",
        "paged/tree",
        "no/tail",
    )
    repos = {"wikimedia/wikipedia": wikipedia} | dict.fromkeys(names, wikipedia)
    repos |= {"big/rows": write_big(folder / "big"), "some/lines": write_lines(folder / "lines")}
    repos |= {"broken/card": write_broken(folder / "card"), "unlike/lines": write_unlike(folder / "unlike")}
    repos |= {"many/configs": write_many(folder / "many"), "other/columns": write_other(folder / "other")}
    if REAL.is_dir():
        repos["real/wikipedia"] = REAL
    with HubServer(repos, gated={"gated/open"}, tokens={"hf_granted"}) as server:
        yield server


def write_big(folder: Path) -> Path:
    """12 MB that do not compress: more than the client reads at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = [random.Random(row).randbytes(2000).hex() for row in range(5000)]
    table = pa.table(
        {name: text if name == "text" else [str(i) for i in range(5000)] for name in ("id", "text")}
    )
    (folder / CONFIG).mkdir(parents=True)
    pq.write_table(table, folder / CONFIG / "train-0.parquet", row_group_size=500)
    write_card(folder, [CONFIG])
    return folder


def write_lines(folder: Path) -> Path:
    folder.mkdir()
    lines = [json.dumps({"name": number, "body": f"text {number}"}) for number in range(5)]
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def write_broken(folder: Path) -> Path:
    write_lines(folder)
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [a, b\nconfigs: x\n---\n")
    return folder


def write_unlike(folder: Path) -> Path:
    write_lines(folder)
    (folder / "train.jsonl").write_text('{"name": 1, "body": "text"}\n{"name": 2, "body": "te\n')
    return folder


def write_many(folder: Path) -> Path:
    write_wikipedia(folder, 3, shards=1, config="20231101.en")
    write_card(
        folder, [f"20231101.{a}{b}" for a in "abcdefgh" for b in "aeino"] + ["20231101.en"], f"{CONFIG}/*"
    )
    return folder


def write_other(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rows = {"key": [7, 8], "headline": ["one", None], "body": ["First.", None], "unused": [1.0, 2.0]}
    days = pa.array([2**31 - 1, 1], pa.int32()).view(pa.date32())
    more = {"raw": [b"\xff\1", b"b8"], "bytes": [b"river", b"\xff"], "until": days}
    pq.write_table(pa.table(rows | more), folder / "train.parquet")
    return folder


@pytest.fixture(scope="session")
def client(hub_of_the_session: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_client(hub_of_the_session.url, tmp_path_factory.mktemp("hf")) as running:
        yield running


@pytest.fixture
def hub(hub_of_the_session: HubServer) -> Iterator[HubServer]:
    yield hub_of_the_session
    hub_of_the_session.heal()

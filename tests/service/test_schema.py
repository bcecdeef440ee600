"""Requests made from the API's own description: whatever is asked, the answer is one that it describes."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from resizable_search.index.layout import Home
from resizable_search.service.api import create_app
from resizable_search.service.guard import Rules
from resizable_search.service.server import Server, configured, listen
from resizable_search.service.shelf import Shelf
from tests.service.test_tools import documents, make

EXAMPLES = 25
"""Requests of each operation besides those that its limits suggest; `scripts/schema.py` makes far more."""

requests = schemathesis.openapi.from_dict(
    create_app(Shelf(Home(Path("nowhere")))).openapi(),
    config=SchemathesisConfig.from_dict({"generation": {"deterministic": True, "database": "none"}}),
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a service of one index listens."""
    home = tmp_path_factory.mktemp("described")
    make(home, "lessons", documents()[:40])
    listening = listen("127.0.0.1", 0)
    server = Server(configured(Shelf(Home(home), threads=1), Rules()))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@requests.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_description_says(case: schemathesis.Case, address: str) -> None:
    case.call_and_validate(
        address, excluded_checks=[positive_data_acceptance], additional_checks=[refused_in_a_line]
    )


def refused_in_a_line(_: Any, response: Any, __: Any) -> None:
    """What every refusal looks like, which the description has no words for."""
    if response.status_code >= 400 and response.content:  # HEAD has none
        told = response.json()
        assert list(told) == ["error"]
        assert told["error"]
        assert told["error"].isprintable()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the request"),
        (b"{", "Invalid JSON"),
        (b"[]", "the request"),
        (b"null", "the request"),
        (b'"trees"', "the request"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b'{"query": "trees", "k": 1' + b"0" * 5000 + b"}", "out of range"),
        (b'{"query": "trees", "k": 1e400}', "k: "),
        (b'{"query": "trees", "k": true}', "k: "),
        (b'{"query": "trees", "k": 3.0}', "k: "),
        (b'{"query": "trees", "dim": 9223372036854775808}', "dim: "),
        (b'{"query": "trees", "recall": NaN}', "recall: "),
        (b'{"query": "trees", "recall": Infinity}', "recall: "),
        (b'{"query": "\\ud800"}', "Invalid JSON"),
        (b'{"query": []}', "query: "),
        (b'{"query": [["trees"]]}', "query: "),
        (b'{"query": {"trees": 1}}', "query: "),
        (b'{"query": "trees", "quer": 1}', "quer: "),
        (b'{"query": "trees", "index": "a\\u0000b"}', "no index"),
        (b'{"query": "trees", "where": "\\u0000"}', "--where"),
        (b'{"query": "trees", "where": ""}', "--where"),
        (b'{"query": "trees", "plan": "\\u0000:float32"}', "plan"),
        (b'{"query": "trees", "plan": "' + b"9" * 190 + b'"}', "9"),
        (b'{"query": "trees", "plan": "64:int8:' + b"9" * 180 + b',64"}', "9"),
    ],
)
def test_what_no_search_is_made_of_is_refused_in_one_line(address: str, body: bytes, said: str):
    kind = {"content-type": "application/json"}
    answer = httpx2.post(f"{address}/api/search", content=body, headers=kind)
    assert answer.status_code in (400, 404, 422)
    refused_in_a_line(None, answer, None)
    assert said in answer.json()["error"]

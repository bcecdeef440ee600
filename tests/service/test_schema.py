"""Requests made from the API's own description: whatever is asked, the answer is one that it describes."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from resizable_search.service.app import create_app
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.layout import Home
from tests.service.conftest import Running

EXAMPLES = 25
"""Requests of each operation besides those that its limits suggest."""

requests = schemathesis.openapi.from_dict(
    create_app(IndexPool(Home(Path("nowhere")))).openapi(),
    config=SchemathesisConfig.from_dict({"generation": {"deterministic": True, "database": "none"}}),
)


@requests.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_description_says(case: schemathesis.Case, served: Running) -> None:
    case.call_and_validate(
        f"http://127.0.0.1:{served.port}",
        excluded_checks=[positive_data_acceptance],  # also texts without a known word are refused
        additional_checks=[refused_in_a_line],
    )


def refused_in_a_line(_: Any, response: Any, __: Any) -> None:
    """What every refusal looks like, which the description has no words for."""
    if response.status_code >= 400 and response.content:  # HEAD has none
        refusal = response.json()
        assert list(refusal) == ["error"]
        problem = refusal["error"]
        lines = list(problem.values())[:3] if isinstance(problem, dict) else [problem]
        assert lines[0]
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the request is not JSON"),
        (b"{", "not JSON"),
        (b"[]", "the request is not a JSON object"),
        (b"null", "the request"),
        (b'"trees"', "the request"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"query": "tree", "k": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b'{"query": "tree", "k": 1e400}', "k: "),
        (b'{"query": "tree", "k": true}', "k: "),
        (b'{"query": "tree", "k": 3.0}', "k: "),
        (b'{"query": "tree", "dim": 9223372036854775808}', "dim: "),
        (b'{"query": "tree", "recall": NaN}', "recall: "),
        (b'{"query": "tree", "recall": Infinity}', "recall: "),
        (b'{"query": "\\ud800"}', "not JSON"),
        (b'{"query": []}', "query: "),
        (b'{"query": [["trees"]]}', "query.0: "),
        (b'{"query": {"trees": 1}}', "query: "),
        (b'{"query": "tree", "quer": 1}', "quer: "),
        (b'{"query": "tree", "index": "a\\u0000b"}', "no index"),
        (b'{"query": "tree", "index": "made", "where": "\\u0000"}', "`where`"),
        (b'{"query": "tree", "index": "made", "where": ""}', "`where`"),
        (b'{"query": "tree", "index": "made", "plan": "\\u0000:float32"}', "plan"),
        (b'{"query": "tree", "index": "made", "plan": "' + b"9" * 190 + b'"}', "9"),
        (b'{"query": "tree", "index": "made", "plan": "64:int8:' + b"9" * 180 + b',64"}', "9"),
    ],
)
def test_what_no_search_is_made_of_is_refused_in_one_line(served: Running, body: bytes, message: str):
    answer = served.ask("POST", "/api/search", body)
    assert answer.status in (400, 404, 422)
    assert message in answer.error

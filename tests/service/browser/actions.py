"""What tests do on the page, and what they wait for."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.service.browser.conftest import PATIENCE
from tests.service.conftest import Running

QUERY = "binary tree with water in the piston"
THINGS = "/?index=things&q=binary+tree+with+water+in+the+piston"
FULL = f"{THINGS}&dim=full"
HITS = "#list > li:not(.lost)"


def api(service: Running, **body: Any) -> dict[str, Any]:
    """The answer of the service itself."""
    return service.ask("POST", "/api/v1/search", body).json


def expect(page: Any, selector: str) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    return expect(page.locator(selector))


def titles(page: Any, of: str = HITS) -> list[str]:
    return page.locator(f"{of} h3").all_inner_texts()


def shown(page: Any, hits: int = 10) -> None:
    """Wait until an answer is there, and nothing is under way."""
    page.locator("#hits[aria-busy=false] #list > li").first.wait_for()
    expect(page, HITS).to_have_count(hits)


def answered(page: Any, act: Callable[[], object], **body: Any) -> None:
    """Do something, and wait until the page shows the answer to the search that it leads to."""

    def is_it(response: Any) -> bool:
        sent = response.request.post_data_json if "/api/v1/search" in response.url else None
        return bool(sent and sent.get("compare") and all(sent[name] == value for name, value in body.items()))

    with page.expect_response(is_it):
        act()
    page.locator("#hits[aria-busy=false]").wait_for()


def measured(page: Any) -> None:
    """Wait until every way of the chart was measured."""
    expect(page, "#chart-title").to_have_text(re.compile("medians of 5 runs"))


def query_of(page: Any) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def open_all(page: Any) -> None:
    """Open the instrument and everything that is folded."""
    if page.locator("#handle").is_visible():
        page.click("#handle")
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")

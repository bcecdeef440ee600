"""The page's other states: no index, no answer, a refusal, a rebuilt index, a token, a slow service."""

import shutil

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.service.middleware import AccessRules
from resizable_search.store.layout import Home
from tests.service.browser.actions import (
    FULL,
    HITS,
    QUERY,
    THINGS,
    answered,
    expect,
    measured,
    query_of,
    shown,
    titles,
)
from tests.service.browser.conftest import some_documents
from tests.service.conftest import running
from tests.support import ListCorpus


def test_an_empty_home_shows_how_to_build_and_finds_what_was_built(visit, tmp_path, home):
    with running(tmp_path / "home") as empty:
        page = visit("/", at=empty)
        expect(page, "#none").to_be_visible()
        for command in ("rsearch build pydoc", "rsearch build wiki100k", "rsearch build files PATH"):
            assert command in page.locator("#none").inner_text()
        expect(page, "#ask").to_be_hidden()
        shutil.copytree(home / "things", tmp_path / "home" / "things")
        page.click("#again")
        expect(page, "#query").to_be_visible()
        expect(page, "#examples button").to_have_count(3)
        page.locator("#examples button").first.click()
        measured(page)


def test_errors_are_told_beside_what_caused_them(visit, watch):
    watch.excused = ["400 (Bad Request)"]
    page = visit(FULL)
    shown(page)
    page.locator("#more summary").click()
    page.fill("#where", "no_such_column > 3")
    page.press("#where", "Enter")
    expect(page, "#where-error").to_contain_text("no_such_column")
    assert page.get_attribute("#where", "aria-invalid") == "true"
    expect(page, "#query-error").to_be_empty()
    page.fill("#where", "")
    answered(page, lambda: page.press("#where", "Enter"))
    expect(page, "#where-error").to_be_empty()
    page.fill("#plan", "64:nonsense")
    page.press("#plan", "Enter")
    expect(page, "#plan-error").not_to_be_empty()
    page.fill("#dim", "65")
    expect(page, "#dim-error").to_have_text("a whole number from 1 to 64")
    page.press("#dim", "Tab")
    expect(page, "#dim-error").to_be_empty()
    page.fill("#k", "0")
    expect(page, "#k-error").to_contain_text("from 1 to")


@pytest.mark.parametrize("width", [360, 1280])
def test_an_error_of_an_option_is_seen_and_the_place_of_the_hits_leads_to_it(visit, watch, width):
    watch.excused = ["400 (Bad Request)"]
    page = visit(f"{FULL}&where=height+%3E+3", viewport={"width": width, "height": 740})
    expect(page, "#where-error").to_contain_text("height")
    expect(page, "#where-error").to_be_in_viewport()
    expect(page, "#unanswered").to_have_text(
        "No hits: an option of this search is wrong. Change “Only where”"
    )
    if width == 360:
        page.click("#handle")
        expect(page, "#where").to_be_hidden()
    page.click("#to-wrong")
    expect(page, "#where").to_be_focused()
    page.fill("#where", "year > 1900")
    answered(page, lambda: page.press("#where", "Enter"), where="year > 1900")
    expect(page, "#unanswered").to_be_hidden()


def test_an_answer_is_shown_with_its_own_question_or_not_at_all(visit, watch):
    watch.excused = ["400 (Bad Request)", "502 (Bad Gateway)"]
    page = visit("/?index=things&q=vulkanausbruch&dim=16")  # no word that its embedder knows
    expect(page, "#query-error").to_contain_text("vulkanausbruch")
    assert page.input_value("#index") == "things"
    page.fill("#query", QUERY)
    page.press("#query", "Enter")
    measured(page)
    page.fill("#query", "vulkanausbruch")
    page.press("#query", "Enter")
    expect(page, "#query-error").to_contain_text("vulkanausbruch")
    expect(page, "#list > li").to_have_count(0)
    expect(page, "#count").to_be_empty()
    for hidden in ("#panel", "#views", "#summary"):
        expect(page, hidden).to_be_hidden()
    page.fill("#query", QUERY)
    answered(page, lambda: page.press("#query", "Enter"))
    shown(page)
    page.route(
        "**/api/v1/search",
        lambda route: route.fulfill(status=502, json={"error": {"message": "it is down", "hint": "wait"}}),
    )
    page.focus("#dim-slider")
    page.keyboard.press("PageUp")
    expect(page, "#problem").to_have_text("it is down: wait")
    for blamed in ("#dim-error", "#query-error"):
        expect(page, blamed).to_be_empty()
    expect(page, "#list > li").to_have_count(0)
    expect(page, "#panel").to_be_hidden()


def test_the_answer_to_the_last_question_goes_if_the_next_one_takes_long(visit):
    page = visit(FULL, prepare=lambda page: page.clock.install())
    shown(page)
    page.route("**/api/v1/search", lambda route: None)
    page.fill("#query", "river bank")
    page.press("#query", "Enter")
    page.clock.fast_forward(1_000)
    expect(page, "#waiting").to_have_text("Searching …")
    expect(page, "#list > li").to_have_count(0)


def test_a_filter_that_nothing_passes_is_told(visit):
    page = visit(f"{FULL}&where=year+%3C+0")
    expect(page, "#count").to_have_text("No document matches the filter")
    expect(page, "#panel").to_be_hidden()
    expect(page, "#more").to_have_attribute("open", "")
    page.fill("#where", "year < 1905")
    page.press("#where", "Enter")
    shown(page, 5)
    assert query_of(page)["where"] == "year < 1905"


def test_a_tuned_plan_is_chosen_and_a_slider_takes_over_again(visit, service, watch):
    watch.excused = ["400 (Bad Request)"]
    listed = service.ask("GET", "/api/v1/indexes").json
    for card in listed["indexes"]:
        card["tuned"] = [{"k": 5, "recall": 0.99, "plan": "16:50,64"}]

    def arrange(page) -> None:
        page.route("**/api/v1/indexes", lambda route: route.fulfill(json=listed))

    page = visit(FULL, prepare=arrange)
    shown(page)
    page.locator("#more summary").click()
    page.select_option("#recall", "0.99 5")
    expect(page, "#recall-error").to_contain_text("0.99")  # the service knows of no such plan
    assert query_of(page) == {"q": QUERY, "index": "things", "recall": "0.99", "k": "5"}
    expect(page, "#gloss").to_contain_text("tuned for 0.99 decides")
    page.focus("#dim-slider")
    answered(page, lambda: page.keyboard.press("PageDown"), dim=32, k=5)
    assert page.input_value("#recall") == ""
    expect(page, "#recall-error").to_be_empty()


def test_a_mode_is_chosen_and_is_part_of_the_address(visit):
    page = visit(FULL)
    shown(page)
    page.locator("#more summary").click()
    page.select_option("#mode", "hybrid")
    expect(page, "#plan-shown").to_contain_text("+lexical")
    expect(page, "#handle-way").to_have_text("full 64, words")
    assert query_of(page) == {"q": QUERY, "index": "things", "dim": "full", "mode": "hybrid"}
    page.fill("#query", "vulkanausbruch and river")
    page.press("#query", "Enter")
    expect(page, "#remark").to_have_text("not in the index: vulkanausbruch")
    page = visit(f"{FULL}&mode=lexical")
    expect(page, "#plan-shown").to_have_text("lexical")
    assert page.input_value("#mode") == "lexical"
    expect(page, "#gloss").to_have_text("Ranks by words alone: dimensions do not count.")
    measured(page)
    expect(page, "#ways .way:first-child b").to_contain_text("10/10")
    answered(page, lambda: page.locator("#ways .way").last.click(), dim=32, rerank=10, mode="dense")


def test_a_walk_over_the_indexes_with_arrow_keys_searches_the_last_one_alone(visit, watch):
    watch.excused = ["400 (Bad Request)"]  # `hostile` knows no word of the query
    page = visit(FULL)
    measured(page)
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json))
    page.focus("#index")
    with page.expect_response("**/api/v1/search"):
        for key in ("ArrowUp", "ArrowUp", "ArrowDown"):  # over `hostile`, to `broken`, and back
            page.keyboard.press(key)
    assert {one["index"] for one in asked if one} == {"hostile"}
    expect(page, "#query-error").not_to_be_empty()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")  # which ends the walk
    page.wait_for_url("**index=things**")


def test_an_address_with_a_recall_that_nothing_is_tuned_for_says_so(visit, watch):
    watch.excused = ["400 (Bad Request)"]
    page = visit(f"{THINGS}&recall=0.99")
    expect(page, "#problem").to_contain_text("rsearch tune ")
    expect(page, "#problem").to_be_visible()


def test_an_index_that_cannot_be_searched_says_why(visit):
    page = visit("/?index=broken&q=tree")
    expect(page, "#problem").to_contain_text("broken cannot be searched: ")
    page.select_option("#index", "things")
    shown(page)
    expect(page, "#problem").to_be_empty()


def test_an_index_that_is_built_again_is_shown_with_its_new_sizes_and_count(visit, watch, tmp_path):
    watch.excused = ["400 (Bad Request)", "404 (Not Found)"]

    def make(count: int, *dims: int) -> None:
        made = BuildOptions("things", dims=dims, restart=True)
        build(ListCorpus(some_documents()[:count]), LsaEmbedder(width=dims[-1]), Home(tmp_path), made)

    make(180, 8, 32, 64)
    with running(tmp_path) as service:
        page = visit(f"{THINGS}&dim=8", at=service)
        measured(page)
        expect(page, "#facts").to_contain_text("180 documents · 64 dimensions")
        make(120, 12, 24, 48)
        page.fill("#query", "river bank")
        page.press("#query", "Enter")
        expect(page, "#facts").to_contain_text("120 documents · 48 dimensions")
        shown(page)
        assert page.locator("#dim-ticks .tick").all_text_contents() == ["12", "24", "48"]
        make(100, 8, 16)  # and has fewer dimensions than are asked for
        page.fill("#dim", "40")
        expect(page, "#facts").to_contain_text("100 documents · 16 dimensions")
        shown(page)
        shutil.rmtree(tmp_path / "things")
        page.press("#query", "Enter")
        expect(page, "#none").to_be_visible()


def test_an_index_that_is_not_there_is_told(visit):
    page = visit("/?index=nowhere&q=tree")
    expect(page, "#problem").to_contain_text("no index nowhere")
    page.select_option("#index", "things")
    shown(page)


def test_a_service_that_has_gone_is_told_and_asked_again(visit, watch, home):
    watch.excused = ["ERR_CONNECTION_REFUSED"]
    with running(home) as service:
        page = visit(FULL, at=service)
        measured(page)
    page.fill("#query", "river bank")
    page.press("#query", "Enter")
    expect(page, "#gone-text").to_contain_text("does not answer")
    page.route(
        "**/api/**", lambda route: route.fulfill(status=404, json={"error": {"message": "still starting"}})
    )
    watch.excused.append("404 (Not Found)")
    page.click("#retry")
    expect(page, "#problem").to_have_text("still starting")
    expect(page, "#list > li").to_have_count(0)


def test_a_service_that_wants_a_token_is_given_it(visit, watch, home):
    watch.excused = ["401 (Unauthorized)"]
    token = "0123456789abcdef0123"
    with running(home, AccessRules.of("127.0.0.1", token=token)) as service:
        page = visit(FULL, at=service)
        expect(page, "#token").to_be_visible()
        page.fill("#token-text", "wrong")
        page.press("#token-text", "Enter")
        expect(page, "#token-error").not_to_be_empty()
        page.evaluate("sessionStorage.setItem('rsearch-token', 'kept\\u200b')")  # as the page once did
        page.reload()
        page.fill("#token-text", "\u4e00" + token)
        page.press("#token-text", "Enter")
        expect(page, "#token-error").to_have_text("not a token: copy it again, without other characters")
        expect(page, "#token-text").to_be_visible()
        page.fill("#token-text", f"\u200b{token[:9]}\u00ad\ufeff{token[9:]}\u2060 \u200b")
        page.press("#token-text", "Enter")
        shown(page)
        expect(page, "#token").to_be_hidden()
        page.reload()
        measured(page)
        assert token not in page.url
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"


def test_a_late_answer_to_an_earlier_question_is_dropped(visit):
    # Without the way to call a request off, so that the order of answers alone is tried.
    page = visit(
        "/?index=things",
        prepare=lambda page: page.add_init_script("AbortController.prototype.abort = () => {};"),
    )
    held = []

    def hold(route) -> None:
        sent = route.request.post_data_json
        if sent.get("compare") and sent["query"] == "slow river":
            held.append(route)
        else:
            route.continue_()

    page.route("**/api/v1/search", hold)
    page.fill("#query", "slow river")
    page.press("#query", "Enter")
    page.fill("#query", "quick violin")
    answered(page, lambda: page.press("#query", "Enter"), query="quick violin")
    expect(page, HITS).to_have_count(10)
    before = titles(page)
    assert held  # perhaps twice: as it was typed, and by Enter
    with page.expect_response(lambda response: response.request.post_data_json.get("query") == "slow river"):
        for route in held:
            route.continue_()
    page.wait_for_timeout(50)
    assert titles(page) == before
    assert query_of(page)["q"] == page.input_value("#query") == "quick violin"


def test_a_new_question_calls_off_the_measuring_of_the_last(visit):
    page = visit(FULL)
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.post_data_json["query"]))
    page.route(
        "**/api/v1/search",
        lambda route: route.continue_() if route.request.post_data_json.get("compare") else None,
    )
    shown(page)  # the measuring waits for an answer that does not come
    with page.expect_event("requestfailed", lambda request: not request.post_data_json.get("compare")):
        page.fill("#query", "river bank")
        page.press("#query", "Enter")
    assert failed == [QUERY]


def test_what_takes_long_is_told_and_ends(visit):
    def arrange(page) -> None:
        page.clock.install()
        page.route("**/api/v1/indexes", lambda route: None)

    page = visit(FULL, prepare=arrange)
    expect(page, "#loading").to_have_text("Opening the indexes …")
    page.clock.fast_forward(120_000)
    expect(page, "#gone-text").to_contain_text("did not answer within 120 s: try again later")
    expect(page, "#loading").to_be_hidden()
    page.unroute("**/api/v1/indexes")
    page.route("**/api/v1/search", lambda route: None)
    page.click("#retry")
    expect(page, "#ask").to_be_visible()
    page.clock.fast_forward(1_000)
    expect(page, "#waiting").to_have_text("Searching …")
    page.clock.fast_forward(20_000)
    expect(page, "#gone-text").to_contain_text("did not answer within 20 s")
    expect(page, "#waiting").to_be_hidden()
    page.unroute("**/api/v1/search")
    page.click("#retry")
    shown(page)

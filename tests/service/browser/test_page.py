"""The search page in a real browser: what a person does, and what a hostile corpus tries."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.service.middleware import AccessRules
from resizable_search.store.layout import Home
from tests.service.browser.conftest import HOSTILE, PATIENCE, SCRIPT, some_documents
from tests.service.conftest import Running, running
from tests.support import ListCorpus

QUERY = "binary tree with water in the piston"
THINGS = "/?index=things&q=binary+tree+with+water+in+the+piston"


def api(service: Running, **body) -> dict:
    return service.ask("POST", "/api/search", body).json


def expect(page, selector: str):
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    return expect(page.locator(selector))


def titles(page, of: str = "#list") -> list[str]:
    return page.locator(f"{of} h3").all_inner_texts()


def shown(page, hits: int = 10) -> None:
    """Wait until an answer is there, and nothing is under way."""
    page.locator(f"#hits[aria-busy=false] #list > li:nth-child({hits}):last-child").wait_for()


def answered(page, act, **body) -> None:
    """Do something, and wait until the page shows the answer to the search that it leads to."""

    def is_it(response) -> bool:
        sent = response.request.post_data_json if "/api/search" in response.url else None
        return bool(sent and sent.get("compare") and all(sent[name] == value for name, value in body.items()))

    with page.expect_response(is_it):
        act()
    page.locator("#hits[aria-busy=false]").wait_for()


def measured(page) -> None:
    page.locator("#chart-title", has_text="medians of").wait_for()


def query_of(page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_search_shows_hits_as_the_api_has_them(visit, service):
    page = visit("/?index=things")
    page.fill("#query", QUERY)
    page.press("#query", "Enter")
    shown(page)
    dim = int(page.input_value("#dim"))
    result = api(service, index="things", query=QUERY, dim=dim if dim < 64 else None, compare=True)
    assert titles(page) == [hit["title"] for hit in result["hits"]]
    first = page.locator("#list > li").first
    assert first.locator("a").get_attribute("href") == result["hits"][0]["url"]
    assert first.locator("a").get_attribute("rel") == "noopener noreferrer"
    assert f"{result['hits'][0]['score']:.4f}" in first.locator(".score").inner_text()
    assert first.locator(".passage mark").count()
    expect(page, "#count").to_contain_text("10 hits")
    assert page.title() == f"{QUERY} · rsearch"


def test_marks_tell_the_rank_at_the_full_dimension_and_what_is_lost_is_shown(visit, service):
    page = visit(f"{THINGS}&dim=8")
    shown(page)
    result = api(service, index="things", query=QUERY, dim=8, compare=True)
    full = {hit["row"]: hit["rank"] for hit in result["full"]["hits"]}
    expected = []
    for hit in result["hits"]:
        there, here = full.get(hit["row"]), hit["rank"]
        if there is None:
            expected.append("not in full top 10")
        else:
            expected.append(
                f"= {there}" if there == here else f"{'↑' if there > here else '↓'} {there} → {here}"
            )
    assert page.locator("#list .mark > span[aria-hidden]").all_inner_texts() == expected
    rows = {hit["row"] for hit in result["hits"]}
    lost = [hit for hit in result["full"]["hits"] if hit["row"] not in rows]
    assert lost, "the corpus must be one that truncation loses something of"
    assert titles(page, "#lost-list") == [hit["title"] for hit in lost]
    assert page.locator("#lost-list .rank").all_inner_texts() == [str(hit["rank"]) for hit in lost]
    assert page.locator("#overlap").inner_text().startswith(f"{10 - len(lost)}\u2009/\u200910")
    assert page.locator("#plan-shown").inner_text() == result["plan"]
    assert page.locator("#stages tr").count() == len(result["plan"].split(","))


def test_the_full_dimension_is_all_there_and_loses_nothing(visit):
    page = visit(THINGS)
    shown(page)
    assert page.locator("#list .mark > span[aria-hidden]").all_inner_texts() == [
        f"= {i}" for i in range(1, 11)
    ]
    expect(page, "#lost").to_be_hidden()
    expect(page, "#count").to_contain_text("all of the 10")


def test_dragging_the_slider_changes_hits_marks_and_panel(visit):
    page = visit(THINGS)
    shown(page)
    before = titles(page), page.locator("#read").inner_text()
    box = page.locator("#dim-slider").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 10, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    # A little beside the mark of 8 dimensions, which is snapped to.
    answered(
        page,
        lambda: (
            page.mouse.move(box["x"] + 10 + (box["width"] - 20) * 7.4 / 63, middle, steps=4),
            page.mouse.up(),
        ),
        dim=8,
    )
    assert page.input_value("#dim") == "8"
    assert (titles(page), page.locator("#read").inner_text()) != before
    assert titles(page) != before[0]
    expect(page, "#lost").to_be_visible()
    assert query_of(page)["dim"] == "8"


def test_keys_move_the_sliders_and_numbers_may_be_typed(visit):
    page = visit(THINGS)
    shown(page)
    page.focus("#dim-slider")
    answered(page, lambda: page.keyboard.press("PageDown"), dim=32)
    answered(page, lambda: page.keyboard.press("ArrowLeft"), dim=31)
    assert page.get_attribute("#dim-slider", "aria-valuetext") == "31 of 64 dimensions"
    answered(page, lambda: page.keyboard.press("PageUp"), dim=32)
    assert page.get_attribute("#dim-slider", "aria-valuetext").endswith("a stored size")
    answered(page, lambda: page.fill("#dim", "10"), dim=10)
    page.focus("#rerank-slider")
    answered(page, lambda: page.keyboard.press("PageUp"), dim=10, rerank=2)
    expect(page, "#plan-shown").to_have_text("10:20,64")
    assert page.locator("#stages tr").count() == 2
    answered(page, lambda: page.fill("#k", "4"), k=4)
    shown(page, 4)
    assert query_of(page) == {"q": QUERY, "index": "things", "dim": "10", "rerank": "2", "k": "4"}


def test_the_keyboard_alone_leads_from_the_start_to_a_hit(visit):
    page = visit("/?index=things")
    expect(page, "#query").to_be_focused()
    page.keyboard.type(QUERY)
    page.keyboard.press("Enter")
    shown(page)
    visited = []
    for _ in range(40):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.id || e.tagName, e.tagName, e.href ?? '', e.matches(':focus-visible'),"
            " s.outlineStyle] })()"
        )
        visited.append(at[0])
        assert at[3], at  # whatever has the focus shows it
        assert at[4] != "none" or at[1] == "g" or "slider" in at[0], at  # those draw it themselves
        if at[2].startswith("https://example.org/"):
            break
    else:
        pytest.fail(f"no hit was reached: {visited}")
    assert sorted(x for x in visited if x.startswith("dim")) == ["dim", "dim-slider"]
    assert "rerank-slider" in visited
    page.keyboard.press("/")
    expect(page, "#query").to_be_focused()


def test_a_copied_address_shows_the_same_view(visit):
    first = visit(f"{THINGS}&dim=16")
    shown(first)
    answered(first, lambda: first.fill("#rerank", "3"), rerank=3)
    first.locator("#more summary").click()
    first.fill("#where", "year < 2050")
    answered(first, lambda: first.press("#where", "Enter"), where="year < 2050")
    second = visit(first.url.removeprefix(f"{first.evaluate('location.origin')}"))
    shown(second)
    for field in ("#query", "#dim", "#rerank", "#k", "#where"):
        assert second.input_value(field) == first.input_value(field)
    for part in ("#list", "#lost-list"):
        assert titles(second, part) == titles(first, part)
    assert second.locator("#overlap").inner_text() == first.locator("#overlap").inner_text()


def test_back_and_forward_go_from_search_to_search(visit):
    page = visit(f"{THINGS}&dim=16")
    shown(page)
    before = titles(page)
    page.fill("#query", "opera and rhythm")
    answered(page, lambda: page.press("#query", "Enter"), query="opera and rhythm")
    assert titles(page) != before
    answered(page, page.go_back, query=QUERY, dim=16)
    assert (titles(page), page.input_value("#query")) == (before, QUERY)
    answered(page, page.go_forward, query="opera and rhythm")
    assert page.input_value("#query") == "opera and rhythm"


def test_hostile_documents_are_shown_as_text_and_run_nothing(visit):
    page = visit("/?index=hostile&q=hostile&k=50")
    shown(page, 33)
    for summary in page.locator("#list .whole summary").all():
        summary.click()
    expect(page, "#list").to_contain_text("W" * 10_000)
    held = page.locator("#list").inner_text()
    for text in (
        SCRIPT,
        HOSTILE["image"].title,
        HOSTILE["ending"].title,
        "<svg/onload=window.harmed=1>",
        "{{7*7}}",
    ):
        assert text in held, text
    assert "\u241b[2J" in held
    assert "<i onclick=x>" in held
    assert page.evaluate("window.harmed") is None
    assert not re.search(r"null|undefined|NaN|\[object|\bfalse\b", page.locator("body").inner_text())
    allowed = {"LI", "SPAN", "H3", "A", "P", "BDI", "MARK", "DETAILS", "SUMMARY", "DIV", "DL", "DT", "DD"}
    assert set(page.locator("#list *").evaluate_all("all => all.map(e => e.tagName)")) <= allowed
    attributes = page.locator("#list *").evaluate_all("all => all.flatMap(e => e.getAttributeNames())")
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    for href in page.locator("#list a").evaluate_all("all => all.map(e => e.getAttribute('href'))"):
        assert re.match(r"https?://", href), href
    assert page.locator("#list a").count() == 3  # only "ending", "turned" and "long" have addresses


@pytest.mark.parametrize(
    "path", ["/?index=things", f"{THINGS}&dim=8&rerank=2", "/?index=hostile&q=hostile&k=50"]
)
def test_nothing_is_wider_than_a_small_screen(visit, path):
    page = visit(path, viewport={"width": 360, "height": 740})
    if "q=" in path:
        expect(page, "#panel").to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        measured(page)
    else:
        expect(page, "#welcome").to_be_visible()
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen == 360


CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_aa_wants(visit, scheme):
    page = visit(f"{THINGS}&dim=8&rerank=2", color_scheme=scheme, reduced_motion="reduce")
    measured(page)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.fill("#dim", "0")
    page.focus("#query")
    page.evaluate("document.getElementById('dim-error').textContent = 'an error'")
    page.evaluate(
        "document.getElementById('welcome').hidden = document.getElementById('gone').hidden = false"
    )
    result = page.evaluate(CONTRAST)
    assert len(result) > 100
    assert not [contrast for contrast in result if contrast[0] < 4.5]


def test_the_chart_has_a_point_for_every_size_and_they_can_be_chosen(visit):
    page = visit(f"{THINGS}&dim=16&rerank=2")
    measured(page)
    names = set(page.locator("#chart-table tbody th").all_text_contents())
    assert names == {"64 dimensions"} | {
        f"{d} dimensions{r}" for d in (8, 16, 32) for r in ("", ", rerank ×2")
    }
    assert sorted(page.locator("#chart .label").all_text_contents()) == sorted(["64", *["8", "16", "32"] * 2])
    assert page.locator("#chart .current").get_attribute("aria-label").startswith("16 dimensions, rerank ×2")
    row = page.locator("#chart-table tr", has_text="64 dimensions")
    assert row.locator("td").last.text_content() == "1.0"
    page.focus("#chart .point[tabindex='0']")
    page.keyboard.press("End")
    chosen = page.evaluate("document.activeElement.dataset.key")
    dim, rerank = json.loads(chosen)[:2]
    answered(page, lambda: page.keyboard.press("Enter"), dim=dim, rerank=rerank)
    assert page.input_value("#dim") == str(dim or 64)
    point = page.locator("#chart .point", has_text=re.compile(r"^8 dimensions:"))
    answered(page, lambda: point.dispatch_event("click"), dim=8, rerank=0)


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
    page = visit(THINGS)
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


def test_an_answer_is_shown_with_its_own_question_or_not_at_all(visit, watch):
    watch.excused = ["400 (Bad Request)", "502 (Bad Gateway)"]
    page = visit("/?index=things&q=vulkanausbruch&dim=16")  # no word that its embedder knows
    expect(page, "#query-error").to_contain_text("vulkanausbruch")
    page.fill("#query", QUERY)
    page.press("#query", "Enter")
    measured(page)
    page.fill("#query", "vulkanausbruch")
    page.press("#query", "Enter")
    expect(page, "#query-error").to_contain_text("vulkanausbruch")
    expect(page, "#list > li").to_have_count(0)
    expect(page, "#count").to_be_empty()
    for hidden in ("#panel", "#lost", "#legend"):
        expect(page, hidden).to_be_hidden()
    page.fill("#query", QUERY)
    answered(page, lambda: page.press("#query", "Enter"))
    shown(page)
    page.route("**/api/search", lambda route: route.fulfill(status=502, json={"error": "it is down"}))
    page.focus("#dim-slider")
    page.keyboard.press("PageUp")
    expect(page, "#problem").to_have_text("it is down")
    for blamed in ("#dim-error", "#query-error"):
        expect(page, blamed).to_be_empty()
    expect(page, "#list > li").to_have_count(0)
    expect(page, "#panel").to_be_hidden()


def test_the_answer_to_the_last_question_goes_if_the_next_one_takes_long(visit):
    page = visit(THINGS, prepare=lambda page: page.clock.install())
    shown(page)
    page.route("**/api/search", lambda route: None)
    page.fill("#query", "river bank")
    page.press("#query", "Enter")
    page.clock.fast_forward(1_000)
    expect(page, "#waiting").to_have_text("Searching …")
    expect(page, "#list > li").to_have_count(0)


def test_a_filter_that_nothing_passes_is_told(visit):
    page = visit(f"{THINGS}&where=year+%3C+0")
    expect(page, "#count").to_have_text("No document matches the filter")
    expect(page, "#panel").to_be_hidden()
    expect(page, "#more").to_have_attribute("open", "")
    page.fill("#where", "year < 1905")
    page.press("#where", "Enter")
    shown(page, 5)
    assert query_of(page)["where"] == "year < 1905"


def test_a_tuned_plan_is_chosen_and_a_slider_takes_over_again(visit, service, watch):
    watch.excused = ["400 (Bad Request)"]
    listed = service.ask("GET", "/api/indexes").json
    for card in listed["indexes"]:
        card["tuned"] = [{"k": 5, "recall": 0.99, "plan": "16:50,64"}]

    def arrange(page) -> None:
        page.route("**/api/indexes", lambda route: route.fulfill(json=listed))

    page = visit(THINGS, prepare=arrange)
    shown(page)
    page.locator("#more summary").click()
    page.select_option("#recall", "0.99 5")
    expect(page, "#recall-error").to_contain_text("0.99")  # the service knows of no such plan
    assert query_of(page) == {"q": QUERY, "index": "things", "recall": "0.99", "k": "5"}
    expect(page, "#rerank-gloss").to_have_text("the plan below decides")
    page.focus("#dim-slider")
    answered(page, lambda: page.keyboard.press("PageDown"), dim=32, k=5)
    assert page.input_value("#recall") == ""
    expect(page, "#recall-error").to_be_empty()


def test_a_mode_is_chosen_and_is_part_of_the_address(visit):
    page = visit(THINGS)
    shown(page)
    page.locator("#more summary").click()
    page.select_option("#mode", "hybrid")
    expect(page, "#plan-shown").to_contain_text("+lexical")
    assert query_of(page) == {"q": QUERY, "index": "things", "mode": "hybrid"}
    page = visit(f"{THINGS}&mode=lexical")
    expect(page, "#plan-shown").to_have_text("lexical")
    assert page.input_value("#mode") == "lexical"


def test_an_address_with_a_recall_that_nothing_is_tuned_for_says_so(visit, watch):
    watch.excused = ["400 (Bad Request)"]
    page = visit(f"{THINGS}&recall=0.99")
    expect(page, "#problem").to_contain_text("`tune ")
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
        expect(page, "#facts").to_contain_text("180 documents × 64")
        make(120, 12, 24, 48)
        page.fill("#query", "river bank")
        page.press("#query", "Enter")
        expect(page, "#facts").to_contain_text("120 documents × 48")
        shown(page)
        assert page.locator("#dim-ticks .tick").all_text_contents() == ["12", "24", "48"]
        make(100, 8, 16)  # and has fewer dimensions than are asked for
        page.fill("#dim", "40")
        expect(page, "#facts").to_contain_text("100 documents × 16")
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
        page = visit(THINGS, at=service)
        measured(page)
    page.fill("#query", "river bank")
    page.press("#query", "Enter")
    expect(page, "#gone-text").to_contain_text("does not answer")
    page.route("**/api/**", lambda route: route.fulfill(status=404, json={"error": "still starting"}))
    watch.excused.append("404 (Not Found)")
    page.click("#retry")
    expect(page, "#problem").to_have_text("still starting")
    expect(page, "#list > li").to_have_count(0)


def test_a_service_that_wants_a_token_is_given_it(visit, watch, home):
    watch.excused = ["401 (Unauthorized)"]
    token = "0123456789abcdef0123"
    with running(home, AccessRules.of("127.0.0.1", token=token)) as service:
        page = visit(THINGS, at=service)
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

    page.route("**/api/search", hold)
    page.fill("#query", "slow river")
    page.press("#query", "Enter")
    page.fill("#query", "quick violin")
    answered(page, lambda: page.press("#query", "Enter"), query="quick violin")
    expect(page, "#list > li").to_have_count(10)
    before = titles(page)
    assert len(held) == 1
    with page.expect_response(lambda response: response.request.post_data_json.get("query") == "slow river"):
        held[0].continue_()
    page.wait_for_timeout(50)
    assert titles(page) == before
    assert query_of(page)["q"] == page.input_value("#query") == "quick violin"


def test_a_new_question_calls_off_the_measuring_of_the_last(visit):
    page = visit(THINGS)
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.post_data_json["query"]))
    page.route(
        "**/api/search",
        lambda route: route.continue_() if route.request.post_data_json.get("compare") else None,
    )
    shown(page)  # the measuring waits for an answer that does not come
    with page.expect_event("requestfailed", lambda request: not request.post_data_json.get("compare")):
        page.fill("#query", "river bank")
        page.press("#query", "Enter")
    assert failed == [QUERY]


def test_motion_is_left_out_for_those_who_want_none(visit):
    page = visit(THINGS, reduced_motion="reduce")
    shown(page)
    answered(page, lambda: page.fill("#dim", "8"), dim=8)
    assert page.evaluate("document.getAnimations().length") == 0


def test_what_takes_long_is_told_and_ends(visit):
    def arrange(page) -> None:
        page.clock.install()
        page.route("**/api/indexes", lambda route: None)

    page = visit(THINGS, prepare=arrange)
    expect(page, "#loading").to_have_text("Opening the indexes …")
    page.clock.fast_forward(120_000)
    expect(page, "#gone-text").to_contain_text("did not answer within 120 s: try again later")
    expect(page, "#loading").to_be_hidden()
    page.unroute("**/api/indexes")
    page.route("**/api/search", lambda route: None)
    page.click("#retry")
    expect(page, "#ask").to_be_visible()
    page.clock.fast_forward(1_000)
    expect(page, "#waiting").to_have_text("Searching …")
    page.clock.fast_forward(20_000)
    expect(page, "#gone-text").to_contain_text("did not answer within 20 s")
    expect(page, "#waiting").to_be_hidden()
    page.unroute("**/api/search")
    page.click("#retry")
    shown(page)

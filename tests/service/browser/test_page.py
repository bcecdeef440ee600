"""The search page in a real browser: a question, its hits, and what a smaller vector costs and loses."""

import json
import re
from collections import Counter

import pytest

from tests.service.browser.actions import (
    FULL,
    HITS,
    QUERY,
    THINGS,
    answered,
    api,
    expect,
    measured,
    query_of,
    shown,
    titles,
)


def test_a_search_shows_hits_as_the_api_has_them(visit, service):
    page = visit("/?index=things")
    page.fill("#query", QUERY)
    page.press("#query", "Enter")
    shown(page)
    assert (page.input_value("#dim"), page.input_value("#rerank")) == ("32", "10")
    result = api(service, index="things", query=QUERY, dim=32, rerank=10, compare=True)
    assert titles(page) == [hit["title"] for hit in result["hits"]]
    first = page.locator(HITS).first
    assert first.locator("a").get_attribute("href") == result["hits"][0]["url"]
    assert first.locator("a").get_attribute("rel") == "noopener noreferrer"
    assert f"{result['hits'][0]['score']:.4f} at 64" in first.locator(".score").inner_text()
    assert first.locator(".passage mark").count()
    expect(page, "#count").to_contain_text("10 hits")
    assert page.title() == f"{QUERY} · rsearch"


def test_marks_tell_the_rank_at_the_full_dimension_and_lost_hits_stand_where_they_would_be(visit, service):
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
    assert page.locator(f"{HITS} .mark > span[aria-hidden]").all_inner_texts() == expected
    rows = {hit["row"] for hit in result["hits"]}
    lost = [hit for hit in result["full"]["hits"] if hit["row"] not in rows]
    assert lost, "the corpus must be one that truncation loses something of"
    assert titles(page, "#list > .lost") == [hit["title"] for hit in lost]
    ranks = [
        (int(item.locator(".rank").inner_text()), "lost" in (item.get_attribute("class") or ""))
        for item in page.locator("#list > li").all()
    ]
    assert ranks == sorted(ranks, key=lambda rank: (rank[0], not rank[1]))
    assert page.locator(f"{HITS} .score small").first.inner_text().strip() == "at 8"
    assert page.locator("#list > .lost .score small").first.inner_text().strip() == "at 64"
    assert page.locator("#overlap").inner_text().startswith(f"{10 - len(lost)}\u2009/\u200910")
    assert page.locator("#plan-shown").text_content() == result["plan"]
    assert page.locator("#stages tr").count() == len(result["plan"].split(","))


def test_the_way_to_the_lost_hits_and_to_the_hits_searches_nothing_and_moves_the_focus(visit):
    page = visit(f"{THINGS}&dim=8")
    shown(page)
    measured(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("#to-lost")
    assert page.evaluate("document.activeElement.matches('#list > .lost')")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page, "#hits").to_be_focused()
    assert asked == []
    assert query_of(page) == {"index": "things", "q": QUERY, "dim": "8"}


def test_the_full_dimension_is_all_there_and_loses_nothing(visit):
    page = visit(FULL)
    shown(page)
    assert page.locator("#list .mark > span[aria-hidden]").all_inner_texts() == [
        f"= {i}" for i in range(1, 11)
    ]
    expect(page, "#to-lost").to_be_hidden()
    expect(page, "#count").to_contain_text("all of the 10")


def test_the_loss_and_its_cure_are_one_click_apart(visit):
    page = visit(THINGS)
    shown(page)
    assert page.locator("#ways .way > span").all_inner_texts() == ["full 64", "32 alone", "32 + rerank 10"]
    expect(page, "#ways [aria-pressed=true]").to_contain_text("32 + rerank 10")
    measured(page)
    kept = page.locator("#ways b").all_inner_texts()
    assert re.search("10/10$", kept[0])
    page.focus("#ways .way:nth-child(2)")
    answered(page, lambda: page.keyboard.press("Enter"), dim=32, rerank=0)
    expect(page, "#ways .way:nth-child(2)").to_be_focused()
    assert page.input_value("#rerank") == "0"
    assert page.locator("#overlap").inner_text().startswith(kept[1].split("/")[0].split()[-1])
    answered(page, lambda: page.keyboard.press("f"), dim=None)
    answered(page, lambda: page.keyboard.press("f"), dim=32)
    answered(page, lambda: page.keyboard.press("["), dim=16, rerank=0)
    answered(page, lambda: page.keyboard.press("r"), dim=16, rerank=10)
    answered(page, lambda: page.keyboard.press("]"), dim=32, rerank=10)


def test_single_keys_are_listed_and_can_be_turned_off(visit):
    page = visit(THINGS)
    shown(page)
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page, "#keys").to_be_visible()
    page.uncheck("#keys-on")
    page.click("#keys-close")
    page.keyboard.press("/")
    expect(page, "#query").not_to_be_focused()
    page.click("#show-keys")
    page.check("#keys-on")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page, "#query").to_be_focused()
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"


def test_dragging_the_slider_changes_hits_marks_and_panel(visit):
    page = visit(FULL)
    shown(page)
    before = titles(page), page.locator("#read").inner_text()
    box = page.locator("#dim-slider").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 10, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    # A little beside the mark of 8 dimensions, to which it snaps.
    answered(page, lambda: (page.mouse.move(box["x"] + 14, middle, steps=4), page.mouse.up()), dim=8)
    assert page.input_value("#dim") == "8"
    assert page.locator("#read").inner_text() != before[1]
    assert titles(page) != before[0]
    expect(page, "#to-lost").to_be_visible()
    assert query_of(page)["dim"] == "8"


def test_keys_move_the_sliders_over_stored_sizes_and_any_number_may_be_typed(visit):
    page = visit(FULL)
    shown(page)
    page.focus("#dim-slider")
    answered(page, lambda: page.keyboard.press("PageDown"), dim=32)
    answered(page, lambda: page.keyboard.press("ArrowLeft"), dim=16)
    assert page.get_attribute("#dim-slider", "aria-valuetext") == "16 of 64 dimensions, a stored size"
    answered(page, lambda: page.fill("#dim", "10"), dim=10)
    assert page.get_attribute("#dim-slider", "aria-valuetext") == "10 of 64 dimensions"
    assert page.get_attribute("#dim-slider", "step") == "any"
    page.focus("#dim-slider")
    answered(page, lambda: page.keyboard.press("Home"), dim=8)
    answered(page, lambda: page.fill("#dim", "10"), dim=10)
    page.focus("#rerank-slider")
    answered(page, lambda: page.keyboard.press("PageUp"), dim=10, rerank=2)
    expect(page, "#plan-shown").to_have_text("10:20,64")
    expect(page, "#gloss").to_have_text(
        "Compares the first 10 of 64 numbers of each vector, then scores the best 20 again with all 64."
    )
    assert page.locator("#stages tr").count() == 2
    page.locator("#more summary").click()
    answered(page, lambda: page.fill("#k", "4"), k=4)
    shown(page, 4)
    assert query_of(page) == {"q": QUERY, "index": "things", "dim": "10", "rerank": "2", "k": "4"}


def test_hits_come_while_a_query_is_typed_if_embedding_is_local(visit, watch):
    watch.excused = ["400 (Bad Request)"]  # half a word, where keys come slowly
    page = visit("/?index=things")
    expect(page, "#examples button").to_have_count(3)  # so what is known of the index is there
    answered(page, lambda: page.locator("#query").press_sequentially("river bank"), query="river bank")
    shown(page)
    page.fill("#query", "opera and rhythm")
    shown(page)
    expect(page, "#query").to_have_value("opera and rhythm")
    page.wait_for_url("**q=opera+and+rhythm**")
    page.press("#query", "Enter")
    page.go_back()
    expect(page, "#welcome").to_be_visible()


def test_a_half_typed_word_that_is_unknown_is_told_after_a_pause(visit, watch):
    watch.excused = ["400 (Bad Request)"]
    page = visit("/?index=things", prepare=lambda page: page.clock.install())
    expect(page, "#examples button").to_have_count(3)
    page.fill("#query", "vulkanausbruch")
    with page.expect_response("**/api/v1/search"):
        page.clock.fast_forward(200)
    page.locator("#hits[aria-busy=false]").wait_for()
    page.clock.fast_forward(1000)
    expect(page, "#query-error").to_contain_text("vulkanausbruch")


def test_more_like_this_finds_the_neighbours_of_a_hit(visit, service):
    page = visit(THINGS)
    shown(page)
    found = api(service, index="things", query=QUERY, dim=32, rerank=10)["hits"][0]
    answered(page, lambda: page.locator(".like-this").first.click(), similar=found["id"])
    expect(page, "#like-text").to_have_text(f"More like “{found['title']}”")
    expect(page, "#hits").to_be_focused()  # the button that had it is gone
    expect(page, "#announcement").to_contain_text(f"More like “{found['title']}”, 32 + rerank 10. 10 hits")
    wanted = api(service, index="things", similar=found["id"], dim=32, rerank=10)
    assert titles(page) == [hit["title"] for hit in wanted["hits"]]
    assert query_of(page) == {"index": "things", "similar": found["id"], "dim": "32", "rerank": "10"}
    again = visit(page.url.removeprefix(page.evaluate("location.origin")))
    shown(again)
    assert titles(again) == titles(page)
    page.click("#unlike")
    expect(page, "#welcome").to_be_visible()
    expect(page, "#like").to_be_hidden()


def test_the_whole_text_is_asked_for_when_it_is_opened_and_comes_in_pieces(visit):
    page = visit(THINGS)
    shown(page)
    measured(page)
    text = "tree water " * 30_000

    def long(route) -> None:
        route.fulfill(json={**route.fetch().json(), "text": text})

    page.route("**/api/v1/documents/**", long)
    before = page.locator(".whole summary").first.bounding_box()
    page.locator(".whole summary").first.click()
    part = page.locator(".whole .text").first
    assert page.locator(".whole summary").first.bounding_box() == before
    assert page.locator(".like-this").first.bounding_box()["y"] < part.bounding_box()["y"]
    part.locator("mark").first.wait_for()
    assert 1_000 < part.locator("mark").count() < 5_000
    assert "characters are left" in part.locator(".next").inner_text()
    held = len(part.inner_text())
    part.locator(".next").click()
    assert len(part.inner_text()) > 1.5 * held
    expect(page, ".whole .metadata >> nth=0").to_contain_text("year")


def test_a_page_asks_for_no_texts_that_it_does_not_show(visit):
    sent = []
    page = visit(
        "/?index=things",
        prepare=lambda page: page.on("request", lambda request: sent.append(request)),
    )
    page.fill("#query", QUERY)
    page.press("#query", "Enter")
    measured(page)
    bodies = [one.post_data_json for one in sent if "/search" in one.url]
    assert {tuple(body["fields"]) for body in bodies if not body.get("compare")} == {("row",)}
    assert all("text" not in body["fields"] for body in bodies)
    assert not [one.url for one in sent if "/documents/" in one.url]


def test_a_search_is_copied_as_a_command_as_curl_and_as_python(visit, service, home):
    page = visit(f"{THINGS}+it%27s&dim=16&rerank=2")
    shown(page)
    page.click("#tab-copy")
    texts = {}
    for name in ("command", "curl", "python", "address"):
        page.click(f"[data-copy={name}]")
        texts[name] = page.locator("#copied").inner_text()
    quoted = f"'{QUERY} it'\\''s'"
    place = f"--index things --dim 16 --rerank 2 --home {home}"
    assert texts["command"] == f"rsearch query {quoted} {place}"
    sent = re.search(r"-d '(.*)'$", texts["curl"].replace("'\\''", "\x00"), re.DOTALL)
    body = json.loads(sent[1].replace("\x00", "'"))
    assert body == {"index": "things", "query": f"{QUERY} it's", "k": 10, "dim": 16, "rerank": 2}
    assert api(service, **body)["plan"] == "16:20,64"
    assert texts["address"] == page.url
    calls = []

    class Opened:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def query(self, *args, **options):
            calls.append((args, options))
            return []

    source = texts["python"].replace("from resizable_search import open_index", "")
    exec(source, {"open_index": lambda *names, **where: calls.append((names, where)) or Opened()})
    opened, asked = calls
    assert opened == (("things",), {"home": str(home)})
    assert asked == ((f"{QUERY} it's",), {"k": 10, "dim": 16, "rerank": 2})


def test_the_ranks_are_copied_as_a_picture(visit):
    page = visit(f"{THINGS}&dim=8")
    shown(page)
    with page.expect_download() as saved:
        page.evaluate("() => { navigator.clipboard.write = () => Promise.reject(new Error('no')); }")
        page.click("#copy-picture")
    with open(saved.value.path(), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    expect(page, "#picture-note").to_have_text("Saved as ranks.png.")
    assert page.locator("#slope .line.lost").count() == page.locator("#list > .lost").count()
    page.locator("#slope .line.lost .title").first.click()
    assert page.evaluate("document.activeElement.matches('#list > .lost')")


def test_the_keyboard_alone_leads_from_the_start_to_a_hit(visit, watch):
    watch.excused = ["400 (Bad Request)"]  # half a word, where keys come slowly
    page = visit("/?index=things")
    expect(page, "#query").to_be_focused()
    page.keyboard.type(QUERY)
    page.keyboard.press("Enter")
    shown(page)
    visited = []
    for _ in range(80):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.id || e.tagName, e.tagName, e.href ?? '', e.matches(':focus-visible'),"
            " s.outlineStyle] })()"
        )
        visited.append(at[0])
        assert at[3], at  # whatever has the focus shows it
        assert at[4] != "none" or at[1] == "g" or "slider" in at[0], at  # those draw it themselves
        if at[2].endswith("/docs"):
            break
    else:
        pytest.fail(f"the end was not reached: {visited}")
    assert visited.index("A") < 4  # the hits come soon
    for name in ("dim", "dim-slider", "rerank-slider", "tab-ranks", "copy-picture"):
        assert visited.count(name) == 1, visited


def test_an_answer_is_read_out_once_typing_and_sliding_have_ended(visit):
    page = visit("/?index=things", prepare=lambda page: page.clock.install())
    expect(page, "#examples button").to_have_count(3)
    page.evaluate(
        "() => { window.told = []; new MutationObserver(() => window.told.push(announcement.textContent))"
        ".observe(announcement, { childList: true }) }"
    )
    for text in ("river", "river bank"):
        page.fill("#query", text)
        answered(page, lambda: page.clock.fast_forward(200), query=text)
    page.clock.fast_forward(1_000)
    page.focus("#rerank-slider")
    answered(page, lambda: page.keyboard.press("Home"), rerank=0)
    page.clock.fast_forward(1_000)
    told = page.evaluate("window.told.filter(Boolean)")
    assert [line.split(". ")[0] for line in told] == [
        "“river bank”, 32 + rerank 10",
        "“river bank”, 32 alone",
    ]
    assert all(re.search(r"10 hits: \w+ of the 10 that the full dimension finds$", line) for line in told)


def test_a_tall_window_shows_every_picture_and_the_keyboard_reaches_all(visit):
    page = visit(THINGS, viewport={"width": 1920, "height": 1080})
    measured(page)
    expect(page, ".tabs").to_be_hidden()
    for pane in ("ranks", "time", "stages", "copy"):
        expect(page, f"#pane-{pane}").to_be_visible()
    page.focus("#copy-picture")
    visited = []
    for _ in range(8):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.textContent"))
    assert {"Command", "curl", "Python", "Address"} <= set(visited), visited


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
    assert titles(second, "#list > li") == titles(first, "#list > li")
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


def test_the_chart_has_a_point_for_every_size_and_they_can_be_chosen(visit):
    page = visit(f"{THINGS}&dim=16&rerank=2")
    page.click("#tab-time")
    measured(page)
    names = set(page.locator("#chart-table tbody th").all_text_contents())
    assert names == {"full 64"} | {f"{d} {r}" for d in (8, 16, 32) for r in ("alone", "+ rerank 2")}
    assert page.locator("#chart .axis", has_text="0.0").count()
    assert page.locator("#chart .whisker").count() == page.locator("#chart .point").count() == 7
    current = page.locator("#chart .current").get_attribute("aria-label")
    assert current.startswith("16 + rerank 2: overlap ")
    assert page.locator("#chart-readout").inner_text() == current
    row = page.locator("#chart-table tr", has_text="full 64")
    assert row.locator("td").last.text_content() == "1.0"
    page.focus("#chart .point[tabindex='0']")
    page.keyboard.press("End")
    chosen = page.evaluate("document.activeElement.dataset.key")
    dim, rerank = json.loads(chosen)[:2]
    answered(page, lambda: page.keyboard.press("Enter"), dim=dim, rerank=rerank)
    assert page.input_value("#dim") == str(dim or 64)
    point = page.locator("#chart .point[data-key='[8,0,null,null,null]']")
    answered(page, lambda: point.dispatch_event("click"), dim=8, rerank=0)


def test_what_is_pressed_while_the_page_measures_is_chosen(visit):
    held = []

    def hold_measurements(page):
        def handle(route):
            if held is None or route.request.post_data_json.get("compare"):
                route.continue_()
            else:
                held.append(route)

        page.route("**/api/v1/search", handle)

    page = visit(FULL, prepare=hold_measurements)
    shown(page)
    page.locator("#ways .way").nth(1).hover()
    page.mouse.down()
    while not held:
        page.wait_for_timeout(10)
    measurement, held = held[0], None
    with page.expect_response(lambda response: response.request == measurement.request):
        measurement.continue_()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    answered(page, page.mouse.up, dim=32, rerank=0)
    measured(page)


def test_what_bench_measured_stands_behind_the_points(visit):
    curve = {
        "k": 10,
        "source": "own rows",
        "measured": "2026-12-01",
        "points": [
            {
                "dim": dim,
                "rerank": rerank,
                "overlap": 0.8,
                "overlap_ci": [0.7, 0.9],
                "ms": 1.0,
                "queries": 100,
            }
            for dim in (8, 16)
            for rerank in (0, 10)
        ],
    }

    def arrange(page) -> None:
        page.route(
            "**/api/v1/indexes/things",
            lambda route: route.fulfill(json={**route.fetch().json(), "curve": curve}),
        )

    page = visit(f"{THINGS}&dim=16&rerank=10", prepare=arrange)
    page.click("#tab-time")
    measured(page)
    expect(page, "#chart .interval").to_have_count(4)
    expect(page, "#chart .mean").to_have_count(2)
    expect(page, "#chart-readout").to_contain_text("0.800 (0.700 to 0.900) over many queries")
    page.locator("#more summary").click()
    answered(page, lambda: page.fill("#k", "5"), k=5)
    expect(page, "#chart .interval").to_have_count(0)


def test_a_factor_is_told_only_where_the_times_of_all_runs_differ(visit):
    slowest = {"small": 2.0}
    runs: Counter[str] = Counter()

    def timed(route) -> None:
        answer = route.fetch().json()
        runs[route.request.post_data] += 1
        is_full = route.request.post_data_json["dim"] is None
        times = (5.0, 4.0) if is_full else (slowest["small"], 1.0)
        scan = times[runs[route.request.post_data] % 2]
        route.fulfill(json={**answer, "timings_ms": {"embed": 0.1, "scan": scan, "rerank": 0.0}})

    page = visit(f"{THINGS}&dim=32", prepare=lambda page: page.route("**/api/v1/search", timed))
    measured(page)
    expect(page, "#speed-of").to_contain_text("4.0× faster")
    slowest["small"] = 4.5
    page.fill("#query", "river bank")
    page.press("#query", "Enter")
    measured(page)
    expect(page, "#speed-of").to_contain_text("no clear difference")


def test_the_cheapest_that_keeps_99_percent_moves_the_sliders_or_says_how_to_tune(visit):
    tuned: list[dict] = []

    def arrange(page) -> None:
        page.route(
            "**/api/v1/indexes/things",
            lambda route: route.fulfill(json={**route.fetch().json(), "tuned": tuned}),
        )

    page = visit(FULL, prepare=arrange)
    shown(page)
    page.click("#cheapest")
    expect(page, "#cheapest-note").to_contain_text("rsearch tune --index things --recall 0.99")
    tuned[:] = [
        {"k": 10, "recall": 0.9, "plan": "8:20,64"},
        {"k": 10, "recall": 0.99, "plan": "16:50,64"},
    ]
    answered(page, lambda: page.click("#cheapest"), dim=16, rerank=5)  # it was tuned since
    assert (page.input_value("#dim"), page.input_value("#rerank")) == ("16", "5")
    expect(page, "#cheapest-note").to_contain_text("plan 16:50,64 keeps 99 % of the hits at k 10")

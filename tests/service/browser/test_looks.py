"""How the page and the description of the API look to everybody: width, contrast, axe, hostile texts."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.service.browser.actions import FULL, HITS, THINGS, answered, expect, measured, open_all, shown
from tests.service.browser.conftest import HOSTILE, SCRIPT

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
ALLOWED = "LI H3 A P BDI SPAN SMALL MARK BUTTON DETAILS SUMMARY DIV DL DT DD"
"""Elements that a hit may have."""
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def test_hostile_documents_are_shown_as_text_and_run_nothing(visit):
    page = visit("/?index=hostile&q=hostile&k=50")
    shown(page, 33)
    for summary in page.locator("#list .whole summary").all():
        summary.click()
    expect(page, "#list .whole[data-state=there]").to_have_count(33)
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
    turned = page.locator(HITS, has_text="to left")
    assert turned.locator("h3").inner_text() == "hostile to left"  # nothing turns round what stands beside it
    assert turned.locator(".place").first.inner_text() == "example.org/\ufffd"
    assert page.evaluate("window.harmed") is None
    assert not re.search(r"null|undefined|NaN|\[object|\bfalse\b", page.locator("body").inner_text())
    allowed = set(
        [
            "LI",
            "H3",
            "A",
            "P",
            "BDI",
            "SPAN",
            "SMALL",
            "MARK",
            "BUTTON",
            "DETAILS",
            "SUMMARY",
            "DIV",
            "DL",
            "DT",
            "DD",
        ]
    )
    assert set(page.locator("#list *").evaluate_all("all => all.map(e => e.tagName)")) <= allowed
    attributes = page.locator("#list *").evaluate_all("all => all.flatMap(e => e.getAttributeNames())")
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    for href in page.locator("#list a").evaluate_all("all => all.map(e => e.getAttribute('href'))"):
        assert re.match(r"https?://", href), href
    assert page.locator("#list a").count() == 3  # only "ending", "turned" and "long" have addresses


@pytest.mark.parametrize(
    "path", ["/?index=things", f"{THINGS}&dim=8&rerank=2", "/?index=hostile&q=hostile&k=50", "/docs"]
)
@pytest.mark.parametrize("width", [320, 1920])
def test_nothing_is_wider_than_the_screen(visit, path, width):
    page = visit(path, viewport={"width": width, "height": 740})
    if "q=" in path:
        shown(page, 33 if "k=50" in path else 10)
        open_all(page)
        for tab in ("time", "stages", "copy"):
            page.locator(f"#tab-{tab}").click()
        measured(page)
    elif path == "/docs":
        page.locator(".operation > summary").first.wait_for()
        open_all(page)
    else:
        expect(page, "#welcome").to_be_visible()
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen == width


def test_a_phone_shows_hits_first_and_the_instrument_in_a_bar_that_opens(visit):
    page = visit(FULL, viewport={"width": 360, "height": 740})
    shown(page)
    assert page.locator(HITS).first.bounding_box()["y"] < 370
    expect(page, "#tools").to_be_hidden()
    expect(page, "#handle").to_contain_text("full 64")
    expect(page, "#handle").to_contain_text("10/10 hits")
    page.click("#handle")
    expect(page, "#handle").to_have_attribute("aria-expanded", "true")
    answered(page, lambda: page.locator("#ways .way").nth(1).click(), dim=32, rerank=0)
    expect(page, "#handle").to_contain_text("32 alone")
    page.keyboard.press("Escape")
    expect(page, "#tools").to_be_hidden()
    expect(page, "#handle").to_be_focused()


def test_a_hit_that_is_gone_to_is_not_behind_the_open_bar(visit):
    page = visit(f"{THINGS}&dim=8", viewport={"width": 360, "height": 740}, reduced_motion="reduce")
    shown(page)
    page.click("#handle")
    page.evaluate("document.getElementById('to-lost').click()")
    box, bar = page.locator("#list > .lost").first.bounding_box(), page.locator("#instrument").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= bar["y"]


def test_very_large_text_leaves_room_for_a_question_and_for_the_sliders(visit):
    enlarge = (
        "new MutationObserver(() => { document.documentElement.style.fontSize = '200%' })"
        ".observe(document, { childList: true })"
    )
    page = visit(
        THINGS,
        viewport={"width": 360, "height": 740},
        prepare=lambda page: page.add_init_script(enlarge),
    )
    shown(page)
    page.click("#handle")
    for control in ("query", "dim-slider", "rerank-slider"):
        assert page.locator(f"#{control}").bounding_box()["width"] > 250, control
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_first_visit_says_what_a_vector_is(visit):
    page = visit("/?index=things")
    expect(page, "#welcome .lead").to_contain_text("turns every text into a vector: a list of numbers")
    expect(page, "#facts").to_have_text(re.compile("^180 documents · 64 dimensions"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_aa_wants(visit, scheme):
    page = visit(f"{THINGS}&dim=8&rerank=2", color_scheme=scheme, reduced_motion="reduce")
    measured(page)
    open_all(page)
    page.fill("#dim", "0")
    page.focus("#query")
    page.evaluate("document.getElementById('dim-error').textContent = 'an error'")
    page.evaluate(
        "document.getElementById('welcome').hidden = document.getElementById('gone').hidden = false"
    )
    result = page.evaluate(CONTRAST)
    assert len(result) > 100
    assert not [contrast for contrast in result if contrast[0] < 4.5]


def test_motion_is_left_out_for_those_who_want_none(visit):
    page = visit(THINGS, reduced_motion="reduce")
    shown(page)
    answered(page, lambda: page.fill("#dim", "8"), dim=8)
    assert page.evaluate("document.getAnimations().length") == 0


def faults_of(page: Any) -> list[str]:
    """What axe finds: each rule with the first element that breaks it."""
    package = pytest.importorskip("axe_playwright_python")
    page.evaluate((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(
        "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})",
        STANDARD,
    )
    return [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in found["violations"]]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_in_a_search(visit, width, scheme):
    page = visit(
        "/?index=things",
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
        bypass_csp=True,
    )
    expect(page, "#examples button").to_have_count(3)
    assert faults_of(page) == []
    page.goto(page.url.split("/?")[0] + f"{THINGS}&dim=8")
    shown(page)
    assert faults_of(page) == []
    open_all(page)
    measured(page)
    for tab in ("time", "stages", "copy"):
        page.click(f"#tab-{tab}")
        if tab == "copy":
            page.click("[data-copy=curl]")
        assert faults_of(page) == []
    page.fill("#dim", "0")
    page.click("#show-keys")
    assert faults_of(page) == []


def test_axe_finds_no_fault_where_something_is_wrong(visit, watch):
    watch.excused = ["400 (Bad Request)", "401 (Unauthorized)"]
    for path, told in (
        ("/?index=things&q=vulkanausbruch", "#query-error"),
        ("/?index=broken&q=tree", "#problem"),
        (f"{THINGS}&where=nothing", "#where-error"),
        (f"{FULL}&where=year+%3C+0", "#count"),
    ):
        page = visit(path, bypass_csp=True)
        expect(page, told).not_to_be_empty()
        assert faults_of(page) == []
    for part, hidden in (
        ("gone", False),
        ("token", False),
        ("none", False),
        ("loading", False),
        ("board", True),
    ):
        page.locator(f"#{part}").evaluate("(part, hidden) => { part.hidden = hidden }", hidden)
    assert faults_of(page) == []


def test_axe_finds_no_fault_in_the_description_of_the_api_and_it_can_be_tried(visit):
    page = visit("/docs", bypass_csp=True, reduced_motion="reduce")
    page.locator(".operation > summary").first.wait_for()
    assert faults_of(page) == []
    told = page.locator(".operation > summary").all_inner_texts()
    assert all(("/api/v1/" in line) != ("(deprecated)" in line) for line in told if "/api/" in line)
    open_all(page)
    post = page.locator(".operation:has(textarea)").first
    post.locator("textarea").fill('{"index": "things", "query": "tree", "k": 2}')
    post.locator("[type=submit]").click()
    expect(page, ".answer:not([hidden])").to_contain_text('"title": "About a tree')
    for form in page.locator(".try").all():
        assert form.locator("[type=submit]").is_visible()
    assert faults_of(page) == []


def test_hits_and_figures_are_seen_in_forced_colours(visit):
    page = visit(f"{THINGS}&dim=8", forced_colors="active")
    shown(page)
    mark = page.locator(".passage mark").first
    colours = mark.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")
    assert sorted(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 0)"]  # MarkText on Mark
    for part in (".pips .kept", "#ways [aria-pressed=true]", "button.main"):
        colour = "e => getComputedStyle(e).backgroundColor"
        assert page.locator(part).first.evaluate(colour) != page.locator("body").evaluate(colour), part

"""report.html in a real browser: it opens offline, sorts, filters, hides, copies and prints."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Opened, open_page, start_browser
from synthetic_report import make_report

from ungan_dist.report import render

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.process
METHODS = ("original", "retrain", "fine_tuning", "ungan")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as started:
        yield started


@pytest.fixture(scope="module")
def path(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = make_report(2, methods=METHODS)
    [*others, last] = report.rows
    named = dataclasses.replace(last, title='=UnGAN & "co", 50 % <b>_x_</b>|')
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(render(dataclasses.replace(report, rows=[*others, named]))["report.html"])
    return path


@pytest.fixture
def opened(browser: Browser, path: Path) -> Iterator[Opened]:
    opened = open_page(browser, path)
    yield opened
    assert opened.messages == []
    assert opened.requests == [path.as_uri()]
    opened.page.context.close()


def titles(page: Page) -> list[str]:
    return page.locator("table.results tbody th:visible").all_inner_texts()


def column(page: Page, name: str) -> list[float]:
    cells = page.locator(f'table.results td[data-column="{number_of(page, name)}"] .value').all_inner_texts()
    return [float(cell.replace("−", "-")) for cell in cells]


def number_of(page: Page, name: str) -> str:
    number = page.get_by_role("columnheader", name=name).first.get_attribute("data-column")
    assert number is not None
    return number


def copied(page: Page, form: str) -> str:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name=form, exact=True).click()
    page.get_by_text(f"Copied the shown table as {form}.").wait_for()
    return page.evaluate("navigator.clipboard.readText()")


def test_a_heading_sorts_in_both_directions(opened: Opened) -> None:
    page = opened.page
    before = column(page, "AUC ↕")
    assert before != sorted(before)
    button = page.locator(f'th[data-column="{number_of(page, "AUC ↕")}"] button')
    for direction, reverse in (("ascending", False), ("descending", True)):
        button.press("Enter")  # by keyboard
        cell = button.locator("..")
        assert cell.get_attribute("aria-sort") == direction
        shown = page.locator(f'table.results td[data-column="{cell.get_attribute("data-column")}"] .value')
        values = [float(text.replace("−", "-")) for text in shown.all_inner_texts()]
        assert values == sorted(before, reverse=reverse)
    page.get_by_role("button", name="Gap in AUC").click()
    assert titles(page)[-1] == "Retrain", "a cell without a number stays below"


def test_rows_are_filtered_by_words_and_by_verdict(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("Filter").fill("tun FINE")
    assert titles(page) == ["Fine-Tuning"]
    page.get_by_text("1 of 4 rows are shown.").wait_for()
    page.get_by_label("Filter").fill("")
    page.locator(".tools select").select_option("reference")
    assert titles(page) == ["Retrain"]


def test_columns_are_hidden_with_their_group(opened: Opened) -> None:
    page = opened.page
    page.get_by_text("Columns", exact=True).click()
    group = page.locator("th.group", has_text="Accuracy")
    for count, name in ((2, "Retain"), (1, "Forget"), (0, "Test")):
        page.get_by_label(f"{name} acc., %").uncheck()
        assert group.is_visible() == (count > 0)
        assert count == 0 or group.get_attribute("colspan") == str(count)
    assert not page.get_by_role("columnheader", name="Test").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_label("Test acc., %").is_visible()


def test_the_shown_table_is_copied_in_three_forms(opened: Opened) -> None:
    page = opened.page
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("T_U").uncheck()
    page.locator(".tools select").select_option("under-forgotten")
    page.get_by_label("Filter").fill("original")
    [heads, *lines] = csv.reader(io.StringIO(copied(page, "CSV")))
    assert [line[0] for line in lines] == ["Original"]
    assert "(b) AUC" in heads
    assert not any("T_U" in head for head in heads)
    assert float(lines[0][heads.index("(b) AUC")]) == pytest.approx(0.74, abs=0.05)
    assert re.fullmatch(r"± [\d.]+|\[[\d.]+, [\d.]+\]", lines[0][heads.index("(b) AUC, interval")])
    page.locator(".tools select").select_option("")
    page.get_by_label("Filter").fill("co")
    [heads, *_, line] = csv.reader(io.StringIO(copied(page, "CSV")))
    assert line[0] == '\'=UnGAN & "co", 50 % <b>_x_</b>|', "a formula of a spreadsheet"
    gaps = [
        cell
        for head, cell in zip(heads, line, strict=True)
        if head.startswith("Gap") and not head.endswith(", interval")
    ]
    assert [float(gap) for gap in gaps], "numbers stay numbers, with a sign too"
    markdown = copied(page, "Markdown").splitlines()
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown}
    assert len(bars) == 1
    assert r'UnGAN & "co", 50 % \<b\>\_x\_\</b\>\|' in markdown[-1]
    latex = copied(page, "LaTeX").splitlines()
    assert [line for line in latex if line in ("\\toprule", "\\midrule", "\\bottomrule")] == [
        *("\\toprule", "\\midrule", "\\bottomrule")
    ]
    rows = [line for line in latex if line.endswith("\\\\")]
    columns = re.fullmatch(r"\\begin\{tabular\}\{(l(r+))\}", latex[0])
    assert columns is not None
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns[1])}
    assert r"UnGAN \& " in rows[-1]
    assert r"50 \% <b>\_x\_" in rows[-1]


def test_a_row_opens_its_section(opened: Opened) -> None:
    page = opened.page
    section = page.locator("#method-fine_tuning")
    assert section.get_attribute("open") is None
    page.get_by_role("link", name="Fine-Tuning").click()
    assert section.locator("svg").first.is_visible()
    assert page.url.endswith("#method-fine_tuning")


def test_everything_is_there_without_script_and_on_paper(browser: Browser, path: Path) -> None:
    page = open_page(browser, path, script=False).page
    assert not page.locator(".tools").is_visible()
    assert len(titles(page)) == len(METHODS)
    page.locator("#method-ungan summary").click()
    assert page.locator("#method-ungan svg").first.is_visible()
    page.context.close()
    page = open_page(browser, path, dark=True).page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.context.close()


def test_the_page_is_never_wider_than_the_window(opened: Opened) -> None:
    for width in (360, 800, 1440):
        opened.page.set_viewport_size({"width": width, "height": 900})
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width


def test_the_first_figures_are_whole_from_480_pixels_on(opened: Opened) -> None:
    cut = "[...document.querySelectorAll('figure.overview')].filter((one) => one.scrollWidth > one.clientWidth).length"
    for width, number in ((1440, 0), (640, 0), (500, 0), (480, 0), (360, 2)):
        opened.page.set_viewport_size({"width": width, "height": 900})
        assert opened.page.evaluate(cut) == number, width


def test_the_page_says_that_its_table_scrolls_and_no_heading_is_cut(opened: Opened) -> None:
    page = opened.page
    hint = page.get_by_text("scroll the table sideways")
    ends = """[...document.querySelectorAll('th.group span')].map((one) => {
        const [text, cell] = [one, one.parentElement].map((box) => box.getBoundingClientRect());
        return [cell.left, text.right, cell.height];
    })"""
    for width in (1400, 800, 500):
        page.set_viewport_size({"width": width, "height": 900})
        hint.wait_for(state="visible")
        region = page.get_by_role("region", name="Results", exact=True).bounding_box()
        assert region is not None
        edge = region["x"] + region["width"]
        for left, right, height in page.evaluate(ends):
            assert right <= edge or left > edge - 215, width
            assert height < 56, "two lines"
    page.get_by_text("Columns", exact=True).click()
    for box in page.locator(".menu input").all():
        box.uncheck()
    hint.wait_for(state="hidden")


def test_attacks_stand_side_by_side_in_a_section(opened: Opened) -> None:
    page = opened.page
    page.get_by_role("link", name="Fine-Tuning").click()
    region = page.get_by_role("region", name="Attacks on Fine-Tuning")
    assert region.is_visible()
    assert region.get_by_role("row").count() == 4  # heading, LiRA, RMIA, loss
    assert region.get_by_text("decides").count() == 1


def test_axe_finds_nothing(browser: Browser, path: Path) -> None:
    script = os.environ.get("AXE_PATH", "")
    if not Path(script).is_file():
        pytest.skip("AXE_PATH names no axe.min.js: npm install axe-core")
    # the policy of the page refuses other scripts
    page = browser.new_context(bypass_csp=True).new_page()
    page.goto(path.as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.add_script_tag(path=script)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run()")
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], scheme
        assert len(found["passes"]) > 20
    page.context.close()

"""The statement page in a real browser: what a creator opens, on a wide screen and on a phone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import Commands
from tests.proxy.cli.test_money import TEXT, meter

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
SHOTS = Path("build/screenshots")  # kept by the run, to be looked at
QUIET = (
    "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """A statement of a real period, with a title that would be markup if it were not escaped."""
    # In a thread, because Playwright keeps a loop running in this one, and the commands run their own.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_exported, tmp_path_factory.mktemp("statement")).result()


def _exported(folder: Path) -> Path:
    ec = Commands(folder / "data")
    ec("creators", "add", "Ada", "--ref", "ada")
    rows = [
        {
            "work_id": "r1",
            "creator_id": "ada",
            "title": "<img src=x onerror=alert(1)> Ferry",
            "text": TEXT * 3,
        },
        {"work_id": "r2", "creator_id": "ada", "title": "A very long title " * 8, "text": TEXT * 4},
    ]
    (folder / "works.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ec("works", "add", folder / "works.jsonl", "--no-index")
    answers = [(f"rct_{n}", 1_000_000 + n, {"r1": 400_000, "r2": 100_000 + n}) for n in range(5)]
    meter(ec, *answers)
    assert ec("periods", "close", "2026-11").status == 0
    target = folder / "statement.html"
    assert ec("statements", "export", "--format", "html", "--out", target).status == 0
    return target


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Imported here: the default run collects this file without a browser driver installed.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=False, args=list(QUIET)
        )
        yield chromium
        chromium.close()


def opened(browser: Browser, file: Path, **context: object) -> tuple[Page, list[str]]:
    """Open the page; also return what it complained of and what it asked other hosts for."""
    troubles: list[str] = []
    page = browser.new_context(**context).new_page()
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request", lambda asked: troubles.append(asked.url) if not asked.url.startswith("file:") else None
    )
    page.on("dialog", lambda dialog: (troubles.append("dialog"), dialog.dismiss()))
    page.goto(file.as_uri())
    return page, troubles


@pytest.mark.parametrize(("name", "width"), [("wide", 1100), ("phone", 360)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_screen_and_asks_nobody_for_anything(browser, page_file, name, width, scheme):
    page, troubles = opened(browser, page_file, viewport={"width": width, "height": 900}, color_scheme=scheme)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"statement-{name}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert troubles == []


def test_a_title_is_shown_as_it_was_given_and_never_run(browser, page_file):
    page, troubles = opened(browser, page_file)
    assert "<img src=x onerror=alert(1)> Ferry" in page.inner_text("body")
    assert page.query_selector("img") is None
    assert troubles == []


def test_the_amounts_that_are_printed_add_up(browser, page_file):
    statement = page_file.with_name("statement.json")
    Commands(page_file.parent / "data")("statements", "export", "--format", "json", "--out", statement)
    told = json.loads(statement.read_text())
    page, _ = opened(browser, page_file)
    words = re.sub(r"\s+", " ", page.inner_text("body"))
    assert sum(line["net_grains"] for line in told["lines"]) == told["earned_grains"] > 0
    assert f"{told['closing_grains'] / 10**9:.9f}" in words

"""The playground, the verifier and the pages for everybody, in a real browser, as readers have them.

One server with the demo's catalogue and its backend, whose answers are known. Every page is looked at by
axe-core in light and dark, on a wide screen and on a phone; pictures are kept to be looked at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxy.access.sessions_store import Sessions
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Consent, Use
from proxy.clock import RandomIds, SystemClock
from proxy.database import open_engine
from proxy.demo.answers import CATALOGUE_DIR
from proxy.demo.children import child, command
from proxy.demo.journey import CONFIG
from proxy.receipts.verify import canonical
from proxy.settings import load_settings
from tests.proxy.portal.test_verifying import changed, saved
from tests.proxy.receipts.making import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
SHOTS = Path("build/screenshots")  # kept by the run, to be looked at
AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"
PROOFS = ROOT / "tests" / "proxy" / "portal" / "proofs"
QUIET = (
    "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
FIRST_LOAD_BYTES_MAX = 120_000
QUESTION = "Compare hives on a roof, a lighthouse and a glacier."
MARKUP = "<img src=x onerror=alert(1)>"
VIEWS = [("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)]


@dataclass(frozen=True)
class Site:
    base: str
    folder: Path

    def link(self) -> str:
        """An address that signs in once, as the app."""
        settings = load_settings(CONFIG, data_dir=self.folder)
        engine = open_engine(settings.store_url)
        sessions = Sessions(engine, clock=SystemClock(), session_hours=1, link_hours=1)
        secret = sessions.link("app", name="demo", by="test").secret
        engine.dispose()
        return f"{self.base}/portal/enter/{secret}?back=/portal/playground"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    config = ("--data", str(folder), "--config", str(CONFIG))
    with ExitStack() as stack:
        # In a thread, because Playwright keeps a loop running in this one.
        thread = stack.enter_context(ThreadPoolExecutor(1))
        thread.submit(_registered, folder, config).result()
        backend = stack.enter_context(child("backend", ["proxy.demo.backend", "--port", "0"], folder))
        upstream = str(backend.first_line()["base_url"])
        serve = ["proxy", "serve", "--upstream", upstream, "--port", "0", *config, "--json"]
        server = stack.enter_context(child("proxy", serve, folder))
        base = str(server.first_line()["url"])
        server.ready(f"{base}/readyz")
        yield Site(base, folder)


def _registered(folder: Path, config: tuple[str, ...]) -> None:
    shutil.copytree(CATALOGUE_DIR / "texts", folder / "texts")
    rows = [json.loads(line) for line in (CATALOGUE_DIR / "catalogue.jsonl").read_text().splitlines()]
    for row in rows:
        if row["work_id"] == "lamp-rotation-service":
            row["title"] = f"{MARKUP} lampd"  # a title that would be markup if it were not text
    (folder / "works.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command(("creators", "add", "--from", str(CATALOGUE_DIR / "creators.jsonl"), *config), folder)
    command(("works", "add", str(folder / "works.jsonl"), "--attest", *config), folder)
    command(("keys", "create", "--role", "app", "--name", "demo", *config), folder)
    engine = open_engine(load_settings(CONFIG, data_dir=folder).store_url)
    catalogue = Catalogue(engine, clock=SystemClock(), ids=RandomIds())
    for work in catalogue.works():
        if work.ref in {"letter-about-the-roof-hives", "lamp-rotation-service"}:
            catalogue.set_consent(work.id, Consent(Use.EXCERPT_DISPLAY, "free"))
    engine.dispose()


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


def opened(browser: Browser, base: str, **context: Any) -> tuple[Page, list[str]]:
    """A page, and what it complains of, runs or asks of other hosts."""
    troubles: list[str] = []
    page = browser.new_context(**{"reduced_motion": "reduce", **context}).new_page()
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(base) else troubles.append(asked.url))
    page.on("dialog", lambda dialog: (troubles.append("dialog"), dialog.dismiss()))
    return page, troubles


def looked_at(page: Page, name: str, scheme: str, width: int, *, whole: bool = True) -> None:
    """Keep a picture; the page fits its screen, and axe-core finds nothing."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}-{scheme}-{width}.png", full_page=whole)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text(encoding="utf-8") + ";0")
    found = page.evaluate("async () => (await axe.run()).violations")
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def signed_in(site: Site, page: Page) -> None:
    page.goto(site.link())
    page.get_by_role("button", name="Come in").click()
    page.wait_for_selector("#examples:not([hidden])")


def ask(page: Page, question: str) -> None:
    page.fill("#question", question)
    page.keyboard.press("Enter")
    page.wait_for_selector(".rolling", timeout=60_000)
    page.wait_for_selector("#stop", state="hidden", timeout=30_000)


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_an_answer_takes_the_colours_of_its_works_and_its_credits_roll(browser, site, scheme, width):
    page, troubles = opened(browser, site.base, viewport={"width": width, "height": 900}, color_scheme=scheme)
    signed_in(site, page)
    looked_at(page, "playground-empty", scheme, width)
    ask(page, QUESTION)
    looked_at(page, "playground-answer", scheme, width)
    assert page.locator(".credits li").count() == 4  # three works, and what is nobody's
    assert "3 works are credited" in page.inner_text("#status")
    coloured = page.locator(".said").all_inner_texts()
    assert any(text.startswith("A colony that has grown too large") for text in coloured)
    assert "Happy to help" not in " ".join(coloured)
    page.locator(".said + .mark").first.focus()
    page.wait_for_selector("#passage:not([hidden])")
    looked_at(page, "playground-passage", scheme, width, whole=False)
    assert "sends the old queen" in page.inner_text("#passage blockquote")
    page.keyboard.press("Escape")
    assert page.is_hidden("#passage")
    assert troubles == []
    page.context.close()


def test_it_is_done_by_keyboard_alone_and_titles_are_text(browser, site):
    page, troubles = opened(browser, site.base)
    signed_in(site, page)
    page.focus("#question")
    page.keyboard.type(f"{QUESTION} {MARKUP}")
    page.keyboard.press("Enter")
    page.wait_for_selector(".rolling", timeout=60_000)
    assert MARKUP in page.inner_text(".question")
    assert f"{MARKUP} lampd" in page.inner_text(".credits")
    assert page.query_selector("main img") is None
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.classList.contains('mark')"):
            break
    page.wait_for_selector("#passage:not([hidden])")
    assert f"{MARKUP} lampd" in page.inner_text("#passage")
    assert troubles == []
    page.context.close()


def test_what_a_model_says_is_text_and_never_run(browser, site):
    page, troubles = opened(browser, site.base)
    signed_in(site, page)
    said = f"{MARKUP}<script>alert(2)</script> <a href='javascript:alert(3)'>go</a>"
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": said}}]})
    field = json.dumps({
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "attribution": {"id": "rct_x", "status": "settled", "unattributed_ppm": 0, "works": [{
            "work": "w_x", "title": MARKUP, "creators": [MARKUP], "share_ppm": 1_000_000, "licence": MARKUP,
            "url": "javascript:alert(4)", "evidence": [{"kind": "verbatim", "output": [0, 500], "score": 1}],
        }]},
    })  # fmt: skip
    body = f"data: {event}\n\ndata: {field}\n\ndata: [DONE]\n\n"
    page.route(
        "**/playground/answers",
        lambda route: route.fulfill(content_type="text/event-stream", body=body),
    )
    ask(page, "Say something.")
    assert said in page.inner_text(".answer")
    assert page.query_selector("main img, .answer script, .answer a, .credits a") is None
    page.locator(".mark").first.focus()
    assert MARKUP in page.inner_text("#passage")
    assert troubles == []
    page.context.close()


def test_switches_are_sent_as_they_are_set_and_stand_in_the_code(browser, site):
    page, troubles = opened(browser, site.base)
    signed_in(site, page)
    page.select_option("#view", "headers")
    page.fill("#top", "2")
    page.fill("#subject", "reader-7")
    for tongue in ("curl", "python", "node"):
        page.locator(f"[name=tongue][value={tongue}]").check(force=True)
        code = page.inner_text("#code")
        assert "x-attribution-top" in code
        assert "reader-7" in code
        assert f"{site.base}/v1" in code
    with page.expect_request("**/playground/answers") as asked:
        ask(page, QUESTION)  # the shares of a stream with `headers` are at its id: they are asked for there
    sent = asked.value.headers
    assert (sent["x-attribution"], sent["x-attribution-top"]) == ("headers", "2")
    assert "x-attribution-mode" not in sent
    page.get_by_role("button", name="Begin anew").click()
    page.select_option("#view", "off")
    page.fill("#question", QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Credits are hidden")
    assert page.locator(".said, .rolling").count() == 0
    assert troubles == []
    page.context.close()


@pytest.mark.parametrize("path", ["playground", "transparency", "look-up", "verify"])
def test_a_first_load_is_small_and_stays_here(browser, site, path):
    page, troubles = opened(browser, site.base)
    sizes: list[int] = []
    page.on("requestfinished", lambda asked: sizes.append(asked.sizes()["responseBodySize"]))
    page.goto(f"{site.base}/portal/{path}")
    page.wait_for_load_state("networkidle")
    assert 0 < sum(sizes) < FIRST_LOAD_BYTES_MAX
    assert troubles == []
    page.context.close()


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_pages_for_everybody_fit_and_read_well(browser, site, scheme, width):
    page, troubles = opened(browser, site.base, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for path in ("playground", "transparency", "look-up", "verify"):
        page.goto(f"{site.base}/portal/{path}")
        page.wait_for_load_state("networkidle")
        looked_at(page, f"public-{path}", scheme, width)
    assert troubles == []
    page.context.close()


def test_a_look_up_needs_no_script(browser, site):
    page, troubles = opened(browser, site.base, java_script_enabled=False)
    page.goto(f"{site.base}/portal/look-up")
    verse = (CATALOGUE_DIR / "texts" / "tide-tables-for-the-undecided.txt").read_text(encoding="utf-8")
    page.fill("[name=text]", verse[:2_000])
    page.get_by_role("button", name="Look").click()
    assert "Yes, it is registered here" in page.inner_text("main")
    page.fill("[name=text]", "too short")
    page.get_by_role("button", name="Look").click()
    assert "too short to tell" in page.inner_text("main")
    assert [one for one in troubles if "400" not in one] == []
    page.context.close()


@pytest.fixture(scope="module")
def saved_page(site, tmp_path_factory) -> Path:
    """The verifier as a creator saves it."""
    from urllib.request import ProxyHandler, build_opener

    target = tmp_path_factory.mktemp("saved") / "verify.html"
    with build_opener(ProxyHandler({})).open(f"{site.base}/portal/verify") as reply:
        target.write_bytes(reply.read())
    return target


@pytest.mark.parametrize("name", ["statement", "charge", "manifest"])
def test_a_saved_verifier_says_yes_and_exactly_why_not_without_a_network(browser, saved_page, tmp_path, name):
    page, troubles = opened(browser, "file:", offline=True)
    page.goto(saved_page.as_uri())
    good = PROOFS / f"{name}.json"
    bad = tmp_path / f"{name}.json"
    text = good.read_text()
    place = text.index('"proof"') + 60
    bad.write_text(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])
    page.set_input_files("#keys", PROOFS / "keys.json")
    for file, says in ((good, "It holds"), (bad, "It does not hold")):
        page.set_input_files("#file", file)
        page.get_by_role("button", name="Check it").click()
        page.wait_for_selector(f"#verdict h2:text-is('{says}')")
        looked_at(page, f"verified-{name}-{says.replace(' ', '-')}", "light", 1280)
    assert len(page.inner_text("#verdict p")) > 20
    assert troubles == []
    page.context.close()


def test_a_saved_verifier_shows_a_change_of_the_registry_and_refuses_an_altered_one(
    browser, saved_page, tmp_path
):
    (tmp_path / "keys.json").write_text(saved(KEY))
    good = changed()
    told = json.loads(good)
    path = [told["salt"], *told["path"][1:]]
    files = [(good, "It holds")] + [
        (canonical({**told, **other}).decode(), "It does not hold")
        for other in (
            {"change": {**told["change"], "seq": told["change"]["seq"] + 1}},
            {"change": {**told["change"], "actor": "c_2"}},
            {"said": {"work": "w_3"}},
            {"batch": {**told["batch"], "first": 2}},
            {"path": path},
            {"proof": told["proof"].replace("index 1", "index 0")},
        )
    ]
    page, troubles = opened(browser, "file:", offline=True)
    page.goto(saved_page.as_uri())
    page.set_input_files("#keys", tmp_path / "keys.json")
    for number, (text, says) in enumerate(files):
        (tmp_path / f"{number}.json").write_text(text)
        page.set_input_files("#file", tmp_path / f"{number}.json")
        page.get_by_role("button", name="Check it").click()
        page.wait_for_selector(f"#verdict h2:text-is('{says}')")
        assert ("It is change 2 " in page.inner_text("#verdict")) == (number == 0)
        page.evaluate("document.querySelector('#verdict').replaceChildren()")
    assert troubles == []
    page.context.close()


def test_a_saved_verifier_counts_a_statement_anew_from_its_uses(browser, saved_page):
    page, troubles = opened(browser, "file:", offline=True)
    page.goto(saved_page.as_uri())
    folder = PROOFS / "in-a-row"
    page.set_input_files("#keys", folder / "keys.json")
    for name, beside, says in (
        ("before", "uses.jsonl", "all that its lines count"),
        ("statement", "before.json", "nothing in between"),
        ("statement", "uses.jsonl", "not the uses of this statement"),
    ):
        page.set_input_files("#file", folder / f"{name}.json")
        page.set_input_files("#beside", folder / beside)
        page.get_by_role("button", name="Check it").click()
        page.wait_for_selector(f"#verdict :text('{says}')")
    looked_at(page, "verified-uses", "light", 1280)
    assert troubles == []
    page.context.close()


def test_the_receipt_of_an_answer_is_checked_by_one_click(browser, site):
    page, troubles = opened(browser, site.base)
    signed_in(site, page)
    ask(page, QUESTION)
    page.get_by_role("link", name="check its signature").click()
    page.wait_for_selector("#verdict h2:text-is('It holds')")
    assert page.input_value("#text").count(".") == 2
    page.fill("#text", page.input_value("#text").replace("ey", "fy", 1))
    page.get_by_role("button", name="Check it").click()
    page.wait_for_selector("#verdict h2:text-is('It does not hold')")
    assert troubles == []
    page.context.close()

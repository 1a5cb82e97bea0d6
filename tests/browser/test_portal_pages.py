"""The pages behind the door in a real browser: light and dark, wide and narrow, by keyboard, without scripts.

One store with a month that was closed, one that is open, and words that would be markup were they not text.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from proxy.access.limits import month_of
from proxy.access.limits_store import Budgets, limit_app
from proxy.access.sessions_store import Sessions
from proxy.access.store import create_key
from proxy.app import create_app
from proxy.billing import payees
from proxy.billing.adjustments_store import Adjustments
from proxy.billing.daily_store import DailyUses
from proxy.billing.declarations_store import Declarations
from proxy.billing.disputes_store import Disputes
from proxy.billing.passages_store import PassageUses
from proxy.billing.paying import Paying
from proxy.billing.periods_store import Comments
from proxy.billing.policies import policy_of
from proxy.billing.policies_store import Policies
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.billing.store import list_statements
from proxy.catalogue.agreements import split_in
from proxy.catalogue.agreements_store import Agreements
from proxy.catalogue.linking_store import Links
from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork
from proxy.clock import RandomIds, SystemClock
from proxy.metering.usage import Line
from tests.browser.test_public_pages import browser, looked_at, opened  # noqa: F401  a fixture is asked by name
from tests.live import settings_in
from tests.proxy.billing.conftest import make_event, meter
from tests.stores import lay

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
VIEWS = [("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)]
MARKUP = "<img src=x onerror=alert(1)>"
PRICE = 200 * 10**9
DAY_US = 86_400_000_000
FIRST_LOAD_BYTES_MAX = 120_000


@dataclass
class Inside:
    """A served portal and the people of its store."""

    base: str
    engine: Any
    statement: str
    case: str
    work: str
    held: str
    split: str
    batch: str

    def link(self, role: Any, **who: str) -> str:
        sessions = Sessions(self.engine, clock=SystemClock(), session_hours=1, link_hours=1)
        return f"{self.base}/portal/enter/{sessions.link(role, by='test', **who).secret}"


@pytest.fixture(scope="module")
def inside(tmp_path_factory) -> Iterator[Inside]:
    settings = settings_in(tmp_path_factory.mktemp("inside") / "data")
    settings.data_dir.mkdir(parents=True)
    lay(settings.store_url)
    app = create_app(settings, scorer=("true",))
    engine = app.state.running.engine
    told = furnished(settings, engine)
    registry = app.state.running.registry
    registry.snapshot = Catalogue(engine, clock=SystemClock(), ids=RandomIds()).snapshot(registry.snapshot)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)  # no event says so to another thread
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Inside(f"http://127.0.0.1:{port}", engine, *told)
    server.should_exit = True
    thread.join()
    engine.dispose()


def furnished(settings, engine) -> tuple[str, str, str, str, str, str]:
    """Two creators with works, months closed and open, a dispute, a claim, what is held and a payment."""
    clock, ids = SystemClock(), RandomIds()
    catalogue = Catalogue(engine, clock=clock, ids=ids)
    catalogue.add_creator("Ada Lindqvist", ref="ada")
    catalogue.add_creator("Bo Okafor", ref="bo")
    song = "The ferry left at noon.\nNobody waved, nobody wept.\nThe gulls had seen it all before,\nand the gulls slept.\n\n"
    titles = ("The ferry at noon", "Letters from a lighthouse", MARKUP, "A very long title of a song " * 6)
    texts = [song * 9, *(f"text {n} of hers " * 90 for n in (1, 2, 3))]
    rows = [NewWork(f"{n}.txt", "ada", title, texts[n]) for n, title in enumerate(titles)]
    rows += [NewWork("9.txt", "bo", "Nobody waved", "a text of his")]
    works = [one.work_id for one in catalogue.add_works(rows)]
    app = create_key(engine, "app", clock=clock, ids=ids, name="Reader's companion").principal.app_id
    create_key(engine, "operator", clock=clock, ids=ids, name="Ines")
    limit_app(engine, app, lambda old: replace(old, budget_grains=PRICE * 90, currency="USD"), clock=clock)
    lines = tuple(Line(work, 90_000 + 40_000 * n) for n, work in enumerate(works))
    meter(engine, [make_event(n, lines[n % 3 :], price_grains=PRICE) for n in range(1, 6)])
    billing = settings.billing
    close_period(engine, "2026-10", billing, load(), dry_run=False, now_us=clock.now_us())
    now_us = clock.now_us()
    times, month = [now_us - (n * n % 29) * DAY_US for n in range(60)], month_of(now_us)
    meter(engine, [
        make_event(100 + n, lines[: 1 + n % 4], price_grains=PRICE, occurred_us=times[n],
                   model=("small-writer", "large-writer")[n % 2], app_id=app)
        for n in range(60)
    ])  # fmt: skip
    budgets, budget = Budgets(engine), {"month": month, "budget_grains": PRICE * 90, "now_us": now_us}
    asked = sum(month_of(one) == month for one in times)
    budgets.reserve("rct_settled", app, grains=PRICE * asked, **budget)
    budgets.settle("rct_settled", None)
    budgets.reserve("rct_under_way", app, grains=PRICE, **budget)
    daily, passages = DailyUses(engine), PassageUses(engine)
    for n in range(60):
        passages.add(f"rct_{100 + n:026d}", {works[0]: [(n % 7 * 131, n % 7 * 131 + 24 + 31 * (n % 2))]})
    while daily.step() or passages.step():
        pass
    ada, bo = catalogue.creator("ada").id, catalogue.creator("bo").id
    statement = next(one.id for one in list_statements(engine, creator=ada))
    Comments(engine, clock=clock, creator=ada).say(statement, f"A day is missing. {MARKUP}")
    case, _ = Disputes(engine, clock=clock, creator=ada).open(
        statement, "It was another edition.", answer_days=30
    )
    ownership = Ownership(engine, clock=clock, ids=ids)
    ownership.record_held([Held(works[1], "copy", "Most of it stands in an older work.", works[4], 820_000)])
    Ownership(engine, clock=clock, ids=ids, creator=bo).open_claim(works[0], bo, "I sang it in 1999.")
    Policies(engine, clock=clock, by="Omar", currency="USD").add(policy_of("half", {"royalty_ppm": 500_000}))
    for who, grains in ((ada, 5 * 10**8), (bo, 42 * 10**9)):
        Adjustments(engine, clock=clock, by="Omar").propose(
            corrects=next(one.id for one in list_statements(engine, creator=who)),
            creator=who,
            currency="USD",
            grains=grains,
            other="platform",
            reason="A late answer.",
        )
    batch = paid_out(Paying(engine, settings, clock=clock, ids=ids), ada, bo)
    for who, work, other in ((ada, works[2], works[0]), (bo, works[4], works[0]), (ada, works[0], works[1])):
        Links(engine, clock=clock, creator=who).state(work, "translation_of", other)
    form = payees.TaxProfile("W8BEN", "SE", 75_000, dt.date(2026, 1, 1))
    Declarations(engine, clock=clock, by=ada).give(ada, form)
    bo_has = {"clock": clock, "ids": ids, "creator": bo}
    proposed = Agreements(engine, **bo_has).propose(
        works[4], split_in([("bo", "66.6667"), ("ada", "33.3333")]), f"As we said in the studio. {MARKUP}"
    )
    return statement, case.id, works[0], works[1], proposed.proposal.id, batch


def paid_out(paying: Paying, ada: str, bo: str) -> str:
    """Propose to pay Bo, whose account was checked; Ada's was not. Return the batch."""
    hers = payees.account("manual", "as agreed 1234", holder="Ada", country_code="SE")
    his = payees.account("manual", "as agreed 5678", holder="Bo", country_code="NG")
    paying.enter(ada, hers, minimum="5", by=ada, verified=False)
    paying.enter(bo, his, minimum="", by="Omar", verified=True)
    batch, _ = paying.propose("manual", by="Ines")
    return batch.id


def entered(inside: Inside, page: Page, role: Any, **who: str) -> None:
    page.goto(inside.link(role, **who))
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{inside.base}/portal/")


PAGES = {
    "creator": {
        "overview": "/portal/", "works": "/portal/works", "work": "/portal/works/{work}",
        "held": "/portal/works/{held}", "passages": "/portal/works/{work}/passages",
        "history": "/portal/works/{work}/changes",
        "shares": "/portal/splits", "split": "/portal/splits/{split}",
        "work-splits": "/portal/works/{work}/splits", "uses": "/portal/uses", "statements": "/portal/statements",
        "statement": "/portal/statements/{statement}", "money": "/portal/money", "matters": "/portal/matters",
        "matter": "/portal/matters/{case}", "wrong": "/portal/works/w_nobody",
    },
    "operator": {
        "health": "/portal/", "desk-works": "/portal/desk/works", "review": "/portal/desk/review",
        "rules": "/portal/desk/rules", "periods": "/portal/desk/periods", "payouts": "/portal/desk/payouts",
        "batch": "/portal/desk/payouts/{batch}",
        "desk-matters": "/portal/desk/matters", "desk-matter": "/portal/desk/matters/{case}",
        "people": "/portal/desk/people", "log": "/portal/desk/log", "me": "/portal/me",
    },
    "app": {
        "overview": "/portal/", "days": "/portal/app/days", "answer": "/portal/app/answers/rct_00000000000000000000000100",
        "me": "/portal/me",
    },
}  # fmt: skip
WHO: dict[str, dict[str, str]] = {
    "creator": {"creator": "ada"},
    "operator": {"name": "Omar"},
    "app": {"name": "Reader's companion"},
}


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_every_page_of_a_creator_fits_and_is_read_by_everybody(browser, inside, scheme, width):  # noqa: F811
    read_by_everybody(browser, inside, "creator", scheme, width)


def test_a_first_visit_is_small_on_the_wire(browser, inside):  # noqa: F811
    page, troubles = opened(browser, inside.base)
    entered(inside, page, "creator", creator="ada")
    for path in ("/portal/uses", "/portal/works"):
        fresh, _ = opened(browser, inside.base)
        fresh.context.add_cookies(page.context.cookies())
        session = fresh.context.new_cdp_session(fresh)
        session.send("Network.enable")
        sizes: list[float] = []
        session.on(
            "Network.loadingFinished", lambda told, sizes=sizes: sizes.append(told["encodedDataLength"])
        )
        fresh.goto(inside.base + path)
        fresh.wait_for_load_state("networkidle")
        print(f"{path}: {sum(sizes):,.0f} bytes")
        assert 0 < sum(sizes) < FIRST_LOAD_BYTES_MAX
        fresh.context.close()
    page.context.close()
    assert troubles == []


def test_a_creator_goes_all_her_ways_by_keyboard_alone(browser, inside, tmp_path):  # noqa: F811
    page, troubles = opened(browser, inside.base, viewport={"width": 1000, "height": 800})
    page.goto(inside.link("creator", creator="ada"))
    tab_to(page, "Come in")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{inside.base}/portal/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto(f"{inside.base}/portal/works/{inside.work}")
    tab_to(page, "style_imitation")
    page.keyboard.press("n")  # a letter chooses in a list: "No"
    page.keyboard.press("n")
    tab_to(page, "Save what I allow")
    page.keyboard.press("Enter")
    page.wait_for_url("**done=allowed")
    assert page.locator("#f-style_imitation").input_value() in {"denied", ""}
    page.goto(f"{inside.base}/portal/works/{inside.work}/splits")
    tab_to(page, "percent")
    page.keyboard.press("Control+a")
    page.keyboard.type("60")
    assert page.inner_text("[data-sum] output") == "60%, 40% missing"
    page.keyboard.press("Tab")
    page.keyboard.type("bo")
    page.keyboard.press("Tab")
    page.keyboard.type("40,5")
    assert page.inner_text("[data-sum] output") == "100.5%, 0.5% too much"
    tab_to(page, "Propose it")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=It was not proposed")
    assert page.locator("[name=percent]").nth(1).input_value() == "40,5"
    page.goto(f"{inside.base}/portal/statements/{inside.statement}")
    tab_to(page, "text")
    page.keyboard.type("And another thing.")
    tab_to(page, "Send the comment")
    page.keyboard.press("Enter")
    page.wait_for_url("**done=said")
    assert "And another thing." in page.inner_text("main")
    tab_to(page, "Sign out")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Sign in")
    page.context.close()
    assert [one for one in troubles if "400" not in one] == []  # the split that was none


@pytest.mark.parametrize("script", [True, False])
def test_files_go_in_with_a_script_and_without_one(browser, inside, tmp_path, script):  # noqa: F811
    (tmp_path / f"song-{script}.txt").write_text(
        f"A song that was written for {script} only, and never sung."
    )
    (tmp_path / "nothing.exe").write_bytes(b"MZ\0")
    page, troubles = opened(
        browser, inside.base, java_script_enabled=script, viewport={"width": 360, "height": 800}
    )
    page.goto(inside.link("creator", creator="bo"))
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{inside.base}/portal/")
    page.goto(f"{inside.base}/portal/works")
    page.get_by_label("Your files").set_input_files(
        [tmp_path / f"song-{script}.txt", tmp_path / "nothing.exe"]
    )
    page.get_by_text("I made these texts").click()
    page.get_by_role("button", name="Put them in").click()
    page.wait_for_selector("text=What became of your files")
    told = page.inner_text("main")
    assert re.search(rf"song-{script}.txt\s+In", told)
    assert "nothing.exe" in told
    assert "Refused" in told
    if script:
        looked_at(page, "creator-uploaded", "light", 360)
    page.context.close()
    assert troubles == []


def test_a_page_that_is_twice_as_large_still_fits(browser, inside):  # noqa: F811
    # 200 % of 1280 is a window of 640 with two device pixels each.
    for role, pages in PAGES.items():
        page, _ = opened(browser, inside.base, viewport={"width": 640, "height": 400}, device_scale_factor=2)
        entered(inside, page, role, **WHO[role])
        for path in pages.values():
            page.goto(inside.base + path.format_map(vars(inside)))
            assert page.evaluate("document.documentElement.scrollWidth") <= 640, path
        page.context.close()


def read_by_everybody(chromium, inside: Inside, role: str, scheme: str, width: int) -> None:
    """Every page of a reader: it fits, axe-core finds nothing, and nothing is complained of or asked elsewhere."""
    page, troubles = opened(
        chromium, inside.base, viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    entered(inside, page, role, **WHO[role])
    for name, path in PAGES[role].items():  # `goto` waits for `load`: by then charts are drawn
        page.goto(inside.base + path.format_map(vars(inside)))
        looked_at(page, f"{role}-{name}", scheme, width)
    page.context.close()
    assert [one for one in troubles if "404" not in one] == []


def focused(page: Page) -> str:
    return page.evaluate("(document.activeElement.name || document.activeElement.innerText || '').trim()")


def tab_to(page: Page, what: str) -> None:
    for _ in range(120):
        if focused(page) == what:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard never reaches {what}")

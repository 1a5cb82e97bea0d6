"""The operators' pages in a real browser, in the world of `test_portal_pages`.

A file of its own, so that the two are looked at side by side: tests are spread by file.
"""

from __future__ import annotations

import pytest

from tests.browser.test_portal_pages import VIEWS, entered, inside, read_by_everybody  # noqa: F401  a fixture is asked by name
from tests.browser.test_public_pages import browser, looked_at, opened  # noqa: F401  a fixture is asked by name

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_every_page_of_the_desk_fits_and_is_read_by_everybody(browser, inside, scheme, width):  # noqa: F811
    read_by_everybody(browser, inside, "operator", scheme, width)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 360)])
def test_what_a_month_would_have_paid_is_laid_side_by_side(browser, inside, scheme, width):  # noqa: F811
    page, troubles = opened(
        browser, inside.base, viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    entered(inside, page, "operator", name="Omar")
    page.goto(f"{inside.base}/portal/desk/rules")
    page.get_by_role("button", name="Compare").first.click()
    page.wait_for_selector("text=Nothing is written")
    looked_at(page, "operator-preview", scheme, width)
    page.context.close()
    assert troubles == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 360)])
def test_what_a_close_or_a_batch_would_do_is_looked_at_first(browser, inside, scheme, width):  # noqa: F811
    page, troubles = opened(
        browser, inside.base, viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    entered(inside, page, "operator", name="Omar")
    page.goto(f"{inside.base}/portal/desk/periods")
    page.get_by_role("button", name="Show what that would book").click()
    page.wait_for_selector("text=I looked at this")
    looked_at(page, "operator-close", scheme, width)
    page.goto(f"{inside.base}/portal/desk/payouts")
    page.get_by_role("button", name="Show who would be paid").click()
    page.wait_for_selector("text=Only a look")
    looked_at(page, "operator-batch-look", scheme, width)
    page.context.close()
    assert troubles == []


def test_a_batch_is_paid_and_booked_back_by_what_the_page_offers(browser, inside):  # noqa: F811
    page, troubles = opened(browser, inside.base, viewport={"width": 360, "height": 900})
    entered(inside, page, "operator", name="Omar")
    page.goto(f"{inside.base}/portal/desk/payouts")
    page.get_by_role("table").get_by_role("link").click()
    page.get_by_role("button", name="Approve it").click()
    page.wait_for_url("**done=approved")
    with page.expect_download() as file:
        page.get_by_role("button", name="Write the file for the bank").click()
    assert file.value.suggested_filename.endswith(".csv")
    page.goto(f"{inside.base}/portal/desk/payouts/{inside.batch}")
    page.get_by_role("button", name="The bank has paid all of it").click()
    page.wait_for_url("**done=paid")
    page.get_by_text("One of them was refused").click()
    looked_at(page, "operator-batch-paid", "light", 360)
    page.get_by_label("What came back").fill("42.00")
    page.get_by_label("The bank's code").select_option("AC04")
    page.get_by_role("button", name="Book it back").click()
    page.wait_for_url("**done=returned")
    assert "Came back" in page.inner_text("main")
    looked_at(page, "operator-batch-returned", "light", 360)
    page.context.close()
    assert troubles == []


def test_an_operator_works_without_scripts_on_a_phone(browser, inside):  # noqa: F811
    page, troubles = opened(
        browser, inside.base, java_script_enabled=False, viewport={"width": 360, "height": 800}
    )
    page.goto(inside.link("operator", name="Omar"))
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url(f"{inside.base}/portal/")
    page.get_by_role("link", name="People").click()
    page.get_by_label("A creator").fill("bo")
    page.get_by_role("button", name="Make a link").first.click()
    assert "/portal/enter/" in page.inner_text(".notice")
    page.get_by_role("link", name="Payouts").click()
    page.get_by_role("button", name="Show who would be paid").click()
    assert "nothing is written" in page.inner_text("main")
    page.get_by_role("link", name="Rules and prices").click()
    assert "What it would change" in page.inner_text("main")
    page.get_by_role("button", name="Compare").first.click()
    assert "creators would get more" in page.inner_text("main")
    page.context.close()
    assert troubles == []

"""App developers' pages and the door in a real browser, in the world of `test_portal_pages`."""

from __future__ import annotations

import pytest

from tests.browser.test_portal_pages import VIEWS, inside, read_by_everybody  # noqa: F401  a fixture is asked by name
from tests.browser.test_public_pages import browser, looked_at, opened  # noqa: F401  a fixture is asked by name

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_every_page_of_an_app_fits_and_is_read_by_everybody(browser, inside, scheme, width):  # noqa: F811
    read_by_everybody(browser, inside, "app", scheme, width)


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_the_door_can_be_read_by_everybody(browser, inside, scheme, width):  # noqa: F811
    page, troubles = opened(
        browser, inside.base, viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    page.goto(inside.base + "/portal/")
    looked_at(page, "start", scheme, width)
    page.goto(inside.link("creator", creator="ada"))
    looked_at(page, "enter", scheme, width)
    page.goto(inside.base + "/portal/sign-in")
    page.get_by_label("Your key").fill("ec_operator_" + "a" * 32)
    page.keyboard.press("Enter")
    page.wait_for_selector(".error")
    looked_at(page, "sign-in", scheme, width)
    page.context.close()
    assert [one for one in troubles if "401" not in one] == []

"""A creator's money: where it goes and what she declares, given on her page and checked by somebody else."""

from __future__ import annotations

import pytest

from proxy.billing.paying import Paying
from proxy.clock import RandomIds, SystemClock
from tests.portal import portal

pytestmark = pytest.mark.anyio
NASTY = "<script>alert(1)</script>"


async def test_an_account_is_kept_and_never_shown(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        ada = await there.browser(there.key("creator", creator="ada")[1])
        await ada.get("/portal/money")
        form = {"rail": "manual", "account": "my secret account 9876", "holder": "Ada L", "country": "de"}
        kept = await ada.post("/portal/money/account", form | {"minimum": "5"})
        assert kept.status_code == 303
        page = await ada.get(kept.headers["location"])
        assert "9876" in page.text
        assert "secret" not in page.text
        assert "Not yet: a person makes sure" in page.text
        for change in ({"country": "Deutschland"}, {"rail": "cash"}, {"minimum": "-3"}, {"holder": ""}):
            wrong = await ada.post("/portal/money/account", form | change)
            assert wrong.status_code == 400, change
            assert "Your account was not kept" in wrong.text
            assert "secret" not in wrong.text


async def test_a_form_for_tax_is_given_waits_and_is_answered(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        me = there.catalogue.creator("ada").id
        ada = await there.browser(there.key("creator", creator="ada")[1])
        assert "No tax form of yours is in force" in (await ada.get("/portal/money")).text
        form = {"form": "W8BEN", "tax_country": "de", "treaty": "7,5 %", "number": "de 123 456 789"}
        given = await ada.post("/portal/money/tax", form)
        assert given.status_code == 303
        page = (await ada.get(given.headers["location"])).text
        assert "Your form is being checked" in page
        assert "7.5" in page
        assert "123 456" not in page
        assert "ends in  789" in page
        paying = Paying(there.running.engine, there.running.settings, clock=SystemClock(), ids=RandomIds())
        assert paying.declarations("Ines").check(me, 1, why="other_name")
        assert "the name on it is not that of the account" in (await ada.get("/portal/money")).text
        await ada.post("/portal/money/tax", form | {"number": ""})
        assert paying.declarations("Ines").check(me, 3)
        page = (await ada.get("/portal/money")).text
        assert "Your form is being checked" not in page
        assert "W-8BEN" in page
        assert paying.payees("Ines").tax_profiles(me)[0].treaty_ppm == 75_000
        assert paying.tax_numbers("Ines").known(me) == ("DE", " 789")


async def test_what_is_no_form_comes_back_as_it_was_typed_but_for_the_number(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        ada = await there.browser(there.key("creator", creator="ada")[1])
        await ada.get("/portal/money")
        form = {"form": "W9", "tax_country": "US", "treaty": "", "number": "123-45-6789"}
        assert (await ada.client.post("/portal/money/tax", data=form)).status_code == 403
        wrong_ones = ({"form": "W3"}, {"tax_country": "USA"}, {"treaty": NASTY}, {"treaty": "101"},
                      {"treaty": "7.12345"}, {"number": NASTY})  # fmt: skip
        for wrong in wrong_ones:
            reply = await ada.post("/portal/money/tax", form | wrong)
            assert reply.status_code == 400, wrong
            assert "Your form was not kept" in reply.text
            assert NASTY not in reply.text
            assert "456789" not in reply.text.replace("-", "")
        assert "No tax form of yours is in force" in (await ada.get("/portal/money")).text

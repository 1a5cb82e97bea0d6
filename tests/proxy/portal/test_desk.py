"""Money on operators' pages: looked at before it is booked, and two people where two are wanted."""

from __future__ import annotations

import re

import pytest

from proxy.billing import payees
from proxy.billing.paying import Paying
from proxy.billing.policies import policy_of
from proxy.billing.policies_store import Policies
from proxy.clock import RandomIds, SystemClock
from proxy.portal.cursors import cursor_of
from proxy.settings import Billing
from tests.portal import portal
from tests.proxy.portal.test_creators import statement_of, two

pytestmark = pytest.mark.anyio


async def test_a_month_is_looked_at_before_it_is_closed(tmp_path):
    async with portal(tmp_path) as there:
        there.register("a text of hers")
        ines = await there.browser(there.key("operator", name="Ines")[1])
        await ines.get("/portal/desk/periods")
        page = await ines.post("/portal/desk/periods/preview", {"label": "2026-11"})
        assert "would book this" in page.text
        assert (await ines.post("/portal/desk/periods/close", {"label": "2026-11"})).status_code == 400
        for label in ("--help", "", "a b", "ü"):
            assert (await ines.post("/portal/desk/periods/preview", {"label": label})).status_code == 400
        done = await ines.post("/portal/desk/periods/close", {"label": "2026-11", "sure": "yes"})
        assert done.status_code == 303
        page = await ines.get(done.headers["location"])
        assert "The month is closed" in page.text
        assert "November 2026" in page.text


async def test_a_policy_shows_what_it_would_change_before_it_holds(tmp_path):
    async with portal(tmp_path) as there:
        desk = Policies(there.running.engine, clock=SystemClock(), by="Omar", currency="USD")
        desk.add(policy_of("half", {"royalty_ppm": 500_000}))
        ines = await there.browser(there.key("operator", name="Ines")[1])
        page = await ines.get("/portal/desk/rules")
        assert "<del>30%</del>" in page.text
        assert "<ins>50%</ins>" in page.text
        place = re.search(r'action="([^"]+/activate)"', page.text).group(1)
        assert (await ines.post(place, {"since": "soon"})).status_code == 400
        assert (await ines.post(place, {"since": ""})).status_code == 303
        assert "It says what is in force now" in (await ines.get("/portal/desk/rules")).text


async def test_what_a_month_would_have_paid_by_a_policy_is_seen_before_it_holds(tmp_path):
    async with portal(tmp_path) as there:
        await two(there)
        desk = Policies(there.running.engine, clock=SystemClock(), by="Omar", currency="USD")
        desk.add(policy_of("half", {"royalty_ppm": 500_000}))
        ines = await there.browser(there.key("operator", name="Ines")[1])
        page = await ines.get("/portal/desk/rules")
        place = re.search(r'action="([^"]+/preview)"', page.text).group(1)
        assert '<option value="2026-11">November 2026</option>' in page.text
        found = await ines.post(place, {"period": "2026-11"})
        assert found.status_code == 200
        assert "November 2026" in found.text
        assert "$24.00" in found.text
        assert "2 creators would get more" in found.text
        assert (await ines.post(place, {"period": "1999-01"})).status_code == 404
        assert "half" in (await ines.get("/portal/desk/rules")).text  # and nothing holds that did not


async def test_a_batch_takes_two_people_and_its_file_follows(tmp_path):
    async with portal(tmp_path, billing=Billing(comment_days=0)) as there:
        _, _, ada, _ = await two(there)
        paying = Paying(there.running.engine, there.running.settings, clock=SystemClock(), ids=RandomIds())
        account = payees.account("manual", "as agreed", holder="Ada", country_code="DE")
        creator = there.catalogue.creator("ada").id
        paying.enter(creator, account, minimum="", by="Omar", verified=True)
        ines = await there.browser(there.key("operator", name="Ines")[1])
        omar = await there.browser(there.key("operator", name="Omar")[1])
        await ines.get("/portal/desk/payouts")
        look = await ines.post("/portal/desk/payouts", {"rail": "manual", "step": "look"})
        assert "nothing is written" in look.text
        assert "$24.00" in look.text
        assert "Nothing was paid out yet" in (await ines.get("/portal/desk/payouts")).text
        made = await ines.post("/portal/desk/payouts", {"rail": "manual", "step": "propose"})
        place = made.headers["location"].partition("?")[0]
        await ines.get(place)
        assert (await ines.post(f"{place}/approve")).status_code in {403, 409}
        assert "Proposed" in (await omar.get("/portal/desk/payouts")).text
        asked = (await omar.get(place)).text
        assert f'action="{place}/cancel"' in asked
        pressed = re.search(r'action="([^"]+)">[^/]+Approve it', asked)[1]
        assert (await omar.post(pressed)).status_code == 303
        assert f'action="{place}/paid"' not in (await omar.get(place)).text
        file = await omar.post(f"{place}/export")
        assert file.headers["content-disposition"].startswith("attachment")
        assert (await omar.post(f"{place}/paid", {"ref": "bank 7"})).status_code == 303
        assert "24.00" in (await ada.get("/portal/money")).text
        assert (await ines.post("/portal/desk/payouts", {"rail": "gold"})).status_code == 400


async def test_a_dispute_is_answered_and_settled_by_two_and_a_comment_is_answered(tmp_path):
    async with portal(tmp_path) as there:
        _, _, ada, _ = await two(there)
        name = statement_of(await ada.get("/portal/"))
        await ada.get(f"/portal/statements/{name}")
        await ada.post(f"/portal/statements/{name}/comments", {"text": "A day is missing."})
        opened = await ada.post(f"/portal/statements/{name}/disputes", {"reason": "Another edition."})
        case = opened.headers["location"].partition("?")[0].rpartition("/")[2]
        ines = await there.browser(there.key("operator", name="Ines")[1])
        omar = await there.browser(there.key("operator", name="Omar")[1])
        page = await ines.get("/portal/desk/matters")
        assert "A day is missing." in page.text
        assert len(re.findall(r"\bada\b", page.text)) == 2, "who says it, and whose dispute it is"
        await ines.post(f"/portal/desk/comments/{name}", {"text": "It was a Sunday."})
        assert "It was a Sunday." in (await ada.get(f"/portal/statements/{name}")).text
        place = f"/portal/desk/matters/{case}"
        await ines.get(place)
        assert (await ines.post(f"{place}/answer", {"text": "We looked."})).status_code == 303
        away = {"to": "common", "reason": "Nobody's."}
        assert (await ines.post(f"{place}/settle", away)).status_code in {403, 409}
        await omar.get(place)
        assert (await omar.post(f"{place}/settle", away | {"to": "somewhere"})).status_code in {400, 404}
        assert (await omar.post(f"{place}/settle", away)).status_code == 303
        assert "Settled" in (await ada.get(f"/portal/matters/{case}")).text
        for reader, path in ((ada, "/portal/matters"), (ines, "/portal/desk/matters")):
            older = await reader.get(path, params={"before": cursor_of(SystemClock().now_us() + 1, "dsp")})
            assert case in older.text
            assert "Back to the beginning" in older.text
            assert (await reader.get(path, params={"before": "rubbish"})).status_code == 400


async def test_a_payment_that_came_back_is_booked_back_by_its_amount_and_once(tmp_path):
    async with portal(tmp_path, billing=Billing(comment_days=0)) as there:
        _, _, ada, _ = await two(there)
        paying = Paying(there.running.engine, there.running.settings, clock=SystemClock(), ids=RandomIds())
        creator = there.catalogue.creator("ada").id
        account = payees.account("manual", "as agreed", holder="Ada", country_code="DE")
        paying.enter(creator, account, minimum="", by="Omar", verified=True)
        batch, _ = paying.propose("manual", by="Ines")
        paying.payouts("Omar").approve(batch.id)
        paying.export(batch.id, by="Omar")
        (one,) = batch.payments
        ines = await there.browser(there.key("operator", name="Ines")[1])
        place = f"/portal/desk/payouts/{batch.id}"
        assert one.id in (await ines.get(place)).text
        back = {"payment": one.id, "amount": "24.00", "code": "AC04", "reason": "<b>closed</b> in May"}
        for wrong, status in (
            ({"amount": "23.99"}, 409),
            ({"amount": ""}, 400),
            ({"amount": "much"}, 400),
            ({"payment": "ecp-none"}, 404),
            ({"code": "closed"}, 400),
            ({"code": "", "reason": " "}, 400),
        ):
            assert (await ines.post(f"{place}/returned", back | wrong)).status_code == status, wrong
        assert (await ada.post(f"{place}/returned", back)).status_code in {403, 404}
        for _ in range(2):
            assert (await ines.post(f"{place}/returned", back)).status_code == 303
        page = (await ines.get(f"{place}?done=returned")).text
        assert page.count("AC04: the account is closed (&lt;b&gt;closed&lt;/b&gt; in May)") == 1
        assert "AC04: the account is closed" in (await ada.get("/portal/money")).text
        assert paying.standing(creator)[0].owed_grains >= one.net_minor * 10**7


async def test_what_creators_gave_is_checked_where_payouts_are_made(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        creator = there.catalogue.creator("ada").id
        paying = Paying(there.running.engine, there.running.settings, clock=SystemClock(), ids=RandomIds())
        account = payees.account("manual", "as agreed 4321", holder="Ada", country_code="DE")
        paying.enter(creator, account, minimum="", by=creator, verified=False)
        form = payees.TaxProfile("W8BEN", "DE", 50_000, paying.today())
        paying.declarations(creator).give(creator, form)
        ines = await there.browser(there.key("operator", name="Ines")[1])
        page = (await ines.get("/portal/desk/payouts")).text
        assert "4321" in page
        assert "W-8BEN, for tax in DE" in page
        of = f"/portal/desk/payees/{creator}"
        for said, status in (({"version": "x"}, 400), ({"version": "7"}, 409)):
            assert (await ines.post(f"{of}/account", said)).status_code == status
            assert (await ines.post(f"{of}/tax", said)).status_code == status
        assert (await ines.post(f"{of}/account", {"version": "1"})).status_code == 303
        assert (await ines.post(f"{of}/tax", {"version": "1", "why": "expired"})).status_code == 303
        paying.declarations(creator).give(creator, form)
        assert (await ines.post(f"{of}/tax", {"version": "3", "why": ""})).status_code == 303
        assert "Waits for your check" not in (await ines.get("/portal/desk/payouts")).text
        assert paying.payees("Ines").tax_profiles(creator) == [form]
        assert paying.payees("Ines").known(creator)[0].verified_by == "Ines"

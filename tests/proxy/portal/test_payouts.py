"""Paying over HTTP: two operators with keys of their own, and creators who see nobody but themselves."""

from __future__ import annotations

import hashlib

import pytest

from proxy.billing.run import close_period
from proxy.clock import SystemClock, iso_utc
from proxy.metering.usage import Line
from proxy.settings import Billing, Payouts, Store
from tests.live import live, settings_in
from tests.proxy.billing.conftest import make_event, meter

pytestmark = pytest.mark.anyio
IBAN = "DE89370400440532013000"
HERS = {"rail": "sepa", "account": IBAN, "holder": "Ada Sandmark", "country": "DE"}
HIS = {"rail": "sepa", "account": "GB82WEST12345698765432", "holder": "Bo Berg", "country": "GB"}
PRICE = 200 * 10**9


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return settings_in(
        tmp_path / "data",
        store=Store(url=url),
        billing=Billing(currency="EUR", comment_days=0),
        payouts=Payouts(minimum="5", debtor_name="Choir of Machines", debtor_iban="NO9386011117947"),
    )


class People:
    """The keys of two operators, two creators and an app, and a way to ask with each."""

    def __init__(self, app):
        self.app = app
        (self.hers,), (self.his,) = (
            app.register("a text of hers"),
            app.register("a text of his", creator="bo"),
        )
        self.keys = {
            "ines": app.key("operator", name="Ines"), "omar": app.key("operator", name="Omar"),
            "ada": app.key("creator", creator="ada"), "bo": app.key("creator", creator="bo"), "shop": app.key(),
        }  # fmt: skip

    async def __call__(self, who, method, path, body=None, **headers):
        return await self.app.client.request(
            method, f"/api/{path}", json=body, headers=self.keys[who] | headers
        )

    async def owed(self, settings, prices, *, label="2026-11", number=1):
        lines = (Line(self.hers, 400_000), Line(self.his, 400_000))
        meter(self.app.running.engine, [make_event(number, lines, price_grains=PRICE, currency="EUR")])
        close_period(
            self.app.running.engine,
            label,
            settings.billing,
            prices,
            dry_run=False,
            now_us=SystemClock().now_us(),
        )


@pytest.fixture
async def people(settings):
    async with live(settings) as app:
        yield People(app)


@pytest.fixture
def prices():
    from proxy.billing.prices import load

    return load()


async def enter(people):
    for who, account in (("ada", HERS), ("bo", HIS)):
        row = (await people(who, "PUT", "payees/me/account", account)).json()
        assert row["verified"] is False
        verified = await people("ines", "POST", f"payees/{who}/verify", {"version": row["version"]})
        assert verified.json()["changed"], verified.text


async def approved(people):
    made = await people("ines", "POST", "payouts/batches", {"rail": "sepa"})
    assert made.status_code == 201, made.text
    batch = made.json()["id"]
    assert (await people("omar", "POST", f"payouts/batches/{batch}/approve")).json()["changed"]
    return batch


async def test_a_creator_sets_her_account_and_is_shown_nothing_of_it_but_the_end(people):
    made = await people("ada", "PUT", "payees/me/account", HERS | {"minimum": "25"})
    assert made.json()["account"] == "···· 3000"
    mine = await people("ada", "GET", "payees/me")
    assert mine.json()["owed"][0]["reason"] == "nothing_owed"
    assert mine.headers["cache-control"] == "no-store"
    for who, path in (("ada", "payees/me"), ("ines", "payees/ada")):
        shown = await people(who, "GET", path)
        assert IBAN[4:-4] not in shown.text
        assert "Sandmark" not in shown.text
        assert shown.json()["account"]["minimum"] == "25.00"


async def test_for_a_creator_nobody_exists_but_herself(people):
    await people("bo", "PUT", "payees/me/account", HIS)
    his = (await people("bo", "GET", "payees/me")).json()["creator"]
    asked = [
        await people("ada", "GET", f"payees/{his}"),
        await people("ada", "PUT", f"payees/{his}/account", HERS),
        await people("ada", "GET", f"payouts?creator={his}"),
        await people("ada", "GET", "payees/c_nobody"),
    ]
    assert {answer.status_code for answer in asked} == {404}
    assert len({answer.json()["code"] for answer in asked}) == 1
    assert (await people("bo", "GET", f"payees/{his}")).status_code == 200


async def test_what_only_operators_may_do_is_refused_to_everybody_else(people):
    await people("ada", "PUT", "payees/me/account", HERS)
    forbidden = [
        ("POST", "payees/me/verify", {"version": 1}),
        ("POST", "payees/me/release", {"reason": "I say so."}),
        ("POST", "payees/me/tax/check", {"version": 1}),
        ("GET", "payees", None),
        ("GET", "payouts/batches", None),
        ("POST", "payouts/batches", {"rail": "sepa"}),
        ("POST", "payouts/batches/pob_1/approve", None),
        ("POST", "payouts/batches/pob_1/export", None),
        ("POST", "payouts/payments/ecp-1/return", {"reason": "Give it to me."}),
    ]
    for who in ("ada", "shop"):
        for method, path, body in forbidden:
            assert (await people(who, method, path, body)).status_code == 403, (who, path)
    assert (await people("shop", "GET", "payees/me")).status_code == 403
    assert (await people("ines", "GET", "payees/me")).status_code == 400
    assert (await people.app.client.get("/api/payees/me")).status_code == 401


async def test_who_creates_a_batch_cannot_approve_it_and_the_file_is_the_same_again(people, settings, prices):
    await enter(people)
    await people.owed(settings, prices)
    assert (await people("ada", "GET", "payees/me")).json()["owed"][0]["payable"] == "24.00"
    made = await people("ines", "POST", "payouts/batches", {"rail": "sepa"})
    batch = made.json()["id"]
    assert (made.status_code, made.json()["payments"], made.json()["created_by"]) == (201, 2, "Ines")
    again = await people("omar", "POST", "payouts/batches", {"rail": "sepa"})
    assert (again.status_code, again.json()["id"]) == (200, batch)
    own = await people("ines", "POST", f"payouts/batches/{batch}/approve")
    assert (own.status_code, own.json()["code"]) == (409, "payouts_second_person")
    early = await people("omar", "POST", f"payouts/batches/{batch}/export")
    assert (early.status_code, early.json()["code"]) == (409, "payouts_not_approved")
    assert (await people("omar", "POST", f"payouts/batches/{batch}/approve")).json()["changed"]
    files = [await people(who, "POST", f"payouts/batches/{batch}/export") for who in ("omar", "ines")]
    assert len({hashlib.sha256(file.content).hexdigest() for file in files}) == 1
    assert files[0].headers["content-type"] == "application/xml"
    assert "attachment" in files[0].headers["content-disposition"]
    assert IBAN.encode() in files[0].content
    shown = await people("ines", "GET", f"payouts/batches/{batch}")
    (hers, _) = sorted(shown.json()["payment_rows"], key=lambda row: row["account"])
    assert (hers["account"], hers["account_verified_by"]) == ("···· 3000", "Ines"), (
        "Omar sees who let it be paid"
    )
    assert hers["account_entered_by"] == hers["creator"]
    assert [event["what"] for event in shown.json()["events"]] == ["created", "approved", "exported"]
    assert IBAN not in shown.text
    assert "Sandmark" not in shown.text


async def test_a_creator_sees_what_became_of_her_payment_and_of_nobody_elses(people, settings, prices):
    await enter(people)
    await people.owed(settings, prices)
    batch = await approved(people)
    await people("omar", "POST", f"payouts/batches/{batch}/export")
    (hers,) = (await people("ada", "GET", "payouts")).json()["items"]
    assert (hers["state"], hers["net"], hers["account"]) == ("pending", "24.00", "···· 3000")
    settled = await people("omar", "POST", f"payouts/batches/{batch}/settle", {"ref": "B-77"})
    assert len(settled.json()["settled"]) == 2
    assert (await people("omar", "POST", f"payouts/batches/{batch}/settle", {})).json()["settled"] == []
    back = await people(
        "omar", "POST", f"payouts/payments/{hers['payment']}/return", {"reason": "AC04: closed."}
    )
    assert back.json()["changed"]
    twice = await people(
        "omar", "POST", f"payouts/payments/{hers['payment']}/return", {"reason": "AC04: closed."}
    )
    assert not twice.json()["changed"]
    (hers,) = (await people("ada", "GET", "payouts")).json()["items"]
    assert (hers["state"], hers["detail"]) == ("returned", "AC04: closed.")
    (his,) = (await people("bo", "GET", "payouts")).json()["items"]
    assert (his["state"], his["detail"]) == ("settled", "B-77")
    assert (await people("ines", "GET", "payouts?creator=bo")).json()["items"] == [his]
    assert (await people("ada", "GET", "payees/me")).json()["owed"][0]["owed"] == "24.00"


async def test_what_the_bank_did_with_a_whole_batch_is_booked_in_one_go(people, settings, prices):
    await enter(people)
    await people.owed(settings, prices)
    batch = await approved(people)
    await people("omar", "POST", f"payouts/batches/{batch}/export")
    ((hers,), (his,)) = [(await people(who, "GET", "payouts")).json()["items"] for who in ("ada", "bo")]
    body = {"returned": [{"payment": his["payment"], "reason": "AC01"}], "ref": "B-1"}
    for expected in ({hers["payment"]}, set()):
        booked = (await people("omar", "POST", f"payouts/batches/{batch}/settle", body)).json()
        assert set(booked["settled"]) == expected
    both = {"payments": [his["payment"]], "returned": [{"payment": his["payment"], "reason": "AC01"}]}
    refused = await people("omar", "POST", f"payouts/batches/{batch}/settle", both)
    assert (refused.status_code, refused.json()["code"]) == (409, "payouts_answer")
    assert (await people("bo", "GET", "payees/me")).json()["owed"][0]["owed"] == "24.00"


async def test_a_batch_is_created_once_under_one_key_and_batches_are_paged(people, settings, prices):
    await enter(people)
    await people.owed(settings, prices)
    made = []
    for number in range(3):
        headers = {"idempotency-key": f"k-{number}"}
        first = await people("ines", "POST", "payouts/batches", {"rail": "sepa"}, **headers)
        made.insert(0, first.json()["id"])
        await people("ines", "POST", f"payouts/batches/{made[0]}/cancel", {"reason": "Again."})
        again = await people("ines", "POST", "payouts/batches", {"rail": "sepa"}, **headers)
        assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, made[0], "cancelled")
    page = (await people("ines", "GET", "payouts/batches?limit=2")).json()
    rest = (await people("ines", "GET", f"payouts/batches?limit=2&cursor={page['next_cursor']}")).json()
    assert [row["id"] for row in page["items"] + rest["items"]] == made
    assert rest["next_cursor"] is None
    assert (await people("ines", "GET", "payouts/batches?cursor=rubbish")).status_code == 400
    dry = await people("ines", "POST", "payouts/batches", {"rail": "sepa", "dry_run": True})
    assert (dry.status_code, dry.json()["kept"], dry.json()["payments"]) == (200, False, 2)


async def test_a_hold_is_read_by_whom_it_is_about_and_a_form_is_kept_by_operators(people, settings, prices):
    await enter(people)
    await people.owed(settings, prices)
    assert (await people("ines", "POST", "payees/ada/hold", {"reason": "A letter came back."})).json()[
        "changed"
    ]
    mine = (await people("ada", "GET", "payees/me")).json()
    assert (mine["hold"], mine["owed"][0]["reason"]) == ("A letter came back.", "held")
    assert (await people("ines", "POST", "payees/ada/release", {"reason": "She wrote."})).json()["changed"]
    form = {"form": "W8BEN", "country": "de", "from": "2026-01-01", "treaty_ppm": 50_000}
    kept = (await people("ines", "PUT", "payees/ada/tax", form)).json()
    assert kept["tax_profiles"] == [
        {"form": "W8BEN", "country": "DE", "treaty_ppm": 50_000, "from": "2026-01-01", "to": None}
    ]
    assert (await people("ada", "GET", "payees/me")).json()["tax_profiles"] == kept["tax_profiles"]


@pytest.mark.parametrize(
    "body",
    [
        HERS | {"account": "DE88370400440532013000"},
        HERS | {"rail": "cash"},
        HERS | {"minimum": "1.001"},
        HERS | {"surprise": IBAN},
        {"rail": "sepa"},
        [IBAN],
    ],
)
async def test_what_cannot_be_an_account_is_refused_and_never_repeated(people, body, capfd):
    answer = await people("ada", "PUT", "payees/me/account", body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.text + "".join(capfd.readouterr())
    assert "37040044" not in said
    assert "Sandmark" not in said


async def test_names_that_no_store_could_hold_are_of_nothing(people):
    for name in ("%00", "a%00b", "%0a", "x" * 400, "%ff"):
        for method, path, body in (
            ("GET", f"payees/{name}", None),
            ("GET", f"payouts?creator={name}", None),
            ("GET", f"payouts/batches/{name}", None),
            ("POST", f"payouts/batches/{name}/export", None),
            ("POST", f"payouts/payments/{name}/return", {"reason": "x"}),
        ):
            answer = await people("ines", method, path, body)
            assert answer.status_code == 404, (name, path, answer.text)
    for cursor in ("OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkgeA==", "MSAA", "LTEgeA=="):
        assert (await people("ines", "GET", f"payouts/batches?cursor={cursor}")).status_code == 400
    for body in ({"version": 2**70}, {"version": 0}, {"version": "one"}, {"version": 1.5}, None):
        assert (await people("ines", "POST", "payees/ada/verify", body)).status_code == 400
    for body in ({"rail": "sepa", "dry_run": "yes"}, {"rail": ""}, [], "sepa"):
        assert (await people("ines", "POST", "payouts/batches", body)).status_code == 400


async def test_no_account_is_in_the_log_the_store_or_an_answer(people, settings, prices, tmp_path, capfd):
    await enter(people)
    await people.owed(settings, prices)
    batch = await approved(people)
    await people("omar", "POST", f"payouts/batches/{batch}/export")
    seen = "".join(
        [(await people(who, "GET", path)).text for who, path in (
            ("ines", "payouts/batches"), ("ines", f"payouts/batches/{batch}"), ("ines", "payees/ada"),
            ("ada", "payees/me"), ("ada", "payouts"), ("ada", "statements"),
        )]
    )  # fmt: skip
    said = seen + "".join(capfd.readouterr())
    files = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    for account in (HERS, HIS):
        for plain in (account["account"], account["account"][4:], account["holder"]):
            assert plain not in said
            assert plain.encode() not in files


async def test_what_a_creator_declares_waits_and_is_accepted_or_refused_by_an_operator(people):
    form = {"form": "W8BEN", "country": "de", "treaty_ppm": 0}
    given = (await people("ada", "PUT", "payees/me/tax", form)).json()
    assert (given["changed"], given["tax_profiles"], given["tax_given"]["state"]) == (True, [], "given")
    assert given["tax_given"]["from"] == iso_utc(SystemClock().now_us())[:10]
    assert not (await people("ada", "PUT", "payees/me/tax", form)).json()["changed"]
    number = {"number": "de 123 456 789", "country": "DE"}
    kept = await people("ada", "PUT", "payees/me/tax-number", number)
    assert (kept.json()["last4"], "123 456" in kept.text) == (" 789", False)
    await people("bo", "PUT", "payees/me/account", HIS)
    first = (await people("ines", "GET", "payees?limit=1")).json()
    rest = (await people("ines", "GET", f"payees?cursor={first['next_cursor']}")).json()
    waiting = {one["creator"]: one for one in first["items"] + rest["items"]}
    assert (len(waiting), rest["next_cursor"]) == (2, None)
    assert waiting[given["creator"]]["tax_given"]["version"] == 1
    assert sum(one["account"] is not None for one in waiting.values()) == 1
    refused = await people("ines", "POST", "payees/ada/tax/check", {"version": 1, "refuse": "no_treaty"})
    assert refused.json()["changed"]
    mine = (await people("ada", "GET", "payees/me")).json()
    assert "treaty" in mine["tax_given"]["why_said"]
    assert (mine["tax_profiles"], mine["tax_number"]) == ([], {"country": "DE", "last4": " 789"})
    await people("ada", "PUT", "payees/me/tax", form | {"treaty_ppm": 100_000})
    for body in ({"version": 9}, {"version": 1}):
        assert (await people("ines", "POST", "payees/ada/tax/check", body)).status_code == 409
    assert (
        await people("ines", "POST", "payees/ada/tax/check", {"version": 3, "refuse": "No."})
    ).status_code == 400
    accepted = [
        (await people("ines", "POST", "payees/ada/tax/check", {"version": 3})).json() for _ in range(2)
    ]
    assert [one["changed"] for one in accepted] == [True, False]
    mine = (await people("ada", "GET", "payees/me")).json()
    assert [one["treaty_ppm"] for one in mine["tax_profiles"]] == [100_000]
    assert mine["tax_given"]["state"] == "accepted"


async def test_a_creator_declares_for_nobody_else_and_never_what_no_form_is(people):
    his = (await people("bo", "GET", "payees/me")).json()["creator"]
    form = {"form": "W9", "country": "US"}
    for path, body in (
        (f"payees/{his}/tax", form),
        (f"payees/{his}/tax-number", {"number": "1234", "country": "US"}),
    ):
        assert (await people("ada", "PUT", path, body)).status_code == 404
        assert (await people("shop", "PUT", path, body)).status_code == 403
    for body in (form | {"form": "W3"}, form | {"country": "USA"}, form | {"treaty_ppm": 1_000_001}):
        assert (await people("ada", "PUT", "payees/me/tax", body)).status_code == 400
    wrong = await people("ada", "PUT", "payees/me/tax-number", {"number": "<1234>", "country": "US"})
    assert (wrong.status_code, "<1234>" in wrong.text) == (400, False)


async def test_a_payment_is_booked_back_once_by_the_banks_code_and_the_amount(people, settings, prices):
    await enter(people)
    await people.owed(settings, prices)
    batch = (await people("ines", "POST", "payouts/batches", {"rail": "sepa"})).json()
    await people("omar", "POST", f"payouts/batches/{batch['id']}/approve")
    await people("omar", "POST", f"payouts/batches/{batch['id']}/export")
    one = batch["payment_rows"][0]
    place = f"payouts/payments/{one['payment']}/return"
    for body, status in (({}, 400), ({"code": "ac4"}, 400), ({"code": "AC04", "amount": "1.00"}, 409)):
        assert (await people("omar", "POST", place, body)).status_code == status
    body = {"code": "AC04", "amount": one["net"], "reason": "closed in May"}
    done = [(await people("omar", "POST", place, body)).json()["changed"] for _ in range(2)]
    assert done == [True, False]
    who = "ada" if (await people("ada", "GET", "payees/me")).json()["creator"] == one["creator"] else "bo"
    (told,) = (await people(who, "GET", "payouts")).json()["items"]
    assert (told["state"], told["detail"]) == ("returned", "AC04: the account is closed (closed in May)")

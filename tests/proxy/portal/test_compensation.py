"""Rules, pools, common money and terms over HTTP: everybody reads the rules, two operators act, hers are hers."""

from __future__ import annotations

import pytest

from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.clock import SystemClock
from proxy.metering.store import find_event
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.live import live, settings_in
from tests.proxy.billing.conftest import make_event, meter

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path):
    return settings_in(tmp_path / "data", billing=Billing(comment_days=0))


class People:
    def __init__(self, app):
        self.app = app
        (self.hers,), (self.his,) = (
            app.register("a text of hers"),
            app.register("a text of his", creator="bo"),
        )
        self.keys = {
            "ines": app.key("operator", name="Ines"), "omar": app.key("operator", name="Omar"),
            "ada": app.key("creator", creator="ada"), "shop": app.key(), "other": app.key(name="other"),
        }  # fmt: skip

    async def __call__(self, who, method, path, body=None, **headers):
        reply = await self.app.client.request(
            method, f"/api/{path}", json=body, headers=self.keys[who] | headers
        )
        return reply.status_code, reply.json()


@pytest.fixture
async def people(settings):
    async with live(settings) as app:
        yield People(app)


async def test_everybody_reads_the_rules_and_only_operators_make_them(people):
    rules = {"name": "better", "rules": {"royalty_ppm": 500_000, "common_rule": "pro_rata"}}
    assert (await people("ada", "POST", "policies", rules))[0] == 403
    status, made = await people("ines", "POST", "policies", rules)
    assert (status, made["added"]) == (201, True)
    assert (await people("omar", "POST", "policies", rules))[0] == 200
    assert (await people("ines", "POST", "policies", {"name": "x", "rules": {"rate": 1}}))[0] == 400
    status, held = await people("ines", "POST", f"policies/{made['id']}/activate", {"from": "2999-01-01"})
    assert (status, held["by"]) == (200, "Ines")
    again = await people("omar", "POST", f"policies/{made['id']}/activate", {"from": "2999-01-01"})
    assert again == (200, held)
    for late in ("2020-01-01", "soon"):
        status, _ = await people("ines", "POST", f"policies/{made['id']}/activate", {"from": late})
        assert status in {400, 409}
    for who in ("ada", "shop", "omar"):
        status, listed = await people(who, "GET", "policies")
        assert [row["id"] for row in listed["items"]] == [made["id"]]
        assert listed["in_force"]["name"] == "settings"
        assert (await people(who, "GET", f"policies/{made['id']}"))[1]["rules"]["royalty_ppm"] == 500_000
    assert (await people("ada", "GET", "policies/pol_none"))[0] == 404


async def test_a_revenue_takes_two_operators_and_is_told_to_its_app_alone(people):
    engine = people.app.running.engine
    with engine.connect() as connection:
        apps = [row[0] for row in connection.exec_driver_sql("SELECT id FROM app ORDER BY created_us, id")]
    body = {"app": apps[0], "period": "2026-11", "amount": "20", "users": 3}
    key = {"Idempotency-Key": "one"}
    assert (await people("shop", "POST", "pools", body))[0] == 403
    _, made = await people("ines", "POST", "pools", body, **key)
    assert (await people("ines", "POST", "pools", body, **key))[1] == made
    assert (await people("ines", "POST", "pools", body | {"amount": "21"}, **key))[0] == 409
    assert (await people("ines", "POST", f"pools/{made['id']}/approve"))[0] == 409
    status, approved = await people("omar", "POST", f"pools/{made['id']}/approve")
    assert (status, approved["state"], approved["decided_by"]) == (200, "approved", "Omar")
    _, other = await people("ines", "POST", "pools", body | {"app": apps[1]})
    assert (await people("ines", "POST", f"pools/{other['id']}/withdraw"))[1]["state"] == "withdrawn"
    seen = {
        who: {row["app"] for row in (await people(who, "GET", "pools"))[1]["items"]}
        for who in ("shop", "other")
    }
    assert sorted(map(len, seen.values())) == [1, 1]
    assert seen["shop"] != seen["other"]
    assert (await people("ada", "GET", "pools"))[0] == 403


async def test_common_money_is_public_and_given_out_by_two_operators(people, settings):
    engine = people.app.running.engine
    meter(engine, [make_event(1, (Line(people.hers, 400_000),), price_grains=10**9)])
    close_period(engine, "2026-11", settings.billing, load(), dry_run=False, now_us=SystemClock().now_us())
    _, told = await people("shop", "GET", "common")
    assert told["carried"] == [
        {"reason": "unattributed", "amount": "0.18", "amount_grains": 180_000_000, "currency": "USD"}
    ]
    status, refused = await people("ines", "POST", "common/distributions", {"period": "2026-11"})
    assert (status, refused["code"]) == (409, "common_no_rule")
    _, made = await people("ines", "POST", "policies", {"name": "p", "rules": {"common_rule": "pro_rata"}})
    await people("ines", "POST", f"policies/{made['id']}/activate", {})
    status, proposed = await people("ines", "POST", "common/distributions", {"period": "2026-11"})
    assert (status, proposed["amount"], proposed["parties"]) == (201, "0.18", 1)
    path = f"common/distributions/{proposed['id']}"
    assert (await people("ines", "POST", f"{path}/approve"))[0] == 409
    assert (await people("ada", "POST", f"{path}/approve"))[0] == 403
    assert (await people("omar", "POST", f"{path}/approve"))[1]["state"] == "approved"
    assert (await people("omar", "POST", f"{path}/cancel"))[0] == 409
    assert (await people("ada", "GET", "common"))[1]["carried"] == []


async def test_a_creator_asks_for_their_own_works_only_and_never_sets_a_rate(people):
    status, asked = await people(
        "ada", "POST", "terms", {"kind": "floor", "value": "0.02", "work": people.hers}
    )
    assert (status, asked["value"], asked["scope"]) == (200, "0.02", "work")
    assert (await people("ada", "POST", "terms", {"kind": "floor", "value": "0.02", "work": people.hers}))[
        1
    ] == asked
    status, every = await people("ada", "POST", "terms", {"kind": "excerpt_words", "value": "50"})
    assert (status, every["scope"]) == (200, "creator")
    for body, status in (
        ({"kind": "floor", "value": "1", "work": people.his}, 404),
        ({"kind": "floor", "value": "1", "creator": "c_other"}, 404),
        ({"kind": "rate", "value": "1", "work": people.hers}, 403),
        ({"kind": "floor", "value": "1", "work": people.hers, "creator": every["of"]}, 400),
        ({"kind": "floor", "value": "lots", "work": people.hers}, 400),
    ):
        assert (await people("ada", "POST", "terms", body))[0] == status
    assert (await people("shop", "POST", "terms", {"kind": "floor", "value": "1"}))[0] == 403
    assert (await people("ines", "POST", "terms", {"kind": "rate", "value": "1", "work": people.his}))[
        0
    ] == 200
    assert (await people("ada", "GET", f"terms?work={people.his}"))[0] == 404
    assert (await people("ada", "GET", f"terms?work={people.hers}"))[1]["items"] == [asked]
    assert (await people("ada", "GET", "terms"))[1]["items"] == [every]
    assert len((await people("ines", "GET", "terms"))[1]["items"]) == 3
    _, page = await people("ines", "GET", "terms?limit=2")
    _, rest = await people("ines", "GET", f"terms?limit=2&cursor={page['next_cursor']}")
    assert (len(page["items"]), len(rest["items"]), rest["next_cursor"]) == (2, 1, None)


async def test_an_end_user_is_known_only_where_a_pool_pays_and_by_a_digest(people):
    people.app.answers("The barge carried tar.")

    async def kept():
        reply = await people.app.chat(people.keys["shop"] | {"x-attribution-subject": "user-7"})
        event_id = reply.headers["x-attribution-id"]
        assert (await people("shop", "GET", f"receipts/{event_id}"))[0] in {200, 202}
        return find_event(people.app.running.engine, event_id).subject_digest

    assert await kept() == ""
    _, made = await people("ines", "POST", "policies", {"name": "p", "rules": {"scheme": "pool"}})
    await people("ines", "POST", f"policies/{made['id']}/activate", {})
    await people.app.running.users.refresh()
    assert len(await kept()) == 64

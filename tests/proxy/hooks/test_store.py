import base64
import json

import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag

from proxy.billing.disputes_store import Disputes
from proxy.billing.store import list_statements
from proxy.catalogue.erasing_store import erase_work
from proxy.errors import BadRequest, Conflict, NotFound
from proxy.hooks.store import KEPT_US, WEBHOOKS_MAX, Webhooks
from proxy.hooks.targets import WAITS_S
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.books import DAY_US, Bookkeeping

URL = "https://hooks.example/in"
KEY = bytes(32)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def books(request, engine):
    if request.param == "postgres":
        engine = request.getfixturevalue("postgres_engine")
    return Bookkeeping(engine)


def hooks_of(books, key=KEY):
    return Webhooks(books.engine, clock=books.clock, ids=books.ids, key=lambda: key)


def told(hooks):
    """(kind, data) of every message, in the order in which they are due."""
    return [(json.loads(one.body)["type"], json.loads(one.body)["data"]) for one in hooks.due(100)]


def a_period(books, label, **rules):
    books.answer([Line("w_0", 500_000)])
    return books.close(label, Billing(**{"comment_days": 0} | rules))


def test_an_address_is_told_what_happens_from_now_on_once(books):
    hooks = hooks_of(books)
    a_period(books, "2026-10")
    hooks.add(URL)
    assert hooks.collect() == 0, "what was before is not told"
    closed = a_period(books, "2026-11", comment_days=14)
    batch = books.propose()
    books.bob.approve(batch.id)
    books.export(batch.id)
    books.bob.settle(batch.id, ref="bank-1")
    (statement, *_) = list_statements(books.engine, label="2026-11")
    Disputes(books.engine, clock=books.clock).open(statement.id, "no", answer_days=30)
    books.deny("w_1")
    books.catalogue.withdraw("w_2")
    erase_work(books.engine, "w_3", clock=books.clock)
    assert hooks.collect() == 6
    assert hooks.collect() == 0
    kinds = dict(told(hooks))
    assert kinds.keys() == {
        "period.closed",
        "payout.settled",
        "dispute.opened",
        "consent.withdrawn",
        "work.erased",
    }
    assert kinds["period.closed"] == {"period": "2026-11", "manifest_sha256": closed.manifest_sha256}
    assert kinds["payout.settled"] == {"batch": batch.id, "payments": len(batch.payments)}
    assert kinds["work.erased"]["work"] == "w_3"
    books.clock.advance(14 * 86_400)
    assert hooks.collect() == 1
    assert ("statements.final", {"period": "2026-11", "statements": 1}) in told(hooks)


def test_a_work_that_is_registered_as_denied_withdraws_nothing(books):
    hooks = hooks_of(books)
    hooks.add(URL)
    books.deny("w_1")
    books.allow("w_1")
    hooks.collect()
    assert [kind for kind, _ in told(hooks)] == ["consent.withdrawn"]


def test_only_what_an_address_asked_for_is_told_and_each_has_its_own_marks(books):
    hooks = hooks_of(books)
    hooks.add(URL, ("work.erased",))
    a_period(books, "2026-11")
    hooks.collect()
    late, _ = hooks.add("https://late.example/")
    a_period(books, "2026-12")
    hooks.collect()
    assert {one.webhook for one in hooks.due(100)} == {late.id}
    assert [data["period"] for kind, data in told(hooks) if kind == "period.closed"] == ["2026-12"]


def test_a_secret_is_shown_once_and_sealed(books):
    hooks = hooks_of(books)
    made, secret = hooks.add(URL, by="Ines")
    a_period(books, "2026-11")
    hooks.collect()
    due = hooks.due(1)[0]
    assert due.secret == base64.b64decode(secret.removeprefix("whsec_"))
    assert (due.url, due.webhook, due.attempts) == (URL, made.id, 0)
    with books.engine.connect() as connection:
        sealed = bytes(connection.execute(sa.text("SELECT sealed FROM webhook")).scalar_one())
    assert due.secret not in sealed
    with pytest.raises(InvalidTag):
        hooks_of(books, b"k" * 32).due(1)
    assert [(one.id, one.by) for one in hooks.living()] == [(made.id, "Ines")]


def test_what_fails_is_tried_later_and_given_up_in_the_end(books):
    hooks = hooks_of(books)
    hooks.add(URL, ("period.closed",))
    a_period(books, "2026-11")
    hooks.collect()
    for attempt in range(len(WAITS_S)):
        (message,) = hooks.due(10)
        assert message.attempts == attempt
        wait = hooks.failed(message, "500")
        assert wait >= WAITS_S[attempt]
        assert hooks.due(10) == []
        books.clock.advance(wait)
    (message,) = hooks.due(10)
    assert hooks.failed(message, "500") is None
    books.clock.advance(DAY_US // 1_000_000)
    assert hooks.due(10) == []
    (row,) = hooks.messages()
    assert (row["attempts"], row["answer"], row["next_us"]) == (len(WAITS_S) + 1, "500", None)


def test_messages_are_listed_newest_first_page_by_page(books):
    hooks = hooks_of(books)
    for address in (URL, URL + "/too"):
        hooks.add(address, ("period.closed",))
    a_period(books, "2026-11")
    assert hooks.collect() == 2
    (newest,) = hooks.messages(limit=1)
    (second,) = hooks.messages(before=(newest["made_us"], newest["id"]))
    assert {newest["webhook_id"], second["webhook_id"]} == {one.id for one in hooks.living()}
    assert hooks.messages(before=(second["made_us"], second["id"])) == []


def test_what_was_told_is_forgotten_after_a_month_and_not_told_again(books):
    hooks = hooks_of(books)
    made, _ = hooks.add(URL, ("period.closed",))
    a_period(books, "2026-11")
    hooks.collect()
    hooks.told(hooks.due(1)[0], "204")
    assert [row["answer"] for row in hooks.messages(made.id)] == ["204"]
    books.clock.advance(KEPT_US // 1_000_000 + 1)
    assert hooks.collect() == 0
    assert hooks.messages() == []
    assert hooks.collect() == 0


def test_an_address_that_was_removed_is_told_nothing_not_what_waits_either(books):
    hooks = hooks_of(books)
    made, _ = hooks.add(URL)
    a_period(books, "2026-11")
    hooks.collect()
    assert hooks.end(made.id)
    assert not hooks.end(made.id)
    assert (hooks.due(10), hooks.living(), hooks.collect()) == ([], [], 0)
    with pytest.raises(NotFound):
        hooks.end("wh_none")


def test_addresses_are_bounded_and_looked_at(books):
    hooks = hooks_of(books)
    with pytest.raises(BadRequest):
        hooks.add("http://hooks.example/")
    for _ in range(WEBHOOKS_MAX):
        hooks.add(URL)
    with pytest.raises(Conflict):
        hooks.add(URL)

import datetime as dt

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from proxy.billing import payees
from proxy.billing.payees import TaxProfile
from proxy.billing.payees_store import Payees, payees_on
from proxy.billing.statements import Books
from proxy.errors import BadRequest, Conflict, NotFound, Problem
from tests.fakes import FrozenClock
from tests.proxy.billing.conftest import register

IBAN = "DE89370400440532013000"
DAY = dt.date(2026, 11, 23)
ADA = payees.account("sepa", IBAN, holder="Ada Sandmark", country_code="DE")


@pytest.fixture
def kept(engine):
    register(engine, Books({}, {"c_a": "Ada", "c_b": "Bo"}, {}, {}))
    return Payees(engine, clock=FrozenClock(), key=lambda: bytes(32), by="ada")


def test_an_account_is_kept_sealed_and_shown_by_its_last_four(engine, kept):
    known = kept.enter("c_a", ADA, minimum_grains=5, currency="EUR")
    assert (known.version, known.last4, known.by) == (1, "3000", "ada")
    with engine.connect() as connection:
        row = connection.execute(sa.select(SQLModel.metadata.tables["payee_account"])).one()
    assert IBAN[-10:-4].encode() not in repr(tuple(row)).encode()
    assert "Sandmark" not in repr(tuple(row))
    assert kept.unsealed([("c_a", 1)]) == {"c_a": ADA}


def test_entering_the_same_again_writes_nothing_and_another_is_another_version(kept):
    kept.enter("c_a", ADA, minimum_grains=5, currency="EUR")
    assert kept.enter("c_a", ADA, minimum_grains=5, currency="EUR").version == 1
    assert kept.enter("c_a", ADA, minimum_grains=6, currency="EUR").version == 2
    moved = payees.account("stripe", "acct_1Kabcdefgh", holder="Ada", country_code="DE")
    assert kept.enter("c_a", moved, minimum_grains=6, currency="EUR").version == 3
    assert [one.version for one in kept.known("c_a")] == [1, 2, 3]
    assert kept.unsealed([("c_a", 1)]) == {"c_a": ADA}, "what a batch was approved for can still be read"


def test_what_a_creator_enters_is_checked_by_somebody_else_before_it_is_paid(engine, kept):
    def seen():
        with engine.connect() as connection:
            return payees_on(connection, {"c_a"}, DAY, "EUR")["c_a"].verified

    entered = kept.enter("c_a", ADA, minimum_grains=0, currency="EUR", verified=False)
    assert (entered.verified_by, seen()) == ("", False)
    assert kept.verify("c_a", 1)
    assert not kept.verify("c_a", 1)
    assert seen()
    assert kept.enter("c_a", ADA, minimum_grains=9, currency="EUR", verified=False).verified_by == "ada"
    assert seen(), "another minimum is the same account"
    moved = payees.account("sepa", IBAN, holder="Somebody Else", country_code="DE")
    kept.enter("c_a", moved, minimum_grains=9, currency="EUR", verified=False)
    assert not seen()
    with pytest.raises(Conflict) as refused:
        kept.verify("c_a", 2)
    assert refused.value.code == "payee_version"
    assert kept.enter("c_a", moved, minimum_grains=9, currency="EUR").version == 3, (
        "an operator enters it too"
    )
    assert seen()
    assert [bool(one.verified_by) for one in kept.known("c_a")] == [True, True, True]
    with pytest.raises(Conflict, match="no account"):
        kept.verify("c_b", 1)


def test_an_account_is_not_changed_without_end(kept, monkeypatch):
    monkeypatch.setattr("proxy.billing.payees_store.VERSIONS_MAX", 2)
    for minimum in (1, 2):
        kept.enter("c_a", ADA, minimum_grains=minimum, currency="EUR")
    assert kept.enter("c_a", ADA, minimum_grains=2, currency="EUR").version == 2
    with pytest.raises(Conflict) as refused:
        kept.enter("c_a", ADA, minimum_grains=3, currency="EUR")
    assert refused.value.code == "payee_versions"


def test_of_any_version_it_is_known_who_entered_and_who_checked_it(kept):
    kept.enter("c_a", ADA, minimum_grains=1, currency="EUR", verified=False)
    kept.enter("c_a", ADA, minimum_grains=2, currency="EUR")
    (first,) = kept.of_versions([("c_a", 1), ("c_b", 1)]).values()
    assert (first.version, first.by, first.verified_by) == (1, "ada", "")
    assert kept.of_versions([("c_a", 2)])["c_a"].verified_by == "ada"
    assert kept.of_versions([]) == {}


def test_another_key_opens_nothing(engine, kept):
    kept.enter("c_a", ADA, minimum_grains=0, currency="EUR")
    other = Payees(engine, clock=FrozenClock(), key=lambda: bytes([1] * 32))
    with pytest.raises(Problem, match=r"payees\.key"):
        other.unsealed([("c_a", 1)])


def test_a_plan_sees_the_newest_of_everything(engine, kept):
    kept.enter("c_a", ADA, minimum_grains=5, currency="EUR")
    kept.declare("c_a", TaxProfile("W8BEN", "DE", None, dt.date(2026, 1, 1)))
    kept.hold("c_a", "A letter came back.", held=True)
    with engine.connect() as connection:
        seen = payees_on(connection, {"c_a", "c_b"}, DAY, "EUR")
        assert list(seen) == ["c_a"]
        assert (seen["c_a"].minimum_grains, seen["c_a"].hold) == (5, "A letter came back.")
        assert seen["c_a"].tax.form == "W8BEN"
        assert payees_on(connection, {"c_a"}, dt.date(2025, 1, 1), "USD")["c_a"].tax is None
        assert payees_on(connection, {"c_a"}, DAY, "USD")["c_a"].minimum_grains == 0


def test_holding_twice_is_holding_once_and_it_ends(kept):
    assert not kept.hold("c_a", "Never held.", held=False)
    assert kept.hold("c_a", "A letter came back.", held=True)
    assert not kept.hold("c_a", "Again.", held=True)
    assert kept.held("c_a") == "A letter came back."
    assert kept.hold("c_a", "She wrote.", held=False)
    assert kept.held("c_a") == ""


def test_profiles_are_kept_in_the_order_they_came_and_overlaps_are_refused(kept):
    first = TaxProfile("W8BEN", "DE", 50_000, dt.date(2026, 1, 1), dt.date(2026, 6, 1))
    assert kept.declare("c_a", first)
    assert not kept.declare("c_a", first)
    with pytest.raises(BadRequest):
        kept.declare("c_a", TaxProfile("W9", "US", None, dt.date(2026, 5, 1)))
    assert kept.tax_profiles("c_a") == [first]


def test_nobody_is_paid_who_is_not_registered(kept):
    with pytest.raises(NotFound):
        kept.enter("c_z", ADA, minimum_grains=0, currency="EUR")
    with pytest.raises(NotFound):
        kept.declare("c_z", TaxProfile("W9", "US", None, DAY))
    with pytest.raises(NotFound):
        kept.hold("c_z", "Why not.", held=True)


@pytest.mark.parametrize("table", ["payee_account", "tax_profile", "payee_hold", "payee_verified"])
def test_what_was_entered_cannot_be_changed(engine, kept, table):
    kept.enter("c_a", ADA, minimum_grains=5, currency="EUR")
    kept.declare("c_a", TaxProfile("W8BEN", "DE", None, DAY))
    kept.hold("c_a", "Why.", held=True)
    for change in ("UPDATE {} SET at_us = 0", "DELETE FROM {}"):
        with engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
            connection.execute(sa.text(change.format(table)))

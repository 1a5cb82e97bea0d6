"""What creators declare for tax themselves: it waits, and nothing is withheld otherwise before it is accepted."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from proxy.billing.declarations_store import VERSIONS_MAX, WHY, Declarations
from proxy.billing.payees import TaxProfile
from proxy.billing.payees_store import Payees
from proxy.errors import BadRequest, Conflict
from tests.books import Bookkeeping

FORM = TaxProfile("W8BEN", "DE", 150_000, dt.date(2026, 11, 1))
LATER = TaxProfile("W8BEN", "DE", None, dt.date(2026, 12, 1))


class There:
    def __init__(self, engine):
        self.engine, self.clock = engine, Bookkeeping(engine).clock
        self.ada, self.ines = (Declarations(engine, clock=self.clock, by=who) for who in ("c_0", "Ines"))

    def profiles(self, who="c_0"):  # behind the one that all of the books have
        return Payees(self.engine, clock=self.clock, key=lambda: bytes(32)).tax_profiles(who)[1:]


@pytest.fixture
def there(engine):
    return There(engine)


def test_what_is_given_waits_and_holds_once_it_is_accepted(there):
    assert there.ada.last("c_0") is None
    assert there.ada.give("c_0", FORM)
    assert not there.ada.give("c_0", FORM)
    given = there.ada.last("c_0")
    assert (given.state, given.profile, given.by) == ("given", FORM, "c_0")
    assert there.ines.waiting() == [given]
    assert there.profiles() == []
    assert there.ines.check("c_0", given.version)
    assert not there.ines.check("c_0", given.version)
    assert there.profiles() == [FORM]
    assert there.ines.waiting() == []
    assert (there.ada.last("c_0").state, there.ada.last("c_0").by) == ("accepted", "Ines")
    assert not there.ada.give("c_0", FORM), "it holds already"


def test_what_is_refused_is_told_why_and_may_be_given_again(there):
    there.ada.give("c_0", FORM)
    assert there.ines.check("c_0", 1, why="unsigned")
    assert not there.ines.check("c_0", 1, why="unsigned")
    refused = there.ada.last("c_0")
    assert (refused.state, refused.why, there.profiles()) == ("refused", "unsigned", [])
    for why in ("", "expired"):
        with pytest.raises(Conflict):
            there.ines.check("c_0", 1, why=why)
    with pytest.raises(BadRequest, match="unsigned"):
        there.ines.check("c_0", 1, why="I do not like it")
    assert there.ada.give("c_0", FORM)
    assert there.ines.check("c_0", 3)
    assert there.profiles() == [FORM]


def test_what_was_checked_is_what_holds_and_nothing_that_came_meanwhile(there):
    there.ada.give("c_0", FORM)
    there.ada.give("c_0", LATER)
    with pytest.raises(Conflict):
        there.ines.check("c_0", 1)
    with pytest.raises(Conflict):
        there.ines.check("c_1", 1)
    assert there.ines.check("c_0", 2)
    assert there.profiles() == [LATER]


def test_nobody_declares_days_of_which_another_form_speaks_nor_without_end(there):
    ended = TaxProfile("W9", "US", None, dt.date(2026, 1, 1), dt.date(2026, 11, 20))
    Payees(there.engine, clock=there.clock, key=lambda: bytes(32)).declare("c_0", ended)
    with pytest.raises(BadRequest, match="of some of these days"):
        there.ada.give("c_0", FORM)
    for number in range(VERSIONS_MAX):
        day = dt.date(2026, 12, 1) + dt.timedelta(number)
        assert there.ada.give("c_0", TaxProfile("W9", "US", None, day))
    with pytest.raises(Conflict, match="times"):
        there.ada.give("c_0", LATER)


def test_what_waits_comes_a_page_at_a_time(there):
    for who in ("c_2", "c_0", "c_1"):
        Declarations(there.engine, clock=there.clock, by=who).give(who, FORM)
    assert [one.creator for one in there.ines.waiting(limit=2)] == ["c_0", "c_1"]
    assert [one.creator for one in there.ines.waiting(after="c_1")] == ["c_2"]


def test_what_was_declared_is_kept_as_it_was(there):
    there.ada.give("c_0", FORM)
    for statement in ("UPDATE tax_declaration SET state = 'accepted'", "DELETE FROM tax_declaration"):
        with pytest.raises(sa.exc.IntegrityError), there.engine.begin() as connection:
            connection.execute(sa.text(statement))
    assert all(why and not why.endswith(".") for why in WHY.values())

import pytest

from proxy.billing.floors_store import AskedTerms, asked, asked_terms
from proxy.errors import BadRequest, NotFound
from tests.fakes import FrozenClock


@pytest.fixture
def desk(engine, make, into_store):
    into_store.register(engine, make(count=0, works=3, creators=4).books)
    return AskedTerms(engine, clock=FrozenClock(), by="ada", currency="USD")


def owner(make, work):
    return make(count=0, works=3, creators=4).books.splits[work].parties[0][0]


def test_a_work_asks_from_the_registrys_next_number_on(engine, desk):
    first = desk.ask("work", "w_00001", "floor", "0.02", why="our house rule")
    ended = desk.ask("work", "w_00001", "floor", "none")
    assert (first.seq, ended.seq) == (2, 3)
    known = asked(engine, "USD", 3)
    assert [known.floor("w_00001", seq) for seq in (1, 2, 3)] == [0, 20_000_000, 0]
    assert asked(engine, "USD", 1).floor("w_00001", 2) == 0, "what came after a number is not known at it"
    assert asked_terms(engine, "w_00001") == [first, ended]
    assert asked_terms(engine, "w_00002") == []


def test_what_a_creator_asks_holds_for_all_their_works(engine, desk, make):
    creator = owner(make, "w_00001")
    desk.ask("creator", creator, "floor", "0.02")
    known = asked(engine, "USD", 9)
    assert known.floor("w_00001", 2) == 20_000_000
    assert set(known.owners.values()) == {creator}


def test_whose_works_are_is_known_of_creators_that_a_rate_names(engine, desk, make):
    creator = owner(make, "w_00002")
    assert asked(engine, "USD", 9).owners == {}
    assert asked(engine, "USD", 9, frozenset({creator})).owners["w_00002"] == creator


def test_rates_are_asked_in_a_currency_and_limits_in_words(engine, desk):
    desk.ask("work", "w_00001", "rate", "0.004")
    limit = desk.ask("work", "w_00001", "excerpt_words", "50")
    assert (limit.value, limit.currency) == (50, "")
    assert asked(engine, "USD", 9).rate("w_00001", 9) == 4_000_000
    assert asked(engine, "EUR", 9).rate("w_00001", 9) is None


def test_nobody_asks_for_what_is_not_there(desk):
    with pytest.raises(NotFound):
        desk.ask("work", "w_9", "floor", "1")
    with pytest.raises(NotFound):
        desk.ask("creator", "c_9", "floor", "1")
    with pytest.raises(BadRequest):
        desk.ask("work", "w_00001", "floor", "a lot")


def test_a_limit_of_quotation_reaches_the_servers_view_of_each_work(engine, desk, make):
    from proxy.catalogue.store import Catalogue
    from tests.fakes import CountingIds

    creator = owner(make, "w_00001")
    catalogue = Catalogue(engine, clock=FrozenClock(), ids=CountingIds())
    seen = [catalogue.snapshot()]

    def limit(work):
        seen.append(catalogue.snapshot(seen[-1]))
        return seen[-1].credit(work).excerpt_words

    assert limit("w_00001") is None
    desk.ask("creator", creator, "excerpt_words", "100")
    assert limit("w_00001") == 100
    desk.ask("work", "w_00001", "excerpt_words", "25")
    assert limit("w_00001") == 25
    desk.ask("work", "w_00001", "excerpt_words", "none")
    assert limit("w_00001") == 100
    desk.ask("creator", creator, "excerpt_words", "none")
    assert limit("w_00001") is None
    assert catalogue.snapshot().works == seen[-1].works

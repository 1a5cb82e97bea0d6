"""Splits in the store: in force when everybody has agreed, and by nobody's word alone."""

from __future__ import annotations

import pytest

from proxy.catalogue.agreements import DAY_US, DAYS_TO_ANSWER, split_in
from proxy.catalogue.agreements_store import Agreements
from proxy.catalogue.shelf_store import changes, split_of
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork, Part, Split, whole
from proxy.errors import BadRequest, Conflict, NotFound
from tests.fakes import CountingIds, FrozenClock
from tests.stores import lay

THIRDS = split_in([("ada", "50"), ("bo", "30"), ("cy", "20")])


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    from proxy.database import open_engine

    url = f"sqlite:///{tmp_path / 'splits.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


class People:
    """Ada with a work, Bo and Cy with one of their own each, and Eve."""

    def __init__(self, store):
        self.engine, self.clock, self.ids = store, FrozenClock(), CountingIds()
        self.catalogue = Catalogue(store, clock=self.clock, ids=self.ids)
        rows = [
            NewWork(f"{who}-1", who, f"Song of {who}", f"a text of {who}")
            for who in ("ada", "bo", "cy", "eve")
        ]
        self.work, *_ = (one.work_id for one in self.catalogue.add_works(rows))

    def __getattr__(self, who):
        creator = self.catalogue.creator(who).id
        return Agreements(self.engine, clock=self.clock, ids=self.ids, creator=creator)

    def parts(self):
        return [(name, ppm) for _, name, ppm in split_of(self.engine, self.work)]


@pytest.fixture
def people(store):
    return People(store)


def test_operators_see_whose_word_is_waited_for_and_nothing_that_is_over(people):
    operator = Agreements(people.engine, clock=people.clock, ids=people.ids, creator="")
    assert operator.waiting() == []
    made = people.ada.propose(people.work, THIRDS)
    people.bo.answer(made.proposal.id, agree=True)
    (waits,) = operator.waiting()
    assert operator.named(waits.proposal.waits_for)[waits.proposal.waits_for[0]].ref == "cy"
    people.clock.advance(DAYS_TO_ANSWER * DAY_US / 1e6)
    assert operator.waiting() == []
    again = people.ada.propose(people.work, THIRDS)
    people.cy.answer(again.proposal.id, agree=False, reason="No.")
    assert operator.waiting() == []


def test_a_split_is_in_force_when_the_last_who_is_asked_has_agreed(people):
    made = people.ada.propose(people.work, THIRDS, "As we said in the studio.")
    assert (made.state, made.title, len(made.proposal.asked)) == ("open", "Song of ada", 2)
    assert people.parts() == []
    assert people.bo.answer(made.proposal.id, agree=True).state == "open"
    assert people.bo.answer(made.proposal.id, agree=True).state == "open"
    assert people.parts() == []
    assert people.cy.answer(made.proposal.id, agree=True).state == "agreed"
    assert people.parts() == [("ada", 500_000), ("bo", 300_000), ("cy", 200_000)]
    found = people.bo.of_work(people.work)
    assert [part.ppm for part in found.now.parts] == [500_000, 300_000, 200_000]
    assert [(one.version, one.by) for one in found.versions] == [(1, people.catalogue.creator("cy").id)]
    assert [one.state for one in found.proposals] == ["agreed"]
    assert {one.ref for one in people.bo.named(found.people()).values()} == {"ada", "bo", "cy"}
    told = [one.kind for one in changes(people.engine, 0, 10)]
    assert told[:4] == ["split_set", "split_agreed", "split_agreed", "split_proposed"]


def test_whoever_would_lose_a_part_is_asked_too_and_one_refusal_ends_it(people):
    people.catalogue.set_split(people.work, THIRDS)
    made = people.cy.propose(people.work, split_in([("ada", "60"), ("cy", "40")]))
    people.ada.answer(made.proposal.id, agree=True)
    with pytest.raises(BadRequest, match="reason is empty"):
        people.bo.answer(made.proposal.id, agree=False)
    refused = people.bo.answer(made.proposal.id, agree=False, reason="I played the bass.")
    assert (refused.state, refused.proposal.answers[-1].reason) == ("refused", "I played the bass.")
    assert people.parts()[1] == ("bo", 300_000)
    with pytest.raises(Conflict, match="answered it already"):
        people.ada.answer(made.proposal.id, agree=False, reason="No.")


def test_who_is_alone_with_a_work_may_leave_a_part_to_nobody_yet_at_once(people):
    made = people.ada.propose(people.work, Split((Part("ada", 700_000), Part("~unclaimed", 300_000))))
    assert made.state == "agreed"
    assert people.parts()[0] == ("ada", 700_000)
    with pytest.raises(BadRequest, match="in force"):
        people.ada.propose(people.work, Split((Part("ada", 700_000), Part("~unclaimed", 300_000))))


def test_nobody_sees_or_answers_what_they_have_no_part_in(people):
    made = people.ada.propose(people.work, THIRDS)
    for ask in (
        lambda: people.eve.proposal(made.proposal.id),
        lambda: people.eve.answer(made.proposal.id, agree=True),
        lambda: people.ada.answer(made.proposal.id, agree=True),
        lambda: people.bo.withdraw(made.proposal.id),
        lambda: people.eve.propose(people.work, whole("eve")),
        lambda: people.bo.of_work(people.work),
        lambda: people.bo.proposal("spl_none"),
    ):
        with pytest.raises(NotFound):
            ask()
    assert [one.proposal.id for one in people.bo.mine(open_only=True)] == [made.proposal.id]
    assert people.eve.mine() == []
    with pytest.raises(BadRequest, match="nobody here goes by 'dave'"):
        people.ada.propose(people.work, split_in([("ada", "50"), ("dave", "50")]))


def test_one_proposal_waits_at_a_time_and_whoever_made_it_takes_it_back(people):
    made = people.ada.propose(people.work, THIRDS)
    with pytest.raises(Conflict, match="proposed for this work already"):
        people.ada.propose(people.work, split_in([("ada", "90"), ("bo", "10")]))
    assert people.ada.withdraw(made.proposal.id).state == "withdrawn"
    assert people.ada.withdraw(made.proposal.id).state == "withdrawn"
    with pytest.raises(Conflict, match="withdrawn"):
        people.bo.answer(made.proposal.id, agree=True)
    assert people.ada.propose(people.work, split_in([("ada", "90"), ("bo", "10")])).state == "open"


def test_a_proposal_ends_with_its_clock_or_when_another_split_comes_into_force(people):
    made = people.ada.propose(people.work, THIRDS)
    people.clock.advance(DAYS_TO_ANSWER * DAY_US / 1e6)
    with pytest.raises(Conflict, match="expired"):
        people.bo.answer(made.proposal.id, agree=True)
    again = people.ada.propose(people.work, THIRDS)
    people.catalogue.set_split(people.work, split_in([("ada", "10"), ("bo", "90")]))
    with pytest.raises(Conflict, match="outdated"):
        people.bo.answer(again.proposal.id, agree=True)

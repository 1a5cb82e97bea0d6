"""Appeals: said by whose work it is, one at a time, and answered by the next decision."""

from __future__ import annotations

import pytest

from proxy.catalogue.appeals_store import DAY_US, appeal, appeals_among
from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork
from proxy.errors import BadRequest, Conflict, NotFound
from tests.fakes import CountingIds, FrozenClock
from tests.stores import engine, store_url  # noqa: F401  fixtures are asked by name


@pytest.fixture
def there(engine):  # noqa: F811
    clock, ids = FrozenClock(), CountingIds()
    catalogue = Catalogue(engine, clock=clock, ids=ids)
    rows = [NewWork(f"{who}-1", who, f"Song of {who}", f"a text of {who}") for who in ("ada", "bo")]
    hers, his = (one.work_id for one in catalogue.add_works(rows))
    desk = Ownership(engine, clock=clock, ids=ids)
    desk.record_held([Held(hers, "copy", "Most of it stands in an older work.", his, 820_000)])
    ada = catalogue.creator("ada").id

    def say(words="I sang it in 1999.", work=hers, creator=ada):
        return appeal(engine, work, words, clock=clock, creator=creator, answer_days=30)

    return engine, clock, desk, hers, his, say


def test_an_appeal_has_a_clock_and_the_next_decision_answers_it(there):
    engine, clock, desk, hers, _, say = there  # noqa: F811
    desk.review(hers, "upheld", "It looks like a copy.")
    made = say()
    assert (made.outcome, made.due_us) == ("", clock.now_us() + 30 * DAY_US)
    assert not made.is_overdue(clock.now_us())
    assert made.is_overdue(made.due_us)
    with pytest.raises(Conflict, match="waits already"):
        say("Again.")
    assert desk.review(hers, "upheld", "The other one is from 1980.")
    (answered,) = appeals_among(engine, [hers]).values()
    assert (answered.outcome, answered.said) == ("upheld", "The other one is from 1980.")
    assert say("I wrote that one too.").outcome == ""
    desk.review(hers, "released", "You did.")
    assert appeals_among(engine, [hers])[hers].outcome == "released"
    with pytest.raises(Conflict, match="nothing holds"):
        say()


def test_nobody_appeals_for_another_or_for_what_is_not_held_or_without_a_word(there):
    engine, _, _, hers, his, say = there  # noqa: F811
    for work, creator in ((hers, "c_bo"), (his, "c_ada"), ("w_none", "c_ada")):
        with pytest.raises(NotFound):
            say(work=work, creator=creator)
    with pytest.raises(BadRequest):
        say("  ")
    assert appeals_among(engine, [hers, his]) == {}

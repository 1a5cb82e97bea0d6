"""Links in the store: who may state and end them, and that each is a change of the registry."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from proxy.catalogue.erasing_store import erase_work
from proxy.catalogue.linking import LINKS_MAX
from proxy.catalogue.linking_store import Links, said
from proxy.catalogue.shelf_store import changes
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Link, NewWork
from proxy.errors import BadRequest, Conflict, NotFound
from proxy.receipts import history_store
from tests.fakes import CountingIds, FrozenClock
from tests.stores import lay

SONG = "a song that is sung in the choir"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def there(request, tmp_path):
    """Give Ada's song and book, Bo's book, and who states links of them."""
    from proxy.database import open_engine

    url = f"sqlite:///{tmp_path / 'links.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    engine = open_engine(url)
    yield There(engine)
    engine.dispose()


class There:
    def __init__(self, engine):
        self.engine, self.clock = engine, FrozenClock()
        self.catalogue = Catalogue(engine, clock=self.clock, ids=CountingIds())
        rows = [NewWork("song", "ada", "Song", SONG), NewWork("book", "ada", "Book", SONG * 9),
                NewWork("buch", "bo", "Buch", SONG)]  # fmt: skip
        self.song, self.book, self.buch = (one.work_id for one in self.catalogue.add_works(rows))

    def by(self, who):
        creator = self.catalogue.creator(who).id if who else ""
        return Links(self.engine, clock=self.clock, creator=creator, by="Ines")

    def kinds(self):
        return [one.kind for one in changes(self.engine, 0, 100)]


def test_a_link_stands_in_the_registrys_history_and_its_end_too(there):
    ada = there.by("ada")
    assert ada.state(there.song, "excerpt_of", there.book)
    assert not ada.state(there.song, "excerpt_of", there.book)
    (stated,) = ada.of(there.song)
    assert (stated.kind, stated.of, stated.by) == (
        "excerpt_of",
        there.book,
        there.catalogue.creator("ada").id,
    )
    assert ada.to(there.book) == [stated]
    assert ada.all() == {there.song: (Link("excerpt_of", there.book),)}
    change = history_store.changes_of(there.engine, there.song)[-1]
    assert (change.seq, change.kind) == (stated.seq, "link_stated")
    assert history_store.said_of(there.engine, change) == said(Link("excerpt_of", there.book))
    assert ada.state(there.song, "translation_of", there.book)  # takes the other's place
    assert [one.kind for one in ada.of(there.song)] == ["translation_of"]
    assert ada.end(there.song, there.book)
    assert not ada.end(there.song, there.book)
    assert ada.of(there.song) == ada.to(there.book) == []
    assert there.kinds()[:3] == ["link_ended", "link_stated", "link_stated"]
    ended = history_store.changes_of(there.engine, there.song)[-1]
    assert history_store.said_of(there.engine, ended) == said(Link("translation_of", there.book))


def test_who_has_a_work_says_what_it_is_and_who_has_the_other_may_end_it(there):
    ada, bo, operator = there.by("ada"), there.by("bo"), there.by("")
    for links, work in ((bo, there.song), (ada, there.buch), (ada, "w_none")):
        with pytest.raises(NotFound):
            links.state(work, "translation_of", there.book)
    assert bo.state(there.buch, "translation_of", there.book)
    with pytest.raises(NotFound):
        bo.end(there.song, there.book)
    assert ada.end(there.buch, there.book)
    with pytest.raises(Conflict, match="somebody else"):
        bo.state(there.buch, "excerpt_of", there.book)
    assert operator.state(there.buch, "translation_of", there.book)
    assert ada.to(there.book)[0].by == "Ines"
    assert bo.end(there.buch, there.book)
    assert bo.state(there.buch, "translation_of", there.book)


def test_what_cannot_be_so_is_refused_and_leaves_nothing(there):
    ada = there.by("ada")
    ada.state(there.song, "recording_of", there.buch)
    before = there.kinds()
    for work, kind, of in (
        (there.song, "excerpt_of", there.song),
        (there.buch, "recording_of", there.song),
        (there.book, "excerpt_of", there.song),
        (there.book, "recording_of", there.song),
    ):
        with pytest.raises(BadRequest):
            there.by("").state(work, kind, of)
    for of in ("w_none", "buch"):
        with pytest.raises(NotFound):
            ada.state(there.book, "translation_of", of)
    erase_work(there.engine, there.buch, clock=there.clock)
    with pytest.raises(NotFound):
        ada.state(there.book, "translation_of", there.buch)
    assert there.kinds()[1:] == before


def test_a_list_states_links_to_what_stands_above_or_is_there(there):
    rows = [
        NewWork("tape", "bo", "Tape", "the tape", links=(Link("recording_of", "song"),)),
        NewWork("part", "bo", "Part", "the", links=(Link("excerpt_of", "tape"),)),
        NewWork("dub", "bo", "Dub", "the dub", links=(Link("recording_of", "tape"),)),
        NewWork("whole", "bo", "Whole", "the whole tape", links=(Link("excerpt_of", "tape"),)),
    ]
    tape, part, *refused = there.catalogue.add_works(rows)
    assert [one.status for one in refused] == ["refused"] * 2
    assert there.by("").all() == {
        tape.work_id: (Link("recording_of", there.song),),
        part.work_id: (Link("excerpt_of", tape.work_id),),
    }
    assert there.kinds()[:2] == ["link_stated"] * 2
    assert [one.status for one in there.catalogue.add_works(rows[:1])] == ["unchanged"]
    assert there.kinds().count("link_stated") == 2


def test_a_work_has_so_many_links_and_goes_back_so_far(there, monkeypatch):
    rows = [NewWork(f"n{number}", "ada", "N", f"number {number}") for number in range(LINKS_MAX + 1)]
    *parts, last = (one.work_id for one in there.catalogue.add_works(rows))
    ada = there.by("ada")
    for part in parts:
        assert ada.state(there.book, "translation_of", part)
    with pytest.raises(BadRequest, match="the most"):
        ada.state(there.book, "translation_of", last)
    monkeypatch.setattr("proxy.catalogue.linking_store.LINEAGE_MAX", 10)
    with pytest.raises(BadRequest, match="more than 10"):
        ada.state(there.song, "translation_of", there.book)


def test_links_are_only_ever_added(there):
    there.by("ada").state(there.song, "excerpt_of", there.book)
    for statement in ("UPDATE work_link SET kind = 'recording_of'", "DELETE FROM work_link"):
        with pytest.raises(sa.exc.IntegrityError), there.engine.begin() as connection:
            connection.execute(sa.text(statement))


def test_a_link_changes_nothing_of_what_is_recognised_credited_or_paid(there):
    def weighed():
        seen = there.catalogue.snapshot().works, there.catalogue.splits_as_of(there.catalogue.seq())
        return *seen, list(there.catalogue.texts())

    before = weighed()
    assert there.by("ada").state(there.song, "excerpt_of", there.book)
    assert there.by("bo").state(there.buch, "translation_of", there.book)
    assert weighed() == before

"""Licences in the store: what follows for each work's consents, at once and with the registry's number."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.catalogue.licences_store import Licences
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Consent, Use
from proxy.errors import BadRequest, NotFound
from tests.fakes import CountingIds, FrozenClock

FILES = Path(__file__).parent / "signals"
DENIES = b"User-agent: *\nContent-Signal: ai-input=no\n"
ALLOWS = b"User-agent: *\nContent-Signal: ai-input=yes\n"
INFLUENCE = Use.OUTPUT_INFLUENCE


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, new_work):
    engine = request.getfixturevalue("engine" if request.param == "sqlite" else "postgres_engine")
    clock, ids = FrozenClock(), CountingIds()
    return Store(Catalogue(engine, clock=clock, ids=ids), Licences(engine, clock=clock, ids=ids), new_work)


class Store:
    def __init__(self, catalogue, licences, new_work):
        self.catalogue, self.licences, self.new_work = catalogue, licences, new_work

    def add(self, ref, **more):
        (outcome,) = self.catalogue.add_works([self.new_work(ref, **more)])
        return outcome.work_id

    def creator(self):
        return self.catalogue.creator("ada").id

    def verdict(self, work_id):
        return self.catalogue.find_work(work_id).verdict

    def given(self, work_id, use=INFLUENCE):
        return [consent.verdict for consent in self.catalogue.consents(work_id) if consent.use is use]


def test_a_signal_for_a_creator_concerns_all_their_works_and_those_of_nobody_else(store):
    mine, other = store.add("lamp"), store.add("tide", creator="bo")
    changed = store.licences.import_file(DENIES, "creator", store.creator())
    assert (store.verdict(mine), store.verdict(other)) == ("prohibited", "paid")
    assert changed.consents == len({"ground", "output_influence"})
    assert changed.added[0].seq < store.catalogue.consents(mine)[-1].seq


def test_works_that_come_later_are_judged_too(store):
    store.add("lamp")
    store.licences.import_file(DENIES, "creator", store.creator())
    later = store.add("wick")
    assert store.verdict(later) == "paid"
    store.licences.judge_all()
    assert store.verdict(later) == "prohibited"
    assert store.licences.judge_all() == 0


def test_the_same_file_again_changes_nothing_and_a_newer_one_ends_it(store):
    work = store.add("lamp")
    first = store.licences.import_file(DENIES, "creator", store.creator())
    assert store.licences.import_file(DENIES, "creator", store.creator()).added == ()
    second = store.licences.import_file(ALLOWS, "creator", store.creator())
    assert second.ended == (first.added[0].id,)
    assert store.verdict(work) == "paid"


def test_files_of_different_kinds_stand_beside_each_other_and_any_denial_wins(store):
    work = store.add("lamp")
    store.licences.import_file(DENIES, "work", work)
    store.licences.import_file(b'{"entries": {"cawg.ai_inference": {"use": "allowed"}}}', "work", work)
    assert store.verdict(work) == "prohibited"


def test_a_revoked_signal_leaves_what_was_before_it(store):
    work = store.add("lamp", consent="free")
    added = store.licences.import_file(DENIES, "work", work).added[0]
    assert store.verdict(work) == "prohibited"
    store.licences.revoke(added.id, "sent in error")
    assert store.verdict(work) == "free"
    assert store.licences.revoke(added.id, "again").consents == 0
    assert [one.ended for one in store.licences.of(work)] == ["sent in error"]


def test_a_registrant_who_said_no_is_not_overruled_by_a_signal(store):
    work = store.add("lamp", consent="denied")
    store.licences.import_file(ALLOWS, "work", work)
    assert store.verdict(work) == "prohibited"


def test_what_a_person_has_decided_for_a_work_stands(store):
    work = store.add("lamp")
    store.catalogue.set_consent(work, Consent.of("output_influence", "paid"))
    store.licences.import_file(DENIES, "creator", store.creator())
    assert store.verdict(work) == "paid"
    assert store.given(work, Use.GROUND) == ["denied"]


def test_a_contract_holds_before_signals_until_it_is_revoked(store):
    work = store.add("lamp")
    store.licences.import_file(DENIES, "creator", store.creator())
    added = store.licences.contract("work", work, INFLUENCE, "allow", "letter of 3 May").added[0]
    assert store.verdict(work) == "paid"
    assert store.licences.contract("work", work, INFLUENCE, "allow", "letter of 3 May").added == ()
    assert store.licences.one(added.id) == added
    store.licences.revoke(added.id, "ran out")
    assert store.verdict(work) == "prohibited"


def test_a_file_of_many_contents_is_held_against_the_work_s_address_and_the_closest_rule_holds(store):
    letters = store.add("letters", url="https://lamplighters.example/letters/7")
    essays = store.add("essays", url="https://lamplighters.example/essays/7")
    elsewhere = store.add("elsewhere", url="https://other.example/letters/7")
    nowhere = store.add("nowhere")
    store.licences.import_file((FILES / "licence.rsl.xml").read_bytes(), "creator", store.creator())
    assert [store.verdict(work) for work in (letters, essays, elsewhere, nowhere)] == [
        "prohibited",
        "prohibited",  # a price is asked for that nobody has agreed to yet
        "paid",
        "paid",
    ]
    assert store.given(essays, Use.TRAIN_GEN) == ["denied"]  # permitted to schools only, and we are none
    store.licences.contract("work", essays, INFLUENCE, "allow", "0.002 EUR a use, agreed on 3 May")
    assert store.verdict(essays) == "paid"
    assert store.given(nowhere) == []


def test_the_closer_rule_of_a_robots_file_holds_for_its_paths(store):
    open_ = store.add("open", url="https://lamplighters.example/open/1")
    shut = store.add("shut", url="https://lamplighters.example/shut/1")
    store.licences.import_file((FILES / "robots-aipref.txt").read_bytes(), "creator", store.creator())
    assert store.given(open_, Use.TRAIN_GEN) == ["paid"]
    assert store.given(shut, Use.TRAIN_GEN) == ["denied"]


def test_a_file_with_one_signal_for_one_work_is_about_that_work(store):
    work = store.add("lamp")
    raw = b'[{"location": "/somewhere/else", "tdm-reservation": 1}]'
    store.licences.import_file(raw, "work", work)
    assert store.given(work, Use.TRAIN_GEN) == ["denied"]


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir()))
def test_every_file_is_given_back_as_it_came(store, name):
    work, raw = store.add("lamp"), (FILES / name).read_bytes()
    added = store.licences.import_file(raw, "work", work, origin="https://lamplighters.example/x").added
    assert store.licences.file(added[0].file_sha256) == raw
    assert store.licences.of(work)[0] == added[0]


def test_what_says_nothing_leaves_nothing_behind(store):
    work = store.add("lamp")
    with pytest.raises(BadRequest):
        store.licences.import_file(b"User-agent: *\n", "work", work)
    assert store.licences.of(work) == []
    with pytest.raises(NotFound):
        store.licences.revoke("lic_x", "never was")
    with pytest.raises(NotFound):
        store.licences.file("0" * 64)

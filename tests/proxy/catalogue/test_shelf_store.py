"""What a creator sees beside their works: how many, whose parts, and what is held up."""

from __future__ import annotations

from proxy.catalogue.ownership import Held
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.shelf_store import count_works, held_among, split_of
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import NewWork, Part, Split


def test_works_are_counted_by_whose_they_are_now(engine, clock, ids):
    catalogue = Catalogue(engine, clock=clock, ids=ids)
    works = [NewWork(str(n), who, "Song", f"text {n} of {who}") for n, who in enumerate(("ada", "ada", "bo"))]
    made = [one.work_id for one in catalogue.add_works(works)]
    ada, bo = catalogue.creator("ada").id, catalogue.creator("bo").id
    assert (count_works(engine, ada), count_works(engine, bo), count_works(engine, "c_nobody")) == (2, 1, 0)
    ownership = Ownership(engine, clock=clock, ids=ids)
    claim = ownership.open_claim(made[0], "bo", "It is his.")
    ownership.decide_claim(claim.id, "upheld", "It was.")
    assert (count_works(engine, ada), count_works(engine, bo)) == (1, 2)


def test_what_is_held_is_told_with_its_reason_and_what_a_person_said(engine, clock, ids):
    catalogue = Catalogue(engine, clock=clock, ids=ids)
    works = [NewWork(str(n), "ada", "Song", f"text {n}") for n in range(3)]
    one, two, three = (made.work_id for made in catalogue.add_works(works))
    ownership = Ownership(engine, clock=clock, ids=ids)
    ownership.record_held([Held(one, "copy", "It is a copy.", two, 900_000), Held(three, "copy", "Also.")])
    ownership.review(one, "upheld", "We looked.")
    ownership.review(three, "released", "It is fine.")
    found = held_among(engine, [one, two, three])
    assert set(found) == {one}
    why, said = found[one]
    assert (why.note, why.copy_of, why.part_ppm, said) == ("It is a copy.", two, 900_000, "We looked.")
    assert held_among(engine, []) == {}


def test_a_split_is_told_as_it_was_agreed_last(engine, clock, ids):
    catalogue = Catalogue(engine, clock=clock, ids=ids)
    (made,) = catalogue.add_works([NewWork("1", "ada", "Song", "text")])
    catalogue.add_creator("Bo", ref="bo")
    assert [ppm for _, _, ppm in split_of(engine, made.work_id)] in ([], [1_000_000])
    catalogue.set_split(made.work_id, Split((Part("ada", 300_000), Part("bo", 700_000))))
    assert [(name, ppm) for _, name, ppm in split_of(engine, made.work_id)] == [
        ("Bo", 700_000),
        ("ada", 300_000),
    ]

import pytest
import sqlalchemy as sa

from proxy.catalogue.erasing_store import (
    ERASED,
    erase_creator_rows,
    erase_work,
    known_creator,
    overwriting,
    refuse_erased,
    show_as,
    shown_name,
    works_of,
)
from proxy.catalogue.works import COMMONS, Part, Split
from proxy.database import registry_turn
from proxy.errors import BadRequest, Conflict, NotFound


@pytest.fixture
def lamp(catalogue, new_work):
    (added,) = catalogue.add_works([new_work("lamp", url="https://ada.example/lamp")])
    return added.work_id


def test_a_creator_is_credited_by_the_name_they_chose_from_the_next_look_on(catalogue, engine, clock, lamp):
    before = catalogue.snapshot()
    assert before.credit(lamp).creators == ("ada",)
    assert show_as(engine, "ada", "  The Lamp\x00lighter ", clock=clock) == "The Lamplighter"
    after = catalogue.snapshot(before)
    assert after.credit(lamp).creators == ("The Lamplighter",)
    assert shown_name(engine, catalogue.creator("ada").id) == "The Lamplighter"
    assert catalogue.creator("ada").name == "ada", "their own name stays on statements"
    seq = catalogue.seq()
    assert show_as(engine, "ada", "The Lamplighter", clock=clock) == "The Lamplighter"
    assert catalogue.seq() == seq
    assert show_as(engine, "ada", "", clock=clock) == "ada"
    assert catalogue.snapshot(after).credit(lamp).creators == ("ada",)


def test_whoever_has_a_part_is_credited_by_their_chosen_name_too(catalogue, engine, clock, lamp):
    catalogue.add_creator("bo")
    catalogue.set_split(lamp, Split((Part("ada", 400_000), Part("bo", 600_000))))
    before = catalogue.snapshot()
    show_as(engine, "bo", "B.", clock=clock)
    assert catalogue.snapshot(before).credit(lamp).creators == ("B.", "ada")


def test_nobody_takes_a_name_that_somebody_else_is_known_by(catalogue, engine, clock):
    catalogue.add_creator("Bo Falk")
    catalogue.add_creator("Ada Sandmark")
    show_as(engine, "ada-sandmark", "The Lamplighter", clock=clock)
    for taken in ("ADA  sandmark", "the lamplighter", "The-Lamplighter"):
        with pytest.raises(Conflict, match="somebody else"):
            show_as(engine, "bo-falk", taken, clock=clock)


@pytest.mark.parametrize("name", ["\x00\x01", "n" * 201])
def test_what_cannot_be_shown_is_no_name(catalogue, engine, clock, name):
    catalogue.add_creator("ada")
    with pytest.raises(BadRequest):
        show_as(engine, "ada", name, clock=clock)


def test_an_erased_work_is_credited_to_nobody_leaves_the_next_index_and_keeps_its_digest(
    catalogue, engine, clock, lamp
):
    before, digest = catalogue.snapshot(), catalogue.find_work(lamp).text_sha256
    assert before.works_at("https://ada.example/lamp") == (lamp,)
    assert erase_work(engine, lamp, clock=clock)
    after = catalogue.snapshot(before)
    assert after.credit(lamp) is None
    assert catalogue.snapshot().credit(lamp) is None
    assert after.works_at("https://ada.example/lamp") == ()
    assert before.credit(lamp) is not None
    assert list(catalogue.texts()) == []
    entry = catalogue.find_work(lamp)
    assert (entry.title, entry.ref, entry.url, entry.status) == (ERASED, lamp, "", "erased")
    assert (entry.text_sha256, entry.verdict) == (digest, "prohibited")
    with pytest.raises(NotFound):
        catalogue.text(lamp)
    assert not erase_work(engine, lamp, clock=clock)
    assert not catalogue.withdraw(lamp)


def test_its_creator_may_register_it_again(catalogue, engine, clock, lamp, new_work):
    erase_work(engine, lamp, clock=clock)
    (again,) = catalogue.add_works([new_work("lamp")])
    assert (again.status, again.work_id != lamp) == ("added", True)


def test_works_are_somebodys_alone_or_others_have_a_part(catalogue, engine, lamp, new_work):
    (chair,) = catalogue.add_works([new_work("chair")])
    catalogue.add_creator("bo")
    catalogue.set_split(lamp, Split((Part("ada", 999_999), Part("bo", 1))))
    catalogue.set_split(chair.work_id, Split((Part("ada", 999_999), Part("~unclaimed", 1))))
    with engine.connect() as connection:
        assert works_of(connection, catalogue.creator("ada").id) == ([chair.work_id], [lamp])
        assert works_of(connection, catalogue.creator("bo").id) == ([], [])


def test_of_an_erased_creator_the_credit_says_so_and_nothing_more_is_kept_of_them(
    catalogue, engine, clock, lamp
):
    before, ada = catalogue.snapshot(), catalogue.creator("ada")
    show_as(engine, "ada", "The Lamplighter", clock=clock)
    with registry_turn(engine) as connection:
        erase_creator_rows(connection, ada, by="Ines", now_us=clock.now_us())
    assert catalogue.snapshot(before).credit(lamp).creators == (ERASED,)
    with engine.connect() as connection, pytest.raises(Conflict, match="was erased"):
        refuse_erased(connection, ada.id)
    with pytest.raises(Conflict, match="was erased"):
        show_as(engine, ada.id, "Ada", clock=clock)
    with pytest.raises(NotFound):
        catalogue.creator("ada")


def test_the_commons_is_nobody(catalogue, engine):
    with engine.connect() as connection, pytest.raises(NotFound):
        known_creator(connection, COMMONS)


def test_what_goes_is_overwritten_and_the_connection_is_as_before(engine):
    with engine.connect() as connection:
        was = connection.execute(sa.text("PRAGMA secure_delete")).scalar_one()
        with overwriting(connection):
            assert connection.execute(sa.text("PRAGMA secure_delete")).scalar_one() == 1
        assert connection.execute(sa.text("PRAGMA secure_delete")).scalar_one() == was

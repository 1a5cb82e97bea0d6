import pytest

from proxy.catalogue.lookup_store import (
    IN_MAX,
    chunks,
    creators_by_handle,
    next_split_version,
    owner_of,
    released,
    said_last,
    split_rows,
    standings,
    status_of,
)
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.works import Consent, whole
from proxy.errors import NotFound


@pytest.fixture
def lamp(catalogue, new_work):
    (outcome,) = catalogue.add_works([new_work("lamp")])
    return outcome.work_id


def test_many_names_are_asked_for_in_few_statements():
    lists = list(chunks(str(number) for number in range(2 * IN_MAX + 1)))
    assert [len(names) for names in lists] == [IN_MAX, IN_MAX, 1]
    assert list(chunks([])) == []


def test_an_id_wins_over_a_ref_that_looks_like_it(engine, catalogue):
    ada, _ = catalogue.add_creator("Ada", ref="ada")
    with engine.connect() as connection:
        assert creators_by_handle(connection, {"ada", ada.id, "nobody"}) == {"ada": ada, ada.id: ada}


def test_what_was_said_last_holds(engine, catalogue, clock, ids, lamp):
    for verdict in ("free", "denied"):
        catalogue.set_consent(lamp, Consent.of("output_influence", verdict))
    ownership = Ownership(engine, clock=clock, ids=ids)
    ownership.review(lamp, "released")
    with engine.connect() as connection:
        assert (
            said_last(connection, [lamp])
            == said_last(connection, None)
            == {(lamp, "output_influence"): "denied"}
        )
        assert released(connection) == {lamp}
    ownership.review(lamp, "upheld")
    with engine.connect() as connection:
        assert released(connection) == frozenset()


def test_a_work_without_claims_or_identifiers_is_its_registrants_and_has_no_standing(engine, catalogue, lamp):
    with engine.connect() as connection:
        assert owner_of(connection, lamp) == catalogue.creator("ada").id
        assert standings(connection) == standings(connection, [lamp]) == standings(connection, []) == {}
        assert status_of(connection, lamp) == "active"
        assert next_split_version(connection, lamp) == 1
        for ask in (owner_of, status_of):
            with pytest.raises(NotFound):
                ask(connection, "w_nowhere")


def test_a_splits_rows_begin_at_one_number():
    (row,) = split_rows("w_1", 2, whole("c_1"), 7)
    assert (row["work_id"], row["version"], row["party"], row["ppm"], row["valid_from_seq"]) == (
        "w_1", 2, "c_1", 1_000_000, 7,
    )  # fmt: skip

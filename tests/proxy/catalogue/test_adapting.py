import pytest

from proxy.catalogue.adapting import ADAPTED_MAX, DEPTH_MAX, Original, checked, lineage, parse, resolved
from proxy.catalogue.works import Adapted
from proxy.errors import BadRequest

WHOLE = [Adapted("w_book", 300_000), Adapted("map", 0)]


@pytest.mark.parametrize(
    "said",
    ["w_book:300000;map:0", '[{"work": "w_book", "ppm": 300000}, {"work": "map", "ppm": 0}]',
     [{"work": "w_book", "ppm": 300_000}, {"work": "map", "ppm": 0}]],
)  # fmt: skip
def test_what_a_work_adapts_is_read_from_a_cell_or_from_json(said):
    assert list(parse(said)) == WHOLE


@pytest.mark.parametrize("said", [None, "", []])
def test_most_works_adapt_nothing(said):
    assert parse(said) == ()


@pytest.mark.parametrize(
    "said",
    ["w_book", "w_book:many", ":5", "w_book:-1", "w_book:1000001", "a:600000;b:600000", "a:1;a:2", "[", {"w": 1},
     [1], [{"work": 1, "ppm": 2}], [{"work": "a", "ppm": True}], [{"work": "a"}]],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(said):
    with pytest.raises(BadRequest):
        parse(said)


def test_an_anthology_registers_its_parts():
    many = [Adapted(f"w_{number}", 1) for number in range(ADAPTED_MAX + 1)]
    assert checked(many[:-1]) == tuple(many[:-1])
    with pytest.raises(BadRequest):
        checked(many)


def test_an_original_is_one_registered_work_that_can_be_paid():
    known = {
        "book": [Original("w_1", commons=False)],
        "psalm": [Original("w_2", commons=True)],
        "twice": [Original("w_3", commons=False), Original("w_4", commons=False)],
        "deep": [Original("w_5", commons=False, depth=DEPTH_MAX)],
        "again": [Original("w_1", commons=False)],
    }
    assert resolved([Adapted("psalm", 0), Adapted("book", 5)], known) == (
        Adapted("w_1", 5),
        Adapted("w_2", 0),
    )
    for refused in ("nowhere", "psalm", "twice", "deep"):
        with pytest.raises(BadRequest):
            resolved([Adapted(refused, 5)], known)
    with pytest.raises(BadRequest):
        resolved([Adapted("book", 5), Adapted("again", 5)], known)


def test_a_work_goes_back_to_the_originals_of_its_originals():
    adapted = {"film": [Adapted("play", 1)], "play": [Adapted("tale", 1), Adapted("song", 1)]}
    assert lineage("film", adapted) == ("play", "song", "tale")
    assert lineage("tale", adapted) == ()

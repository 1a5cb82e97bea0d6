import hashlib
import zlib

import pytest

from proxy.catalogue.registering import CLOCK_SKEW_US, Adding, PackedText, Registered, handles, resolved
from proxy.catalogue.works import UNCLAIMED, Creator, Part, Split
from proxy.errors import BadRequest

NOW_US = 1_790_000_000_000_000
ADA = Creator("c_ada", "ada", "Ada")


@pytest.fixture
def adding(ids):
    return Adding(ids, NOW_US, known={"ada": ADA}, registered={}, new_creators=True)


def add(adding, work):
    return adding.add(work, PackedText.of(work.text))


def test_a_packed_text_comes_back_and_is_known_by_its_hash():
    packed = PackedText.of("ünïcode")
    assert zlib.decompress(packed.zlib).decode() == "ünïcode"
    assert packed.sha256 == hashlib.sha256("ünïcode".encode()).hexdigest()
    assert packed.size_bytes == 9


def test_a_row_names_its_creator_and_every_party_but_the_unclaimed(new_work):
    split = Split((Part("bo", 400_000), Part(UNCLAIMED, 600_000)))
    assert list(handles(new_work("a", split=split))) == ["ada", "bo"]


def test_parties_become_ids():
    split = resolved(Split((Part("ada", 400_000, "editor"), Part(UNCLAIMED, 600_000))), {"ada": ADA})
    assert split.parts == (Part("c_ada", 400_000, "editor"), Part(UNCLAIMED, 600_000))


def test_one_person_under_two_names_is_one_party_and_is_refused_twice():
    with pytest.raises(BadRequest, match="twice"):
        resolved(Split((Part("ada", 400_000), Part("c_ada", 600_000))), {"ada": ADA, "c_ada": ADA})


def test_a_known_creator_is_not_made_again(adding, new_work):
    assert add(adding, new_work("a")).status == "added"
    assert adding.creators == []
    assert adding.works[0].creator_id == "c_ada"


def test_a_newcomer_is_made_once_for_all_their_rows(adding, new_work):
    for ref in ("a", "b"):
        add(adding, new_work(ref, creator="bo", creator_name="Bo Lind"))
    assert [(creator.ref, creator.name) for creator in adding.creators] == [("bo", "Bo Lind")]
    assert len({work.creator_id for work in adding.works}) == 1


def test_a_date_a_little_ahead_is_another_clock_and_a_later_one_is_refused(adding, new_work):
    assert add(adding, new_work("a", registered_us=NOW_US + CLOCK_SKEW_US)).status == "added"
    late = add(adding, new_work("b", registered_us=NOW_US + CLOCK_SKEW_US + 1))
    assert (late.status, "future" in late.why) == ("refused", True)


def test_a_date_in_the_past_is_taken_and_none_means_now(adding, new_work):
    add(adding, new_work("a", registered_us=-5))
    add(adding, new_work("b"))
    assert [work.row(1)["registered_us"] for work in adding.works] == [-5, NOW_US]


def test_a_row_without_a_usable_title_is_called_by_its_ref(adding, new_work):
    work = new_work("a")
    object.__setattr__(work, "title", "\u202e\0")
    add(adding, work)
    assert adding.works[0].row(7)["title"] == "a"
    assert adding.works[0].row(7)["registered_seq"] == 7


def test_what_is_registered_is_told_by_its_id(ids, new_work):
    work = new_work("a")
    there = Registered("w_there", PackedText.of(work.text).sha256)
    adding = Adding(ids, NOW_US, known={"ada": ADA}, registered={("c_ada", "a"): there}, new_creators=True)
    again = add(adding, work)
    assert (again.status, again.work_id, adding.works) == ("unchanged", "w_there", [])


def test_a_newcomers_name_with_spaces_around_it_is_refused(adding, new_work):
    assert "spaces" in add(adding, new_work("a", creator=" bo")).remedy

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import UNCLAIMED, Consent, NewWork, Part, Refusal, Split
from proxy.clock import RandomIds, SystemClock
from proxy.errors import BadRequest, Conflict, NotFound


def only(outcomes):
    (outcome,) = outcomes
    return outcome


@pytest.fixture
def lamp(catalogue, new_work):
    return only(catalogue.add_works([new_work("lamp")])).work_id


def test_a_work_goes_in_once_and_has_a_public_id(catalogue, new_work):
    first = only(catalogue.add_works([new_work("lamp")]))
    second = only(catalogue.add_works([new_work("lamp")]))
    assert (first.status, second.status) == ("added", "unchanged")
    assert first.work_id == second.work_id
    assert first.work_id.startswith("w_")
    assert len(first.work_id) == 28


def test_a_second_run_adds_no_change_to_the_registry(catalogue, new_work):
    rows = [new_work(f"n{number}") for number in range(5)]
    list(catalogue.add_works(rows))
    before = catalogue.seq()
    assert {outcome.status for outcome in catalogue.add_works(rows)} == {"unchanged"}
    assert catalogue.seq() == before


def test_another_text_under_the_same_name_is_refused_with_a_remedy(catalogue, new_work, lamp):
    outcome = only(catalogue.add_works([new_work("lamp", text="Something else.", place="f:2")]))
    assert (outcome.status, outcome.place) == ("refused", "f:2")
    assert lamp in outcome.why
    assert outcome.remedy
    assert catalogue.text(lamp) == "Once there was a lamp."


def test_the_same_name_twice_in_one_batch_goes_in_once(catalogue, new_work):
    outcomes = list(
        catalogue.add_works([new_work("a"), new_work("a"), new_work("a", text="other"), new_work("b")])
    )
    assert [outcome.status for outcome in outcomes] == ["added", "unchanged", "refused", "added"]


def test_two_creators_may_use_one_name(catalogue, new_work):
    list(catalogue.add_works([new_work("a"), new_work("a", creator="bo")]))
    with pytest.raises(Conflict, match="2 works"):
        catalogue.find_work("a")
    assert catalogue.find_work("a", creator="bo").creator_ref == "bo"


def test_a_refused_row_keeps_its_place_among_the_others_and_leaves_nobody_behind(catalogue, new_work):
    rows = [
        new_work("a"),
        Refusal("f:2", "b", "empty", "write something"),
        new_work("~bad", creator="nobody"),
        new_work("c", url="javascript:alert(1)", creator="nobody"),
        new_work("d", registered_us=2_000_000_000_000_000, creator="nobody"),
        new_work("e"),
    ]
    outcomes = list(catalogue.add_works(rows))
    assert [outcome.status for outcome in outcomes] == ["added", *["refused"] * 4, "added"]
    assert outcomes[1].why == "empty"
    assert [creator.ref for creator in catalogue.creators()] == ["ada"]


def test_unknown_creators_are_refused_where_they_must_be_known(catalogue, new_work):
    outcome = only(catalogue.add_works([new_work("a")], new_creators=False))
    assert outcome.status == "refused"
    assert "ada" in outcome.why


def test_a_creator_comes_with_the_name_the_file_gives(catalogue, new_work):
    list(catalogue.add_works([new_work("a", creator_name="Ada\x00 L\u202eovelace")]))
    assert catalogue.creator("ada").name == "Ada Lovelace"


def test_the_same_creator_again_changes_nothing_and_another_person_is_refused(catalogue):
    ada, new = catalogue.add_creator("Ada Lovelace", country="gb")
    assert (new, ada.ref, ada.country) == (True, "ada-lovelace", "GB")
    assert catalogue.add_creator("Ada Lovelace") == (ada, False)
    with pytest.raises(Conflict):
        catalogue.add_creator("Somebody Else", ref="ada-lovelace")
    assert catalogue.creator(ada.id) == catalogue.creator("ada-lovelace") == ada


@pytest.mark.parametrize(
    "wrong", [{"name": "\x00"}, {"name": "A", "country": "GBR"}, {"name": "A", "ref": "~a"}]
)
def test_a_creator_without_a_usable_name_is_refused(catalogue, wrong):
    with pytest.raises(BadRequest):
        catalogue.add_creator(**wrong)


def test_texts_come_back_whole_in_the_order_of_registration(catalogue, new_work):
    texts = [f"line {number}\n\ttab – “quotes” 漢字\U0001f40d" * 50 for number in range(450)]
    list(catalogue.add_works(new_work(f"n{number}", text=text) for number, text in enumerate(texts)))
    read = list(catalogue.texts())
    assert [work.text for work in read] == texts
    assert [work.registered_seq for work in read] == sorted(work.registered_seq for work in read)


def test_a_withdrawn_work_is_still_indexed_and_shown_as_prohibited(catalogue, lamp):
    assert catalogue.withdraw(lamp)
    assert not catalogue.withdraw(lamp)
    assert [work.work_id for work in catalogue.texts()] == [lamp]
    assert catalogue.snapshot().credit(lamp).verdict == "prohibited"
    assert catalogue.find_work("lamp").verdict == "prohibited"


def test_the_last_consent_holds_and_the_earlier_ones_are_kept(catalogue, lamp):
    catalogue.set_consent(lamp, Consent.of("output_influence", "denied"))
    catalogue.set_consent(lamp, Consent.of("output_influence", "free"))
    assert catalogue.snapshot().credit(lamp).verdict == "free"
    assert [consent.verdict for consent in catalogue.consents(lamp)] == ["denied", "free"]


def test_consent_to_another_use_does_not_change_what_is_paid(catalogue, lamp):
    catalogue.set_consent(lamp, Consent.of("train_gen", "denied"))
    assert catalogue.snapshot().credit(lamp).verdict == "paid"


def test_excerpts_are_shown_only_after_consent_to_them(catalogue, lamp):
    assert not catalogue.snapshot().credit(lamp).excerpts
    catalogue.set_consent(lamp, Consent.of("excerpt_display", "free"))
    assert catalogue.snapshot().credit(lamp).excerpts


def test_without_consent_the_setting_decides(engine, clock, ids, new_work):
    strict = Catalogue(engine, clock=clock, ids=ids, default_consent="denied")
    one, two = strict.add_works([new_work("a"), new_work("b", consent="free")])
    snapshot = strict.snapshot()
    assert [snapshot.credit(one.work_id).verdict, snapshot.credit(two.work_id).verdict] == [
        "prohibited",
        "free",
    ]


def test_only_known_works_take_consents_splits_and_withdrawals(catalogue):
    for act in (
        lambda: catalogue.set_consent("w_x", Consent.of("index", "free")),
        lambda: catalogue.withdraw("w_x"),
        lambda: catalogue.set_split("w_x", Split((Part("ada", 1_000_000),))),
        lambda: catalogue.find_work("w_x"),
        lambda: catalogue.text("w_x"),
    ):
        with pytest.raises(NotFound):
            act()


def test_splits_are_told_as_of_any_number(catalogue, new_work):
    split = Split((Part("ada", 600_000), Part("bo", 300_000, "editor"), Part(UNCLAIMED, 100_000)))
    shared, alone = list(catalogue.add_works([new_work("a", split=split), new_work("b")]))
    ada, bo = catalogue.creator("ada").id, catalogue.creator("bo").id
    before = catalogue.seq()
    began = catalogue.set_split(shared.work_id, Split((Part("bo", 1_000_000),)))
    first = {
        shared.work_id: tuple(sorted([(ada, 600_000), (bo, 300_000), (UNCLAIMED, 100_000)])),
        alone.work_id: ((ada, 1_000_000),),
    }
    assert catalogue.splits_as_of(before) == first
    assert catalogue.splits_as_of(began) == {**first, shared.work_id: ((bo, 1_000_000),)}
    assert catalogue.splits_as_of(0) == {}


def test_a_split_with_an_unknown_party_is_refused(catalogue, lamp):
    with pytest.raises(BadRequest, match="nobody"):
        catalogue.set_split(lamp, Split((Part("nobody", 1_000_000),)))


def test_credits_name_the_largest_part_first_and_nobody_for_the_unclaimed(catalogue, new_work):
    split = Split((Part("bo", 200_000), Part("ada", 500_000), Part(UNCLAIMED, 300_000)))
    outcome = only(catalogue.add_works([new_work("a", split=split)]))
    assert catalogue.snapshot().credit(outcome.work_id).creators == ("ada", "bo")


def test_a_wholly_unclaimed_work_still_names_its_creator(catalogue, new_work):
    outcome = only(catalogue.add_works([new_work("a", split=Split((Part(UNCLAIMED, 1_000_000),)))]))
    assert catalogue.snapshot().credit(outcome.work_id).creators == ("ada",)


def test_an_incremental_snapshot_equals_a_full_one(catalogue, new_work, lamp):
    snapshot = catalogue.snapshot()
    assert catalogue.snapshot(snapshot) is snapshot
    list(catalogue.add_works(new_work(f"n{number}") for number in range(5)))
    catalogue.withdraw(lamp)
    catalogue.add_creator("Nobody In Particular")
    newer = catalogue.snapshot(snapshot)
    assert newer == catalogue.snapshot()
    assert snapshot.credit(lamp).verdict == "paid"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["withdraw", "deny", "free", "split", "add", "look"]), st.integers(0, 3)),
        max_size=12,
    )
)
def test_any_run_of_changes_ends_in_the_same_snapshot_however_often_it_was_looked_at(
    catalogue, new_work, steps
):
    works = [row.work_id for row in catalogue.add_works(new_work(f"w{number}") for number in range(4))]
    looked = catalogue.snapshot()
    for step, place in steps:
        if step == "withdraw":
            catalogue.withdraw(works[place])
        elif step in {"deny", "free"}:
            catalogue.set_consent(
                works[place], Consent.of("output_influence", "denied" if step == "deny" else step)
            )
        elif step == "split":
            catalogue.set_split(works[place], Split((Part("ada", 999_999), Part(UNCLAIMED, 1))))
        elif step == "add":
            list(catalogue.add_works([new_work(f"more{catalogue.seq()}")]))
        else:
            looked = catalogue.snapshot(looked)
    assert catalogue.snapshot(looked) == catalogue.snapshot()


def test_works_are_listed_by_creator_and_page(catalogue, new_work):
    list(catalogue.add_works([new_work("a"), new_work("b", creator="bo"), new_work("c")]))
    assert [work.ref for work in catalogue.works()] == ["a", "b", "c"]
    assert [work.ref for work in catalogue.works(creator="ada")] == ["a", "c"]
    (first,) = catalogue.works(limit=1)
    assert [work.ref for work in catalogue.works(after_seq=first.registered_seq)] == ["b", "c"]
    assert catalogue.count_works() == 3


def test_history_cannot_be_rewritten(engine, catalogue, lamp):
    catalogue.set_split(lamp, Split((Part("ada", 1_000_000),)))
    catalogue.set_consent(lamp, Consent.of("output_influence", "free"))
    for statement in (
        "UPDATE consent SET verdict = 'paid'",
        "DELETE FROM consent",
        "UPDATE split SET ppm = 1",
        "DELETE FROM split",
        "UPDATE registry_event SET actor = 'nobody'",
        "INSERT OR REPLACE INTO registry_event SELECT seq, kind, work_id, 'x', actor, at_us FROM registry_event",
    ):
        with (
            pytest.raises(DBAPIError, match=r"append-only|taken with other content"),
            engine.begin() as connection,
        ):
            connection.execute(sa.text(statement))


def test_ten_thousand_works_go_in_within_seconds_each_with_an_id_of_its_own(engine):
    catalogue = Catalogue(engine, clock=SystemClock(), ids=RandomIds())
    rows = (NewWork(f"n{n}", f"creator-{n % 100}", f"Title {n}", f"Text {n} " * 100) for n in range(10_000))
    began_s = time.perf_counter()
    outcomes = list(catalogue.add_works(rows))
    assert time.perf_counter() - began_s < 30
    assert {outcome.status for outcome in outcomes} == {"added"}
    assert len({outcome.work_id for outcome in outcomes}) == 10_000
    assert len(catalogue.snapshot().works) == 10_000


def write_at_once(engine):
    """Eight writers, ten changes each, through connections of their own; returns every number given out."""
    catalogue = Catalogue(engine, clock=SystemClock(), ids=RandomIds())

    def register(writer):
        return [
            only(catalogue.add_works([NewWork(f"{writer}-{number}", f"c{number}", "T", "text")])).status
            for number in range(10)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert {status for statuses in pool.map(register, range(8)) for status in statuses} == {"added"}
    with engine.connect() as connection:
        return [row.seq for row in connection.execute(sa.text("SELECT seq FROM registry_event ORDER BY seq"))]


def test_writers_at_once_number_their_changes_without_a_gap(engine):
    assert write_at_once(engine) == list(range(1, 91))  # 80 works, 10 creators


@pytest.mark.postgres
def test_writers_at_once_number_their_changes_without_a_gap_on_postgresql_too(postgres_engine):
    assert write_at_once(postgres_engine) == list(range(1, 91))


def test_an_id_that_is_not_here_makes_no_creator_of_that_name(catalogue, new_work):
    stranger = "c_" + "a" * 26
    assert only(catalogue.add_works([new_work("a", creator=stranger)])).status == "refused"
    with pytest.raises(BadRequest):
        catalogue.add_creator("Somebody", ref=stranger)


@pytest.mark.postgres
def test_postgresql_keeps_the_same_promises(postgres_engine, clock, ids, new_work):
    catalogue = Catalogue(postgres_engine, clock=clock, ids=ids)
    split = Split((Part("ada", 600_000), Part(UNCLAIMED, 400_000)))
    one, two = catalogue.add_works([new_work("a", split=split, consent="free"), new_work("b")])
    assert only(catalogue.add_works([new_work("a")])).status == "unchanged"
    snapshot = catalogue.snapshot()
    assert snapshot.credit(one.work_id).verdict == "free"
    catalogue.withdraw(two.work_id)
    began = catalogue.set_split(one.work_id, Split((Part("ada", 1_000_000),)))
    assert catalogue.snapshot(snapshot) == catalogue.snapshot()
    assert len(catalogue.splits_as_of(began - 1)[one.work_id]) == 2
    assert [work.text for work in catalogue.texts()] == ["Once there was a a.", "Once there was a b."]
    with pytest.raises(DBAPIError, match="append-only"), postgres_engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE split"))

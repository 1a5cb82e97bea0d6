import gc

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.access.links_store import app_links, link_app
from proxy.billing import store
from proxy.billing.money import PPM
from proxy.billing.prices import load
from proxy.billing.run import close_period, concentration_of
from proxy.billing.statements import Books, SplitSet, canonical
from proxy.catalogue.linking_store import Links
from proxy.database import open_engine
from proxy.errors import BadRequest, Conflict, NotFound, Unavailable
from proxy.metering.usage import Line
from proxy.settings import Billing, Concentration
from tests.fakes import FrozenClock

PRICES, NOW_US = load(), 1_796_083_200_000_000
BOOKS = Books(
    {
        "w_1": SplitSet(1, (("c_a", PPM),), "Low Water"),
        "w_2": SplitSet(1, (("c_a", 500_000), ("c_b", 500_000))),
    },
    {"c_a": "Ada", "c_b": "Ben"},
    {"app_a": "Choir"},
    {},
)
HALF = (Line("w_1", 500_000),)


RULES = Billing()


def run(engine, label="2026-11", *, billing=RULES, dry_run=False, now_us=NOW_US):
    return close_period(engine, label, billing, PRICES, dry_run=dry_run, now_us=now_us)


def test_the_store_gives_what_the_pure_path_gives(engine, into_store, make, close):
    small = make(count=1_500, creators=40, works=80)
    into_store.register(engine, small.books)
    into_store.meter(engine, small.events[:900], shard="shd_a")
    into_store.meter(engine, small.events[900:], shard="shd_b")
    closing = run(engine)
    pure = close(small.events, small.books, end={"shd_a": 1_800, "shd_b": 1_200})
    assert closing.totals == pure.totals
    assert closing.transfers[0].entries == pure.transfers[0].entries
    assert [s.lines_sha256 for s in closing.statements] == [s.lines_sha256 for s in pure.statements]
    assert [s.name for s in closing.statements] == [s.name for s in pure.statements]


def test_every_event_replayed_five_times_changes_nothing(engine, into_store, make):
    small = make(count=300, creators=10, works=30)
    into_store.register(engine, small.books)
    into_store.meter(engine, small.events)
    once = run(engine, dry_run=True)
    for _ in range(4):
        into_store.meter(engine, small.events)  # the same answers again, at later positions of the journal
    five = run(engine)
    assert five.totals == once.totals
    assert [s.lines_sha256 for s in five.statements] == [s.lines_sha256 for s in once.statements]
    assert five.transfers == once.transfers


def test_closing_again_returns_the_stored_closing_to_the_byte(engine, into_store, event):
    into_store.register(engine, BOOKS)
    into_store.meter(engine, [event(n, HALF) for n in range(5)])
    first = run(engine)
    into_store.meter(engine, [event(n, HALF) for n in range(5, 9)])
    again = run(engine, billing=Billing(royalty_ppm=1), now_us=NOW_US + 1)
    assert again == first
    assert again.manifest_sha256 == first.manifest_sha256
    assert list(map(canonical, again.statements)) == list(map(canonical, first.statements))


def test_a_dry_run_is_the_run_and_writes_nothing(engine, into_store, event):
    into_store.register(engine, BOOKS)
    into_store.meter(engine, [event(1, HALF)])
    told = run(engine, dry_run=True)
    assert store.list_periods(engine) == []
    assert store.balances(engine) == {}
    assert run(engine) == told


def test_a_period_begins_where_the_last_one_ended(engine, into_store, event):
    into_store.register(engine, BOOKS)
    into_store.meter(engine, [event(1, HALF)])
    first = run(engine, "a")
    late = event(2, HALF, occurred_us=event(0).occurred_us - 86_400_000_000)
    into_store.meter(engine, [late], shard="shd_b")
    second = run(engine, "b")
    third = run(engine, "c")
    assert second.basis.start_bounds == first.basis.end_bounds == {"shd_a": 2}
    assert second.basis.end_bounds == third.basis.start_bounds == {"shd_a": 2, "shd_b": 2}
    assert [closing.totals.events for closing in (first, second, third)] == [1, 1, 0]
    ada = [closing.statements[0] for closing in (first, second, third)]
    assert ada[0].opening_grains == 0
    assert ada[1].opening_grains == ada[0].closing_grains
    assert ada[2].opening_grains == ada[2].closing_grains == ada[1].closing_grains
    assert ada[1].lines[0].day == "2026-10-31"


def test_an_answer_whose_shares_are_to_come_belongs_to_a_later_period(engine, into_store, event):
    into_store.register(engine, BOOKS)
    into_store.meter(engine, [event(1, HALF)])
    into_store.meter(engine, [event(2, HALF)], pending=True)
    totals = run(engine).totals
    assert (totals.events, totals.pending_events) == (1, 1)


def test_a_model_without_a_price_refuses_the_close_and_keeps_its_events(engine, into_store, event, tmp_path):
    into_store.register(engine, BOOKS)
    into_store.meter(engine, [event(1, HALF), event(2, HALF, model="house-1")])
    for dry_run in (True, False):
        with pytest.raises(Conflict, match="house-1: 1 event since 2026-11-01") as refused:
            run(engine, dry_run=dry_run)
        assert refused.value.code == "unpriced_models"
    assert store.list_periods(engine) == []
    (tmp_path / "p.toml").write_text(
        'version = "mine"\ncurrency = "USD"\neffective_from = 2026-01-01\n'
        '[[models]]\npattern = "*"\ninput_per_million = "1"\noutput_per_million = "1"\n'
    )
    closing = close_period(engine, "p", Billing(), load(tmp_path), dry_run=False, now_us=NOW_US)
    assert closing.totals.events == 2


def test_the_split_in_force_is_the_one_of_the_registry_at_the_close(engine, into_store, event):
    into_store.register(engine, BOOKS)
    into_store.meter(engine, [event(1, (Line("w_2", PPM),), price_grains=10)])
    splits = {s.creator: s.earned_grains for s in run(engine).statements}
    assert sum(splits.values()) == 3
    assert set(splits.values()) == {1, 2}


@pytest.mark.parametrize("label", ["", "a b", "../x", "ä", "x" * 41, "2026-11\n"])
def test_a_label_that_cannot_name_a_period_is_refused(label):
    with pytest.raises(BadRequest, match="cannot name a period"):
        close_period(None, label, Billing(), PRICES, dry_run=True, now_us=NOW_US)


def test_a_store_that_is_away_is_told_as_such(tmp_path):
    with pytest.raises(Unavailable) as refused:
        run(open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'store.db'}"))
    assert refused.value.code == "store_unavailable"


def test_a_creators_own_app_is_told_and_not_paid_from_the_store_too(engine, into_store, event, close):
    into_store.register(engine, BOOKS)
    link_app(engine, "Choir", "c_a", clock=FrozenClock())
    ((seq, _),) = app_links(engine).history["app_a"]
    events = [event(n, HALF, registry_seq=seq - (n == 1)) for n in range(1, 4)]
    into_store.meter(engine, events)
    link_app(engine, "Choir", "", clock=FrozenClock())
    closing = run(engine)
    (ada,) = closing.statements
    assert {line.verdict: line.answers for line in ada.lines} == {"paid": 1, "own_app": 2}
    assert closing.totals.common_grains["own_app"] > 0
    again = close(events, BOOKS, end={"shd_a": 6}, links=app_links(engine))
    assert again.totals == closing.totals
    assert [s.lines_sha256 for s in again.statements] == [s.lines_sha256 for s in closing.statements]
    assert store.load_closing(engine, "2026-11") == closing
    assert store.balances(engine, "liab:payee:") == {("liab:payee:c_a", "USD"): ada.earned_grains}


def test_what_is_nobodys_gets_no_statement_and_pays_nobody(engine, into_store, event):
    into_store.register(engine, BOOKS)
    works = SQLModel.metadata.tables["work"]
    row = {
        "id": "w_c", "ref": "w_c", "creator_id": "~commons", "title": "Psalm", "medium": "text", "text_sha256": "",
        "text_bytes": 0, "licence": "", "url": "", "registered_us": 0, "registered_seq": 9, "status": "active",
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(works), [row])
    into_store.meter(engine, [event(1, (Line("w_c", PPM, "free"),)), event(2, (Line("w_c", PPM),))])
    closing = run(engine)
    assert closing.statements == ()
    assert closing.totals.common_grains["free"] == closing.totals.escrow_grains > 0


def test_the_report_sets_a_period_beside_the_one_before_it(engine, into_store, event):
    into_store.register(engine, BOOKS)
    into_store.meter(engine, [event(1, HALF, price_grains=1_000)])
    run(engine, "a")
    into_store.meter(engine, [event(2, HALF, price_grains=9_000)])
    run(engine, "b")
    rules = Concentration(least_earned="0")
    first, second = (concentration_of(engine, label, rules) for label in ("a", "b"))
    assert (first.previous, second.previous) == ("", "a")
    assert first.top_creators[0].growth_ppm is None
    assert second.top_creators[0].growth_ppm == 9_000_000
    assert "growth" in {flag.kind for flag in second.flags}
    assert store.registered_between(engine, 0, 999_999) == {}
    assert store.registered_between(engine, 0, 1_000_000) == {"c_a": 1}
    with pytest.raises(NotFound):
        concentration_of(engine, "nowhere", rules)


def adapted(engine, seq, ppm):
    """Say at the registry's number `seq` that w_2 was made from w_1, which gets `ppm` of its money."""
    tables = SQLModel.metadata.tables
    row = {"work_id": "w_2", "seq": seq, "original_id": "w_1", "ppm": ppm, "decided_by": "", "at_us": 0}
    change = {"seq": seq, "kind": "test", "work_id": None, "payload_sha256": "", "actor": "test", "at_us": 0}
    with engine.begin() as connection:
        connection.execute(sa.insert(tables["registry_event"]), [change])
        connection.execute(sa.insert(tables["adaptation"]), [row])


def test_what_an_adaptation_earns_is_shared_with_the_original_as_its_licence_says(engine, into_store, event):
    books = Books(
        {"w_1": SplitSet(1, (("c_a", PPM),)), "w_2": SplitSet(1, (("c_b", PPM),))},
        BOOKS.creator_names,
        {},
        {},
    )
    into_store.register(engine, books)
    adapted(engine, 2, 250_000)
    into_store.meter(engine, [event(1, (Line("w_2", PPM),))])
    closing = run(engine)
    (ada, ben) = closing.statements
    assert (ada.creator, ben.creator) == ("c_a", "c_b")
    assert ada.earned_grains * 3 == ben.earned_grains > 0
    assert [(line.work, line.split_ppm) for line in ada.lines] == [("w_2", 250_000)]
    adapted(engine, 3, 500_000)
    into_store.meter(engine, [event(2, (Line("w_2", PPM),))])
    ada, ben = run(engine, "2026-12").statements
    assert ada.earned_grains == ben.earned_grains > 0


def test_a_link_pays_nobody_and_what_a_translation_owes_is_its_licences_to_say(engine, into_store, event):
    books = Books(
        {"w_1": SplitSet(1, (("c_a", PPM),)), "w_2": SplitSet(1, (("c_b", PPM),))},
        BOOKS.creator_names,
        {},
        {},
    )
    into_store.register(engine, books)
    # Not checked for its length: this store keeps no texts.
    assert Links(engine, clock=FrozenClock()).state("w_2", "translation_of", "w_1")
    into_store.meter(engine, [event(1, (Line("w_2", PPM),))])
    (ben,) = run(engine).statements
    assert [(line.work, line.split_ppm) for line in ben.lines] == [("w_2", PPM)]
    adapted(engine, 9, 250_000)
    into_store.meter(engine, [event(2, (Line("w_2", PPM),))])
    assert [one.creator for one in run(engine, "2026-12").statements] == ["c_a", "c_b"]


def claim(engine, seq, *, decided=0):
    """Open a claim of c_b on w_1 at a number of the registry, or decide it at another."""
    tables = SQLModel.metadata.tables
    change = {"kind": "test", "work_id": None, "payload_sha256": "", "actor": "test", "at_us": 0}
    words = {"basis": "", "evidence": "[]", "opened_by": "", "opened_us": 0}
    row = {"id": "clm_1", "work_id": "w_1", "claimant": "c_b", "opened_seq": seq, **words}
    said = {
        "claim_id": "clm_1",
        "outcome": "upheld",
        "reason": "",
        "decided_by": "",
        "decided_us": 0,
        "seq": decided,
    }
    split = {
        "work_id": "w_1",
        "version": 2,
        "party": "c_b",
        "ppm": PPM,
        "role": "author",
        "valid_from_seq": decided,
    }
    with engine.begin() as connection:
        connection.execute(sa.insert(tables["registry_event"]), [change | {"seq": decided or seq}])
        if decided:
            connection.execute(sa.insert(tables["claim_decision"]), [said])
            connection.execute(sa.insert(tables["split"]), [split])
        else:
            connection.execute(sa.insert(tables["claim"]), [row])


def test_what_a_claimed_work_earns_waits_and_goes_to_whom_the_claim_gives_it(engine, into_store, event):
    into_store.register(engine, BOOKS)
    claim(engine, 2)
    into_store.meter(engine, [event(1, HALF)])
    held = run(engine, "2026-11")
    assert held.totals.creators_grains == 0
    assert store.balances(engine, "liab:escrow:claimed:") == {
        ("liab:escrow:claimed:w_1", "USD"): held.totals.claimed_grains
    }
    assert [(s.creator, s.earned_grains, s.lines[0].verdict) for s in held.statements] == [
        ("c_a", 0, "claimed")
    ]
    claim(engine, 2, decided=3)
    released = run(engine, "2026-12")
    (ben,) = released.statements
    assert (ben.creator, ben.earned_grains) == ("c_b", held.totals.claimed_grains)
    assert [line.verdict for line in ben.lines] == ["released"]
    assert store.balances(engine, "liab:escrow:")["liab:escrow:claimed:w_1", "USD"] == 0
    assert store.load_closing(engine, "2026-12") == released
    report = concentration_of(engine, "2026-12", Concentration())
    assert [(row.creator, row.top_app) for row in report.top_creators] == [("c_b", "")]
    assert run(engine, "2027-01").totals.released_grains == 0


def test_a_close_leaves_the_interpreter_as_it_was(engine, monkeypatch):
    usual, during = gc.get_threshold(), []
    monkeypatch.setattr(store, "registry_now", lambda _engine: during.append(gc.get_threshold()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(engine)
    assert during[0] > usual
    assert gc.get_threshold() == usual

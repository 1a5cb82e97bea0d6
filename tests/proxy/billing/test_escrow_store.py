"""What a work earned while nobody had claimed it is paid to whom it turns out to be, all of it, once."""

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing import escrow_store, store
from proxy.billing.money import PPM
from proxy.billing.statements import UNCLAIMED, Books, SplitSet
from proxy.catalogue.ownership_store import Ownership
from proxy.metering.usage import Line
from tests.fakes import CountingIds
from tests.proxy.billing.conftest import make_event, meter
from tests.proxy.billing.matters import Scene

BOOKS = Books(
    {
        "w_1": SplitSet(1, (("c_a", 400_000), (UNCLAIMED, 600_000)), "Low Water"),
        "w_2": SplitSet(1, (("c_b", PPM),), "High Water"),
    },
    {"c_a": "Ada", "c_b": "Bo", "c_c": "Cleo"},
    {"app_a": "Choir", "app_b": "Band"},
    {},
)


class Waiting(Scene):
    """w_1 is Ada's by four tenths; whose the rest is nobody has said."""

    def __init__(self, engine, prices):
        super().__init__(engine, prices, BOOKS)
        self.registry = Ownership(engine, clock=self.clock, ids=CountingIds())

    def split(self, *parties):
        """Say anew whose w_1 is, from the registry's next number on."""
        tables = SQLModel.metadata.tables
        with self.engine.begin() as connection:
            event = tables["registry_event"]
            seq = connection.execute(sa.select(sa.func.max(event.c.seq))).scalar_one() + 1
            change = {"seq": seq, "kind": "test", "work_id": "w_1", "payload_sha256": "", "actor": "t"}
            connection.execute(sa.insert(event), [change | {"at_us": 0}])
            split = tables["split"]
            version = connection.execute(
                sa.select(sa.func.max(split.c.version)).where(split.c.work_id == "w_1")
            ).scalar_one()
            row = {"work_id": "w_1", "version": version + 1, "role": "author", "valid_from_seq": seq}
            rows = [row | {"party": party, "ppm": ppm} for party, ppm in parties]
            connection.execute(sa.insert(split), rows)

    @property
    def waits(self):
        return self.balance("liab:escrow:unclaimed:w_1")


@pytest.fixture
def scene(engine, prices):
    made = Waiting(engine, prices)
    yield made
    made.check()


def released(statements, who):
    return [line for line in statements[who].lines if line.verdict == "released"]


def test_an_upheld_claim_is_paid_the_whole_history_and_told_from_when(scene):
    scene.close("1")
    scene.close("2")
    before = store.load_closing(scene.engine, "1")
    history = scene.waits
    claim = scene.registry.open_claim("w_1", "c_c", "I wrote it.")
    scene.registry.decide_claim(claim.id, "upheld", "The manuscript is hers.")
    third = scene.close("3", used=False)
    (line,) = released(third, "c_c")
    assert (line.net_grains, line.gross_grains, line.periods) == (history, history, ("1", "2"))
    assert third["c_c"].earned_grains == scene.owed("c_c") == history
    assert scene.waits == 0
    assert store.load_closing(scene.engine, "1") == before
    assert store.load_closing(scene.engine, "3").statements == tuple(third[who] for who in sorted(third))
    assert "c_c" not in scene.close("4", used=False) or released(scene.close("5", used=False), "c_c") == []


def test_all_that_the_part_ever_earned_is_what_the_claimant_gets(scene):
    scene.close("1")
    earned = scene.waits
    scene.split(("c_a", 400_000), ("c_c", 600_000))
    second = scene.close("2")
    own = sum(line.net_grains for line in second["c_c"].lines if line.verdict != "released")
    assert second["c_c"].earned_grains == earned + own
    assert released(second, "c_a") == [], "who had a part already is paid nothing twice"
    assert second["c_c"].totals.released_grains == earned


def test_what_is_unclaimed_still_waits_on(scene):
    scene.close("1")
    there = scene.waits
    scene.split(("c_a", 400_000), ("c_b", 200_000), (UNCLAIMED, 400_000))
    second = scene.close("2", used=False)
    (line,) = released(second, "c_b")
    assert abs(line.net_grains - there / 3) < 1
    assert scene.waits == there - line.net_grains
    assert scene.close("3", used=False)["c_b"].earned_grains == 0, "it goes once"
    scene.split(("c_a", 400_000), ("c_b", 200_000), ("c_c", 400_000))
    fourth = scene.close("4", used=False)
    assert released(fourth, "c_c")[0].net_grains == there - line.net_grains
    assert scene.waits == 0


def test_while_a_claim_is_open_nothing_leaves_and_when_it_is_rejected_the_split_of_then_decides(scene):
    scene.close("1")
    there = scene.waits
    claim = scene.registry.open_claim("w_1", "c_c", "I wrote it.")
    scene.split(("c_a", 400_000), ("c_b", 200_000), (UNCLAIMED, 400_000))
    second = scene.close("2", used=False)
    assert released(second, "c_a") == []
    assert scene.waits == there
    scene.registry.decide_claim(claim.id, "rejected", "It is not hers.")
    third = scene.close("3", used=False)
    assert abs(released(third, "c_b")[0].net_grains - there / 3) < 1


def test_money_that_is_older_than_the_rule_is_paid_to_whom_the_work_has_come(scene, monkeypatch):
    scene.close("1")
    there = scene.waits
    scene.split(("c_c", PPM))
    with monkeypatch.context() as before_the_rule:
        before_the_rule.setattr(escrow_store, "unclaimed", lambda *_: {})
        scene.close("2", used=False)
    assert scene.waits == there
    third = scene.close("3", used=False)
    assert released(third, "c_c")[0].net_grains == there


def test_a_dry_run_says_what_would_go_and_leaves_it(scene):
    scene.close("1")
    there = scene.waits
    scene.split(("c_a", 400_000), ("c_c", 600_000))
    dry = scene.close("2", used=False, dry_run=True)
    assert released(dry, "c_c")[0].net_grains == there == scene.waits
    assert released(scene.close("2", used=False), "c_c") == released(dry, "c_c")


def test_a_work_that_the_registry_does_not_know_waits_for_ever(scene):
    meter(scene.engine, [make_event(77, (Line("w_unknown", PPM),), price_grains=1_000_000)])
    scene.close("1")
    assert scene.balance("liab:escrow:unclaimed:w_unknown") == 300_000
    scene.close("2")
    assert scene.balance("liab:escrow:unclaimed:w_unknown") == 300_000

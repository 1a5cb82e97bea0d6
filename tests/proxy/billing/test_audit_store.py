"""An audit of whole books on both engines: sound ones, and the same ones broken on purpose in each way."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from proxy.billing import store
from proxy.billing.audit_queries_store import HISTORY, INTEGERS
from proxy.billing.audit_store import audit, snapshot
from proxy.billing.disputes_store import Disputes
from proxy.billing.invariants import INVARIANTS, NOT_YET
from proxy.database import open_engine
from proxy.errors import Unavailable
from proxy.metering.usage import Line


def unguarded(connection: sa.Connection) -> None:
    """Take every guard off the store, as whoever owns its file can."""
    if connection.dialect.name == "sqlite":
        names = connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
        for name in list(names.scalars()):
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
    else:
        connection.exec_driver_sql("SET session_replication_role = replica")
        checks = (
            "SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype IN ('c', 'f', 'u') "
            "AND connamespace = 'public'::regnamespace"
        )
        for table, name in list(connection.exec_driver_sql(checks)):
            connection.exec_driver_sql(f'ALTER TABLE {table} DROP CONSTRAINT IF EXISTS "{name}" CASCADE')


def altered(engine: sa.Engine, statement: str) -> None:
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.commit()
        unguarded(connection)
        assert connection.execute(sa.text(statement.replace(":", r"\:"))).rowcount != 0
        connection.commit()
    engine.dispose()


def broken(engine: sa.Engine) -> dict[str, tuple[str, ...]]:
    return {one.id: one.named for one in audit(engine) if one.state == "broken"}


def test_sound_books_break_no_invariant(books):
    found = audit(books.engine)
    assert [one.id for one in found] == list(INVARIANTS)
    assert {one.id: one.named for one in found if one.state == "broken"} == {}
    assert {one.id for one in found if one.state == "not_yet"} == set(NOT_YET)
    assert [one.id for one in found if one.state == "ok" and not one.rows] == []


def test_an_empty_store_breaks_no_invariant(engine):
    assert broken(engine) == {}


def test_an_audit_changes_nothing_and_may_be_repeated(books):
    assert audit(books.engine) == audit(books.engine)
    books.answer([Line("w_0", 1_000)])  # its connection can write again
    assert broken(books.engine) == {}


def test_an_audit_tells_how_far_it_is(books):
    told = []
    audit(books.engine, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


BREAKS = [
    ("I1", "UPDATE entry SET amount = amount + 1 WHERE ord = 0 AND transfer_id = (SELECT min(id) FROM transfer)"),
    ("I1", "DELETE FROM entry WHERE transfer_id = (SELECT min(id) FROM transfer)"),
    ("I2", "UPDATE entry SET amount = amount + 1 WHERE ord = 0 AND transfer_id = (SELECT min(id) FROM transfer)"),
    ("I3", "UPDATE event_line SET ppm = ppm + 1 WHERE ord = 0"),
    ("I3", "UPDATE attributed SET unattributed_ppm = 7 WHERE reason = ''"),
    ("I4", """UPDATE entry SET account_id = (SELECT min(id) FROM account WHERE code LIKE 'liab:work:%') WHERE
     side = 'C' AND account_id IN (SELECT id FROM account WHERE code LIKE 'liab:payee:%') AND transfer_id
     IN (SELECT id FROM transfer WHERE kind = 'split')"""),
    ("I5", "UPDATE period SET totals = replace(totals, '\"platform_grains\":0', '\"platform_grains\":1')"),
    ("I5", """UPDATE entry SET amount = amount + 5 WHERE transfer_id IN (SELECT id FROM transfer WHERE kind = 'charge')
      AND ord < 2"""),
    ("I6", "UPDATE event SET idx = 1"),
    ("I6", "UPDATE shard SET next_index = 3"),
    ("I6", "UPDATE period SET start_bounds = '{}' WHERE label = '2026-12'"),
    ("I6", "DELETE FROM period WHERE label = '2026-11'"),
    ("I7", "DELETE FROM event WHERE id = (SELECT min(id) FROM event)"),
    ("I7", "UPDATE event SET outcome = 'cut' WHERE id = (SELECT min(id) FROM event)"),
    ("I7", "UPDATE event_line SET verdict = 'free' WHERE verdict = 'prohibited'"),
    ("I8", "UPDATE statement SET body = replace(body, '\"ppm_sum\":', '\"ppm_sum\":1') WHERE period_label = '2026-11'"),
    ("I8", "UPDATE statement SET earned = earned + 1 WHERE creator_id = 'c_0'"),
    ("I8", "UPDATE statement SET body = 'nothing' WHERE creator_id = 'c_0'"),
    ("I8", "DELETE FROM statement WHERE creator_id = 'c_0' AND period_label = '2026-11'"),
    ("I9", "UPDATE statement SET body = replace(body, '\"split_ppm\":1000000', '\"split_ppm\":1')"),
    ("I10", "UPDATE period SET totals = 'nothing' WHERE label = '2026-12'"),
    ("I10", "UPDATE period SET manifest_sha256 = 'x' WHERE label = '2026-11'"),
    ("I10", "UPDATE statement SET lines_sha256 = 'x' WHERE creator_id = 'c_1' AND period_label = '2026-12'"),
    ("I11", "DELETE FROM payout_event WHERE kind = 'settled'"),
    ("I11", "UPDATE payout_event SET by = ' ADA' WHERE kind = 'approved'"),
    ("I11", "UPDATE payout_batch SET body = replace(body, '\"rate_ppm\":123457', '\"rate_ppm\":1')"),
    ("I11", "UPDATE payout_batch SET body = '' WHERE id = (SELECT min(id) FROM payout_batch)"),
    ("I11", "DELETE FROM payout WHERE id = (SELECT min(id) FROM payout)"),
    ("I11", "UPDATE entry SET amount = amount * 9 WHERE transfer_id IN (SELECT id FROM transfer WHERE kind = 'payout')"),
    ("I12", "DELETE FROM claim WHERE work_id = 'w_5'"),
    ("I12", """UPDATE entry SET amount = amount + 1 WHERE side = 'D' AND account_id IN
     (SELECT id FROM account WHERE code LIKE 'liab:escrow:claimed:%')"""),
    ("I13", "UPDATE split SET ppm = ppm - 1 WHERE work_id = 'w_0' AND party = 'c_2'"),
    ("I13", "UPDATE split SET valid_from_seq = 99 WHERE work_id = 'w_0' AND party = 'c_2'"),
    ("I14", "UPDATE event_line SET verdict = 'paid' WHERE verdict = 'prohibited'"),
    ("I14", "UPDATE registry_event SET kind = 'work_withdrawn', work_id = 'w_0' WHERE seq = 1"),
    ("I14", "UPDATE statement SET body = replace(body, '\"verdict\":\"paid\"', '\"verdict\":\"prohibited\"')"),
    ("I15", "DELETE FROM log_entry WHERE idx = 1"),
    ("I15", "DELETE FROM log_entry WHERE idx = (SELECT max(idx) FROM log_entry)"),
    ("I15", "UPDATE log_entry SET digest = (SELECT digest FROM log_entry WHERE idx = 1) WHERE idx = 0"),
    ("I15", "UPDATE log_entry SET kind = 'manifest' WHERE idx = 0"),
    ("I15", "UPDATE log_state SET size = size - 1"),
    ("I16", "UPDATE entry SET amount = -amount WHERE transfer_id = (SELECT min(id) FROM transfer)"),
    ("I16", "UPDATE statement SET body = replace(body, '\"gross_grains\":', '\"gross_grains\":-')"),
    ("I17", "UPDATE statement SET closing = closing + 1 WHERE period_label = '2026-12' AND creator_id = 'c_1'"),
    ("I17", "DELETE FROM reported_transfer"),
    ("I18", "INSERT INTO erasure VALUES ('creator', 'c_0', 1, 'Ines', 0)"),
    ("I19", "UPDATE account SET currency = 'EUR' WHERE code LIKE 'liab:common:%'"),
    ("I19", "UPDATE period SET currency = 'EUR'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("invariant", "statement"), BREAKS, ids=[f"{n}-{i}" for n, (i, _) in enumerate(BREAKS)]
)
def test_what_is_broken_on_purpose_is_found(books, invariant, statement):
    altered(books.engine, statement)
    found = broken(books.engine)
    assert invariant in found
    assert all(found[invariant])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dispute_party SET held = held + 1",
        "DELETE FROM dispute WHERE opened_us > 0",
        """INSERT INTO dispute_event (dispute_id, seq, kind, side, by, said, parts, at_us)
        SELECT dispute_id, 2, 'withdrawn', side, by, said, parts, at_us FROM dispute_event""",
    ],
)
def test_what_a_dispute_holds_is_what_its_parties_are_kept_from(books, statement):
    disputes = Disputes(books.engine, clock=books.clock, by="ines")
    about = next(one for one in store.statements(books.engine, "2026-12") if one.earned_grains)
    disputes.open(about.id, "wrong", hold="all", answer_days=30)
    assert broken(books.engine) == {}
    altered(books.engine, statement)
    assert "I12" in broken(books.engine)


def test_every_invariant_that_is_checked_is_broken_by_a_test():
    assert {name for name, _ in BREAKS} | {"I20"} | set(NOT_YET) == set(INVARIANTS)


def test_a_guard_that_is_gone_is_named(books):
    guard = "entry_no_update" if books.engine.dialect.name == "sqlite" else "entry_no_change"
    on = "" if books.engine.dialect.name == "sqlite" else " ON entry"
    with books.engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TRIGGER {guard}{on}")
    assert broken(books.engine) == {"I10": (f"entry can be changed: its trigger {guard} is gone",)}


def test_an_amount_that_is_no_integer_is_named(books):
    if books.engine.dialect.name == "sqlite":
        altered(books.engine, "UPDATE statement SET earned = earned + 0.5 WHERE creator_id = 'c_0'")
        assert broken(books.engine)["I20"] == ("statement.earned: 2 values are no integers",)
    else:
        with books.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE entry ALTER COLUMN amount TYPE numeric")
        assert broken(books.engine)["I20"] == ("entry.amount is numeric, not bigint",)


def test_more_findings_than_are_named_are_counted(books):
    altered(books.engine, "UPDATE entry SET amount = amount + 1 WHERE side = 'D'")
    (first, *_) = audit(books.engine)
    assert first.broken > len(first.named) == 20


def test_a_store_that_is_away_is_told_as_such(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'none' / 'store.db'}")
    with pytest.raises(Unavailable) as refused:
        audit(engine)
    assert refused.value.code == "store_unavailable"


def test_history_and_integers_name_tables_that_there_are(engine):
    names = set(sa.inspect(engine).get_table_names())
    assert {*HISTORY, *(table for table, _ in INTEGERS)} <= names


def test_an_audit_cannot_write(books):
    with snapshot(books.engine) as connection, pytest.raises(DBAPIError):
        connection.exec_driver_sql("DELETE FROM shard")

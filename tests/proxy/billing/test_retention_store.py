"""Answers leave the store, and everything that was told of them stays as it was, on both engines."""

import pytest
import sqlalchemy as sa

from proxy.billing import documents, focus_store, retention_store, store
from proxy.billing.audit_store import audit
from proxy.billing.disputes_store import Disputes
from proxy.billing.periods import DAY_US
from proxy.errors import Conflict, Unavailable
from proxy.metering import gone_store, trim_store
from proxy.metering.usage import Line
from proxy.receipts.appending import drain
from proxy.receipts.verify import open_jws
from proxy.settings import Retention, Settings
from tests.books import PRICES, RULES
from tests.proxy.receipts.making import KEY, SECRETS, SIGNER

RETENTION = Retention(usage_days=30)


def told(engine):
    """Everything that creators and apps were told: every statement in every form, and every closing."""
    made = {}
    for period in store.list_periods(engine):
        made[period.label] = (period, list(store.load_closing(engine, period.label).transfers))
        for statement in store.statements(engine, period.label):
            for form in ("json", "csv", "tsv", "distributor"):
                dress = documents.dressed(form, "", state="final", until_us=0)
                made[statement.id, form] = documents.render(statement, form, dress)
    return made


def broken(engine):
    return {one.id: one.named for one in audit(engine) if one.state == "broken"}


def retained(books, folder, *, days=60, rules=RETENTION, seal=lambda digest: SIGNER.jws(digest, "t")):
    now_us = books.clock.now_us() + days * DAY_US
    return list(
        retention_store.retain(
            books.engine, rules, folder, seal=seal, by="ines", now_us=now_us, pause=lambda _: None
        )
    )


def rows(engine):
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT count(*) FROM event_line")).scalar_one()


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path, billing=RULES, retention=RETENTION)


def test_what_was_told_stays_the_same_bytes_and_an_audit_finds_the_books_sound(books, tmp_path):
    before = told(books.engine)
    left = retained(books, tmp_path)
    assert [(one.standing.period, one.deleted) for one in left] == [("2026-11", 7), ("2026-12", 2)]
    assert rows(books.engine) == 0
    assert told(books.engine) == before
    assert broken(books.engine) == {}
    noted = {one.id: one.why for one in audit(books.engine) if one.state == "ok" and one.why}
    assert set(noted) == {"I3", "I6", "I7", "I14", "I15"}
    assert noted["I7"] == "the 9 answers of 2 periods (2026-11 to 2026-12) left the store: by their digests"


def test_a_second_run_finds_nothing_to_do_and_the_periods_that_come_are_counted_on(books, tmp_path):
    retained(books, tmp_path)
    assert retained(books, tmp_path) == []
    books.answer([Line("w_0", 7)])
    drain(books.engine, lambda _us: SECRETS)
    assert books.close("2027-01").totals.events == 1
    assert broken(books.engine) == {}
    assert [one.standing.period for one in retained(books, tmp_path, days=31)] == ["2027-01"]
    assert broken(books.engine) == {}


def test_only_what_the_policy_lets_go_leaves(books, tmp_path):
    assert retained(books, tmp_path, days=29) == []
    assert retained(books, tmp_path, rules=Retention(usage_days=0)) == []
    books.answer([Line("w_0", 7)])  # in no period yet
    retained(books, tmp_path)
    assert rows(books.engine) == 1


def test_an_open_dispute_keeps_its_period(books, tmp_path):
    statement = next(one for one in store.statements(books.engine, "2026-11") if one.lines)
    Disputes(books.engine, clock=books.clock, by="ines").open(
        statement.id, "wrong", lines=[1], hold="none", answer_days=30
    )
    assert [one.standing.period for one in retained(books, tmp_path)] == ["2026-12"]


def test_the_archive_gives_back_what_the_store_had(books, tmp_path, settings):
    periods = store.list_periods(books.engine)
    before = [list(retention_store.answers(books.engine, tmp_path, one)) for one in periods]
    usage = [focus_store.usage(books.engine, settings, PRICES, one.label) for one in periods]
    left = retained(books, tmp_path)
    assert [list(retention_store.answers(books.engine, tmp_path, one)) for one in periods] == before
    assert [focus_store.usage(books.engine, settings, PRICES, one.label) for one in periods] == usage
    assert [one.archive for one in left] == ["2026-11.jsonl.gz", "2026-12.jsonl.gz"]
    (tmp_path / "archive" / "2026-11.jsonl.gz").unlink()
    with pytest.raises(Unavailable, match="no longer in the store"):
        focus_store.usage(books.engine, settings, PRICES, "2026-11")


def test_without_an_archive_the_answers_are_gone_and_their_sums_are_not(books, tmp_path, settings):
    retained(books, tmp_path, rules=Retention(usage_days=30, archive="none"))
    assert not (tmp_path / "archive").exists()
    assert broken(books.engine) == {}
    with pytest.raises(Conflict) as refused:
        focus_store.usage(books.engine, settings, PRICES, "2026-11")
    assert refused.value.code == "usage_trimmed"
    assert focus_store.invoice(books.engine, settings, "2026-11")


def test_the_digest_is_signed(books, tmp_path):
    (one, _) = retained(books, tmp_path)
    with books.engine.connect() as connection:
        kept = gone_store.trimmed(connection)["2026-11"]
    assert open_jws(kept.seal, {KEY.kid: KEY.public}, "t") == one.digest.canonical()
    assert (kept.by, kept.digest) == ("ines", one.digest)


@pytest.mark.parametrize("moment", ["archived", "marked", "half deleted"])
def test_a_run_that_was_killed_is_finished_by_the_next(books, tmp_path, monkeypatch, moment):
    class Killed(Exception):
        pass

    def killed(*_):
        raise Killed

    before = told(books.engine)
    now_us = books.clock.now_us() + 60 * DAY_US
    with monkeypatch.context() as patch:
        if moment == "marked":
            patch.setattr(trim_store, "delete", killed)
        patch.setattr(trim_store, "AT_ONCE_FIRST", 2)
        with pytest.raises(Killed):
            list(
                retention_store.retain(
                    books.engine, RETENTION, tmp_path, by="ines", now_us=now_us,
                    seal=killed if moment == "archived" else lambda _: "",
                    pause=lambda _: killed() if _archived(tmp_path) else None,
                )
            )  # fmt: skip
    assert broken(books.engine) == {}
    assert rows(books.engine) > 0
    assert sum(one.deleted for one in retained(books, tmp_path)) in {9, 7}
    assert rows(books.engine) == 0
    assert broken(books.engine) == {}
    assert told(books.engine) == before


def _archived(folder):
    return (folder / "archive" / "2026-11.jsonl.gz").exists()


def test_answers_that_are_not_what_the_close_counted_stay(books, tmp_path):
    with books.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER event_no_update")
        else:
            connection.exec_driver_sql("DROP TRIGGER event_no_update ON event")
        connection.exec_driver_sql("UPDATE event SET outcome = 'cut' WHERE idx = 0")
        connection.commit()
    with pytest.raises(Conflict, match="was closed with") as refused:
        retained(books, tmp_path)
    assert refused.value.code == "usage_not_as_closed"
    assert rows(books.engine) == 16
    assert list((tmp_path / "archive").iterdir()) == []


def test_a_disk_that_takes_no_archive_lets_nothing_go(books, tmp_path):
    (tmp_path / "archive").write_text("in the way")
    with pytest.raises(OSError, match="archive"):
        retained(books, tmp_path)
    assert rows(books.engine) == 16

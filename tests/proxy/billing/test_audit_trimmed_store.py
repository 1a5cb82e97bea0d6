"""What an audit finds where digests were changed, or do not fit their periods."""

import shutil

import pytest
import sqlalchemy as sa

from proxy.billing import retention_store
from proxy.billing.audit_store import audit
from proxy.billing.periods import DAY_US
from proxy.database import open_engine
from proxy.settings import Retention
from tests.books import Bookkeeping
from tests.proxy.billing.test_audit_store import altered


@pytest.fixture
def left(sqlite_books, tmp_path):
    shutil.copyfile(sqlite_books, tmp_path / "store.db")
    books = Bookkeeping(open_engine(f"sqlite:///{tmp_path / 'store.db'}"), new=False)
    now_us = books.clock.now_us() + 60 * DAY_US
    rules = Retention(usage_days=30, archive="none")
    asked = {"seal": lambda _: "", "by": "ines", "now_us": now_us, "pause": lambda _: None}
    assert len(list(retention_store.retain(books.engine, rules, tmp_path, **asked))) == 2
    yield books
    books.engine.dispose()


def changed(old, new):
    return f"UPDATE trimmed_period SET digest = replace(digest, '{old}', '{new}') WHERE label = '2026-11'"  # noqa: S608  our own words


@pytest.mark.parametrize(
    ("statement", "finds"),
    [
        (changed('"answers":7', '"answers":8'), {"I3", "I7"}),
        ("UPDATE trimmed_period SET answers = 8 WHERE label = '2026-11'", {"I7", "I15"}),
        (changed('"complete":7', '"cut":7'), {"I7"}),
        (changed('"paid":', '"free2":'), {"I7"}),
        (changed("[0,14]", "[0,13]"), {"I6"}),
        (changed('"period":"2026-11"', '"period":"2026-12"'), {"I6"}),
        (changed("{", "["), {"I7"}),
        ("UPDATE trimmed_range SET end_idx = 13 WHERE start_idx = 0", {"I6"}),
        ("DELETE FROM trimmed_range WHERE start_idx = 14", {"I6"}),
    ],
)
def test_a_digest_that_is_not_its_periods_is_found(left, statement, finds):
    altered(left.engine, statement)
    broken = {one.id for one in audit(left.engine) if one.state == "broken"}
    assert broken - {"I10"} == finds  # who changed it took the guards off


def test_who_deletes_a_mark_has_no_answers_left(left):
    with left.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM event")).scalar_one() == 0
    altered(left.engine, "DELETE FROM trimmed_range WHERE start_idx >= 0")
    altered(left.engine, "DELETE FROM trimmed_period WHERE answers >= 0")
    broken = {one.id for one in audit(left.engine) if one.state == "broken"}
    assert {"I7", "I15"} <= broken

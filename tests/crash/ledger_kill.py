"""Kills a process that closes periods and pays, at named points of what it writes, and audits what is left.

    python tests/crash/ledger_kill.py --kills 200

Each child carries answers, closes a period, takes a payout from proposal to the bank's answer, and lets the
answers of closed periods leave the store; it dies by SIGKILL just before or just after it writes to one of these
tables or deletes from one, or as it commits. What it was told is done must be there once and unchanged, in the
store or in an archive that has its digest's hash; what is half done must be gone; every invariant must hold. Limit: as in
journal_kill.py, a killed process leaves the kernel's pages behind, so this is no power cut.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from proxy.billing import payouts_store, retention_store, store
from proxy.billing.audit_store import audit
from proxy.billing.payouts import payment_states, state_of
from proxy.database import open_engine, upgrade
from proxy.metering import gone_store
from proxy.metering.gone_store import Trimmed
from proxy.metering.usage import Line
from proxy.receipts.appending import drain
from proxy.settings import Retention
from tests.books import DAY_US, Bookkeeping
from tests.crash.journal_kill import run_and_kill
from tests.proxy.receipts.making import SECRETS

TABLES = (
    "event", "attributed", "event_line", "account", "transfer", "entry", "period", "statement", "period_window",
    "reported_transfer", "payout_batch", "payout", "payout_event",
    "log_entry", "trimmed_period", "trimmed_range", "-event_line", "-event", "-attributed",
)  # fmt: skip
FAILPOINTS = ("commit", *(f"{when} {table}" for table in TABLES for when in ("before", "after")))
AUDIT_EVERY = 20
NUMBERS = 10_000  # of answers and ids that one child may use


@dataclass(frozen=True)
class Report:
    """told: what children were told is done. lost, doubled and unbalanced must be 0."""

    kills: int
    points: int
    told: int
    periods: int
    payments: int
    lost: int
    doubled: int
    unbalanced: int

    def __str__(self) -> str:
        return (
            f"{self.kills} kills at {self.points} points: told {self.told}, periods {self.periods}, "
            f"payments {self.payments}, lost {self.lost}, doubled {self.doubled}, unbalanced {self.unbalanced}"
        )


class Fatal:
    """Dies at its failpoint once it has been passed `countdown` times."""

    def __init__(self, point: str, countdown: int) -> None:
        self.point, self.countdown = point, countdown

    def watch(self, engine: sa.Engine) -> None:
        sa.event.listen(engine, "before_cursor_execute", lambda *a: self.reach(f"before {_table(a[2])}"))
        sa.event.listen(engine, "after_cursor_execute", lambda *a: self.reach(f"after {_table(a[2])}"))
        sa.event.listen(engine, "commit", lambda *_: self.reach("commit"))

    def reach(self, point: str) -> None:
        if point == self.point:
            self.countdown -= 1
            if self.countdown <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _table(statement: str) -> str:
    """Return the table that a statement adds to, with a - before it where it deletes."""
    for verb, mark in (("INSERT INTO ", ""), ("DELETE FROM ", "-")):
        if statement.startswith(verb):
            return mark + statement.removeprefix(verb).split(" ", 1)[0].strip('"')
    return ""


def work(url: str, child: int, point: str, pipe: int) -> None:
    """What a child does until it dies: periods and payouts, one after the other."""
    draw = random.Random(f"{child} {point}")
    engine = open_engine(url)
    Fatal(point, draw.randrange(1, 4)).watch(engine)
    books = Bookkeeping(engine, new=False)
    books.number = books.ids.count = child * NUMBERS
    books.clock.advance(child * 1_000)

    def told(*words: str) -> None:
        os.write(pipe, (" ".join(words) + "\n").encode())

    told("begun")
    while True:
        for _ in range(3):
            used = {draw.choice(books.works): draw.randrange(1, 400_000) for _ in range(2)}
            answer = books.records([Line(*one) for one in used.items()], price_grains=draw.randrange(10**11))
            books.carry(answer)
            told("answer", answer[0].id)
        label = f"p{child}-{books.number}"
        told("period", label, books.close(label).manifest_sha256)
        _pay(books, told)
        drain(engine, lambda _us: SECRETS)
        for left in _leaving(books):
            told("left", left.standing.period)


def _leaving(books: Bookkeeping) -> Iterator[retention_store.Left]:
    """Let every closed period's answers go, as if two days had passed."""
    return retention_store.retain(
        books.engine,
        Retention(usage_days=1),
        _folder(books.engine),
        seal=lambda _: "",
        by="crash",
        now_us=books.clock.now_us() + 2 * DAY_US,
        pause=lambda _: None,
    )


def _folder(engine: sa.Engine) -> Path:
    return Path(str(engine.url.database)).parent


def _pay(books: Bookkeeping, told: Any) -> None:
    """Finish what another began and was killed in, then propose again and take it to the end."""
    for batch, events in payouts_store.batches(books.engine, limit=1):
        if state_of(events) == "created":
            books.bob.cancel(batch.id, "left over")
        elif state_of(events) == "approved":
            books.export(batch.id)
    batch = books.propose()
    if not batch.payments:
        return
    books.bob.approve(batch.id)
    told("approved", batch.id)
    books.export(batch.id)
    told("exported", batch.id)
    first, *_ = batch.payments
    books.bob.settle(batch.id, [first.id], ref="bank")
    told("settled", batch.id, first.id)


def kill_many(url: str, kills: int, seed: int) -> Report:
    """Run and kill `kills` children, one after the other, on one store."""
    upgrade(url)
    engine = open_engine(url)
    Bookkeeping(engine)
    draw, told, unbalanced = random.Random(seed), [], 0
    points = [FAILPOINTS[place % len(FAILPOINTS)] for place in range(kills)]
    draw.shuffle(points)
    for child, point in enumerate(points, 1):
        engine.dispose()  # a child of a fork must not find this one's connections

        def run(pipe: int, child: int = child, point: str = point) -> None:
            work(url, child, point, pipe)

        told += run_and_kill(run, after_s=20)
        if child % AUDIT_EVERY == 0 or child == kills:
            unbalanced += _broken(engine)
    lost, doubled = _compared(engine, [line.split(" ") for line in told])
    periods = len(store.list_periods(engine))
    with engine.connect() as connection:
        payments = int(connection.scalar(sa.text("SELECT count(*) FROM payout")) or 0)
    engine.dispose()
    kinds = len(set(points))
    return Report(kills, kinds, len(told) - kills, periods, payments, lost, doubled, unbalanced)


def _broken(engine: sa.Engine) -> int:
    broken = [one for one in audit(engine) if one.state == "broken"]
    for one in broken:
        print(one.id, one.named)
    return len(broken)


def _compared(engine: sa.Engine, told: list[list[str]]) -> tuple[int, int]:
    """Return (how much of what was told is not there as it was told, how much is there twice)."""
    with engine.connect() as connection:
        events = Counter(connection.execute(sa.text("SELECT id FROM event")).scalars())
        shares = Counter(connection.execute(sa.text("SELECT event_id FROM attributed")).scalars())
        gone = gone_store.trimmed(connection)
        leaving = [label for label, one in gone.items() if _is_left(connection, one)]
    for label, one in gone.items():
        archived = [kept.answer.id for kept in retention_store.archived(_folder(engine), one)]
        if label not in leaving:  # one that was killed half-way has some of them still in the store
            events.update(archived)
            shares.update(archived)
        else:
            events |= Counter(archived)
            shares |= Counter(archived)
    periods = {one.label: one.manifest_sha256 for one in store.list_periods(engine)}
    lost = 0
    for kind, *words in told:
        if kind == "answer":
            lost += not (events[words[0]] and shares[words[0]])
        elif kind == "period":
            lost += periods.get(words[0]) != words[1]
        elif kind == "left":
            lost += words[0] not in gone or words[0] in leaving
        elif kind in {"approved", "exported", "settled"}:
            batch, happened = payouts_store.batch(engine, words[0])
            kinds = [event.kind for event in happened]
            lost += kind not in kinds or (
                kind == "settled" and payment_states(batch, happened)[words[1]] != kind
            )
    counted = sum(one.totals.events for one in store.list_periods(engine))
    doubled = sum(times > 1 for times in (*events.values(), *shares.values())) + max(0, counted - len(shares))
    return lost, doubled


def _is_left(connection: sa.Connection, one: Trimmed) -> bool:
    """Return whether any of a period's answers is still in the store."""
    asked = sa.text(
        "SELECT count(*) FROM attributed WHERE shard_id = :shard AND idx >= :start AND idx < :end"
    )
    return any(
        connection.scalar(asked, {"shard": shard, "start": start, "end": end})
        for shard, (start, end) in one.digest.shards.items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="endcredits-crash-") as folder:
        report = kill_many(f"sqlite:///{Path(folder) / 'store.db'}", options.kills, options.seed)
    print(report)
    return 0 if report.lost == report.doubled == report.unbalanced == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

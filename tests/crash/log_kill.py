"""Kills a process that appends to the log, and signs periods into it, at named points of what it writes.

    python -m tests.crash.log_kill --kills 200

Each child carries answers, appends them, says the checkpoint it would sign, and closes a signed period; it
changes the registry, and dies by SIGKILL just before or just after it writes to one of the log's tables, or as
it commits. Afterwards the log grew out of every checkpoint that was ever said (no fork), has each settled
answer, each manifest and each change of the registry once (nothing lost, nothing twice), no gap, and no answer
before a change that it quotes. Limit: as in journal_kill.py, this is no power cut.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from proxy.billing.proving import Prover
from proxy.catalogue.works import Consent
from proxy.database import open_engine, upgrade
from proxy.metering.usage import Line
from proxy.receipts import history_store, manifest_store, store
from proxy.receipts.appending import append_some, drain
from proxy.receipts.issuing import Issuer
from proxy.receipts.tree import consistency_path
from proxy.receipts.verify import Invalid, check_consistency
from tests.books import Bookkeeping
from tests.crash.journal_kill import run_and_kill

TABLES = (
    "log_state", "log_entry", "log_node", "attributed", "period", "manifest", "sum_chunk", "registry_event",
)  # fmt: skip
FAILPOINTS = ("commit", *(f"{when} {table}" for table in TABLES for when in ("before", "after")))
EARLY = """
SELECT a.event_id FROM attributed a JOIN log_entry e ON e.ref = a.event_id
WHERE NOT EXISTS (SELECT 1 FROM log_entry c WHERE c.kind = 'changes' AND c.idx < e.idx
  AND c.ref >= printf('changes %019d', a.registry_seq))"""
NUMBERS = 100_000  # of answers and ids that one child may use
ANSWERS = 90  # of one round: every third fills a subtree of 256


@dataclass(frozen=True)
class Report:
    """said: checkpoints that children said. forked, lost, doubled and broken must be 0."""

    kills: int
    points: int
    said: int
    entries: int
    periods: int
    forked: int
    lost: int
    doubled: int
    broken: int

    def __str__(self) -> str:
        return (
            f"{self.kills} kills at {self.points} points: {self.said} checkpoints, {self.entries} entries, "
            f"{self.periods} periods, forked {self.forked}, lost {self.lost}, doubled {self.doubled}, "
            f"broken {self.broken}"
        )


class Fatal:
    """Dies at its failpoint once it has been passed `countdown` times."""

    def __init__(self, point: str, countdown: int) -> None:
        self.point, self.countdown = point, countdown

    def watch(self, engine: sa.Engine) -> None:
        sa.event.listen(engine, "before_cursor_execute", lambda *a: self.reach(f"before {written(a[2])}"))
        sa.event.listen(engine, "after_cursor_execute", lambda *a: self.reach(f"after {written(a[2])}"))
        sa.event.listen(engine, "commit", lambda *_: self.reach("commit"))

    def reach(self, point: str) -> None:
        if point == self.point:
            self.countdown -= 1
            if self.countdown <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def written(statement: str) -> str:
    """Return the table that a statement writes to, or ""."""
    for verb in ("INSERT INTO ", "UPDATE "):
        if statement.startswith(verb):
            return statement.removeprefix(verb).split(" ", 1)[0].strip('"')
    return ""


def work(folder: Path, child: int, point: str, pipe: int) -> None:
    """What a child does until it dies."""
    draw = random.Random(f"{child} {point}")
    engine = open_engine(f"sqlite:///{folder / 'store.db'}")
    Fatal(point, draw.randrange(1, 4)).watch(engine)
    books = Bookkeeping(engine, new=False)
    books.number = books.ids.count = child * NUMBERS
    books.clock.advance(child * 1_000)
    issuer = Issuer(folder, "credits.example/log", books.clock)
    books.prover = Prover(engine, issuer)
    os.write(pipe, b"begun\n")
    while True:
        books.catalogue.set_consent(draw.choice(books.works), Consent.of("output_influence", "paid"))
        records = [
            record
            for _ in range(ANSWERS)
            for record in books.records([Line(draw.choice(books.works), 5)], price_grains=7)
        ]
        books.carry(records)
        while append_some(engine, issuer.secrets_of):
            state = store.read_state(engine)
            os.write(pipe, f"checkpoint {state.size} {state.root.hex()}\n".encode())
        books.close(f"p{child}-{books.number}")


def kill_many(folder: Path, kills: int, seed: int) -> Report:
    """Run and kill `kills` children, one after the other, on one store."""
    url = f"sqlite:///{folder / 'store.db'}"
    upgrade(url)
    engine = open_engine(url)
    books = Bookkeeping(engine)
    issuer = Issuer(folder, "credits.example/log", books.clock)
    draw, told = random.Random(seed), []
    points = [FAILPOINTS[place % len(FAILPOINTS)] for place in range(kills)]
    draw.shuffle(points)
    for child, point in enumerate(points, 1):
        engine.dispose()  # a child of a fork must not find this one's connections

        def run(pipe: int, child: int = child, point: str = point) -> None:
            work(folder, child, point, pipe)

        told += run_and_kill(run, after_s=20)
    drain(engine, issuer.secrets_of)
    said = [line.split(" ")[1:] for line in told if line.startswith("checkpoint ")]
    forked = _forked(engine, [(int(size), bytes.fromhex(root)) for size, root in said])
    with engine.connect() as connection:
        refs = list(connection.execute(sa.text("SELECT ref FROM log_entry ORDER BY idx")).scalars())
        settled = list(connection.execute(sa.text("SELECT event_id FROM attributed")).scalars())
        labels = list(connection.execute(sa.text("SELECT label FROM period")).scalars())
        changes = connection.scalar(sa.text("SELECT max(seq) FROM registry_event"))
        early = list(connection.execute(sa.text(EARLY)).scalars())
        entries, broken = store.differences(connection)
    broken += [f"{one} was logged before a change that it quotes" for one in early]
    ends = [0, *map(int, (ref.removeprefix("changes ") for ref in refs if ref.startswith("changes ")))]
    if ends != sorted(set(ends)) or ends[-1] != changes:
        broken.append(f"of {changes} changes of the registry the log has those up to {ends}")
    wanted = {
        *settled,
        *(history_store.ref_of(end) for end in ends[1:]),
        *(manifest_store.ref_of(label) for label in labels),
    }
    for one in broken:
        print(one)
    engine.dispose()
    lost, doubled = len(wanted - set(refs)), len(refs) - len(set(refs)) + len(set(refs) - wanted)
    counts = (len(set(points)), len(said), entries, len(labels))
    return Report(kills, *counts, forked, lost, doubled, len(broken))


def _forked(engine: sa.Engine, said: list[tuple[int, bytes]]) -> int:
    """Return how many checkpoints the log of now does not begin with."""
    state = store.read_state(engine)
    nodes, forked = store.nodes(engine, state.size), 0
    for size, root in said:
        try:
            path = consistency_path(size, state.size, nodes)
            check_consistency(size, root, state.size, state.root, path)
        except Invalid as why:
            print(size, why)
            forked += 1
    return forked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="endcredits-crash-") as folder:
        report = kill_many(Path(folder), options.kills, options.seed)
    print(report)
    return 0 if report.forked == report.lost == report.doubled == report.broken == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

"""What proofs cost: `pytest -m bench tests/bench/test_proof_speed.py -s`, CPU time with its machine.

A receipt with its place in the log; a log of ten million leaves whose complete subtrees are in a store, as years of answers leave it; and a
statement of ten thousand lines with the receipts behind it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import statistics
import time

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing.proving import Prover
from proxy.billing.store import load_closing
from proxy.database import open_engine
from proxy.metering.log_store import events_between
from proxy.metering.store import watermarks
from proxy.metering.usage import Line
from proxy.portal.log import proof_of
from proxy.receipts import store
from proxy.receipts.appending import drain
from proxy.receipts.issuing import Issuer
from proxy.receipts.signing import proof_file
from proxy.receipts.tree import TILE_LEVELS, Subtrees, inclusion_path
from proxy.receipts.verify import Keys, canonical, check_file, check_proof, check_uses
from tests.books import Bookkeeping
from tests.stores import lay

pytestmark = pytest.mark.bench
LEAVES = 10_000_000
BATCH = 100_000
ORIGIN = "credits.example/log"


def machine() -> str:
    return f"{platform.machine()}, Python {platform.python_version()}"


@pytest.fixture
def engine(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    lay(url)
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.mark.timeout(1_800)
def test_a_proof_from_ten_million_leaves(engine, tmp_path):
    tables, tree = SQLModel.metadata.tables, Subtrees()
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA synchronous = OFF")
        for begin in range(0, LEAVES, BATCH):
            entries, nodes = [], []
            for idx in range(begin, begin + BATCH):
                digest = hashlib.sha256(b"%d" % idx).digest()
                entries.append({"idx": idx, "kind": "receipt", "ref": f"rct_{idx}", "digest": digest})
                for level, index, above in tree.append(hashlib.sha256(b"\0\1" + digest).digest()):
                    if level and level % TILE_LEVELS == 0:
                        nodes.append({"level": level, "idx": index, "digest": above})
            connection.execute(sa.insert(tables["log_entry"]), entries)
            if nodes:
                connection.execute(sa.insert(tables["log_node"]), nodes)
        state = {"size": tree.size, "subtrees": b"".join(tree.hashes), "positions": "{}"}
        connection.execute(sa.update(tables["log_state"]).values(state))
        connection.commit()
    signer = Issuer(tmp_path, ORIGIN, Bookkeeping(engine).clock).signer
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took_ms = []
    for number in range(200):
        place = number * (LEAVES // 200) + 77
        began = time.process_time()
        reached = store.read_state(engine)
        path = inclusion_path(place, reached.size, store.nodes(engine, reached.size))
        proof = proof_file(place, path, signer.checkpoint(reached.size, reached.root))
        took_ms.append((time.process_time() - began) * 1_000)
        entry = b"\1" + hashlib.sha256(b"%d" % place).digest()
        assert check_proof(proof, entry, signer.verifier_keys).size == LEAVES
    grew = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(
        f"\n{machine()}: a proof from {LEAVES} leaves {statistics.median(took_ms):.2f} ms, "
        f"95 % below {sorted(took_ms)[189]:.2f} ms of CPU, {grew} MB more memory"
    )


@pytest.mark.parametrize("works", [2, 5])
def test_what_a_receipt_and_its_place_in_the_log_add_to_an_answer(engine, tmp_path, works):
    books, answers = Bookkeeping(engine, creators=2, works=100), 5_000
    issuer = Issuer(tmp_path, ORIGIN, books.clock)
    for begin in range(0, answers, 500):
        carried = [
            record
            for number in range(begin, begin + 500)
            for record in books.records(
                [Line(f"w_{(number + beside) % 100}", 100_000) for beside in range(works)],
                price_grains=10**9,
                day=1,
            )
        ]
        books.carry(carried)
    (shard,) = watermarks(engine)
    events = list(events_between(engine, {}, {shard: watermarks(engine)[shard]}))
    began = time.process_time()
    for event in events:
        issuer.receipt(event)
    signed = time.process_time()
    assert drain(engine, issuer.secrets_of) == 2 * answers
    logged = time.process_time()
    each_us = [round((end - start) / answers * 1e6, 1) for start, end in ((began, signed), (signed, logged))]
    keys = Keys.parse(canonical(issuer.about()))
    files = [
        canonical({"receipt": issuer.receipt(event), "proof": proof_of(engine, issuer, event.id)})
        for event in events[::10]
    ]
    began = time.process_time()
    for file in files:
        assert len(check_file(file, keys)) == 2
    checked_ms = (time.process_time() - began) / len(files) * 1e3
    print(
        f"\n{machine()}: an answer of {works} works, receipt {each_us[0]} us and place in the log "
        f"{each_us[1]} us of CPU; both checked in {checked_ms:.3f} ms"
    )


@pytest.mark.timeout(600)
def test_a_receipt_and_a_statement_of_ten_thousand_lines(engine, tmp_path):
    books = Bookkeeping(engine, creators=2, works=100)
    issuer = Issuer(tmp_path, ORIGIN, books.clock)
    books.prover = prover = Prover(engine, issuer)
    # A line is a work in an app on a day: a hundred works on a hundred days.
    records = [
        record
        for day in range(100)
        for first in range(0, 100, 5)
        for record in books.records(
            [Line(f"w_{first + number}", 100_000) for number in range(5)], price_grains=10**9, day=day
        )
    ]
    for begin in range(0, len(records), 1_000):
        books.carry(records[begin : begin + 1_000])
    closing = books.close("p")
    statements = {one.creator: one for one in load_closing(engine, closing.label).statements}
    keys = Keys.parse(canonical(issuer.about()))
    lines = sum(len(one.lines) for one in statements.values())
    for what in ("signed", "with the receipts behind it"):
        took_s = 0.0
        for statement in statements.values():
            file = prover.statement_file(statement)
            rows = list(prover.uses_file(statement)) if what != "signed" else []
            began = time.process_time()
            check_file(file, keys)
            if rows:
                check_uses(rows, file, keys)
            took_s += time.process_time() - began
        print(f"\n{machine()}: {lines} lines of statements, {what}: checked in {took_s:.2f} s of CPU")
    shown = json.loads(list(prover.uses_file(statements["c_0"]))[1])
    began = time.process_time()
    for _ in range(1_000):
        check_file(shown["receipt"].encode(), keys)
    print(f"\n{machine()}: a receipt {(time.process_time() - began):.3f} ms of CPU")

import hashlib

import pytest
from sqlalchemy.exc import DBAPIError

from proxy.receipts import manifest_store, store
from proxy.receipts.manifest_store import Manifest
from proxy.receipts.sums import KeptTree, SumTree
from proxy.receipts.verify import commitment

SECRET = hashlib.sha256(b"a period").digest()


def made(label="2026-11", seq=1, leaves=8):
    return Manifest(label, seq, "a.b.c", hashlib.sha256(label.encode()).digest(), leaves, 0)


def tree(count):
    return SumTree("payee", {f"c_{n}": (n, commitment({"of": n})) for n in range(count)}, SECRET)


def written(engine, manifest, trees=()):
    with engine.begin() as connection:
        manifest_store.write(connection, manifest, trees)


def test_a_manifest_is_read_as_it_was_written_and_the_next_one_is_told_of_it(engine):
    written(engine, made())
    assert manifest_store.read(engine, "2026-11") == made()
    assert manifest_store.read(engine, "2026-12") is None
    with engine.connect() as connection:
        assert manifest_store.previous(connection, 2) == made().digest
        assert manifest_store.previous(connection, 1) == manifest_store.previous(connection, 3) == b""


def test_leaves_are_shown_from_the_store_as_from_memory(engine):
    whole = tree(150)  # three chunks of leaves
    written(engine, made(leaves=whole.size), [("payee", whole)])
    kept = KeptTree("payee", whole.size, SECRET, manifest_store.chunks(engine, "2026-11", "payee"))
    for creator in (0, 1, 77, 149):
        assert kept.openings(f"c_{creator}", creator) == whole.openings(f"c_{creator}", creator)
    for nobody in ("c_150", "", "zz"):
        with pytest.raises(KeyError):
            kept.openings(nobody, 0)


def test_what_the_log_does_not_hold_yet_is_told_in_order(engine):
    for seq, label in ((2, "a"), (1, "b")):
        written(engine, made(label, seq))
    assert [label for label, _ in manifest_store.unlogged(engine)] == ["b", "a"]
    state = store.read_state(engine)
    assert store.append(engine, state, [store.Entry("manifest", manifest_store.ref_of("b"), bytes(32))], {})
    assert [label for label, _ in manifest_store.unlogged(engine)] == ["a"]


@pytest.mark.parametrize(
    "statement", ["UPDATE manifest SET jws = ''", "DELETE FROM sum_chunk", "DELETE FROM manifest"]
)
def test_nothing_of_it_can_be_changed(engine, statement):
    written(engine, made(), [("payee", tree(1))])
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(statement)

import hashlib

import pytest
import sqlalchemy as sa

from proxy.errors import Conflict
from proxy.receipts import store
from proxy.receipts.appending import drain
from proxy.receipts.signing import proof_file
from proxy.receipts.tree import Subtrees, Tile, consistency_path, inclusion_path, tiles_of
from proxy.receipts.verify import EMPTY_ROOT, check_consistency, check_proof, leaf_hash
from tests.proxy.receipts.conftest import carry
from tests.proxy.receipts.making import ORIGIN, SECRETS, SIGNER


def entries(begin, end):
    return [
        store.Entry("receipt", f"rct_{n}", hashlib.sha256(str(n).encode()).digest())
        for n in range(begin, end)
    ]


def root_of(count):
    tree = Subtrees()
    for entry in entries(0, count):
        list(tree.append(leaf_hash(b"\1" + entry.digest)))
    return tree.root()


def test_an_empty_log_has_the_root_of_nothing(any_engine):
    assert (store.read_state(any_engine), store.read_state(any_engine).root) == (store.State(), EMPTY_ROOT)
    assert store.place_of(any_engine, "rct_1") is None


def test_a_log_grows_by_what_is_appended_and_says_where_it_stands(any_engine):
    state = store.append(any_engine, store.State(), entries(0, 3), {"a": 7})
    assert state == store.read_state(any_engine)
    assert (state.size, dict(state.positions), state.root) == (3, {"a": 7}, root_of(3))
    state = store.append(any_engine, state, entries(3, 300), {"b": 2})
    assert (state.size, dict(state.positions), state.root) == (300, {"a": 7, "b": 2}, root_of(300))
    assert store.place_of(any_engine, "rct_299") == 299
    assert list(store.read_entries(any_engine, 1, 3)) == [b"\1" + entry.digest for entry in entries(1, 3)]
    assert store.bundle(store.read_entries(any_engine, 1, 2)) == b"\0\x21\1" + entries(1, 2)[0].digest


def test_of_two_who_append_at_once_one_is_first_and_nothing_forks(any_engine):
    start = store.append(any_engine, store.State(), entries(0, 2), {"a": 2})
    assert store.append(any_engine, start, entries(2, 4), {"a": 4}) is not None
    assert store.append(any_engine, start, entries(4, 6), {"a": 6}) is None
    assert store.append(any_engine, store.State(), entries(4, 6), {"a": 6}) is None
    assert store.read_state(any_engine).size == 4
    assert store.place_of(any_engine, "rct_4") is None


def test_records_without_an_entry_move_the_place_alone(any_engine):
    state = store.append(any_engine, store.State(), [], {"a": 5})
    assert (state.size, dict(store.read_state(any_engine).positions)) == (0, {"a": 5})
    assert store.append(any_engine, store.State(), entries(0, 1), {"a": 1}) is None
    assert store.append(any_engine, state, entries(0, 1), {"a": 6}).size == 1


def test_what_was_logged_is_not_logged_again_nor_changed(any_engine):
    state = store.append(any_engine, store.State(), entries(0, 2), {"a": 2})
    with pytest.raises(Conflict):
        store.append(any_engine, state, entries(1, 2), {"a": 3})
    assert store.read_state(any_engine) == state
    for change in ("UPDATE log_entry SET ref = 'x'", "DELETE FROM log_entry", "DELETE FROM log_node"):
        if "node" in change:
            store.append(any_engine, state, entries(2, 300), {"a": 300})
        with pytest.raises(sa.exc.DBAPIError), any_engine.begin() as connection:
            connection.execute(sa.text(change))


def test_every_entry_and_every_growth_can_be_shown_from_tiles(engine):
    state, sizes, roots = store.State(), [1, 255, 256, 257, 700], {}
    for before, size in zip([0, *sizes], sizes, strict=False):
        state = store.append(engine, state, entries(before, size), {"a": size})
        roots[size] = state.root
        node = store.nodes(engine, size)
        for index in {0, size // 2, size - 1, 254 % size}:
            proof = proof_file(index, inclusion_path(index, size, node), SIGNER.checkpoint(size, state.root))
            check_proof(proof, b"\1" + entries(index, index + 1)[0].digest, SIGNER.verifier_keys, ORIGIN)
        for old, root in roots.items():
            check_consistency(old, root, size, state.root, consistency_path(old, size, node))
    for tile in tiles_of(0, 700):
        assert len(store.read_tile(engine, tile)) == 32 * tile.width
    assert store.read_tile(engine, Tile(1, 0, 2)) == b"".join(
        store.nodes(engine, 700)(8, at) for at in (0, 1)
    )


def test_a_log_that_was_tampered_with_is_told_from_a_sound_one(engine):
    carry(engine, range(600))
    drain(engine, lambda _us: SECRETS)
    with engine.connect() as connection:
        assert store.differences(connection) == (600, [])
    for change, says in (
        ("DELETE FROM log_entry WHERE idx = 300", "after entry 299 of the log comes 301"),
        ("UPDATE log_node SET digest = zeroblob(32) WHERE idx = 1", "subtree 1 of level 8"),
        ("UPDATE log_state SET size = 599", "another root"),
        ("DELETE FROM attributed WHERE event_id = 'rct_5'", "passed 599 settled answers and holds 600"),
    ):
        with engine.connect() as connection:
            for trigger in ("log_entry_no_delete", "log_node_no_update", "attributed_no_delete"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}")
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            connection.exec_driver_sql(change)
            assert says in store.differences(connection)[1][0]
            connection.rollback()

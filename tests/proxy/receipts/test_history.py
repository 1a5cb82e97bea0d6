"""A change of the registry is shown to whoever made it, at its number, and shows nothing of the others."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.receipts.history import Batch, Change, shown
from proxy.receipts.verify import Invalid, Keys, canonical, changes_entry, check_file, from_b64url
from tests.proxy.receipts.making import ORIGIN, SECRETS, SIGNER, Log

KEYS = Keys(ORIGIN, {}, SIGNER.verifier_keys)
WITHDRAWN = {"work": "w_3"}


def secrets_of(_us):
    return SECRETS


def changes(count, first=1):
    return [
        Change(
            seq, "work_withdrawn", f"w_{seq}", "4f4a4f4f3e9c5d3c0c0c5d0c7a9f0b3d" * 2, "c_1", 1_793_500_000_000_000 + seq
        )
        for seq in range(first, first + count)
    ]  # fmt: skip


def file_of(seq, some, **more):
    """What shows a change whose batch is the second of three entries."""
    parts = dict(shown(seq, some, secrets_of))
    entry = changes_entry(canonical(parts["batch"]))
    return {**parts, **more, "proof": Log([b"before", entry, b"after"]).proof(1)}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 1_000), st.data())
def test_each_change_of_a_batch_holds_at_its_number(count, first, data):
    seq = data.draw(st.integers(first, first + count - 1))
    proven = check_file(canonical(file_of(seq, changes(count, first))), KEYS)
    assert proven[0].startswith(f"registry: its change {seq} is work_withdrawn of w_{seq}, by c_1, 2026-")
    assert proven[1].startswith("logged: it is in one of the 3 entries")


def test_an_entry_is_the_hash_of_its_batch():
    batch = Batch.of(changes(5, 3), secrets_of)
    assert changes_entry(canonical(batch.to_object())) == b"\x03" + batch.digest
    assert (batch.to_object()["first"], batch.to_object()["n"]) == (3, 5)


@pytest.mark.parametrize(
    ("what", "name", "other"),
    [
        ("change", "seq", 4), ("change", "kind", "consent_set"), ("change", "work", "w_4"), ("change", "actor", "c_2"),
        ("change", "at", 1_000_001), ("change", "payload", "0" * 64), ("batch", "first", 2), ("batch", "n", 6),
        ("batch", "v", 2), ("batch", "root", "AAAA"), ("batch", "more", 1), ("change", "more", 1),
    ],
)  # fmt: skip
def test_what_is_said_otherwise_of_a_change_does_not_hold(what, name, other):
    said = file_of(3, changes(5))
    said[what][name] = other
    with pytest.raises(Invalid):
        check_file(canonical(said), KEYS)


def test_any_single_flipped_bit_makes_a_change_invalid():
    raw = canonical(file_of(3, changes(5)))
    assert check_file(raw, KEYS)
    for bit in range(0, len(raw) * 8, 7):  # every byte, and each of its bits by turns
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Invalid):
            check_file(bytes(flipped), KEYS)


def test_what_changed_is_told_only_as_it_was():
    digest = hashlib.sha256(canonical(WITHDRAWN)).hexdigest()
    some = [*changes(2), Change(3, "work_withdrawn", "w_3", digest, "c_1", 1)]
    told = file_of(3, some, said=WITHDRAWN)
    assert 'said: {"work":"w_3"}' in check_file(canonical(told), KEYS)
    other = copy.deepcopy(told)
    other["said"] = {"work": "w_4"}
    with pytest.raises(Invalid, match="not what changed"):
        check_file(canonical(other), KEYS)


def test_a_file_tells_nothing_of_other_changes():
    text = json.dumps(file_of(3, changes(5)))
    assert "w_3" in text
    assert not any(f"w_{other}" in text for other in (1, 2, 4, 5))
    leaves = [from_b64url(one, "path") for one in file_of(3, changes(5))["path"]]
    assert len(set(leaves)) == len(leaves) == 3

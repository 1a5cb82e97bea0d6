"""What a receipt says, as bytes: which works an answer drew on, in a form that shows each creator her own.

The payload is canonical JSON with ASCII keys, strings and integers. Works are in it as the root of a small
Merkle tree over salted lines, so that one line can be opened and the others stay closed; the output is in it
as a keyed digest whose key the app alone is given. No prompt, no output, no end user, no amount that anybody
else owes. docs/receipts.md is the normative text.

Salts and nonces are drawn from a secret of the month in which the answer was given. When that is destroyed
nothing can be opened any more that was not opened before, and no signature or hash changes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.receipts.tree import Subtrees, inclusion_path
from proxy.receipts.verify import SALT_BYTES, b64url, canonical, leaf_hash, node_hash

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One work in an answer: its share, and whether it is paid, free or prohibited."""

    work: str
    ppm: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a settled answer. Each becomes a member of the payload; see `payload`.

    shard and index: the place of its `attributed` record in the journal. price_grains: None where there is
    none. output: the digest of the text that was attributed, 32 bytes, or empty where there was none.
    """

    id: str
    shard: str
    index: int
    settled_us: int
    app: str
    model: str
    method: str
    registry_seq: int
    policy: str
    currency: str
    price_grains: int | None
    unattributed_ppm: int
    outcome: str
    lines: tuple[ReceiptLine, ...]
    output: bytes = b""


@dataclass(frozen=True, slots=True)
class Opened:
    """One line of a receipt with what shows it: its salt, its place among all, and the hashes beside it."""

    line: ReceiptLine
    salt: bytes
    index: int
    count: int
    path: tuple[bytes, ...]


class Secrets:
    """Salts and nonces of receipts. month_key: 32 secret bytes of the month of `settled_us`."""

    def __init__(self, month_key: bytes) -> None:
        """Draw from a month's key."""
        self._key = month_key

    def salt(self, receipt: str, index: int) -> bytes:
        """Return the salt of a receipt's line: 16 bytes."""
        return self._drawn(f"salt|{receipt}|{index}")

    def nonce(self, receipt: str) -> bytes:
        """Return the key under which a receipt holds its output's digest: 16 bytes, for the app alone."""
        return self._drawn(f"nonce|{receipt}")

    def _drawn(self, what: str) -> bytes:
        return hmac.new(self._key, what.encode("utf-8"), hashlib.sha256).digest()[:SALT_BYTES]


def payload(facts: Facts, secrets: Secrets) -> bytes:
    """Return the bytes that are signed.

    app, att (what attributed), cur, iat (microseconds), idx and shard (place in the journal), lroot (root
    over lines), mdl, n (lines), oc (keyed digest of the output, or ""), out (how the answer ended), pol
    (policy), price (grains; left out where there is none), reg (registry's number), rid, unat (ppm), v.
    """
    said: dict[str, Any] = {
        "app": facts.app,
        "att": facts.method,
        "cur": facts.currency,
        "iat": facts.settled_us,
        "idx": facts.index,
        "lroot": b64url(_root(_hashes(facts, secrets))),
        "mdl": facts.model,
        "n": len(facts.lines),
        "oc": b64url(commitment(facts.output, secrets.nonce(facts.id))) if facts.output else "",
        "out": facts.outcome,
        "pol": facts.policy,
        "reg": facts.registry_seq,
        "rid": facts.id,
        "shard": facts.shard,
        "unat": facts.unattributed_ppm,
        "v": VERSION,
    }
    if facts.price_grains is not None:
        said["price"] = facts.price_grains
    return canonical(said)


def commitment(output: bytes, nonce: bytes) -> bytes:
    """Return what a receipt holds of an output. output: its SHA-256; nonce: 16 bytes."""
    return hmac.new(nonce, output, hashlib.sha256).digest()


def line_entry(line: ReceiptLine, salt: bytes) -> bytes:
    """Return the bytes of a line that its leaf hashes: the salt, then the line canonically."""
    return salt + canonical({"ppm": line.ppm, "verdict": line.verdict, "work": line.work})


def open_line(facts: Facts, secrets: Secrets, index: int) -> Opened:
    """Return line `index` with what shows it, and nothing of the others but hashes. Raises ValueError."""
    hashes = list(_hashes(facts, secrets))
    path = inclusion_path(index, len(hashes), lambda level, at: _subtree(hashes, level, at))
    return Opened(facts.lines[index], secrets.salt(facts.id, index), index, len(hashes), tuple(path))


def to_object(opened: Opened) -> Mapping[str, Any]:
    """Return an opened line as it is written in files."""
    return {
        "work": opened.line.work,
        "ppm": opened.line.ppm,
        "verdict": opened.line.verdict,
        "salt": b64url(opened.salt),
        "index": opened.index,
        "count": opened.count,
        "path": [b64url(one) for one in opened.path],
    }


def _hashes(facts: Facts, secrets: Secrets) -> Iterator[bytes]:
    for index, line in enumerate(facts.lines):
        yield leaf_hash(line_entry(line, secrets.salt(facts.id, index)))


def _root(hashes: Iterator[bytes]) -> bytes:
    tree = Subtrees()
    for leaf in hashes:
        for _ in tree.append(leaf):
            pass
    return tree.root()


def _subtree(hashes: Sequence[bytes], level: int, index: int) -> bytes:
    row = list(hashes[index << level : (index + 1) << level])
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]

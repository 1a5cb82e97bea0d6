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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from proxy.metering.usage import Line, MeteredEvent
from proxy.receipts.tree import Subtrees, inclusion_path
from proxy.receipts.verify import SALT_BYTES, b64url, leaf_hash, node_hash

VERSION: Final = 1
BLOCK_BYTES: Final = 64  # of SHA-256
# The spelling of verify.canonical, a tenth of its time.
_canonical: Final = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Opened:
    """One line of a receipt with what shows it: its salt, its place among all, and the hashes beside it."""

    line: Line
    salt: bytes
    index: int
    count: int
    path: tuple[bytes, ...]


class Secrets:
    """Salts and nonces of receipts. month_key: 32 secret bytes of the month in which an answer was given."""

    def __init__(self, month_key: bytes) -> None:
        """Draw from a month's key."""
        self._key = month_key
        # HMAC-SHA256 (RFC 2104), begun once: an answer draws some, and OpenSSL looks up its digest for each
        padded = month_key.ljust(BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def salt(self, receipt: str, index: int) -> bytes:
        """Return the salt of a receipt's line: 16 bytes."""
        return self._drawn(f"salt|{receipt}|{index}")

    def nonce(self, receipt: str) -> bytes:
        """Return the key of the digest that a receipt holds of its output: 16 bytes, for the app alone."""
        return self._drawn(f"nonce|{receipt}")

    def change_salt(self, seq: int) -> bytes:
        """Return the salt of a change of the registry that was made in this month: 16 bytes."""
        return self._drawn(f"change|{seq}")

    def tree(self, period: str) -> bytes:
        """Return what parts and salts the sums of a period that was closed in this month: 32 bytes."""
        return hmac.digest(self._key, f"tree|{period}".encode(), "sha256")

    def _drawn(self, what: str) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(what.encode("utf-8"))
        outer.update(inner.digest())
        return outer.digest()[:SALT_BYTES]


SecretsOf = Callable[[int], Secrets]  # microseconds -> the secrets of that month


def payload(event: MeteredEvent, secrets: Secrets) -> bytes:
    """Return the bytes that are signed, the same whenever they are made of the same settled answer.

    app; att: what attributed; cur; end: endpoint; est: 1 where tokens were estimated; iat: when it was given,
    microseconds; img: images, and ms: milliseconds of sound or video, each left out where it is 0, so that
    receipts from before they were counted stay what they were; in and out: tokens; lroot: root over the
    lines; mdl; n: lines; oc: the keyed digest of the output, hex, or ""; pol: up to which activation of a
    policy was known; price: grains, left out where there is none; pver: price table; reg: the registry's
    number; res: complete, cut or failed; rid; unat: ppm; v; why: why it was not scored, or "".
    """
    said: dict[str, Any] = {
        "app": event.app_id,
        "att": event.method,
        "cur": event.currency,
        "end": event.endpoint,
        "est": int(event.estimated),
        "iat": event.occurred_us,
        "in": event.input_tokens,
        "lroot": b64url(_root(_hashes(event, secrets))),
        "mdl": event.model,
        "n": len(event.lines),
        "oc": event.output_digest,
        "out": event.output_tokens,
        "pver": event.price_version,
        "reg": event.registry_seq,
        "res": event.outcome,
        "rid": event.id,
        "unat": event.unattributed_ppm,
        "v": VERSION,
        "why": event.reason,
    }
    if event.policy_seq is not None:  # answers from before it was kept have receipts without it
        said["pol"] = event.policy_seq
    if event.price_grains is not None:
        said["price"] = event.price_grains
    if event.images:
        said["img"] = event.images
    if event.milliseconds:
        said["ms"] = event.milliseconds
    return _canonical(said)


def line_entry(line: Line, salt: bytes) -> bytes:
    """Return the bytes of a line that its leaf hashes: the salt, then the line canonically."""
    return salt + _canonical({"ppm": line.ppm, "verdict": line.verdict, "work": line.work})


def open_line(event: MeteredEvent, secrets: Secrets, work: str) -> Opened:
    """Return a work's line with what shows it, and nothing of the others but hashes. Raises KeyError."""
    lines = ordered(event)
    index = next((place for place, line in enumerate(lines) if line.work == work), -1)
    if index < 0:
        raise KeyError(work)
    hashes = list(_hashes(event, secrets))
    path = inclusion_path(index, len(hashes), lambda level, at: subtree(hashes, level, at))
    return Opened(lines[index], secrets.salt(event.id, index), index, len(hashes), tuple(path))


def ordered(event: MeteredEvent) -> list[Line]:
    """Return an answer's lines in the order that a receipt has them: by work."""
    return sorted(event.lines, key=lambda line: line.work)


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


def _hashes(event: MeteredEvent, secrets: Secrets) -> Iterator[bytes]:
    for index, line in enumerate(ordered(event)):
        yield leaf_hash(line_entry(line, secrets.salt(event.id, index)))


def _root(hashes: Iterator[bytes]) -> bytes:
    tree = Subtrees()
    for leaf in hashes:
        for _ in tree.append(leaf):
            pass
    return tree.root()


def subtree(hashes: Sequence[bytes], level: int, index: int) -> bytes:
    """Return the hash of a complete subtree over leaves that are all at hand: a few thousand at most."""
    row = list(hashes[index << level : (index + 1) << level])
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]

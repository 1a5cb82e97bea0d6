"""A period's tree of sums: everybody who was paid, or charged, once, in parts that tell a neighbour nothing.

Each party has PARTS leaves at places that only a hash of their id decides, with random parts of their sum. A
path shows sums of neighbours' parts, and so nothing about what a neighbour got. Nodes bind keys and sums
(verify.py), so that a root has one valid leaf for each key and no more in all than it says.

A tree is built once, when a period is closed. It is kept in chunks of nodes, and who is to be shown her
leaves later needs a few of them.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from proxy.receipts.verify import HASH_BYTES, PARTS, SUM_MAX, Sum, sum_key, sum_leaf, sum_node

Kind = Literal["payee", "app"]
NONCE_BYTES: Final = 16
CHUNK: Final = 256  # nodes that are kept together: 26 kB
NODE_BYTES: Final = 2 * HASH_BYTES + 8 + HASH_BYTES
CHUNKS_READ_MAX: Final = 512  # that are kept in memory while many are shown their leaves: 13 MB


@dataclass(frozen=True, slots=True)
class Opening:
    """What shows one leaf: where it stands, what it holds, and the nodes beside its way to the root."""

    index: int
    grains: int
    nonce: bytes
    path: tuple[Sum, ...]


class SumTree:
    """The tree over {party: (grains, commitment)}. secret: 32 bytes from which parts and nonces are drawn.

    The same parties and secret give the same tree. About 400 bytes a leaf: 160 MB for 100,000 parties.
    """

    def __init__(self, kind: Kind, parties: Mapping[str, tuple[int, bytes]], secret: bytes) -> None:
        """Build it. Raises ValueError for a negative sum or one over 63 bits."""
        self._kind: Kind = kind
        self._secret = secret
        self._rows: list[list[Sum]] = [sorted(self._leaves(parties), key=lambda leaf: leaf.first)]
        self._place = {leaf.first: place for place, leaf in enumerate(self._rows[0])}
        while len(self._rows[-1]) > 1:
            self._rows.append(list(_above(self._rows[-1])))

    @property
    def size(self) -> int:
        """How many leaves it has: PARTS for each party."""
        return len(self._rows[0])

    @property
    def root(self) -> Sum | None:
        """The node over all of them; None over nobody."""
        return self._rows[-1][0] if self._rows[0] else None

    def openings(self, ident: str, grains: int) -> tuple[Opening, ...]:
        """Return what shows a party's leaves, part by part. Raises KeyError for a party it does not hold."""
        shown: list[Opening] = []
        for part, (amount, nonce) in enumerate(drawn(self._kind, ident, grains, self._secret)):
            place = self._place[sum_key(self._kind, ident, part)]
            shown.append(Opening(place, amount, nonce, tuple(self._path(place))))
        return tuple(shown)

    def _leaves(self, parties: Mapping[str, tuple[int, bytes]]) -> Iterable[Sum]:
        for ident, (grains, commitment) in parties.items():
            for part, (amount, nonce) in enumerate(drawn(self._kind, ident, grains, self._secret)):
                yield sum_leaf(sum_key(self._kind, ident, part), amount, commitment, nonce)

    def chunks(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (level, number, bytes) of all that KeptTree reads: CHUNK nodes each, the last ones fewer."""
        for level, row in enumerate(self._rows):
            for number, begin in enumerate(range(0, len(row), CHUNK)):
                yield level, number, b"".join(node.encoded() for node in row[begin : begin + CHUNK])

    def _path(self, place: int) -> Iterable[Sum]:
        for row in self._rows[:-1]:
            if (sibling := place ^ 1) < len(row):
                yield row[sibling]
            place >>= 1


def _above(row: list[Sum]) -> Iterable[Sum]:
    for at in range(0, len(row) - 1, 2):
        yield sum_node(row[at], row[at + 1])
    if len(row) % 2:
        yield row[-1]


class KeptTree:
    """A tree kept in chunks. read: (level, number) -> bytes; size: leaves; secret: as it was made."""

    def __init__(self, kind: Kind, size: int, secret: bytes, read: Callable[[int, int], bytes]) -> None:
        """Read nothing yet."""
        self._kind: Kind = kind
        self._size = size
        self._secret = secret
        self._read = read
        self._chunks: dict[tuple[int, int], bytes] = {}

    def openings(self, ident: str, grains: int) -> tuple[Opening, ...]:
        """Return what shows a party's leaves, part by part. Raises KeyError for a party it does not hold."""
        shown: list[Opening] = []
        for part, (amount, nonce) in enumerate(drawn(self._kind, ident, grains, self._secret)):
            key = sum_key(self._kind, ident, part)
            place = bisect.bisect_left(range(self._size), key, key=lambda at: self._node(0, at).first)
            if place == self._size or self._node(0, place).first != key:
                raise KeyError(ident)
            shown.append(Opening(place, amount, nonce, tuple(self._path(place))))
        return tuple(shown)

    def _path(self, place: int) -> Iterator[Sum]:
        level, size = 0, self._size
        while size > 1:
            if (sibling := place ^ 1) < size:
                yield self._node(level, sibling)
            level, place, size = level + 1, place >> 1, (size + 1) // 2

    def _node(self, level: int, place: int) -> Sum:
        number, at = divmod(place, CHUNK)
        raw = self._chunks.get((level, number))
        if raw is None:
            while len(self._chunks) >= CHUNKS_READ_MAX:
                self._chunks.pop(next(iter(self._chunks)))
            raw = self._chunks[level, number] = self._read(level, number)
        return node_of(raw[at * NODE_BYTES : (at + 1) * NODE_BYTES])


def node_of(raw: bytes) -> Sum:
    """Return the node that these NODE_BYTES bytes are."""
    first, last = raw[:HASH_BYTES], raw[HASH_BYTES : 2 * HASH_BYTES]
    grains = int.from_bytes(raw[2 * HASH_BYTES : 2 * HASH_BYTES + 8], "big")
    return Sum(first, last, grains, raw[2 * HASH_BYTES + 8 :])


def drawn(kind: Kind, ident: str, grains: int, secret: bytes) -> list[tuple[int, bytes]]:
    """Return (grains, nonce) of each part: the sum cut at places drawn from the secret."""
    if not 0 <= grains <= SUM_MAX:
        raise ValueError(f"a sum of {grains} grains for {ident}")
    drawn = hmac.new(secret, f"{kind}|{ident}".encode(), hashlib.sha512).digest()
    # 128 bits reduced to a sum of 63: what that favours is one part in 10^19.
    wide = hmac.new(drawn, b"cuts", hashlib.sha512).digest()
    cuts = [int.from_bytes(wide[16 * n : 16 * n + 16], "big") % (grains + 1) for n in range(PARTS - 1)]
    edges = [0, *sorted(cuts), grains]
    return [
        (edges[part + 1] - edges[part], drawn[NONCE_BYTES * part : NONCE_BYTES * (part + 1)])
        for part in range(PARTS)
    ]

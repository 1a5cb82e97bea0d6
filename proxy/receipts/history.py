"""The registry's changes as the log holds them: who made one can show it, and learns of no other.

A receipt quotes the registry's number. What that number was must not be the operator's to say afterwards: so
each change (a consent, a withdrawal, a price that is asked) is put into the log before any answer that quotes
it. Changes go in by the batch, as an import brings a hundred thousand at once: an entry is the hash of a
batch's numbers and of the root over its changes, in their order. A change's leaf is salted, so that who is
shown one cannot try out what its neighbours are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.receipts.receipt import SecretsOf, subtree
from proxy.receipts.tree import Subtrees, inclusion_path
from proxy.receipts.verify import b64url, canonical, leaf_hash

VERSION: Final = 1
CHANGES_AT_ONCE: Final = 4_096  # of one batch: some 40 ms to put into the log, and again to show one of them


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the registry. work: "" where it is of none; payload_sha256: of what changed, in hex."""

    seq: int
    kind: str
    work: str
    payload_sha256: str
    actor: str
    at_us: int

    def to_object(self) -> dict[str, Any]:
        """Return it as it is hashed and as files say it."""
        return {
            "actor": self.actor,
            "at": self.at_us,
            "kind": self.kind,
            "payload": self.payload_sha256,
            "seq": self.seq,
            "v": VERSION,
            "work": self.work,
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes `first` to `first + count - 1`, and the root over them."""

    first: int
    count: int
    root: bytes

    @classmethod
    def of(cls, changes: Sequence[Change], secrets_of: SecretsOf) -> Batch:
        """Return the batch of changes that follow each other; one at least."""
        tree = Subtrees()
        for leaf in _leaves(changes, secrets_of):
            for _ in tree.append(leaf):
                pass
        return cls(changes[0].seq, len(changes), tree.root())

    def to_object(self) -> dict[str, Any]:
        """Return it as it is hashed and as files say it."""
        return {"first": self.first, "n": self.count, "root": b64url(self.root), "v": VERSION}

    @property
    def digest(self) -> bytes:
        """What the log holds of it, behind its mark."""
        return hashlib.sha256(canonical(self.to_object())).digest()


def shown(seq: int, changes: Sequence[Change], secrets_of: SecretsOf) -> Mapping[str, Any]:
    """Return what shows change `seq` of a batch, but for the batch's place in the log.

    changes: all of its batch. Raises as `secrets_of` does.
    """
    index = seq - changes[0].seq
    change, leaves = changes[index], _leaves(changes, secrets_of)
    path = inclusion_path(index, len(leaves), lambda level, at: subtree(leaves, level, at))
    return {
        "batch": Batch.of(changes, secrets_of).to_object(),
        "change": change.to_object(),
        "path": [b64url(one) for one in path],
        "salt": b64url(secrets_of(change.at_us).change_salt(seq)),
    }


def _leaves(changes: Sequence[Change], secrets_of: SecretsOf) -> list[bytes]:
    return [
        leaf_hash(secrets_of(one.at_us).change_salt(one.seq) + canonical(one.to_object())) for one in changes
    ]

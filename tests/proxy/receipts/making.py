"""Logs, receipts and sums to check, made with fixed keys, so that a test's bytes are the same every time."""

from __future__ import annotations

import hashlib
from typing import Any

from proxy.metering.usage import Line, MeteredEvent
from proxy.receipts.receipt import Secrets
from proxy.receipts.signing import Signer, SigningKey, proof_file
from proxy.receipts.tree import Subtrees, consistency_path, inclusion_path
from proxy.receipts.verify import leaf_hash

ORIGIN = "credits.example/log"
KEY = SigningKey(hashlib.sha256(b"a key").digest(), 1)
SECRETS = Secrets(hashlib.sha256(b"a month").digest())
SIGNER = Signer(ORIGIN, [KEY], 2)


class Log:
    """A log in memory."""

    def __init__(self, entries: list[bytes]) -> None:
        self.leaves = [leaf_hash(entry) for entry in entries]
        self.nodes: dict[tuple[int, int], bytes] = {}
        tree = Subtrees()
        self.roots = [tree.root()]
        for leaf in self.leaves:
            for level, index, digest in tree.append(leaf):
                self.nodes[level, index] = digest
            self.roots.append(tree.root())

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def path(self, index: int, size: int = 0) -> list[bytes]:
        return inclusion_path(index, size or len(self.leaves), self.node)

    def growth(self, old: int, new: int = 0) -> list[bytes]:
        return consistency_path(old, new or len(self.leaves), self.node)

    def checkpoint(self, size: int = 0, signer: Signer = SIGNER) -> str:
        size = size or len(self.leaves)
        return signer.checkpoint(size, self.roots[size])

    def proof(self, index: int, size: int = 0) -> str:
        return proof_file(index, self.path(index, size), self.checkpoint(size))


def answer(number: int = 0, **changed: Any) -> MeteredEvent:
    said: dict[str, Any] = {
        "id": f"rct_{number:026d}",
        "occurred_us": 1_793_500_000_000_000 + number,
        "app_id": "app_1",
        "model": "demo-writer",
        "endpoint": "chat",
        "outcome": "complete",
        "input_tokens": 100,
        "output_tokens": 1225,
        "estimated": False,
        "price_version": "2026-11@01234567",
        "price_grains": 12_500_000,
        "currency": "USD",
        "unattributed_ppm": 350_000,
        "reason": "",
        "lines": (Line("w_one", 412_345), Line("w_two", 187_655), Line("w_three", 50_000, "free")),
        "method": "endcredits/1 0123456789ab",
        "registry_seq": 7,
        "output_digest": hashlib.sha256(b"an answer").hexdigest(),
    }
    return MeteredEvent(**{**said, **changed})

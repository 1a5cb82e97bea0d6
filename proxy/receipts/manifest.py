"""What is signed of a closed period: its bounds, rules and sums, and a tree of everybody in it, once.

The payload is canonical JSON of ids, integers and hashes. Whoever was paid, or charged, stands in a tree of
sums whose root is here, so that she can check her own amount, that it is in the total, and that nobody hid
her or put her in twice, and learns nothing about anybody else. docs/receipts.md is the normative text.

Of a statement its *head* is signed: all that has no person's name in it, with the hash of its lines and a
salted one of the names. So a name can be erased, and no signature and no hash changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.receipts.sums import Opening, SumTree
from proxy.receipts.verify import Sum, b64url, canonical, commitment, told_digest

VERSION: Final = 1
NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Period:
    """A closed period as its manifest says it. log: (entries, root) that it ends with; books: sha256, hex.

    basis, totals: as statements print them; previous: sha256 of the manifest before, hex, or "". rules:
    sha256 of what the period was priced by, hex.
    """

    label: str
    seq: int
    currency: str
    closed_us: int
    basis: Mapping[str, Any]
    totals: Mapping[str, Any]
    books: str
    log: tuple[int, bytes]
    previous: str
    rules: str = ""


def payload(period: Period, payees: SumTree, apps: SumTree) -> bytes:
    """Return the bytes that are signed.

    apps, payees: the trees, null over nobody; basis; books: hash over every transfer and line; closed:
    microseconds; cur; log: how far it reached; period; prev; rules: not in older ones; seq: its number, from
    1; totals; v.
    """
    size, root = period.log
    return canonical(
        {
            "apps": _tree(apps),
            "basis": period.basis,
            "books": period.books,
            "closed": period.closed_us,
            "cur": period.currency,
            "log": {"root": b64url(root), "size": size},
            "payees": _tree(payees),
            "period": period.label,
            "prev": period.previous,
            **({"rules": period.rules} if period.rules else {}),
            "seq": period.seq,
            "totals": period.totals,
            "v": VERSION,
        }
    )


def digest(manifest: bytes) -> bytes:
    """Return the hash of a manifest's payload: what the log holds, and the next manifest names."""
    return hashlib.sha256(manifest).digest()


def statement_commitment(head: Mapping[str, Any], names: Mapping[str, Any], nonce: bytes) -> bytes:
    """Return what a creator's leaves hold of her statement. names: {"app_names", "name"} as printed."""
    return commitment({**head, "told": told_digest(nonce, names)})


def charge(app: str, label: str, currency: str, grains: int) -> dict[str, Any]:
    """Return what of an app's charge is signed, and shown to it."""
    return {"app": app, "charged_grains": grains, "currency": currency, "period": label}


def nonce_of(secret: bytes, creator: str) -> bytes:
    """Return what salts the names on a creator's statement: 16 bytes. secret: the period's, 32 bytes."""
    return hashlib.sha256(b"names|" + secret + creator.encode()).digest()[:NONCE_BYTES]


def leaves_object(openings: tuple[Opening, ...]) -> list[dict[str, Any]]:
    """Return a party's leaves as files have them."""
    return [
        {
            "grains": one.grains,
            "index": one.index,
            "nonce": b64url(one.nonce),
            "path": [_node(node) for node in one.path],
        }
        for one in openings
    ]


def _tree(tree: SumTree) -> dict[str, Any] | None:
    return None if tree.root is None else {"n": tree.size, **_node(tree.root)}


def _node(node: Sum) -> dict[str, Any]:
    return {
        "digest": b64url(node.digest),
        "first": b64url(node.first),
        "grains": node.grains,
        "last": b64url(node.last),
    }

"""A whole period, checked by somebody who trusts nobody: every receipt, every statement, the log itself.

An operator exports a bundle; an auditor who has nothing else but the public keys recomputes it. Shown here is
what one party's file cannot show: that the log of the period holds these receipts and no other, that every
line of every statement counts them, and that the trees hold exactly these parties.

Parts, each read once from beginning to end: `checkpoint` (a signed note), `entries` (33 bytes each, the whole
log), `manifests` (JSON Lines, all periods up to this one), `receipts` (JSON Lines in the log's order, every
line opened by its salt), `changes` (JSON Lines: the batches of the registry's changes between them),
`statements` (JSON Lines), `charges` (JSON: {app: grains}), `payees` and `apps` (the trees' leaves, 104 bytes
each), `secret` (what parts and salts the period's sums), `rules` (JSON Lines: what answers are priced by;
billing/repricing.py reads it).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.receipts import manifest
from proxy.receipts.sums import NODE_BYTES, Kind, drawn, node_of
from proxy.receipts.tree import Subtrees
from proxy.receipts.verify import (
    PARTS,
    Checkpoint,
    Invalid,
    Keys,
    Sum,
    b64url,
    canonical,
    changes_entry,
    commitment,
    from_b64url,
    from_canonical,
    leaf_hash,
    manifest_entry,
    open_checkpoint,
    open_jws,
    open_manifest,
    receipt_entry,
    stated_uses,
    statement_head,
    sum_key,
    sum_leaf,
    sum_node,
    use_of,
)

PARTS_OF_A_BUNDLE: Final = (
    "checkpoint", "entries", "manifests", "receipts", "changes", "statements", "charges", "payees", "apps",
    "secret", "rules",
)  # fmt: skip
ENTRY_BYTES: Final = 33
CHANGES_MARK: Final = b"\x03"
# A part -> its bytes in pieces: lines for JSON Lines, any pieces for the others.
Read = Callable[[str], Iterable[bytes]]


@dataclass(slots=True)
class _Counted:
    """What the receipts of the period come to."""

    receipts: int = 0
    estimated: int = 0
    unattributed: int = 0

    def add(self, said: Mapping[str, Any]) -> None:
        self.receipts += 1
        self.estimated += int(said["est"])
        self.unattributed += int(said["unat"])


def check_bundle(read: Read, keys: Keys) -> list[str]:
    """Return what a bundle proves, a sentence each. Raises Invalid with what does not hold.

    Memory follows how many works, apps, models and days there are, and how many parties, with 100 bytes an
    answer for what the log has of it.
    """
    try:
        return _checked(read, keys)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(f"the bundle is not as bundles are written: {error}") from None


def _checked(read: Read, keys: Keys) -> list[str]:
    checkpoint = open_checkpoint(_whole(read, "checkpoint").decode("utf-8"), keys.notes, keys.origin)
    manifests = list(_manifests(read, keys))
    said, _ = manifests[-1]
    if len(manifests) == 1 and said["seq"] != 1:
        raise Invalid("the period before it was not signed: nothing says where this one begins in the log")
    begin = manifests[-2][0]["log"]["size"] if len(manifests) > 1 else 0
    period = _log(read, checkpoint, manifests, (begin, said["log"]["size"]))
    quotable = _quotable(read, period)
    counted, uses = _receipts(read, keys, quotable)
    totals = said["totals"]
    sums = (totals["events"], totals["estimated_events"], totals["unattributed_ppm_sum"])
    if sums != (counted.receipts, counted.estimated, counted.unattributed):
        raise Invalid("the period's totals are not those of its receipts")
    secret = _whole(read, "secret")
    changed, statements, untold = _statements(read, said, secret, uses)
    charges = json.loads(_whole(read, "charges"))
    _charges(read, said, secret, charges)
    label = said["period"]
    return [
        f"log: its {checkpoint.size} entries have the root that was signed",
        f"periods: {len(manifests)} manifests up to {label} follow each other, logged once, and no other",
        f"answers: the log holds {counted.receipts} receipts of {label}, these and no other",
        f"statements: {statements} add up, and their lines count these receipts",
        f"trees: exactly these {statements} creators and {len(charges)} apps, each once",
        f"works: {untold} uses are of works that nobody was paid for, or whose money waits",
        *([f"names: {changed} statements bear other names than when they were signed"] if changed else []),
    ]


def _manifests(read: Read, keys: Keys) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield (what it says, its payload) of each period's manifest, where each follows the one before."""
    before: tuple[dict[str, Any], bytes] | None = None
    for row in read("manifests"):
        said, payload = open_manifest(str(from_canonical(row.strip(), "a manifest")["manifest"]), keys)
        if before is not None:
            follows = (said["seq"], said["prev"]) == (before[0]["seq"] + 1, manifest.digest(before[1]).hex())
            if not follows or said["basis"]["start_bounds"] != before[0]["basis"]["end_bounds"]:
                raise Invalid(f"{said['period']} does not begin where the period before it ended")
        before = said, payload
        yield before
    if before is None:
        raise Invalid("there is no manifest in it")


def _log(
    read: Read, checkpoint: Checkpoint, manifests: list[tuple[dict[str, Any], bytes]], period: tuple[int, int]
) -> list[bytes]:
    """Return the period's entries but for manifests, where all of the log is what was signed."""
    tree, found, signed = Subtrees(), list[bytes](), list[bytes]()
    roots = {said["log"]["size"]: from_b64url(said["log"]["root"], "a root") for said, _ in manifests}
    for entry in _cut(read("entries"), ENTRY_BYTES):
        _check_root(tree, roots)
        if entry[:1] == b"\x02":
            signed.append(entry)
        elif period[0] <= tree.size < period[1]:
            found.append(entry)
        for _ in tree.append(leaf_hash(entry)):
            pass
    _check_root(tree, roots)
    if (tree.size, tree.root()) != (checkpoint.size, checkpoint.root):
        raise Invalid("the log's entries do not have the root that was signed")
    if signed[: len(manifests)] != [manifest_entry(payload) for _, payload in manifests]:
        raise Invalid("the log holds other manifests than these, or in another order")
    if max(roots) > tree.size:
        raise Invalid("a period ends behind the end of the log")
    return found


def _check_root(tree: Subtrees, roots: Mapping[int, bytes]) -> None:
    if tree.size in roots and tree.root() != roots[tree.size]:
        raise Invalid(f"a manifest names another root of {tree.size} entries than the log has")


def _quotable(read: Read, period: list[bytes]) -> list[tuple[bytes, int]]:
    """Return (entry, the last change of the registry that the log has before it) of each receipt.

    A change is logged before any answer that quotes it. Before the period's first batch nothing is known of
    it but that it is below that; without a batch in the period, nothing: -1.
    """
    logged = [entry for entry in period if entry[:1] == CHANGES_MARK]
    batches = [from_canonical(row.strip(), "a batch") for row in read("changes")] if logged else []
    if [changes_entry(canonical(one)) for one in batches] != logged:
        raise Invalid("the log holds other changes of the registry than these, or in another order")
    if any(one["first"] != last["first"] + last["n"] for last, one in itertools.pairwise(batches)):
        raise Invalid("the registry's changes have a gap, or one is in the log twice")
    ends = iter(one["first"] + one["n"] - 1 for one in batches)
    upto = batches[0]["first"] - 1 if batches and batches[0]["first"] > 1 else -1
    found: list[tuple[bytes, int]] = []
    for entry in period:
        if entry[:1] == CHANGES_MARK:
            upto = next(ends)
        else:
            found.append((entry, upto))
    return found


def _receipts(
    read: Read, keys: Keys, quotable: list[tuple[bytes, int]]
) -> tuple[_Counted, dict[Any, list[int]]]:
    """Return (what the receipts come to, {use: [answers, sum of ppm]}), where they are those of the log.

    quotable: the log's entries of them, each with the last change of the registry that it may quote.
    """
    counted, uses = _Counted(), dict[Any, list[int]]()
    for place, row in enumerate(read("receipts")):
        shown = from_canonical(row.strip(), "a receipt")
        payload = open_jws(str(shown.get("receipt")), keys.kids)
        if place >= len(quotable) or quotable[place][0] != receipt_entry(payload):
            raise Invalid(f"receipt {place + 1} is not the one that the log has there")
        said = from_canonical(payload, "a receipt")
        if said["reg"] > quotable[place][1] >= 0:
            raise Invalid(f"{said['rid']} quotes a change of the registry that was logged after it")
        tree, mass = Subtrees(), said["unat"]
        for line in shown["lines"]:
            opened = {name: line[name] for name in ("ppm", "verdict", "work")}
            for _ in tree.append(leaf_hash(from_b64url(line["salt"], "a salt") + canonical(opened))):
                pass
            use = uses.setdefault(use_of(said, line["work"]), [0, 0])
            use[0] += 1
            use[1] += line["ppm"]
            mass += line["ppm"]
        if (tree.size, b64url(tree.root())) != (said["n"], said["lroot"]) or mass != 1_000_000:
            raise Invalid(f"{said['rid']} has other lines than it was signed with")
        counted.add(said)
    if counted.receipts != len(quotable):
        raise Invalid(f"the log holds {len(quotable)} answers of the period, and {counted.receipts} are here")
    return counted, uses


def _statements(
    read: Read, said: Mapping[str, Any], secret: bytes, uses: Mapping[Any, list[int]]
) -> tuple[int, int, int]:
    """Return (statements whose names changed since, statements, uses that none tells of).

    They add up, count what the receipts show, and are all there are.
    """
    leaves = _tree(read, "payees", said["payees"])
    changed = count = 0
    told: set[Any] = set()
    for row in read("statements"):
        shown = from_canonical(row.strip(), "a statement")
        creator = str(shown["creator"])
        head, earned = statement_head(shown, said, manifest.nonce_of(secret, creator))
        changed += not _take("payee", creator, earned, commitment(head), secret, leaves)
        for use, sums in stated_uses(shown).items():
            if uses.get(use) != sums:
                raise Invalid(f"{shown['id']} counts other uses than the receipts show")
            told.add(use)
        count += 1
    if leaves:
        raise Invalid("the period paid somebody whose statement is not here")
    return changed, count, sum(sums[0] for use, sums in uses.items() if use not in told)


def _charges(read: Read, said: Mapping[str, Any], secret: bytes, charges: Mapping[str, int]) -> None:
    leaves = _tree(read, "apps", said["apps"])
    for app, grains in charges.items():
        charge = manifest.charge(app, said["period"], said["cur"], grains)
        if not _take("app", app, grains, commitment(charge), secret, leaves):
            raise Invalid(f"{app} was charged something else")
    if leaves:
        raise Invalid("the period charged an app that is not here")


def _take(
    kind: Kind, ident: str, grains: int, committed: bytes, secret: bytes, leaves: dict[bytes, Sum]
) -> bool:
    """Take a party's leaves out of a tree's; return whether they hold what is committed to, names and all."""
    same = True
    for part, (amount, nonce) in enumerate(drawn(kind, ident, grains, secret)):
        leaf = leaves.pop(sum_key(kind, ident, part), None)
        if leaf is None or leaf.grains != amount:
            raise Invalid(f"the period holds another sum for {ident}")
        same = same and leaf == sum_leaf(leaf.first, amount, committed, nonce)
    return same


def _tree(read: Read, part: str, said: Any) -> dict[bytes, Sum]:
    """Return {key: leaf} of a tree, where the leaves have the root that the manifest names."""
    row = [node_of(raw) for raw in _cut(read(part), NODE_BYTES)]
    leaves = {leaf.first: leaf for leaf in row}
    if said is None or not row:
        if row or said is not None:
            raise Invalid(f"the period's {part} are not these")
        return {}
    if len(leaves) != said["n"] or len(leaves) % PARTS:
        raise Invalid(f"the period's {part} are not as many")
    while len(row) > 1:
        pairs = [sum_node(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        row = pairs + row[len(pairs) * 2 :]
    named = (b64url(row[0].first), b64url(row[0].last), row[0].grains, b64url(row[0].digest))
    if named != (said["first"], said["last"], said["grains"], said["digest"]):
        raise Invalid(f"the period's {part} have another root")
    return leaves


def _whole(read: Read, part: str) -> bytes:
    return b"".join(read(part))


def _cut(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield what lies in pieces of any length, `size` bytes at a time."""
    left = b""
    for piece in pieces:
        left += piece
        whole = len(left) - len(left) % size
        yield from (left[at : at + size] for at in range(0, whole, size))
        left = left[whole:]
    if left:
        raise Invalid("something of the bundle is cut off")

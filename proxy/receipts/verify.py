"""Check what Endcredits signs, offline, with nothing but this file, Python and `cryptography`.

Save it and keep it: a receipt, a proof that it is in the log, two checkpoints of the log, a creator's or an
app's place in a period. Every function either returns what was proven or raises `Invalid` with why; nothing
here fetches, writes, or trusts what it was not given. docs/receipts.md is the normative text.

What it proves is the bookkeeping: that nothing was changed, left out or counted twice since it was signed. It
cannot prove that an attribution is right, or that every answer went through the proxy.

Hashes are SHA-256. The log is RFC 6962's tree, checkpoints and proofs are C2SP's tlog-checkpoint, signed-note
and tlog-proof@v1. Bytes have one spelling: base64 with other padding or stray bits is refused, so a flipped
bit is always an error and never the same value written otherwise.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HASH_BYTES: Final = 32
SALT_BYTES: Final = 16
ED25519: Final = b"\x01"  # C2SP signed-note's type of an Ed25519 signature
PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
RECEIPT_TYPE: Final = "endcredits-receipt+jws"
MANIFEST_TYPE: Final = "endcredits-manifest+jws"
STATEMENT_FORMAT: Final = "endcredits-statement/1"
GRAIN_DIGITS: Final = 7  # a grain is 10^-7 of a currency's minor unit,
EXPONENTS: Final = range(5)  # which is 10^-0 to 10^-4 of the currency
SIZE_MAX: Final = 1 << 62  # of a log: what an index of 64 bits can still be added to
PATH_MAX: Final = 64  # hashes: more than a log of SIZE_MAX needs
NOTE_BYTES_MAX: Final = 1 << 20  # sixteen signatures of 5 kB, and room
SUM_MAX: Final = (1 << 63) - 1
PARTS: Final = 4  # leaves of one party in a period's tree: a neighbour's sum then says nothing about a party
_RECEIPT_ENTRY: Final = b"\x01"
_MANIFEST_ENTRY: Final = b"\x02"
_CHANGES_ENTRY: Final = b"\x03"
_SUM_LEAF, _SUM_NODE = b"\x02", b"\x03"
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
_Node = TypeVar("_Node")


class Invalid(Exception):
    """What was to be checked does not hold; the message says why."""


# Bytes and their one spelling


def b64(raw: bytes) -> str:
    """Return standard base64, as notes and proofs write it."""
    return base64.b64encode(raw).decode("ascii")


def from_b64(text: str, what: str) -> bytes:
    """Return the bytes of standard base64. Raises Invalid for any other spelling of them."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise Invalid(f"{what} is not base64") from None
    if b64(raw) != text:
        raise Invalid(f"{what} is spelt with stray bits")
    return raw


def b64url(raw: bytes) -> str:
    """Return base64url without padding, as JWS writes it."""
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def from_b64url(text: str, what: str) -> bytes:
    """Return the bytes of base64url without padding. Raises Invalid for any other spelling of them."""
    try:
        raw = base64.b64decode((text + "=" * (-len(text) % 4)).encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise Invalid(f"{what} is not base64url") from None
    if b64url(raw) != text:
        raise Invalid(f"{what} is spelt with stray bits")
    return raw


def canonical(value: Any) -> bytes:
    """Return the one JSON spelling of a value of strings, integers, lists and objects: RFC 8785.

    Keys are ASCII, so sorting by characters is sorting by UTF-16; there are no fractions.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no integer")


def from_canonical(raw: bytes, what: str) -> dict[str, Any]:
    """Return the object that `raw` spells. Raises Invalid unless it is spelt as `canonical` does."""
    try:
        value = json.loads(raw, parse_float=_no_number, parse_constant=_no_number)
        same = isinstance(value, dict) and canonical(value) == raw
    except (ValueError, RecursionError):
        raise Invalid(f"{what} is no JSON") from None
    if not same:
        raise Invalid(f"{what} is not spelt canonically")
    return cast("dict[str, Any]", value)


# The log: RFC 6962


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry of the log."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two hashes below."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def receipt_entry(payload: bytes) -> bytes:
    """Return what the log holds of a receipt: a mark and the hash of its payload, so nothing of a person."""
    return _RECEIPT_ENTRY + hashlib.sha256(payload).digest()


def manifest_entry(payload: bytes) -> bytes:
    """Return what the log holds of a period's manifest."""
    return _MANIFEST_ENTRY + hashlib.sha256(payload).digest()


def changes_entry(batch: bytes) -> bytes:
    """Return what the log holds of some changes of the registry."""
    return _CHANGES_ENTRY + hashlib.sha256(batch).digest()


def included_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root of the log of `size` entries that holds `leaf` at `index`, by an inclusion path.

    Raises Invalid where the path does not lead from there to a root (RFC 9162, 2.1.3.2).
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise Invalid(f"there is no entry {index} in a log of {size}")
    if any(len(one) != HASH_BYTES for one in path):
        raise Invalid("a hash of the path has another length")
    at = leaf
    for sibling, is_left in _climb(index, size - 1, path):
        at = node_hash(sibling, at) if is_left else node_hash(at, sibling)
    return at


def check_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Raise Invalid unless the log of `new_size` begins with that of `old_size` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= new_size <= SIZE_MAX:
        raise Invalid(f"a log of {new_size} entries cannot grow out of one of {old_size}")
    if any(len(one) != HASH_BYTES for one in path):
        raise Invalid("a hash of the path has another length")
    if old_size in {0, new_size}:
        if path:
            raise Invalid("the path is too long")
        if old_root != (new_root if old_size else EMPTY_ROOT):
            raise Invalid("the log was rewritten: two roots for one size")
        return
    # A whole subtree is its own proof; any other's is the first hash of the path.
    hashes = [old_root, *path] if not old_size & (old_size - 1) else list(path)
    if not hashes:
        raise Invalid("the path is too short")
    place, last = old_size - 1, new_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = hashes[0]
    for sibling, is_left in _climb(place, last, hashes[1:]):
        old = node_hash(sibling, old) if is_left else old
        new = node_hash(sibling, new) if is_left else node_hash(new, sibling)
    if old != old_root or new != new_root:
        raise Invalid("the log was rewritten: the later one does not begin with the earlier one")


def _climb(place: int, last: int, path: Sequence[_Node]) -> Iterator[tuple[_Node, bool]]:
    """Yield (sibling, whether it is on the left) from a place up to the root over `last`."""
    for sibling in path:
        if not last:
            raise Invalid("the path is too long")
        is_left = bool(place & 1) or place == last
        yield sibling, is_left
        while is_left and not place & 1 and place:  # the last of an uneven row goes up alone
            place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
    if last:
        raise Invalid("the path is too short")


# Signatures: notes, checkpoints, receipts


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key by which notes are checked: "name+8 hex digits+base64", as C2SP's signed-note has it."""

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def of(cls, name: str, public: bytes) -> VerifierKey:
        """Return the key of this name. public: 32 bytes of Ed25519."""
        identity = hashlib.sha256(name.encode("utf-8") + b"\n" + ED25519 + public).digest()
        return cls(name, identity[:4], public)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Return the key that `text` writes. Raises Invalid."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = from_b64(encoded, "the key")
        if raw[:1] != ED25519 or len(raw) != 1 + HASH_BYTES:
            raise Invalid("the key is not Ed25519")
        key = cls.of(name, raw[1:])
        if not name or key.key_id.hex() != key_id:
            raise Invalid("the key's name and number do not belong together")
        return key

    def __str__(self) -> str:
        """Return the key as it is written."""
        return f"{self.name}+{self.key_id.hex()}+{b64(ED25519 + self.public)}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: how many entries, and the hash over all of them."""

    origin: str
    size: int
    root: bytes


def open_note(note: str, keys: Sequence[VerifierKey]) -> str:
    """Return a note's text, ending in a newline. Raises Invalid unless one of `keys` signed it.

    A signature by a key that is known and does not hold makes the whole note invalid; those of keys that are
    not known, as of witnesses, are passed over.
    """
    if len(_utf8(note, "the note")) > NOTE_BYTES_MAX:
        raise Invalid("the note is too large")
    if any(ord(one) < 0x20 and one != "\n" for one in note):
        raise Invalid("the note holds control characters")
    text, found, signatures = note.rpartition("\n\n")
    if not found or not text or not signatures.endswith("\n"):
        raise Invalid("this is no signed note")
    text += "\n"
    signed = False
    for line in signatures[:-1].split("\n"):
        dash, name, encoded = [*line.split(" "), "", ""][:3]
        if dash != "—" or line != f"— {name} {encoded}" or not name:
            raise Invalid("a signature line is malformed")
        raw = from_b64(encoded, "a signature")
        for key in keys:
            if (key.name, key.key_id) == (name, raw[:4]):
                _check(key.public, raw[4:], text.encode("utf-8"), f"{name}'s signature")
                signed = True
    if not signed:
        raise Invalid("no key that is known here has signed this note")
    return text


def open_checkpoint(note: str, keys: Sequence[VerifierKey], origin: str = "") -> Checkpoint:
    """Return a log's checkpoint. origin: which log it must be, if that matters. Raises Invalid."""
    lines = open_note(note, keys).split("\n")
    if len(lines) < 4 or "" in lines[:-1]:
        raise Invalid("the checkpoint has too few lines")
    size = number(lines[1], "the checkpoint's size")
    root = from_b64(lines[2], "the checkpoint's root")
    if len(root) != HASH_BYTES or size > SIZE_MAX:
        raise Invalid("the checkpoint's root or size cannot be one")
    if origin and lines[0] != origin:
        raise Invalid(f"the checkpoint is of the log {lines[0]!r}, not of {origin!r}")
    return Checkpoint(lines[0], size, root)


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Invalid(f"{what} is no text") from None


def number(text: str, what: str) -> int:
    """Return a decimal without leading zeros. Raises Invalid."""
    if not text.isascii() or not text.isdigit() or len(text) > 19 or str(int(text)) != text:
        raise Invalid(f"{what} is no number")
    return int(text)


def open_jws(token: str, keys: Mapping[str, bytes], typ: str = RECEIPT_TYPE) -> bytes:
    """Return the payload of a compact JWS. keys: {kid: 32 bytes of Ed25519}. Raises Invalid."""
    pieces = token.split(".")
    if len(pieces) != 3:
        raise Invalid("this is no compact JWS")
    header = from_canonical(from_b64url(pieces[0], "the header"), "the header")
    kid = header.get("kid")
    if header != {"alg": "EdDSA", "kid": kid, "typ": typ} or not isinstance(kid, str):
        raise Invalid(f"the header is not that of {typ}")
    if kid not in keys:
        raise Invalid(f"the key {kid!r} is not known here")
    signature = from_b64url(pieces[2], "the signature")
    _check(keys[kid], signature, _utf8(f"{pieces[0]}.{pieces[1]}", "the payload"), "the signature")
    return from_b64url(pieces[1], "the payload")


def _check(public: bytes, signature: bytes, signed: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise Invalid(f"{what} does not hold") from None


def check_line(payload: bytes, opened: Mapping[str, Any]) -> dict[str, Any]:
    """Return a receipt's members, when it holds the line that was opened: {"work", "ppm", "verdict", ...}.

    payload: what open_jws returned. Raises Invalid.
    """
    said = from_canonical(payload, "the receipt")
    try:
        line = {name: opened[name] for name in ("ppm", "verdict", "work")}
        index, count, path = opened["index"], opened["count"], [str(one) for one in opened["path"]]
        salt = from_b64url(opened["salt"], "the salt")
        root = from_b64url(said["lroot"], "the receipt's root")
    except (KeyError, TypeError, AttributeError):
        raise Invalid("the line or the receipt lacks a member") from None
    # bool is an int in Python, and true would be spelt otherwise where somebody else checks.
    if type(index) is not int or type(count) is not int or count != said.get("n") or len(salt) != SALT_BYTES:
        raise Invalid("the line's place is not one of this receipt's")
    hashes = [from_b64url(one, "the path") for one in path]
    if included_root(leaf_hash(salt + canonical(line)), index, count, hashes) != root:
        raise Invalid("the receipt does not hold this line")
    return said


def check_proof(proof: str, entry: bytes, keys: Sequence[VerifierKey], origin: str = "") -> Checkpoint:
    """Return the signed checkpoint of a log that holds `entry`, by a tlog-proof@v1. Raises Invalid."""
    head, found, note = proof.partition("\n\n")
    lines = head.split("\n")
    if not found or lines[0] != PROOF_HEADER:
        raise Invalid(f"this does not begin with {PROOF_HEADER}")
    # Extra data would be signed by nobody, and nothing of ours needs any.
    if len(lines) < 2 or not lines[1].startswith("index ") or len(lines) > PATH_MAX + 2:
        raise Invalid("the proof does not say an index and a path")
    path = [from_b64(line, "the path") for line in lines[2:]]
    checkpoint = open_checkpoint(note, keys, origin)
    index = number(lines[1].removeprefix("index "), "the index")
    if included_root(leaf_hash(entry), index, checkpoint.size, path) != checkpoint.root:
        raise Invalid("the log does not hold this at that place")
    return checkpoint


# A period: everybody once, and the sums


@dataclass(frozen=True, slots=True)
class Sum:
    """A node of a period's tree: what is below it from its first to its last key, and their sum in grains."""

    first: bytes
    last: bytes
    grains: int
    digest: bytes

    def encoded(self) -> bytes:
        """Return the bytes that the node above hashes: 104."""
        if len(self.first) != HASH_BYTES or len(self.last) != HASH_BYTES or len(self.digest) != HASH_BYTES:
            raise Invalid("a key or hash of the tree has another length")
        if not 0 <= self.grains <= SUM_MAX:
            raise Invalid("a sum of the tree is out of range")
        return self.first + self.last + self.grains.to_bytes(8, "big") + self.digest


def sum_key(kind: str, ident: str, part: int) -> bytes:
    """Return where a party's part stands. kind: "payee" or "app"; part: 0 to PARTS - 1."""
    return hashlib.sha256(f"endcredits {kind}|{ident}|{part}".encode()).digest()


def sum_leaf(key: bytes, grains: int, commitment: bytes, nonce: bytes) -> Sum:
    """Return a leaf. commitment: hash of the statement; nonce: 16 bytes, so that sums can't be guessed."""
    if len(commitment) != HASH_BYTES or len(nonce) != 16:
        raise Invalid("a leaf's commitment or nonce has another length")
    if not 0 <= grains <= SUM_MAX:
        raise Invalid("a leaf's sum is out of range")
    hashed = hashlib.sha256(_SUM_LEAF + key + grains.to_bytes(8, "big") + commitment + nonce).digest()
    return Sum(key, key, grains, hashed)


def sum_node(left: Sum, right: Sum) -> Sum:
    """Return the node above two. Raises Invalid unless all keys of the left are before all of the right."""
    if not left.first <= left.last < right.first <= right.last:
        raise Invalid("the tree's keys are out of order: somebody may stand in it twice")
    return Sum(
        left.first,
        right.last,
        left.grains + right.grains,
        hashlib.sha256(_SUM_NODE + left.encoded() + right.encoded()).digest(),
    )


def summed_root(leaf: Sum, index: int, size: int, path: Sequence[Sum]) -> Sum:
    """Return the root of the tree of `size` leaves with `leaf` at `index`, shaped as the log is.

    Each node binds the keys and the sums below it, so a root that holds this leaf holds no other valid leaf
    of its key, and no negative sum can hide another's. Raises Invalid.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise Invalid(f"there is no leaf {index} in a tree of {size}")
    at = leaf
    for sibling, is_left in _climb(index, size - 1, path):
        at = sum_node(sibling, at) if is_left else sum_node(at, sibling)
    at.encoded()  # its range
    return at


def commitment(head: Mapping[str, Any]) -> bytes:
    """Return what a leaf holds of a statement or a charge: the hash of what of it is signed."""
    return hashlib.sha256(canonical(head)).digest()


def told_digest(nonce: bytes, names: Mapping[str, Any]) -> str:
    """Return what a statement's signed head holds of the names on it, so that they can be erased."""
    return b64url(hashlib.sha256(nonce + canonical(names)).digest())


def open_manifest(token: str, keys: Keys) -> tuple[dict[str, Any], bytes]:
    """Return (what a period's manifest says, its payload). Raises Invalid unless its sums add up.

    What apps were charged, with what was let go of earlier periods, is what creators, escrow, the common
    account and the platform got; the trees of creators and apps hold these very sums.
    """
    payload = open_jws(token, keys.kids, MANIFEST_TYPE)
    said = from_canonical(payload, "the manifest")
    try:
        totals = said["totals"]
        charged, creators = totals["charged_grains"], totals["creators_grains"]
        out = creators + totals["escrow_grains"] + totals["platform_grains"]
        out += sum(totals["common_grains"].values())
        if charged + totals.get("released_grains", 0) != out:
            raise Invalid("the period's money does not add up")
        for name, grains in (("payees", creators), ("apps", charged)):
            if (said[name]["grains"] if said[name] else 0) != grains:
                raise Invalid(f"the period's {name} have another sum than its totals")
    except (KeyError, TypeError, AttributeError):
        raise Invalid("the manifest lacks a member") from None
    return said, payload


def check_leaves(kind: str, ident: str, head: Mapping[str, Any], leaves: Any, tree: Any) -> int:
    """Return the sum in grains that a period's tree holds for a party, whose parts stand in it once each.

    leaves: the party's openings, part by part; tree: the manifest's "payees" or "apps". Raises Invalid.
    """
    committed, total = commitment(head), 0
    try:
        size, root = tree["n"], _node_of(tree)
        if len(leaves) != PARTS:
            raise Invalid(f"there are not {PARTS} parts of {ident}")
        for part, shown in enumerate(leaves):
            nonce = from_b64url(shown["nonce"], "a leaf's nonce")
            leaf = sum_leaf(sum_key(kind, ident, part), _integer(shown["grains"]), committed, nonce)
            path = [_node_of(one) for one in shown["path"]]
            if summed_root(leaf, _integer(shown["index"]), _integer(size), path) != root:
                raise Invalid(f"the period does not hold this of {ident}")
            total += leaf.grains
    except (KeyError, TypeError, AttributeError):
        raise Invalid("a leaf or the tree lacks a member") from None
    return total


def _integer(value: Any) -> int:
    if type(value) is not int:  # bool is an int in Python, and true would be spelt otherwise elsewhere
        raise Invalid("what should be an integer is none")
    return value


def _node_of(said: Mapping[str, Any]) -> Sum:
    first, last, digest = (from_b64url(said[name], "a node") for name in ("first", "last", "digest"))
    return Sum(first, last, _integer(said["grains"]), digest)


def without_texts(value: Any) -> Any:
    """Return a statement's JSON without amounts written once more for eyes: "x" for "x_grains"."""
    if isinstance(value, list):
        return [without_texts(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    return {name: without_texts(one) for name, one in members.items() if f"{name}_grains" not in members}


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (amount as text, in grains) for all that a statement writes twice."""
    if isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _texts(one)
    elif isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        for name, one in members.items():
            grains = members.get(f"{name}_grains")
            if isinstance(one, dict) and isinstance(grains, dict):
                texts, sums = cast("dict[str, Any]", one), cast("dict[str, Any]", grains)
                yield from ((text, sums.get(key)) for key, text in texts.items())
            elif grains is not None:
                yield one, grains
            else:
                yield from _texts(one)


def _amount(grains: int, exponent: int) -> str:
    """Return an amount in a currency whose minor unit is 10^-exponent, exact, as statements write it."""
    digits = str(abs(grains)).rjust(exponent + GRAIN_DIGITS + 1, "0")
    point = len(digits) - exponent - GRAIN_DIGITS
    behind = digits[point : point + exponent] + digits[point + exponent :].rstrip("0")
    return ("-" if grains < 0 else "") + digits[:point] + (f".{behind}" if behind else "")


def _check_texts(statement: Mapping[str, Any]) -> None:
    pairs = list(_texts(statement))
    if not any(all(_amount(_integer(g), e) == text for text, g in pairs) for e in EXPONENTS):
        raise Invalid("an amount is written in two ways that do not agree")


_NOT_IN_HEAD: Final = frozenset({"format", "lines", "name", "app_names", "basis", "totals"})
_MOVED: Final = {
    "adjustments": 1, "distributed": 1, "held": -1, "paid": -1, "released": 1, "returned": 1, "withheld": -1,
}  # fmt: skip


def check_statement(shown: Mapping[str, Any], keys: Keys) -> list[str]:
    """Return what a signed statement proves, a sentence each. Raises Invalid with what does not hold.

    Its lines sum to what was earned, its movements lead from its opening to its closing, the period's
    manifest has its rules and totals and holds it once and as it is, and the manifest is in the log.
    """
    said, proven = _in_manifest(shown, keys)
    try:
        head, earned = statement_head(shown["statement"], said, from_b64url(shown["nonce"], "the nonce"))
        creator = str(head["creator"])
        if check_leaves("payee", creator, head, shown["leaves"], said["payees"]) != earned:
            raise Invalid(f"the period holds another sum for {creator}")
    except (KeyError, TypeError, AttributeError):
        raise Invalid("the statement lacks a member") from None
    return [
        f"signed: what {creator} earned in {said['period']}, {earned} grains in {said['cur']}",
        *proven,
        f"once: {creator} stands in the period's {said['payees']['n'] // PARTS} creators once, with this sum",
    ]


def statement_head(shown: Any, said: Mapping[str, Any], nonce: bytes) -> tuple[dict[str, Any], int]:
    """Return (what of a statement is signed, what was earned), where it adds up. Raises Invalid.

    shown: its JSON; said: the manifest of its period; nonce: salts the names on it.
    """
    _check_texts(shown)
    statement = without_texts(shown)
    try:
        if statement["format"] != STATEMENT_FORMAT:
            raise Invalid(f"this is no {STATEMENT_FORMAT}")
        names = {name: statement[name] for name in ("app_names", "name")}
        head = {name: one for name, one in statement.items() if name not in _NOT_IN_HEAD}
        head["told"] = told_digest(nonce, names)
        if (statement["period"], statement["currency"]) != (said["period"], said["cur"]):
            raise Invalid("the statement is not of this period")
        if statement["basis"] != said["basis"] or statement["totals"] != said["totals"]:
            raise Invalid("the statement's rules or totals are not the period's")
        if hashlib.sha256(canonical(statement["lines"])).hexdigest() != statement["lines_sha256"]:
            raise Invalid("the statement's lines are not those that were signed")
        earned = sum(_integer(line["net_grains"]) for line in statement["lines"])
        moved = sum(sign * head.get(f"{name}_grains", 0) for name, sign in _MOVED.items())
        if moved != sum(_integer(move["grains"]) for move in head.get("moves", [])):
            raise Invalid("the statement's movements do not add up")
        ends = head["opening_grains"] + earned + moved
        if (earned, ends) != (head["earned_grains"], head["closing_grains"]):
            raise Invalid("the statement does not add up")
    except (KeyError, TypeError, AttributeError):
        raise Invalid("the statement lacks a member") from None
    return head, earned


def check_charge(shown: Mapping[str, Any], keys: Keys) -> list[str]:
    """Return what an app's signed charge proves, a sentence each. Raises Invalid with what does not hold."""
    said, proven = _in_manifest(shown, keys)
    try:
        charge = shown["charge"]
        app, grains = str(charge["app"]), _integer(charge["charged_grains"])
        if (charge["period"], charge["currency"]) != (said["period"], said["cur"]):
            raise Invalid("the charge is not of this period")
        if check_leaves("app", app, charge, shown["leaves"], said["apps"]) != grains:
            raise Invalid(f"the period holds another sum for {app}")
    except (KeyError, TypeError, AttributeError):
        raise Invalid("the charge lacks a member") from None
    return [
        f"signed: what {app} was charged in {said['period']}, {grains} grains in {said['cur']}",
        *proven,
        f"once: {app} stands in the period's {said['apps']['n'] // PARTS} apps once, with this sum",
    ]


def check_uses(rows: Iterable[bytes], statement: bytes, keys: Keys, older: bytes = b"") -> list[str]:
    """Return what the receipts behind a signed statement prove, a sentence each. Raises Invalid.

    rows: the lines of the file of its uses. Each receipt is signed, in the log, before the period's manifest
    was, and there once; and they are all that the statement's lines count: by work, app, model and day, as
    many answers, with shares of the same sum. older: a file of the period right before, where no receipt of
    that one may be counted either.
    """
    shown = from_canonical(statement.strip(), "the statement's file")
    check_statement(shown, keys)
    since, proven = 0, list[str]()
    if older:
        proven = check_files_in_row(older, statement, keys)
        since = open_manifest(str(json.loads(older)["manifest"]), keys)[0]["log"]["size"]
    reading = iter(rows)
    first = from_canonical(next(reading, b"").strip(), "the first line")
    until = open_manifest(str(shown["manifest"]), keys)[0]["log"]["size"]
    if (first.get("manifest"), first.get("statement")) != (shown["manifest"], shown["statement"]["id"]):
        raise Invalid("these are not the uses of this statement")
    checkpoint = open_checkpoint(str(first.get("checkpoint")), keys.notes, keys.origin)
    counted: dict[tuple[Any, ...], list[int]] = {}
    seen: set[tuple[int, str]] = set()
    for row in reading:
        use = from_canonical(row.strip(), "a line")
        try:
            index, line, payload = _integer(use["index"]), use["line"], open_jws(use["receipt"], keys.kids)
            said = check_line(payload, line)
            path = [from_b64(str(one), "the path") for one in use["path"]]
            place = (index, str(line["work"]))
        except (KeyError, TypeError, AttributeError):
            raise Invalid("a line of the uses lacks a member") from None
        root = included_root(leaf_hash(receipt_entry(payload)), index, checkpoint.size, path)
        if root != checkpoint.root or not since <= index < until or place in seen:
            raise Invalid("a receipt is not in the log, or not of this period, or counted twice")
        seen.add(place)
        _count(counted, use_of(said, line["work"]), 1, line["ppm"])
    if counted != stated_uses(shown["statement"]):
        raise Invalid("the receipts are not those that the statement's lines count")
    counts = f"uses: the receipts of {len(seen)} uses are all that its lines count, each in the log once"
    return [counts, *proven]


def use_of(receipt: Mapping[str, Any], work: str) -> tuple[Any, ...]:
    """Return what a statement's lines are told apart by, of an answer: work, app, model and day."""
    try:
        day = str(datetime.fromtimestamp(receipt["iat"] // 1_000_000, UTC).date())
        return work, receipt["app"], receipt["mdl"], day
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise Invalid("a receipt says no app, model or time") from None


def stated_uses(statement: Mapping[str, Any]) -> dict[tuple[Any, ...], list[int]]:
    """Return {use: [answers, sum of ppm]} as a statement's lines count them."""
    stated: dict[tuple[Any, ...], list[int]] = {}
    for line in statement["lines"]:
        if line["verdict"] != "released" and line["answers"]:
            key = (line["work"], line["app"], line["model"], line["day"])
            _count(stated, key, line["answers"], line["ppm_sum"])
    return stated


def _count(sums: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], answers: int, ppm: int) -> None:
    both = sums.setdefault(key, [0, 0])
    both[0] += answers
    both[1] += ppm


def check_next(older: str, newer: str, keys: Keys) -> None:
    """Raise Invalid unless the second of two manifests is that of the period right after the first's."""
    (before, payload), (after, _) = open_manifest(older, keys), open_manifest(newer, keys)
    try:
        follows = (after["seq"], after["prev"]) == (before["seq"] + 1, hashlib.sha256(payload).hexdigest())
        bounds = after["basis"]["start_bounds"] == before["basis"]["end_bounds"]
        if not (follows and bounds and after["log"]["size"] >= before["log"]["size"]):
            raise Invalid("the later period does not begin where the earlier one ended")
    except (KeyError, TypeError, AttributeError):
        raise Invalid("a manifest lacks a member") from None


def _in_manifest(shown: Mapping[str, Any], keys: Keys) -> tuple[dict[str, Any], list[str]]:
    """Return (what the manifest beside a statement or a charge says, that it is in the log)."""
    token, proof = shown.get("manifest"), shown.get("proof")
    if not isinstance(token, str) or not isinstance(proof, str):
        raise Invalid("the period's manifest, or its place in the log, is not with it")
    said, payload = open_manifest(token, keys)
    checkpoint = check_proof(proof, manifest_entry(payload), keys.notes, keys.origin)
    where = f"one of the {checkpoint.size} entries of {checkpoint.origin}"
    return said, [f"logged: the period's manifest is {where}"]


# Files


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose signatures count: what an operator's /.well-known/endcredits.json says, saved and kept."""

    origin: str
    kids: Mapping[str, bytes]
    notes: tuple[VerifierKey, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Keys:
        """Return the keys in a saved /.well-known/endcredits.json. Raises Invalid."""
        try:
            said = json.loads(raw)
            origin = said["log"]["origin"]
            found = [(key["kid"], from_b64url(key["x"], "a key"), key["verifier"]) for key in said["keys"]]
            notes = tuple(VerifierKey.parse(written) for _, _, written in found)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Invalid("these are not the keys of /.well-known/endcredits.json") from None
        pairs = zip(notes, found, strict=True)
        if any((note.name, note.public) != (origin, public) for note, (_, public, _) in pairs):
            raise Invalid("a key is written in two ways that do not agree")
        return cls(origin, {kid: public for kid, public, _ in found}, notes)


def check_manifest(shown: Mapping[str, Any], keys: Keys) -> list[str]:
    """Return what a period's manifest with its proof proves. Raises Invalid with what does not hold."""
    said, proven = _in_manifest(shown, keys)
    return [f"signed: the period {said.get('period')}, and its sums add up", *proven]


def check_change(shown: Mapping[str, Any], keys: Keys) -> list[str]:
    """Return what shows a change of the registry, a sentence each. Raises Invalid with what does not hold.

    It stands in a logged batch, at its number's place. What changed is in `said`, where that is told.
    """
    try:
        change, batch, path = shown["change"], shown["batch"], [str(one) for one in shown["path"]]
        first, count, seq = map(_integer, (batch["first"], batch["n"], change["seq"]))
        salt, root = from_b64url(shown["salt"], "the salt"), from_b64url(batch["root"], "the batch's root")
        kind, work, at_s = str(change["kind"]), str(change["work"]), _integer(change["at"]) // 1_000_000
        if batch != {"first": first, "n": count, "root": batch["root"], "v": 1} or len(salt) != SALT_BYTES:
            raise Invalid("the batch or the salt is not as they are written")
        leaf, hashes = leaf_hash(salt + canonical(change)), [from_b64url(one, "the path") for one in path]
        if included_root(leaf, seq - first, count, hashes) != root:
            raise Invalid("the batch does not hold this change at that number")
        if "said" in shown and hashlib.sha256(canonical(shown["said"])).hexdigest() != change["payload"]:
            raise Invalid("this is not what changed")
        entry = changes_entry(canonical(batch))
        checkpoint = check_proof(str(shown["proof"]), entry, keys.notes, keys.origin)
        when = datetime.fromtimestamp(at_s, UTC).isoformat()
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError, OSError):
        raise Invalid("the change lacks a member") from None
    return [
        f"registry: its change {seq} is {kind}{f' of {work}' if work else ''}, by {change['actor']}, {when}",
        *([f"said: {canonical(shown['said']).decode()}"] if "said" in shown else []),
        f"logged: it is in one of the {checkpoint.size} entries of {checkpoint.origin}, at that number",
    ]


_ONE_SPELLING: Final = {
    frozenset({"batch", "change", "path", "proof", "salt"}): check_change,
    frozenset({"batch", "change", "path", "proof", "said", "salt"}): check_change,
    frozenset({"leaves", "manifest", "nonce", "proof", "statement"}): check_statement,
    frozenset({"charge", "leaves", "manifest", "proof"}): check_charge,
    frozenset({"manifest", "proof"}): check_manifest,
}
_OF_A_RECEIPT: Final = frozenset({"lines", "nonce", "proof", "receipt"})


def check_file(raw: bytes, keys: Keys) -> list[str]:
    """Return what a file proves, a sentence each. Raises Invalid with what does not hold.

    raw: a receipt (a compact JWS), or the JSON of /api/receipts/{id}/proof, "receipt" with or without "proof"
    and "lines"; a signed statement or charge, a period's manifest with its proof, or a registry's change.
    """
    try:
        text = raw.decode("utf-8").strip()
        said: dict[str, Any] = json.loads(text) if text.startswith("{") else {"receipt": text}
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise Invalid("this is neither a receipt nor the JSON of one") from None
    if "manifest" in said or "change" in said:
        # One spelling and no member more: a flipped bit must not turn a file into one that says less.
        check = _ONE_SPELLING.get(frozenset(said))
        if check is None or canonical(said) != text.encode("utf-8"):
            raise Invalid("this is no statement, charge, manifest or change as they are written")
        return check(said, keys)
    token, shown = said.get("receipt"), said.get("lines", [])
    if not isinstance(token, str) or not isinstance(shown, list):
        raise Invalid("there is no receipt in it")
    if not said.keys() <= _OF_A_RECEIPT:  # a proof under another name would go unread
        raise Invalid("this holds more than what belongs to a receipt")
    payload = open_jws(token, keys.kids)
    facts = from_canonical(payload, "the receipt")
    proven = [f"signed: {facts.get('rid')}, an answer of {facts.get('mdl')} to {facts.get('app')}"]
    if (proof := said.get("proof")) is not None:
        checkpoint = check_proof(str(proof), receipt_entry(payload), keys.notes, keys.origin)
        proven.append(f"logged: it is one of the {checkpoint.size} entries of {checkpoint.origin}")
    for opened in cast("list[dict[str, Any]]", shown):
        check_line(payload, opened)
        proven.append(f"drew on {opened['work']}: {opened['ppm']} ppm of it, {opened['verdict']}")
    return proven


def check_files_in_row(older: bytes, newer: bytes, keys: Keys) -> list[str]:
    """Return what two files of one party show together: that the second's period follows the first's.

    Of two statements also that the second opens with what the first closed with. Raises Invalid.
    """
    check_file(older, keys)
    before, after = (cast("dict[str, Any]", json.loads(one)) for one in (older, newer))
    if "manifest" not in before or "manifest" not in after:
        raise Invalid("only what belongs to a period has a period before it")
    check_next(str(before["manifest"]), str(after["manifest"]), keys)
    shown = "the period follows the one before, and nothing lies between them"
    if "statement" not in before or "statement" not in after:
        return [f"next: {shown}"]
    first, second = before["statement"], after["statement"]
    if first["creator"] != second["creator"] or first["closing_grains"] != second["opening_grains"]:
        raise Invalid("the later statement does not open with what the earlier one closed with")
    return [f"next: {shown}; its opening is the closing of that"]


def main(arguments: Sequence[str]) -> int:
    """Check a file by itself: python verify.py FILE KEYS [FILE OF THE PERIOD BEFORE].

    Return 0 when all of it holds.
    """
    if len(arguments) not in {2, 3}:
        print(main.__doc__, file=sys.stderr)  # noqa: T201  by itself it is a program
        return 2
    try:
        raw, saved, *before = (Path(name).read_bytes() for name in arguments)
        keys = Keys.parse(saved)
        proven = check_file(raw, keys)
        for one in before:
            proven += check_files_in_row(one, raw, keys)
        print("\n".join(proven))  # noqa: T201
    except (Invalid, OSError) as error:
        print(f"does not hold: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HASH_BYTES: Final = 32
SALT_BYTES: Final = 16
ED25519: Final = b"\x01"  # C2SP signed-note's type of an Ed25519 signature
PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
RECEIPT_TYPE: Final = "endcredits-receipt+jws"
SIZE_MAX: Final = 1 << 62  # of a log: what an index of 64 bits can still be added to
PATH_MAX: Final = 64  # hashes: more than a log of SIZE_MAX needs
NOTE_BYTES_MAX: Final = 1 << 20  # sixteen signatures of 5 kB, and room
SUM_MAX: Final = (1 << 63) - 1
PARTS: Final = 4  # leaves of one party in a period's tree: a neighbour's sum then says nothing about a party
_RECEIPT_ENTRY: Final = b"\x01"
_MANIFEST_ENTRY: Final = b"\x02"
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


def check_file(raw: bytes, keys: Keys) -> list[str]:
    """Return what a file proves, a sentence each. Raises Invalid with what does not hold.

    raw: a receipt (a compact JWS), or the JSON of /api/receipts/{id}/proof with "receipt", and with what else
    there is of "proof" (a tlog-proof) and "lines" (opened ones).
    """
    try:
        text = raw.decode("utf-8").strip()
        said: dict[str, Any] = json.loads(text) if text.startswith("{") else {"receipt": text}
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise Invalid("this is neither a receipt nor the JSON of one") from None
    token, shown = said.get("receipt"), said.get("lines", [])
    if not isinstance(token, str) or not isinstance(shown, list):
        raise Invalid("there is no receipt in it")
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


def main(arguments: Sequence[str]) -> int:
    """Check a file by itself: python verify.py FILE KEYS. Return 0 when all of it holds."""
    if len(arguments) != 2:
        print(main.__doc__, file=sys.stderr)  # noqa: T201  by itself it is a program
        return 2
    try:
        raw, saved = (Path(name).read_bytes() for name in arguments)
        print("\n".join(check_file(raw, Keys.parse(saved))))  # noqa: T201
    except (Invalid, OSError) as error:
        print(f"does not hold: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

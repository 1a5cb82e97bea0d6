"""The operator's signing keys: beside the store and never in it, several at a time while one follows another.

A key signs receipts (JWS, RFC 7515 with Ed25519, RFC 8037) and the log's checkpoints (C2SP signed-note). The
newest in force signs receipts; all in force sign checkpoints, so that whoever knows only the older one can
follow. A key's end never makes what it signed before invalid: its public half stays listed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.errors import SettingsError
from proxy.receipts.verify import RECEIPT_TYPE, VerifierKey, b64, b64url, canonical

SUFFIX: Final = ".key"
SEED_BYTES: Final = 32
KEYS_MAX: Final = 100  # a new one every month for eight years


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair. until_us: when it stops signing, 0 while that is open; kid: from the public half."""

    seed: bytes
    from_us: int
    until_us: int = 0

    @property
    def private(self) -> Ed25519PrivateKey:
        """The private half."""
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def public(self) -> bytes:
        """The public half: 32 bytes."""
        return self.private.public_key().public_bytes_raw()

    @property
    def kid(self) -> str:
        """The name under which receipts say who signed them: 16 hex digits of the public half's hash."""
        return hashlib.sha256(self.public).hexdigest()[:16]

    def in_force(self, now_us: int) -> bool:
        """Say whether it signs now."""
        return self.from_us <= now_us and (not self.until_us or now_us < self.until_us)

    def __repr__(self) -> str:
        """Return it without its secret."""
        return f"SigningKey({self.kid}, {self.from_us}, {self.until_us})"


class Signer:
    """Signs with keys that were read once. origin: the log's name, that of the checkpoints' signatures."""

    def __init__(self, origin: str, keys: Iterable[SigningKey], now_us: int) -> None:
        """Take the keys in force; the newest signs receipts. Raises SettingsError where there is none."""
        newest_first = sorted(keys, key=lambda key: (key.from_us, key.kid), reverse=True)
        self._keys = [key for key in newest_first if key.in_force(now_us)]
        if not self._keys:
            raise SettingsError(
                "no signing key is in force", remedy="`endcredits signing rotate` makes a new one"
            )
        self.origin = origin
        self.kid = self._keys[0].kid
        self._private = [key.private for key in self._keys]
        self._note_keys = [VerifierKey.of(origin, key.public) for key in self._keys]
        self._headers: dict[str, str] = {}

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """The public keys by which this signer's notes are checked, newest first."""
        return tuple(self._note_keys)

    def jws(self, payload: bytes, typ: str = RECEIPT_TYPE) -> str:
        """Return a compact JWS over `payload`: about 30 µs."""
        header = self._headers.get(typ)
        if header is None:
            header = b64url(canonical({"alg": "EdDSA", "kid": self.kid, "typ": typ}))
            self._headers[typ] = header
        signed = f"{header}.{b64url(payload)}"
        return f"{signed}.{b64url(self._private[0].sign(signed.encode('ascii')))}"

    def note(self, text: str) -> str:
        """Return `text`, which ends in a newline, as a note signed by every key in force."""
        lines = [
            f"— {key.name} {b64(key.key_id + private.sign(text.encode('utf-8')))}\n"
            for key, private in zip(self._note_keys, self._private, strict=True)
        ]
        return f"{text}\n{''.join(lines)}"

    def checkpoint(self, size: int, root: bytes) -> str:
        """Return the log's checkpoint, signed."""
        return self.note(f"{self.origin}\n{size}\n{b64(root)}\n")


def proof_file(index: int, path: Sequence[bytes], checkpoint: str) -> str:
    """Return a tlog-proof@v1: that an entry stands at `index` in the log of a signed checkpoint."""
    lines = ["c2sp.org/tlog-proof@v1", f"index {index}", *map(b64, path)]
    return "\n".join(lines) + "\n\n" + checkpoint


# On disk


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    seed: bytes
    from_us: int
    until_us: int = 0


def read_keys(folder: Path) -> list[SigningKey]:
    """Return the keys in a folder, oldest first. Raises SettingsError for one that is damaged."""
    keys: list[SigningKey] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError) as error:
            raise _damaged(path) from error
        key = SigningKey(kept.seed, kept.from_us, kept.until_us)
        if len(kept.seed) != SEED_BYTES or path.name != f"{key.kid}{SUFFIX}":
            raise _damaged(path)
        keys.append(key)
    return sorted(keys, key=lambda key: (key.from_us, key.kid))


def open_keys(folder: Path, now_us: int) -> list[SigningKey]:
    """Return the keys in a folder, making the first one where there is none."""
    keys = read_keys(folder)
    if not keys:
        keys = [SigningKey(secrets.token_bytes(SEED_BYTES), now_us)]
        _keep(folder, keys[0])
    return keys


def rotate(folder: Path, now_us: int, overlap_us: int) -> SigningKey:
    """Return a new key that signs from now on; those before it end after `overlap_us`."""
    keys = open_keys(folder, now_us)
    if len(keys) >= KEYS_MAX:
        raise SettingsError(
            f"there are {len(keys)} signing keys",
            remedy="see what rotates them so often; move ended ones away",
        )
    new = SigningKey(secrets.token_bytes(SEED_BYTES), now_us)
    _keep(folder, new)  # before the others end: there is no moment without a key
    for key in keys:
        if not key.until_us or key.until_us > now_us + overlap_us:
            _keep(folder, replace(key, until_us=now_us + overlap_us))
    return new


def _keep(folder: Path, key: SigningKey) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{key.kid}{SUFFIX}"
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(_Kept(key.seed, key.from_us, key.until_us)))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _damaged(path: Path) -> SettingsError:
    return SettingsError(
        f"the signing key {path} is damaged",
        remedy="restore it from a backup; what it signed stays valid, but nobody could go on signing with it",
    )

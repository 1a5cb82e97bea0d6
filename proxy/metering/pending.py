"""Texts that wait for their shares, readable only as long as they have to be.

No output text is stored, with one exception: an answer whose scoring was late must be scorable after a
restart. Its text lies encrypted beside the journal, each with a key of its own in another folder that no
backup takes. Erasing is deleting the key: what a backup or a disk keeps of the text is then noise. AES-GCM
binds each text to its id.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.errors import Unavailable
from proxy.metering.segments import sync_directory, write_synced
from proxy.observability import get_log

KEY_BITS = 256
NONCE = bytes(12)  # a key encrypts one text, ever, so its nonce need not vary
SUFFIX = ".text"


class _Sealed(msgspec.Struct, frozen=True):
    text: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class PendingText:
    """An answer's text that waits, with whatever its scorer needs besides. kept_us: since when it is kept."""

    id: str
    text: str
    context: str
    kept_us: int


class PendingTexts:
    """The waiting texts of one journal shard. All calls block for a sync or two: use a thread.

    texts: folder of the encrypted texts. keys: folder of their keys, mode 0700, in no backup.
    """

    def __init__(self, texts: Path, keys: Path) -> None:
        self._texts, self._keys = texts, keys
        self._guard = threading.Lock()  # calls come from several threads
        for folder in (texts, keys):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
        self._sizes = {path.stem: path.stat().st_size for path in texts.glob(f"*{SUFFIX}")}
        # A crash between the two writes, or the two deletions, leaves one half: it can never be read again.
        kept = {path.name for path in keys.iterdir()}
        for orphan in kept - self._sizes.keys():
            (keys / orphan).unlink()
        for orphan in self._sizes.keys() - kept:
            (texts / f"{orphan}{SUFFIX}").unlink()
            del self._sizes[orphan]
        # Only these are a former process's: what is put from now on has an owner that will erase it.
        self._left = tuple(sorted(self._sizes))

    @classmethod
    def of_shard(cls, data_dir: Path, shard: str) -> PendingTexts:
        """Return the texts that wait for answers of a shard, where they lie in the data folder."""
        return cls(data_dir / "pending" / shard, data_dir / "pending-keys" / shard)

    @property
    def total_bytes(self) -> int:
        """Bytes on disk, to hold against the backlog's bound."""
        with self._guard:
            return sum(self._sizes.values())

    def __len__(self) -> int:
        return len(self._sizes)

    def put(self, answer_id: str, text: str, context: str = "") -> None:
        """Keep a text until `erase`, durable on return. Raises Unavailable(code "pending_unavailable")."""
        _check(answer_id)
        key = AESGCM.generate_key(KEY_BITS)
        plain = msgspec.msgpack.encode(_Sealed(_bytes(text), _bytes(context)))
        sealed = AESGCM(key).encrypt(NONCE, plain, answer_id.encode())
        try:
            write_synced(self._keys / answer_id, key)
            sync_directory(self._keys)
            write_synced(self._texts / f"{answer_id}{SUFFIX}", sealed)
            sync_directory(self._texts)
        except OSError as error:
            self.erase(answer_id)
            raise Unavailable(
                f"{self._texts}: a pending text cannot be kept ({error.strerror})",
                remedy="free space on its disk; until then a restart settles such answers as not attributed",
                code="pending_unavailable",
            ) from error
        with self._guard:
            self._sizes[answer_id] = len(sealed)

    def erase(self, answer_id: str) -> None:
        """Make a text unreadable for ever, key first; an id that is not there is fine. Raises OSError."""
        _check(answer_id)
        (self._keys / answer_id).unlink(missing_ok=True)
        sync_directory(self._keys)
        (self._texts / f"{answer_id}{SUFFIX}").unlink(missing_ok=True)
        with self._guard:
            self._sizes.pop(answer_id, None)

    def load_all(self) -> Iterator[PendingText]:
        """Yield the texts that lay here at opening, one in memory at a time; damaged ones are erased."""
        for answer_id in self._left:
            try:
                key = (self._keys / answer_id).read_bytes()
                path = self._texts / f"{answer_id}{SUFFIX}"
                data, kept_us = path.read_bytes(), path.stat().st_mtime_ns // 1_000
                plain = AESGCM(key).decrypt(NONCE, data, answer_id.encode())
                sealed = msgspec.msgpack.decode(plain, type=_Sealed)
            except FileNotFoundError:
                continue  # erased meanwhile
            except (InvalidTag, ValueError, msgspec.DecodeError):
                get_log().error("pending_text_damaged", answer_id=answer_id)
                self.erase(answer_id)
                continue
            yield PendingText(answer_id, _string(sealed.text), _string(sealed.context), kept_us)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON can carry half a surrogate pair, and offsets count it


def _string(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _check(answer_id: str) -> None:
    if not answer_id or os.sep in answer_id or answer_id.startswith("."):
        raise ValueError(f"not an answer's id: {answer_id!r}")

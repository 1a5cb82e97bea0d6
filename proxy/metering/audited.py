"""Whole exchanges of apps that asked to be audited: the one place where prompts and answers may stay a while.

Nothing is kept of an app unless an operator has opted it in (`endcredits apps audit on`), and then a sample
only, sealed with a key of the app's own in a folder that no backup takes. Opting out erases the key first,
so that what a disk or a backup still holds of the texts is noise. Only the opt-in makes a key: a worker that
hears of an opt-out late finds none and keeps nothing. The oldest go when there are too many, or when their
days are over.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.errors import Unavailable
from proxy.metering.segments import sync_directory, write_synced

FOLDER, KEYS = "audit", "audit-keys"
KEY_BITS, NONCE_BYTES = 256, 12
SUFFIX = ".exchange"
DAY_S = 86_400
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)


class Message(msgspec.Struct, frozen=True):
    """What one side said."""

    role: str
    content: str


class Exchange(msgspec.Struct, frozen=True):
    """One exchange: what was asked, and what one choice answered."""

    id: str
    model: str
    messages: tuple[Message, ...]
    answer: str


class AuditedExchanges:
    """The kept exchanges of one data folder. Calls block on the disk: use a thread.

    exchanges_max: of one app, the oldest go first. days: how long one is kept.
    """

    def __init__(self, data_dir: Path, *, exchanges_max: int, days: int) -> None:
        self._texts, self._keys = data_dir / FOLDER, data_dir / KEYS
        self._exchanges_max = exchanges_max
        self._keep_s = days * DAY_S

    def opt_in(self, app_id: str) -> None:
        """Make the app's key and folder; what is there already stays. Raises Unavailable."""
        _check(app_id)
        try:
            for folder in (self._keys, self._texts, self._texts / app_id):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.chmod(0o700)
            if not (self._keys / app_id).exists():
                write_synced(self._keys / app_id, AESGCM.generate_key(KEY_BITS))
                sync_directory(self._keys)
        except OSError as error:
            raise Unavailable(
                f"{self._texts}: no place for exchanges can be made ({error.strerror})",
                remedy="make room in the data folder, and see that it is yours",
                code="audit_unavailable",
            ) from error

    def opt_out(self, app_id: str) -> int:
        """Erase the app's key, then its exchanges; returns how many there were. Raises OSError."""
        _check(app_id)
        kept = len(self._files(app_id))
        (self._keys / app_id).unlink(missing_ok=True)
        if self._keys.is_dir():
            sync_directory(self._keys)
        shutil.rmtree(self._texts / app_id, ignore_errors=True)
        return kept

    def put(self, app_id: str, exchange: Exchange, now_s: float) -> bool:
        """Keep an exchange; False when the app is not opted in here, or the disk refuses."""
        _check(app_id)
        _check(exchange.id)
        nonce = os.urandom(NONCE_BYTES)
        try:
            key = (self._keys / app_id).read_bytes()
            plain = msgspec.msgpack.encode(_encoded(exchange))
            sealed = nonce + AESGCM(key).encrypt(nonce, plain, exchange.id.encode())
            write_synced(self._texts / app_id / f"{exchange.id}{SUFFIX}", sealed)
        except (OSError, ValueError):
            return False  # a sample is worth no answer and no alarm
        self._prune(app_id, now_s)
        return True

    def erase(self, app_id: str, exchange_id: str) -> bool:
        """Erase one exchange; False when it is not kept."""
        _check(app_id)
        _check(exchange_id)
        try:
            (self._texts / app_id / f"{exchange_id}{SUFFIX}").unlink()
        except FileNotFoundError:
            return False
        return True

    def sweep(self, now_s: float) -> None:
        """Let go of what is too old, and of everything whose key is gone."""
        for folder in self._texts.iterdir() if self._texts.is_dir() else ():
            if _NAME.fullmatch(folder.name) and (self._keys / folder.name).is_file():
                self._prune(folder.name, now_s)
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def read(self, app_id: str, now_s: float) -> Iterator[Exchange]:
        """Yield an app's exchanges in the order of their ids, one at a time, without damaged ones."""
        _check(app_id)
        self._prune(app_id, now_s)
        try:
            key = AESGCM((self._keys / app_id).read_bytes())
        except (OSError, ValueError):
            return
        for path in sorted(self._files(app_id)):
            try:
                data = path.read_bytes()
                plain = key.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], path.stem.encode())
                yield _decoded(msgspec.msgpack.decode(plain, type=_Sealed))
            except (OSError, InvalidTag, ValueError, msgspec.DecodeError):
                continue

    def count(self, app_id: str) -> int:
        """Return how many exchanges of an app are kept."""
        _check(app_id)
        return len(self._files(app_id))

    def _files(self, app_id: str) -> list[Path]:
        return list((self._texts / app_id).glob(f"*{SUFFIX}"))

    def _prune(self, app_id: str, now_s: float) -> None:
        aged: list[tuple[float, Path]] = []
        for path in self._files(app_id):
            try:
                aged.append((path.stat().st_mtime, path))
            except FileNotFoundError:
                continue  # another worker was first
        aged.sort()
        beyond = len(aged) - self._exchanges_max
        for number, (at_s, path) in enumerate(aged):
            if number < beyond or at_s < now_s - self._keep_s:
                path.unlink(missing_ok=True)


class _Sealed(msgspec.Struct, frozen=True):
    """An exchange as bytes: JSON can carry half a surrogate pair, and UTF-8 text cannot."""

    id: str
    model: str
    messages: list[tuple[str, bytes]]
    answer: bytes


def _encoded(exchange: Exchange) -> _Sealed:
    messages = [(one.role, one.content.encode("utf-8", "surrogatepass")) for one in exchange.messages]
    return _Sealed(exchange.id, exchange.model, messages, exchange.answer.encode("utf-8", "surrogatepass"))


def _decoded(sealed: _Sealed) -> Exchange:
    messages = tuple(Message(role, text.decode("utf-8", "surrogatepass")) for role, text in sealed.messages)
    return Exchange(sealed.id, sealed.model, messages, sealed.answer.decode("utf-8", "surrogatepass"))


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not an id: {name!r}")

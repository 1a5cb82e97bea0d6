"""Keys under which end users are known: one for each app and period, each a file beside the store.

What is kept of an end user is a digest under such a key. With it an app's own id finds its answers again, to
tell or to forget them; once the file is deleted nothing can, and all that is left is that some answers of one
period were the same unknown person's. A key that was destroyed is never made again: `DESTROYED` says up to
which period they are gone, also to a process that has not noticed yet.

Several processes share the folder and are given the same key, whoever came first.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Final

from proxy.errors import SettingsError
from proxy.keyfile import secret_file
from proxy.observability import get_log

FOLDER: Final = "subject-keys"
DESTROYED: Final = "destroyed"  # holds the number below which periods have no keys any more
KEY_BYTES: Final = 32
HELD_MAX: Final = 10_000  # keys in memory, 2 MB: one for each app that names users in the running period
_APP: Final = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)
_PERIOD: Final = re.compile(r"[0-9]{6,}", re.ASCII)


class SubjectKeys:
    """The keys in one data folder. A period is named by how many were closed before it."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        self._held: dict[tuple[str, int], bytes] = {}

    def key(self, app: str, period: int) -> bytes:
        """Return the key of an app's running period, made on first use.

        Where it cannot be kept, or was destroyed, the key is this process's own and is gone with it: users
        are told apart meanwhile, and nobody can find them again.
        """
        held = self._held.get((app, period))
        if held is None:
            if len(self._held) >= HELD_MAX or any(of != period for _, of in self._held):
                self._held.clear()  # a new period has begun
            try:
                held = self._own() if period < self._gone_below() else self._made(app, period)
            except (OSError, SettingsError) as error:
                get_log().warning("subject_key_not_kept", app=app, error=type(error).__name__)
                held = self._own()
            self._held[app, period] = held
        return held

    def find(self, app: str, period: int) -> bytes | None:
        """Return a key that is there; never makes one."""
        try:
            return _whole(self._path(app, period))
        except FileNotFoundError:
            return None

    def periods(self) -> list[int]:
        """Return the periods that have keys, oldest first."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(int(one.name) for one in found if _PERIOD.fullmatch(one.name))

    def destroy(self, below: int) -> list[int]:
        """Destroy the keys of all periods before `below`; return which there were."""
        gone = [period for period in self.periods() if period < below]
        if below > self._gone_below():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._say_gone(below)  # first: from here on none of them is made again
        for period in gone:
            shutil.rmtree(self._folder / f"{period:06d}")
        if gone:
            _sync(self._folder)
        return gone

    def _own(self) -> bytes:
        return secrets.token_bytes(KEY_BYTES)

    def _made(self, app: str, period: int) -> bytes:
        path = self._path(app, period)
        for folder in (self._folder, path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return secret_file(path)

    def _path(self, app: str, period: int) -> Path:
        if not _APP.fullmatch(app):
            raise ValueError(f"not an app's id: {app!r}")
        return self._folder / f"{period:06d}" / app

    def _gone_below(self) -> int:
        try:
            return int((self._folder / DESTROYED).read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0

    def _say_gone(self, below: int) -> None:
        aside = self._folder / f".{secrets.token_hex(8)}"
        _write(aside, str(below).encode())
        aside.replace(self._folder / DESTROYED)
        _sync(self._folder)


def _whole(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"{path} is damaged: {len(key)} bytes instead of {KEY_BYTES}",
            remedy="restore it from a backup, or remove it: users of this period then count as new ones",
        )
    return key


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

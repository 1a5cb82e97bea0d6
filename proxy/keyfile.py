"""Keys that must not lie in the store: 32 random bytes, made on first use, that only their owner reads.

A copy of the database then tells nothing that is kept under such a key (digests of texts, payees' accounts),
and a backup of the one belongs apart from a backup of the other.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from pathlib import Path

from proxy.errors import SettingsError

SECRET_BYTES = 32
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})  # some network folders


def secret_file(path: Path) -> bytes:
    """Return the 32 secret bytes in `path`, made on first use and readable by its owner only.

    Of several processes that make it at once, all are given the same. Raises SettingsError for a damaged one,
    OSError where none can be made.
    """
    if not path.exists():
        _make(path)
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise SettingsError(
            f"{path} is damaged: {len(secret)} bytes instead of {SECRET_BYTES}",
            remedy="restore it from a backup; a new one would make old digests unverifiable",
        )
    return secret


def _make(path: Path) -> None:
    """Make a secret whole beside its place, then name it there unless somebody else did first."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            Path(beside).replace(path)  # of two that are started there for the first time one is refused
    finally:
        Path(beside).unlink(missing_ok=True)

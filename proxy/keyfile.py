"""Keys that must not lie in the store: 32 random bytes, made on first use, that only their owner reads.

A copy of the database then tells nothing that is kept under such a key (digests of texts, payees' accounts),
and a backup of the one belongs apart from a backup of the other.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from proxy.errors import SettingsError


def secret_file(path: Path) -> bytes:
    """Return the 32 secret bytes in `path`, made on first use and readable by its owner only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_bytes()
        if len(secret) != 32:
            raise SettingsError(
                f"{path} is damaged: {len(secret)} bytes instead of 32",
                remedy="restore it from a backup; a new one would make old digests unverifiable",
            ) from None
        return secret
    with os.fdopen(descriptor, "wb") as file:
        secret = secrets.token_bytes(32)
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    return secret

"""What one answer has told so far: each choice's text, kept within a bound, and its digest.

The text is needed once more after the scorer has had it: to estimate tokens that a backend did not report,
and to wait, encrypted, for late shares. Beyond the bound it is only counted and hashed, never kept.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from proxy.wire.addresses import ADDRESS_CHARACTERS_MAX
from proxy.wire.ids import made_in

CITED_MAX = 64  # addresses; some backends repeat their sources in every chunk


class Told:
    """The texts of an answer by choice. `kept_characters_max` bounds them all together."""

    def __init__(self, kept_characters_max: int) -> None:
        self._room = kept_characters_max
        self._kept: dict[int, list[str]] = {}
        self._hashes: dict[int, hashlib._Hash] = {}  # pyright: ignore[reportPrivateUsage]
        self.characters = 0
        self.kept_characters = 0
        self.cited: dict[str, None] = {}  # addresses, in the order they were named
        self.may_be_kept = False  # whether the backend keeps it, and its id has not been seen yet
        self.made: list[str] = []  # ids under which it does; the shell takes them out

    def add(self, choice: int, text: str) -> str:
        """Take more of a choice's text; return as much of it as is kept ("" beyond the bound)."""
        hasher = self._hashes.get(choice)
        if hasher is None:
            hasher = self._hashes[choice] = hashlib.sha256()
            self._kept[choice] = []
        hasher.update(text.encode("utf-8", "surrogatepass"))  # JSON may hold half a pair
        self.characters += len(text)
        if len(text) > self._room:
            text = text[: self._room]
        if text:
            self._room -= len(text)
            self.kept_characters += len(text)
            self._kept[choice].append(text)
        return text

    def cite(self, addresses: Sequence[str]) -> None:
        """Take addresses that the backend named as its sources; the first CITED_MAX are kept."""
        for address in addresses:
            if len(self.cited) < CITED_MAX and len(address) <= ADDRESS_CHARACTERS_MAX:
                self.cited[address] = None

    def see_made(self, data: bytes) -> None:
        """Look for the id under which the backend keeps this answer."""
        self.made = made_in(data)
        self.may_be_kept = not self.made

    def texts(self) -> dict[int, str]:
        """Return the kept text of each choice, in the order of the choices."""
        return {choice: "".join(self._kept[choice]) for choice in sorted(self._kept)}

    def digest(self, key: bytes) -> str:
        """Return the keyed digest of all that was told, in hex; "" when nothing was.

        HMAC-SHA256 over, for each choice in order, its number (4 bytes, big endian) and its text's SHA-256.
        """
        if not self._hashes:
            return ""
        message = b"".join(
            choice.to_bytes(4, "big") + self._hashes[choice].digest() for choice in sorted(self._hashes)
        )
        return hmac.digest(key, b"output\0" + message, "sha256").hex()

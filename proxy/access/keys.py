"""Keys and what their holders may do; no store, no web.

A key is 160 random bits, so a plain SHA-256 of it is safe to store: there is no dictionary to try. Keys
are found by that hash in a table, never compared with one another, so no comparison's duration can tell how
much of a guess was right; who measures the look-up learns about hashes of guesses, which lead nowhere.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from proxy.access.limits import UNLIMITED, Limits

Role = Literal["app", "creator", "operator"]
ROLES: tuple[Role, ...] = ("app", "creator", "operator")
SECRET_BYTES = 20  # 160 bits: 32 base32 characters without padding
_SHAPE = re.compile(r"ec_(app|creator|operator)_[a-z2-7]{32}", re.ASCII)
_HEADERS = (b"authorization", b"x-api-key", b"api-key")  # in the order they are believed
_ANY_HEADER = frozenset(_HEADERS)


class Action(enum.StrEnum):
    """What can be asked of us, as coarse as the roles differ."""

    RELAY = "relay"  # send requests to backends, metered for the key's app
    READ_RECEIPT = "read_receipt"
    READ_OWN_USAGE = "read_own_usage"
    EDIT_OWN_WORKS = "edit_own_works"  # register, consent, withdraw
    READ_OWN_STATEMENTS = "read_own_statements"
    READ_OWN_PAYOUTS = "read_own_payouts"
    EDIT_OWN_PAYEE = "edit_own_payee"  # where one is paid oneself
    OPERATE = "operate"  # everybody's works, keys, usage and money


_MAY: dict[Role, frozenset[Action]] = {
    "app": frozenset({Action.RELAY, Action.READ_RECEIPT, Action.READ_OWN_USAGE}),
    "creator": frozenset(
        {
            Action.READ_RECEIPT,
            Action.EDIT_OWN_WORKS,
            Action.READ_OWN_STATEMENTS,
            Action.READ_OWN_PAYOUTS,
            Action.EDIT_OWN_PAYEE,
        }
    ),
    # Not RELAY: an answer must belong to an app, or nobody pays for it.
    "operator": frozenset(Action) - {Action.RELAY},
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever holds a key. An app's key names its app, a creator's its creator; the rest is empty."""

    role: Role
    key_id: str
    app_id: str = ""
    creator_id: str = ""
    name: str = ""
    limits: Limits = UNLIMITED

    def __post_init__(self) -> None:
        if (self.role == "app") != bool(self.app_id) or (self.role == "creator") != bool(self.creator_id):
            raise ValueError(f"a {self.role} key names its {self.role} and nobody else")


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key: the secret is shown once, `digest` is what the store keeps."""

    secret: str
    digest: str

    @property
    def last4(self) -> str:
        """The four characters by which a person tells their keys apart."""
        return self.secret[-4:]


def mint(role: Role, random_bytes: bytes) -> Minted:
    """Return the key made of `random_bytes` (SECRET_BYTES of them, from the system's generator)."""
    if len(random_bytes) != SECRET_BYTES:
        raise ValueError(f"a key is made of {SECRET_BYTES} random bytes, not {len(random_bytes)}")
    secret = f"ec_{role}_{base64.b32encode(random_bytes).decode('ascii').lower()}"
    return Minted(secret, digest_of(secret))


def digest_of(secret: str) -> str:
    """Return the SHA-256 by which a key is stored and found, in hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def has_shape(secret: str) -> bool:
    """Tell whether this could be a key of ours; what could not never reaches the store."""
    return _SHAPE.fullmatch(secret) is not None


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the key a request presents, "" when there is none.

    `headers` are lower-case names with their values, as ASGI gives them. Clients put it into Authorization
    (OpenAI), x-api-key (Anthropic) or api-key (Azure). One that begins with ec_ wins over one that does not,
    because some clients fill two of them.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in _ANY_HEADER and name not in found:
            text = value.decode("latin-1").strip()
            if name == b"authorization":
                scheme, _, text = text.partition(" ")
                if scheme.lower() != "bearer":
                    continue
            found[name] = text.strip()
    in_order = [found[name] for name in _HEADERS if found.get(name)]
    return next((text for text in in_order if text.startswith("ec_")), in_order[0] if in_order else "")


def may(principal: Principal, action: Action) -> bool:
    """Tell whether this role may do `action`; whose things it may touch is asked of the things."""
    return action in _MAY[principal.role]

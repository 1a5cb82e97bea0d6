"""Signatures of webhooks, by which whoever is told knows that it was us, and when.

A message's id, the time of sending and its body, joined by points, are signed with HMAC-SHA256 under the
target's secret (`whsec_` and base64). A receiver refuses what is older than some minutes and what it has had:
the id of a message never changes, however often it is sent.

Source: Standard Webhooks 1.0.0, symmetric signatures.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32  # between 24 and 64, says the standard
TOLERANCE_S: Final = 300


def secret_text(secret: bytes) -> str:
    """Return a secret as people copy it."""
    return PREFIX + base64.b64encode(secret).decode()


def headers(message_id: str, time_s: int, body: bytes, secret: bytes) -> dict[str, str]:
    """Return the three headers of a message that is sent at `time_s`."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(time_s),
        "webhook-signature": f"v1,{_signature(message_id, time_s, body, secret)}",
    }


def is_ours(said: dict[str, str], body: bytes, secret: bytes, now_s: int) -> bool:
    """Return whether these headers sign this body under this secret, not long ago: what a receiver asks."""
    try:
        time_s = int(said["webhook-timestamp"])
        signatures = [
            base64.b64decode(one.removeprefix("v1,"), validate=True)
            for one in said["webhook-signature"].split(" ")
            if one.startswith("v1,")
        ]
        mine = base64.b64decode(_signature(said["webhook-id"], time_s, body, secret))
    except (KeyError, ValueError, binascii.Error):
        return False
    return abs(now_s - time_s) <= TOLERANCE_S and any(hmac.compare_digest(mine, one) for one in signatures)


def _signature(message_id: str, time_s: int, body: bytes, secret: bytes) -> str:
    signed = f"{message_id}.{time_s}.".encode() + body
    return base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()

"""End users as pools know them: by a digest that says nothing outside of one app and one period.

A user-centric pool must tell one user's answers from another's, and nobody may tell who they are. An app
sends an opaque id; kept is its HMAC under a key made of the service's own (`digest.key`), the app, and how
many periods are closed. So the same user has another digest in another app and in the next period, and where
an answer is not paid from a pool nothing of the id is kept at all.

A user who asks while a period is being closed may count as two in the next: the answers that the close did
not take have the digest of before.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from proxy.billing.policies import medium_of
from proxy.billing.schemes import Terms


@dataclass(frozen=True, slots=True)
class Users:
    """What is known of policies and periods. closed: how many periods are closed."""

    key: bytes
    terms: Terms
    closed: int = 0

    def digest(self, app: str, model: str, endpoint: str, occurred_us: int, subject: str) -> str:
        """Return a user's digest in hex, "" where no pool pays such an answer or nobody is named."""
        if not subject:
            return ""
        if self.terms.at(occurred_us).chosen(app, model, medium_of(endpoint)).scheme != "pool":
            return ""
        period_key = hmac.digest(self.key, f"subject\0{app}\0{self.closed}".encode(), "sha256")
        return hmac.new(period_key, subject.encode(), "sha256").hexdigest()

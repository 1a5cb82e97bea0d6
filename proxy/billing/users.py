"""End users as pools know them: by a digest that says nothing outside of one app and one period.

A user-centric pool must tell one user's answers from another's, and nobody may tell who they are. An app
sends an opaque id; kept is its HMAC under a key of the app's own for the running period (access/subjects.py).
So the same user has another digest in another app and in the next period, and where an answer is not paid
from a pool nothing of the id is kept at all. When a period can no longer be commented on its keys are
destroyed, and a digest of it says nothing to anybody.

A user who asks while a period is being closed may count as two in the next: the answers that the close did
not take have the digest of before.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.billing.policies import medium_of
from proxy.billing.schemes import Terms

KeyOf = Callable[[str, int], bytes]


@dataclass(frozen=True, slots=True)
class Users:
    """What is known of policies and periods. key_of: a period's key of an app; closed: how many are."""

    key_of: KeyOf
    terms: Terms
    closed: int = 0

    def digest(self, app: str, model: str, endpoint: str, occurred_us: int, subject: str) -> str:
        """Return a user's digest in hex, "" where no pool pays such an answer or nobody is named."""
        if not subject:
            return ""
        if self.terms.at(occurred_us).chosen(app, model, medium_of(endpoint)).scheme != "pool":
            return ""
        return subject_digest(self.key_of(app, self.closed), subject)


def subject_digest(key: bytes, subject: str) -> str:
    """Return what is kept of an end user's id, in hex."""
    return hmac.digest(key, subject.encode(), "sha256").hex()


def keys_end_below(seqs: Iterable[tuple[int, int]], now_us: int) -> int:
    """Return the first period, by how many were closed before it, whose users' keys are still needed.

    seqs: (a closed period's number, until when it may be commented on). The running period's keys are, and
    those of a draft: who says that a statement is wrong may ask what it was made of.
    """
    periods = sorted(seqs)
    draft = next((seq for seq, until_us in periods if until_us > now_us), None)
    return (draft if draft is not None else (periods[-1][0] if periods else 0) + 1) - 1

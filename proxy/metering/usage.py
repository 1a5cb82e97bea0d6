"""What was used, said once: the records of the journal and the events the store keeps.

An answer is metered in two facts under one id. `Used` says that an answer was given: app, model, tokens,
price table. It is durable before the last byte leaves. `Attributed` says whose works it drew on, in ppm,
and follows at once or, when the scorer was late, within a day. `Begun` is written when a request goes up
and waited for by nobody: after a crash it is how an answer in flight becomes one `cut` event instead of
none.

The id is the attribution id that the client saw before the first byte: it names the logical answer, so that
writing, carrying or replaying it any number of times is the same event (systems that mint an id per emission
bill the same answer once per retry).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["complete", "cut", "failed"]
Verdict = Literal["paid", "free", "prohibited"]
Status = Literal["settled", "pending"]
PPM = 1_000_000
INTEGER_MAX = 2**63 - 1  # what a BIGINT holds


class Line(msgspec.Struct, frozen=True, gc=False):
    """One work's part of one answer. `work` is the public id; `ppm` is at least 1."""

    work: str
    ppm: int
    verdict: Verdict = "paid"


def _check_integers(answer_id: str, *integers: int) -> None:
    for integer in integers:
        if not 0 <= integer <= INTEGER_MAX:
            raise ValueError(f"a time, count or price of {answer_id} is negative or beyond 64 bits")


class Begun(msgspec.Struct, frozen=True, tag="begun", kw_only=True):
    """A request went up. Enough to book a `cut` event if nothing more is ever heard of it."""

    id: str
    occurred_us: int
    app: str
    model: str
    endpoint: str
    input_tokens: int  # estimated from the request, used only when the process dies before Used
    price_version: str = ""
    policy_seq: int | None = None

    def __post_init__(self) -> None:
        """Refuse what the store could never take."""
        _check_integers(self.id, self.occurred_us, self.input_tokens)


class Used(msgspec.Struct, frozen=True, tag="used", kw_only=True):
    """An answer was given, wholly or in part.

    model: as the backend named it, else as asked. price_grains: None while no price table knows the model;
    price_version: the table in force at `occurred_us` (empty when there is none). policy_seq: up to which
    activation of a policy was known, 0 for none; None in records from before it was kept.
    output_digest: keyed digest of the output text, hex; subject_digest likewise for the end user, or empty.
    images: that were made; milliseconds: of sound that was heard or video that was made; 0 where the backend
    did not say, and in records from before they were counted.
    """

    id: str
    occurred_us: int
    app: str
    backend: str
    model: str
    endpoint: str
    outcome: Outcome
    input_tokens: int
    output_tokens: int
    estimated: bool
    output_digest: str = ""
    subject_digest: str = ""
    price_version: str = ""
    price_grains: int | None = None
    currency: str = "USD"
    policy_seq: int | None = None
    images: int = 0
    milliseconds: int = 0

    def __post_init__(self) -> None:
        """Refuse what the store could never take: such a record would hold up all that come after it."""
        _check_integers(
            self.id,
            self.occurred_us,
            self.input_tokens,
            self.output_tokens,
            self.price_grains or 0,
            self.images,
            self.milliseconds,
        )


class Attributed(msgspec.Struct, frozen=True, tag="attributed", kw_only=True):
    """Whose works an answer drew on. Integers that sum to 1,000,000 with `unattributed_ppm`, or it cannot
    exist.

    reason: empty for a scored answer; else why it was not scored ("not_attributed", "no_text",
    "cut_by_crash"). method: "endcredits/1 <model sha256[:12]>"; registry_seq: the catalogue's state the
    verdicts were taken from.
    """

    id: str
    unattributed_ppm: int
    lines: tuple[Line, ...] = ()
    reason: str = ""
    method: str = ""
    registry_seq: int = 0

    def __post_init__(self) -> None:
        """Refuse shares that do not sum, repeat a work or are not positive."""
        if not self.lines and self.unattributed_ppm == PPM:
            return  # nobody's, which most answers are where the catalogue is small
        total = self.unattributed_ppm + sum(line.ppm for line in self.lines)
        if total != PPM or self.unattributed_ppm < 0 or any(line.ppm < 1 for line in self.lines):
            raise ValueError(f"shares of {self.id} sum to {total} ppm, not {PPM}, or one is not positive")
        if len({line.work for line in self.lines}) != len(self.lines):
            raise ValueError(f"a work is credited twice in {self.id}")


Record = Begun | Used | Attributed


def stored_text(outside: str) -> str:
    """Return a name as the store keeps it: from outside it may hold a NUL, which PostgreSQL refuses."""
    return outside.replace("\0", "\ufffd")


class MeteredEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer as billing sees it: what was used and whose works it drew on, read back from the store.

    Billing sees an event once both its facts are there. price_grains: None while no price table knew the
    model. reason: as in Attributed; lines and unattributed_ppm sum to 1,000,000. A listing of usage also
    shows answers whose shares are still to come: their status is "pending", they have no lines, and
    unattributed_ppm then says nothing and is not to be shown. subject_digest: keyed digest of the end
    user, where one was named and the app may be paid from a pool.
    """

    id: str
    occurred_us: int
    app_id: str
    model: str
    endpoint: str
    outcome: Outcome
    input_tokens: int
    output_tokens: int
    estimated: bool
    price_version: str
    price_grains: int | None
    currency: str
    unattributed_ppm: int
    reason: str
    lines: tuple[Line, ...]
    method: str = ""
    registry_seq: int = 0
    status: Status = "settled"
    backend: str = ""
    output_digest: str = ""
    subject_digest: str = ""
    policy_seq: int | None = None
    images: int = 0
    milliseconds: int = 0

    @classmethod
    def of(cls, used: Used, attributed: Attributed) -> MeteredEvent:
        """Return the answer of these two facts, as it will be read back from the store."""
        return cls(
            id=used.id,
            occurred_us=used.occurred_us,
            app_id=used.app,
            model=stored_text(used.model),
            endpoint=stored_text(used.endpoint),
            outcome=used.outcome,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            estimated=used.estimated,
            price_version=used.price_version,
            price_grains=used.price_grains,
            currency=used.currency,
            unattributed_ppm=attributed.unattributed_ppm,
            reason=attributed.reason,
            lines=attributed.lines,
            method=attributed.method,
            registry_seq=attributed.registry_seq,
            backend=stored_text(used.backend),
            output_digest=used.output_digest,
            subject_digest=used.subject_digest,
            policy_seq=used.policy_seq,
            images=used.images,
            milliseconds=used.milliseconds,
        )

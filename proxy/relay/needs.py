"""What the relay needs of the rest of the server, as protocols: tests hand in small real fakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from proxy.access.keys import Principal
from proxy.metering.usage import Begun, MeteredEvent, Record
from proxy.receipts.receipt import Secrets
from proxy.relay.scored import Copied, Failed, Scored

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
# Where a server tells at once that the client has left: this place in the scope holds a function that takes
# whom to call, or None. Servers without it are listened to by a task.
GONE = "endcredits.gone"
# Where a page of ours says who asks: a Principal whose session was checked. No client can write into a scope.
PRINCIPAL = "endcredits.principal"
# (model, occurred_us, input tokens, output tokens, images, milliseconds of sound or video)
# -> (price table's version, grains or None, currency)
PriceOf = Callable[[str, int, int, int, int, int], tuple[str, int | None, str]]
# (app, model, endpoint, when, an end user's id) -> the digest that is kept of the user, or "".
SubjectOf = Callable[[str, str, str, int, str], str]


class KeyRing(Protocol):
    """Who holds a key."""

    async def find(self, secret: str) -> Principal | None:
        """Return its holder, None when nobody is; raises a Problem when that cannot be known now."""
        ...

    def lists(self, origin: str) -> bool:
        """Tell whether any app lists this origin."""
        ...


class JournalLike(Protocol):
    """Where usage becomes durable (metering.journal.Journal)."""

    def begin(self, begun: Begun) -> None:
        """Record that an answer began, soon."""
        ...

    async def append(self, *records: Record) -> int:
        """Record; return when all are on the disk."""
        ...

    def offer(self, record: Record) -> None:
        """Queue without waiting."""
        ...


class IssuerLike(Protocol):
    """Who signs receipts (receipts.issuing.Issuer)."""

    def secrets_of(self, occurred_us: int, /) -> Secrets:
        """Return what salts the receipts of answers of that time."""
        ...

    def receipt(self, event: MeteredEvent, /) -> str:
        """Return a settled answer's receipt."""
        ...


class PendingLike(Protocol):
    """Where the text of late shares waits, encrypted (metering). All calls block on the disk."""

    def put(
        self,
        event_id: str,
        app: str,
        texts: Mapping[int, str],
        grounded: Sequence[str] = (),
        cited: Sequence[str] = (),
        /,
    ) -> None:
        """Keep the texts until `erase`; of the request only the works that stood in it."""
        ...

    def put_together(self, app: str, texts: Mapping[str, Mapping[int, str]], /) -> None:
        """Keep the texts of several answers, by id and choice, until each of them is erased."""
        ...

    def erase(self, event_id: str, /) -> None:
        """Forget them for good; unknown ids are fine."""
        ...


class AttributingLike(Protocol):
    """The scorer's near side (relay.attributing)."""

    @property
    def method(self) -> str:
        """How shares are computed: "endcredits/1 <model sha256[:12]>"."""
        ...

    def backlog_is_full(self) -> bool:
        """Whether no more texts may wait."""
        ...

    def offer(self, event_id: str, choice: int, text: str, /) -> None:
        """Take more text; never waits."""
        ...

    def asked(self, event_id: str, text: str, /) -> None:
        """Take the request's texts, before any of the answer; never waits."""
        ...

    def grounded(self, event_id: str, /) -> tuple[str, ...]:
        """Return the works that stand in the request, as far as is known."""
        ...

    def copied(self, event_id: str, /) -> tuple[Copied, ...]:
        """Return what the answer has copied beyond the guard's least limit, as far as is known."""
        ...

    async def settle(
        self, event_id: str, /, *, deadline_ms: int, cited: Sequence[str] = ()
    ) -> Scored | Failed | None:
        """Return the shares, or None when they are late; late ones are told to Relay.settle_late."""
        ...

    def forget(self, event_id: str, /) -> None:
        """Drop what was offered."""
        ...

    async def count_tokens(self, text: str, /) -> int:
        """Return word pieces, counted off the event loop."""
        ...

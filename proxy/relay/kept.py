"""One answer's texts while its shares are owed: what a new scorer must be told when the one before died."""

from __future__ import annotations

import asyncio

from proxy.relay.scored import Copied, Failed, Scored
from proxy.relay.scoring import Finish

Result = Scored | Failed


class Kept:
    """One answer's texts until it is settled."""

    def __init__(self) -> None:
        self.sent: dict[int, list[str]] = {}  # by choice, as the child has it
        self.fresh: dict[int, list[str]] = {}  # by choice, not yet with the child
        self.bytes = 0  # with the request's
        self.told_bytes = 0
        self.finish: Finish | None = None
        self.finish_sent = False
        self.truncated = False
        self.deaths = 0
        self.is_late = False
        self.asked: tuple[str, ...] = ()  # the request's texts, as messages
        self.asked_sent = False
        self.grounded: tuple[str, ...] = ()
        self.copied: tuple[Copied, ...] = ()
        self.result: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()

    def send_again(self) -> None:
        """The child is gone: the next one is to have everything."""
        self.asked_sent = False
        for choice, pieces in self.sent.items():
            self.fresh[choice] = [*pieces, *self.fresh.get(choice, ())]
        self.sent = {}
        self.finish_sent = False

"""One metered request on its way: does what the exchange decides, and tells it what happened.

All actions are done in order by one task, so the exchange never sees two events at once. Beside it the client
is watched (presence.py). Once it has left, the backend is read for at most `drain_s`, because it alone knows
what was generated.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from proxy.access.keys import Principal
from proxy.asking import on_disk
from proxy.errors import Problem
from proxy.metering.usage import Begun, Outcome, Used
from proxy.metering.usage import Record as JournalRecord
from proxy.relay.actions import Action, Began, Begin, Close, Forward, Offer, Record, Reply, Send, Settle
from proxy.relay.counting import complete
from proxy.relay.credits import unscored
from proxy.relay.exchange import Exchange
from proxy.relay.makers import ANSWERS_US, DAY_US
from proxy.relay.needs import Receive, Scope
from proxy.relay.needs import Send as AsgiSend
from proxy.relay.noting import note
from proxy.relay.passing import model_not_found
from proxy.relay.patience import Patience
from proxy.relay.presence import Presence
from proxy.relay.router import Route
from proxy.relay.upstream import Answer, UpstreamFailed
from proxy.wire.output import TokenCounts

if TYPE_CHECKING:
    from proxy.relay.handler import Relay

PROMPT_BYTES_MAX = 8 << 20  # of messages as JSON, read on the event loop for their text; more is pictures
CHARACTERS_PER_TOKEN = 4  # a rough guess for when nobody can be asked; such events are marked estimated


class Journey:
    """One exchange with its sockets."""

    def __init__(
        self,
        relay: Relay,
        exchange: Exchange,
        principal: Principal,
        scope: Scope,
        receive: Receive,
        send: AsgiSend,
        patience: Patience,
    ) -> None:
        self._relay = relay
        self._exchange = exchange
        self._app = principal.app_id
        self._is_audited = principal.limits.audited
        self._scope = scope
        self._receive = receive
        self._send = send
        self._occurred_us = relay.clock.now_us()
        self._started_s = relay.clock.monotonic_s()
        self._answer: Answer | None = None
        self._routes: Sequence[Route] = ()
        self._backend = ""
        self._http_status = 0
        self._patience = patience  # of every wait for the backend; whoever made it closes it
        self._look_again: asyncio.TimerHandle | None = None
        self._gone_s: float | None = None  # when the client left, on the loop's clock
        self._sending_s: float | None = None  # since when the client has not taken what it is sent
        self._has_offered = False
        self._is_recording = False
        self._settle_ms = 0.0
        is_guarded = relay.settings.guard.action == "cut"
        self._cutter = exchange.endpoint.cutter() if is_guarded else None
        self._counts_at_cut = TokenCounts()  # what the backend had reported by then
        self._is_cut = False  # the guard has ended this answer
        self._is_over = False
        self._cited: tuple[str, ...] = ()  # works whose address the answer names
        self._telling: asyncio.Handle | None = None  # the request's texts are still to be told
        self.only = ""  # the one backend that can serve this: it made what the request refers to
        self.used: Used | None = None  # what was metered, once it is

    async def run(self, body: bytes) -> None:
        """Serve the request. Raises cancellation, or a fault of ours, when its event is in the queue."""
        presence = Presence(self._scope, self._receive, self._left)
        try:
            await self._go(body)
            if self._is_audited and self.used is not None and self.used.outcome == "complete":
                self._relay.audit(self._app, self._exchange)
        except asyncio.CancelledError:
            self._abandon()
            raise
        except Exception:  # a fault of ours loses no answer: a restart settles its shares
            if not self._is_recording:
                self._abandon()
                self._relay.attributing.forget(self._exchange.id)
            raise
        finally:
            self._is_over = True
            presence.close()
            if self._look_again is not None:
                self._look_again.cancel()
            self._relay.forget_late(self._exchange.id)
            if self._has_offered and not self._is_recording:
                self._relay.attributing.forget(self._exchange.id)
            if self._answer is not None:
                await self._answer.aclose()
            self._note()

    async def _go(self, body: bytes) -> None:
        exchange = self._exchange
        actions = exchange.client_asked(self._scope["headers"], body)
        forward = actions[0]
        if not isinstance(forward, Forward):
            await self._perform(actions)
            return
        is_promise = exchange.asked is not None and exchange.asked.is_background
        if is_promise and self._relay.promises.are_too_many:
            message = "too many answers are still under way in the background; try again shortly"
            retry = ((b"retry-after", b"30"),)
            await self._perform(exchange.refused(503, message, code="backlog_full", extra=retry))
            return
        if not exchange.endpoint.unscored and self._relay.attributing.backlog_is_full():
            if self._relay.settings.attribution.on_backlog_full == "refuse":
                message = "too many answers wait for their attribution; try again shortly"
                retry = ((b"retry-after", b"2"),)
                await self._perform(exchange.refused(503, message, code="backlog_full", extra=retry))
                return
            exchange.is_scored = False
        try:
            self._routes = routes = self._relay.routes_for(forward.model or None, exchange.id, self.only)
            if not routes:
                raise model_not_found(forward.model)
            if exchange.is_scored and not exchange.endpoint.unscored:
                # While the backend thinks; and before its answer, however little it thought.
                self._telling = asyncio.get_running_loop().call_soon(self._tell_request)
            with self._waiting():
                self._answer = await self._relay.open(routes, self._scope, forward.body, identity=True)
            self._tell_request()
        except Problem as refusal:
            retry = ((b"retry-after", b"%d" % refusal.retry_after_s),) if refusal.retry_after_s else ()
            param = "model" if refusal.code == "model_not_found" else None
            await self._perform(
                exchange.refused(refusal.status, str(refusal), code=refusal.code, param=param, extra=retry)
            )
            return
        except UpstreamFailed as error:
            await self._perform(exchange.upstream_failed(error.kind))
            return
        except TimeoutError:  # the client left long ago, and the backend has not even begun
            await self._perform(exchange.upstream_failed("timeout"))
            return
        self._backend = self._answer.backend.name
        await self._perform(exchange.upstream_began(self._answer.status, self._answer.headers))
        while not exchange.is_over:
            actions = await self._flow(self._answer)
            if exchange.told.made:
                self._note_made()
            await self._perform(actions)

    async def _flow(self, answer: Answer) -> list[Action]:
        """Pass pieces on until something must be waited for; return what."""
        if self._exchange.promised:
            return await self._follow(answer)
        exchange, send, offer = self._exchange, self._send, self._relay.attributing.offer
        loop = asyncio.get_running_loop()
        if self._http_status and self._look_again is None:  # its head is sent, so pieces may follow at once
            idle_s = self._relay.settings.server.client_idle_s
            self._look_again = loop.call_later(idle_s, self._look_at_client)
        rest: list[Action] = []
        actions: Iterator[Action] = iter(())
        try:
            with self._waiting():
                while (piece := await answer.read()) is not None:
                    actions = iter(self._guarded(piece) if self._cutter else exchange.upstream_sent(piece))
                    for action in actions:
                        if isinstance(action, Send) and not rest:  # a head goes before its body
                            self._sending_s = loop.time()
                            await send({"type": "http.response.body", "body": action.data, "more_body": True})
                            self._sending_s = None
                        elif isinstance(action, Offer):
                            self._has_offered = True
                            offer(exchange.id, action.choice, action.text)
                        else:
                            rest.append(action)
                    if exchange.told.made:
                        self._note_made()
                    if rest or exchange.is_over:
                        return rest
        except UpstreamFailed as error:
            self._relay.failed(error)
            return exchange.upstream_failed(error.kind)
        except TimeoutError:
            return self._timed_out(actions, rest)
        return exchange.upstream_ended()

    def _timed_out(self, actions: Iterator[Action], rest: list[Action]) -> list[Action]:
        """Return what is left to do of a piece that the client never took, or what follows such silence."""
        if self._gone_s is None:
            self._relay.failed(UpstreamFailed("timeout", self._backend, "whole_ms"))
        elif self._sending_s is not None:  # it has left, and the backend is still read for its usage
            self._sending_s = None
            for action in actions:
                if isinstance(action, Offer):
                    self._has_offered = True
                    self._relay.attributing.offer(self._exchange.id, action.choice, action.text)
                elif not isinstance(action, Send):
                    rest.append(action)
            return rest
        return self._exchange.upstream_failed("timeout")

    def _note_made(self) -> None:
        made, self._exchange.told.made = self._exchange.told.made, []
        self._relay.makers.note(made, self._app, self._backend, kept_us=ANSWERS_US)

    def _tell_request(self) -> None:
        telling, self._telling = self._telling, None
        if telling is None:
            return
        telling.cancel()
        exchange = self._exchange
        asked, bytes_max = exchange.asked, self._relay.settings.attribution.context_bytes_max
        if (
            asked is not None
            and bytes_max
            and not asked.spoken  # the request is what will be told: it is its own evidence
            and len(bytes(asked.prompt)) <= PROMPT_BYTES_MAX
            and not self._is_over
        ):
            self._has_offered = True
            self._relay.attributing.asked(exchange.id, exchange.endpoint.prompt_text(asked))

    def _guarded(self, piece: bytes) -> list[Action]:
        """Pass a piece on, or end the stream in the backend's place when it has said too much.

        Only between two events: the client may have read the first half of the one that is cut through.
        """
        exchange, cutter = self._exchange, self._cutter
        assert cutter is not None  # or nobody asks
        if cutter.is_between and self._relay.must_cut(exchange.id):
            ending = cutter.ending(exchange.asked.choices if exchange.asked else 1)
            if ending:
                self._is_cut, self._counts_at_cut = True, exchange.counts
                self._cutter = None
                self._relay.metrics.guarded.labels("cut").inc()
                self._relay.log.info("stream_cut_off", id=exchange.id)
                return [*exchange.upstream_sent(ending), *exchange.upstream_ended()]
        cutter.saw(piece)
        return exchange.upstream_sent(piece)

    async def _follow(self, answer: Answer) -> list[Action]:
        """Look for a promised answer until it is there; the client has its reply and is gone or not."""
        exchange = self._exchange
        await answer.aclose()
        # Until its usage is there, its receipt says that it is to come.
        self._relay.makers.note([exchange.id], self._app, self._backend, kept_us=DAY_US)
        routes = [route for route in self._routes if route.backend is answer.backend][:1]
        looks = self._relay.promises.looks(routes, self._scope, exchange.promised)
        try:
            async with contextlib.aclosing(looks):
                async for body in looks:
                    if actions := exchange.fetched(body):
                        return actions
        except UpstreamFailed as error:
            self._relay.failed(error)
            return exchange.upstream_failed(error.kind)
        return exchange.upstream_failed("timeout")

    def _waiting(self) -> Patience:
        """Wait for the backend while it may take, and `drain_s` after the client left; then TimeoutError."""
        ends_s = None if self._answer is None else self._answer.ends_s
        if self._gone_s is not None:
            ends_s = min(self._gone_s + self._relay.drain_s, ends_s or math.inf)
        return self._patience.until(ends_s)

    def _left(self) -> None:
        if not (self._exchange.is_over or self._exchange.promised):
            self._client_is_gone()

    def _look_at_client(self) -> None:
        """Take a client for gone that has read nothing of what it is sent for `client_idle_s`."""
        loop, idle_s = asyncio.get_running_loop(), self._relay.settings.server.client_idle_s
        since_s = self._sending_s
        if since_s is not None and self._patience.is_waiting and loop.time() - since_s >= idle_s:
            self._client_is_gone()
        else:
            self._look_again = loop.call_later(idle_s, self._look_at_client)

    def _client_is_gone(self) -> None:
        self._gone_s = asyncio.get_running_loop().time()
        self._relay.metrics.client_left.inc()
        self._relay.log.info("client_left", id=self._exchange.id)
        self._exchange.client_gone()
        is_stuck = self._sending_s is not None
        if self._patience.is_waiting:
            at_once = is_stuck or self._exchange.is_over
            ends_s = min(self._gone_s + self._relay.drain_s, self._patience.ends_s or math.inf)
            self._patience.reschedule(0 if at_once else ends_s)

    async def _perform(self, actions: Sequence[Action]) -> None:
        for place, action in enumerate(actions):
            match action:
                case Send(data):
                    # A clean end goes out with the last bytes: one write, and one packet, fewer.
                    is_last = list(actions[place + 1 :]) == [Close()]
                    if not await self._sent(data, more=not is_last) or is_last:
                        return
                case Offer(choice, text):
                    self._has_offered = True
                    self._relay.attributing.offer(self._exchange.id, choice, text)
                case Begin(status, headers):
                    await self._begin(status, headers)
                case Reply(status, headers, body):
                    await self._begin(status, headers)
                    await self._send({"type": "http.response.body", "body": body})
                    return
                case Began():
                    self._relay.journal.begin(self._begun())
                case Settle(deadline_ms):
                    await self._settle(deadline_ms)
                case Record():
                    await self._record(action)
                case Close(is_clean):
                    if is_clean:
                        await self._send({"type": "http.response.body", "body": b""})
                case _:
                    raise AssertionError(f"{action} has its own place")

    async def _sent(self, data: bytes, *, more: bool) -> bool:
        """Send the held end of an answer; False when the client does not take it. Its event is recorded."""
        idle_s = self._relay.settings.server.client_idle_s
        try:
            with self._patience.until(asyncio.get_running_loop().time() + idle_s):
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            self._exchange.client_gone()
            return False
        return True

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._http_status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    # -- shares

    async def _settle(self, deadline_ms: int) -> None:
        relay, exchange = self._relay, self._exchange
        started_s = relay.clock.monotonic_s()
        relay.late(exchange.id)  # from now on late shares may come at any time
        self._cited = relay.cited(exchange)
        scored = await relay.attributing.settle(exchange.id, deadline_ms=deadline_ms, cited=self._cited)
        self._settle_ms = round((relay.clock.monotonic_s() - started_s) * 1000, 3)
        if scored is not None:
            await relay.late_is_recorded(exchange.id)
        credits_ = None if scored is None else relay.credits(scored)
        if relay.settings.guard.action != "off" and not self._is_cut:
            if credits_ is None:
                relay.metrics.guarded.labels("unseen").inc()
            elif credits_.replication:
                relay.metrics.guarded.labels("flagged").inc()
        await self._perform(exchange.attributed(credits_))

    # -- usage

    async def _record(self, wanted: Record) -> None:
        relay, exchange = self._relay, self._exchange
        if self._is_cut:
            wanted = msgspec.structs.replace(wanted, outcome="cut", counts=self._counts_at_cut)
        counts = await complete(
            wanted.counts,
            wanted.outcome,
            exchange.endpoint,
            exchange.asked,
            exchange.told,
            relay.attributing.count_tokens,
        )
        records = self._records(wanted, counts)
        try:
            if wanted.credits is None:
                grounded = relay.attributing.grounded(exchange.id)
                texts = exchange.told.texts()
                put = relay.pending.put
                await on_disk(put, exchange.id, self._app, texts, grounded, self._cited)
            elif wanted.credits.reason:
                relay.attributing.forget(exchange.id)  # the request's text may have been told
                relay.metrics.attributions.labels(wanted.credits.reason).inc()  # no scorer saw it to count it
            self._is_recording = True
            await relay.journal.append(*records)
        except Problem as problem:
            self._is_recording = True
            # No traceback: the cause is the disk's, and the journal has told it.
            relay.log.error(  # noqa: TRY400
                "usage_not_recorded", id=exchange.id, cause=problem.cause, remedy=problem.remedy
            )
            actions = exchange.not_recorded()
            # The client never got its last byte; what was generated is booked when the disk takes it again.
            outcome: Outcome = "cut" if wanted.outcome == "complete" else wanted.outcome
            for record in self._records(
                msgspec.structs.replace(wanted, outcome=outcome, counts=counts), counts
            ):
                relay.journal.offer(record)
        else:
            actions = exchange.recorded(relay.receipt(exchange, records))
        if wanted.credits is None:
            await relay.late_is_recorded(exchange.id)
        else:
            relay.drew(exchange.id, wanted.credits)
        await self._perform(actions)

    def _records(self, wanted: Record, counts: TokenCounts) -> list[JournalRecord]:
        relay, exchange = self._relay, self._exchange
        given, told = counts.input or 0, counts.output or 0
        images, milliseconds = wanted.media.images, wanted.media.milliseconds
        version, grains, currency = relay.price_of(
            wanted.model, self._occurred_us, given, told, images, milliseconds
        )
        used = Used(
            id=exchange.id,
            occurred_us=self._occurred_us,
            app=self._app,
            backend=self._backend,
            model=wanted.model,
            endpoint=exchange.endpoint.name,
            outcome=wanted.outcome,
            input_tokens=given,
            output_tokens=told,
            images=images,
            milliseconds=milliseconds,
            estimated=wanted.counts.input is None or wanted.counts.output is None,
            output_digest=relay.digest_of(exchange.told, exchange.id, self._occurred_us),
            subject_digest=relay.subject(
                self._app, wanted.model, exchange.endpoint.name, self._occurred_us, exchange.wishes.subject
            ),
            price_version=version,
            price_grains=grains,
            currency=currency,
            policy_seq=relay.policy_seq(),
        )
        self.used = used
        return [used] if wanted.credits is None else [used, wanted.credits.record(exchange.id)]

    def _begun(self) -> Begun:
        asked = self._exchange.asked
        version, _, _ = self._relay.price_of(self._exchange.model, self._occurred_us, 0, 0, 0, 0)
        return Begun(
            id=self._exchange.id,
            occurred_us=self._occurred_us,
            app=self._app,
            model=self._exchange.model,
            endpoint=self._exchange.endpoint.name,
            input_tokens=len(bytes(asked.prompt)) // CHARACTERS_PER_TOKEN if asked else 0,
            price_version=version,
            policy_seq=self._relay.policy_seq(),
        )

    def _abandon(self) -> None:
        """Hand the event to the journal's queue without waiting: the server is going down around us.

        The text waits for its shares like any late one, so the write of it is the one thing done here that
        blocks; a restart settles it.
        """
        exchange, relay = self._exchange, self._relay
        if self._is_recording or not exchange.is_unmetered:
            return
        self._is_recording = True
        told = exchange.told
        reported = exchange.counts
        given, said = reported.input, reported.output
        if given is None and exchange.asked is not None:
            given = len(bytes(exchange.asked.prompt)) // CHARACTERS_PER_TOKEN
        if said is None:
            said = told.characters // CHARACTERS_PER_TOKEN if exchange.endpoint.tells_text else 0
        credits_ = None if told.kept_characters and exchange.is_scored else unscored(exchange.unscored)
        if credits_ is None:
            grounded, works = relay.attributing.grounded(exchange.id), relay.cited(exchange)
            with contextlib.suppress(Problem):  # a full disk: what was used is booked all the same
                relay.pending.put(exchange.id, self._app, told.texts(), grounded, works)
        wanted = Record("cut", exchange.model, reported, credits_, exchange.reported.media(exchange.asked))
        for record in self._records(wanted, TokenCounts(given, said)):
            relay.journal.offer(record)

    def _note(self) -> None:
        note(
            self._relay,
            self._exchange,
            self.used,
            self._scope,
            app=self._app,
            backend=self._backend,
            http_status=self._http_status,
            settle_ms=self._settle_ms,
            seconds=self._relay.clock.monotonic_s() - self._started_s,
        )

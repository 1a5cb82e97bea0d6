"""One request and its answer as a state machine without a socket: events in, actions out.

The client's bytes go up and the backend's bytes come down as they are. What is decided here: which frame
waits (the finish_reason chunk of the last choice to finish, and all after it), until when (shares settled or
late, and the usage on disk), what is spliced into it, and what is metered when the backend fails or the
client leaves. The shell (handler.py) does what the actions say, in their order, and tells what happened.

An answer that began (a 2xx from the backend) has exactly one event. A refusal by the backend has one,
`failed`, only when it reports usage: nothing was given otherwise. After the client has left, the backend is
still read, because only it knows the usage; that is bounded by the shell's time and by DRAINED_BYTES_MAX.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Literal

from proxy.metering.usage import Outcome
from proxy.relay.actions import (
    Action,
    Began,
    Begin,
    Close,
    Forward,
    Offer,
    Record,
    Send,
    Settle,
    own_reply,
)
from proxy.relay.credits import Credited, citations_of, unscored, view_of
from proxy.relay.told import Told
from proxy.wire.annotate import AttributionView, spliced, spliced_frame, with_citations
from proxy.wire.coding import INFLATABLE, Inflater
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError, error_body
from proxy.wire.headers import (
    RawHeaders,
    Status,
    Wishes,
    credit_headers,
    downward,
    field_of,
    id_header,
    read_wishes,
    sized,
    status_header,
)
from proxy.wire.output import Said, TokenCounts
from proxy.wire.sse import Frame, SseDecoder

FailureKind = Literal["connect", "timeout", "cut", "protocol"]

REPLY_BYTES_MAX = 64 << 20  # a whole JSON reply is held; one with this much text or audio is passed on unread
REFUSAL_BYTES_MAX = 1 << 20  # an error's body is looked at for usage; a longer one is passed on unread
HELD_BYTES_MAX = 8 << 20  # after the last finish_reason come a usage chunk and [DONE], not megabytes
DRAINED_BYTES_MAX = 16 << 20  # read for its usage after the client left
_DONE = b"[DONE]"
_FAILURES: dict[FailureKind, tuple[int, str, str]] = {
    "connect": (502, "backend_unreachable", "no backend could be reached; try again shortly"),
    "timeout": (504, "backend_timeout", "the backend did not answer in time; try again, or ask for less"),
    "cut": (502, "backend_cut", "the backend broke off its answer; try again"),
    "protocol": (502, "backend_protocol", "the backend's answer breaks its protocol; tell its operator"),
}


class _Phase(enum.Enum):
    WAITING = enum.auto()  # for the backend's head
    FLOWING = enum.auto()
    SETTLING = enum.auto()
    RECORDING = enum.auto()
    RELEASED = enum.auto()  # recorded; what may still come is passed on
    OVER = enum.auto()


class _Mode(enum.Enum):
    STREAM = enum.auto()  # server-sent events
    JSON = enum.auto()  # held whole
    REFUSAL = enum.auto()  # the backend's own error, held while it is short
    UNREAD = enum.auto()  # neither, or encoded: passed on, one piece behind


class Exchange:
    """One request and its answer. Every method takes an event and returns what to do, in order."""

    def __init__(
        self,
        event_id: str,
        endpoint: Endpoint,
        defaults: Wishes,
        *,
        method: str = "",
        text_characters_max: int = 1 << 20,
    ) -> None:
        self.id = event_id
        self.endpoint = endpoint
        self.wishes = defaults
        self.asked: Asked | None = None
        self.told = Told(text_characters_max)
        self.status: Status = "off"
        self.outcome: Outcome = "complete"
        self.is_scored = True  # False: the scorer has no room and the operator chose to go on without it
        self._method = method
        self._phase = _Phase.WAITING
        self._mode = _Mode.UNREAD
        self._asked_for_usage = False
        self._client_is_gone = False
        self._upstream_has_ended = False
        self._failure: FailureKind | None = None
        self._model = ""
        self._input: int | None = None
        self._output: int | None = None
        self._finished: set[int] = set()
        self._is_read = False  # a whole reply that is JSON: only that is spliced
        self._decoder = SseDecoder()
        self._inflate: Inflater | None = None
        self._credits: Credited | None = None
        self._head: tuple[int, list[tuple[bytes, bytes]]] = (200, [])
        self._body = bytearray()  # a held reply, at most REPLY_BYTES_MAX
        self._final: Frame | None = None  # the frame that takes the field
        # It and what follows, at most HELD_BYTES_MAX; None: nothing is held.
        self._held: list[bytes] | None = None
        self._held_bytes = 0
        self._drained_bytes = 0

    @property
    def is_over(self) -> bool:
        """Nothing more will be asked for."""
        return self._phase is _Phase.OVER

    @property
    def is_unmetered(self) -> bool:
        """An answer began and its event has not been recorded yet."""
        return (
            self._phase in {_Phase.FLOWING, _Phase.SETTLING, _Phase.RECORDING}
            and self._mode is not _Mode.REFUSAL
        )

    # -- events
    # ------------------------------------------------------------------------------------------------

    def client_asked(self, headers: RawHeaders, body: bytes) -> list[Action]:
        """Take the request. Raises nothing: what cannot be served is answered."""
        try:
            self.wishes = read_wishes(headers, self.wishes)
            self.asked = asked = self.endpoint.read_request(body)
        except WireError as error:
            return self.refused(error.status, str(error), code=error.code, param=error.param)
        if asked.is_streaming and not asked.wants_usage:
            body = self.endpoint.asking_for_usage(body)
            self._asked_for_usage = True
        return [Forward(body, asked.model)]

    def refused(
        self, status: int, message: str, *, code: str, param: str | None = None, extra: RawHeaders = ()
    ) -> list[Action]:
        """Answer with an error of ours, before anything was sent."""
        self._phase = _Phase.OVER
        body = error_body(status, message, code=code, param=param)
        return [own_reply(self.id, status, body, extra), Close()]

    def upstream_began(self, status: int, headers: RawHeaders) -> list[Action]:
        """Take the head of the backend's answer."""
        self._phase = _Phase.FLOWING
        kind, encoding = field_of(headers, b"content-type"), field_of(headers, b"content-encoding")
        if encoding in INFLATABLE:
            # We asked for identity, so the client never agreed to this either: it gets what we can read.
            self._inflate = Inflater(REPLY_BYTES_MAX)
            headers = [(name, value) for name, value in headers if name.lower() != b"content-encoding"]
            encoding = b""
        is_readable = encoding in {b"", b"identity"}
        kept = downward(headers)
        self._head = (status, kept)
        if not 200 <= status < 300:
            self._mode = _Mode.REFUSAL
            return []
        if is_readable and kind == b"text/event-stream":
            self._mode = _Mode.STREAM
            return [Began(), *self._begin_stream()]
        if is_readable and (kind == b"application/json" or kind.endswith(b"+json")):
            self._mode = _Mode.JSON
            return [Began()]
        self._mode = _Mode.UNREAD
        return [Began(), *self._begin_unread()]

    def upstream_sent(self, chunk: bytes) -> list[Action]:
        """Take some bytes of the backend's body, cut anywhere."""
        if self._client_is_gone:
            self._drained_bytes += len(chunk)
            if self._drained_bytes > DRAINED_BYTES_MAX:
                return self.upstream_failed("protocol")
        try:
            if self._inflate is not None:
                chunk = self._inflate.feed(chunk)
            if self._mode is _Mode.STREAM:
                return self._stream_sent(chunk)
        except WireError:
            return self.upstream_failed("protocol")
        if self._mode is _Mode.UNREAD or self._phase is _Phase.RELEASED:
            return self._unread_sent(chunk)
        self._body += chunk
        bytes_max = REPLY_BYTES_MAX if self._mode is _Mode.JSON else REFUSAL_BYTES_MAX
        return self._too_long_to_read() if len(self._body) > bytes_max else []

    def upstream_ended(self) -> list[Action]:
        """The backend's body is complete."""
        self._upstream_has_ended = True
        if self._inflate is not None and self._inflate.is_cut:
            return self.upstream_failed("protocol")
        if self._phase is _Phase.RELEASED:
            return self._after_release()
        if self._phase is not _Phase.FLOWING:
            return []
        match self._mode:
            case _Mode.STREAM:
                rest = self._decoder.finish()
                actions = self._frames([rest]) if rest is not None else []
                return actions if self._phase is not _Phase.FLOWING else [*actions, *self._settle()]
            case _Mode.JSON:
                return [*self._read_reply(), *self._settle()]
            case _Mode.REFUSAL:
                return self._end_refusal()
            case _Mode.UNREAD:
                return self._settle()

    def upstream_failed(self, kind: FailureKind) -> list[Action]:
        """The backend could not be reached, or its answer broke off."""
        is_refusal = self._phase is _Phase.FLOWING and self._mode is _Mode.REFUSAL
        if self._phase is _Phase.WAITING or is_refusal:  # nothing was sent yet
            status, code, message = _FAILURES[kind]
            return self.refused(status, message, code=code)
        if self._phase is _Phase.RELEASED:
            self._phase = _Phase.OVER
            return [Close(is_clean=False)]
        if self._phase is not _Phase.FLOWING:
            return []
        self._failure = kind
        return self._settle()

    def attributed(self, credits_: Credited | None) -> list[Action]:
        """The shares are there, or (None) late."""
        self._phase = _Phase.RECORDING
        self._credits = credits_
        if self.wishes.view != "off":
            self.status = "pending" if credits_ is None else "settled"
        self.outcome = self._judged()
        return [Record(self.outcome, self.model, self.counts, credits_)]

    def recorded(self) -> list[Action]:
        """The event is durable: what was held goes out."""
        self._phase = _Phase.RELEASED
        if self._client_is_gone:
            self._phase = _Phase.OVER
            return [Close(is_clean=False)]
        match self._mode:
            case _Mode.JSON if self._failure is not None:
                status, code, message = _FAILURES[self._failure]
                return self.refused(status, message, code=code)
            case _Mode.JSON:
                self._phase = _Phase.OVER
                return [*self._whole_reply(), Close()]
            case _Mode.REFUSAL:
                self._phase = _Phase.OVER
                return [*self._refusal_passed_on(), Close()]
            case _:
                return [*self._release(), *self._after_release()]

    def not_recorded(self) -> list[Action]:
        """The journal refused: an answer without its event must not be completed."""
        if self._mode in {_Mode.JSON, _Mode.REFUSAL} and not self._client_is_gone:
            message, retry = "usage cannot be recorded now; try again shortly", ((b"retry-after", b"5"),)
            return self.refused(503, message, code="journal_unavailable", extra=retry)
        self._phase = _Phase.OVER
        return [Close(is_clean=False)]

    def client_gone(self) -> list[Action]:
        """The client left. What was generated is still metered, so the backend is read on for its usage."""
        self._client_is_gone = True
        if self._phase in {_Phase.RELEASED, _Phase.OVER}:
            self._phase = _Phase.OVER
            return [Close(is_clean=False)]
        return []

    @property
    def model(self) -> str:
        """The model as the backend names it, else as asked."""
        return self._model or (self.asked.model if self.asked else "")

    @property
    def counts(self) -> TokenCounts:
        """What the backend has reported so far."""
        return TokenCounts(self._input, self._output)

    # -- streams
    # -----------------------------------------------------------------------------------------------

    def _begin_stream(self) -> list[Action]:
        status, kept = self._head
        extra = [id_header(self.id)]
        if self.wishes.view == "off":
            extra.append(status_header("off"))
        elif self._shares_come_later():
            extra.append(status_header("pending"))
        # A length the backend gave is wrong as soon as a byte is added.
        kept = [(name, value) for name, value in kept if name.lower() != b"content-length"]
        return self._to_client([Begin(status, [*kept, *extra])])

    def _stream_sent(self, chunk: bytes) -> list[Action]:
        if self._phase is _Phase.RELEASED:
            return self._to_client([Send(chunk)]) if chunk else []
        return self._frames(self._decoder.feed(chunk))

    def _frames(self, frames: Sequence[Frame]) -> list[Action]:
        passed: list[bytes] = []
        offers: list[Action] = []
        is_done = False
        for frame in frames:
            data = frame.data
            said: Said | None = None
            if data == _DONE:
                is_done = True
                self._hold()
            elif data and (not is_done or self._client_is_gone):
                said = self.endpoint.read_chunk(data)
                self._take(said, offers)
                if self._asked_for_usage and said.usage_only:
                    continue  # we asked for this chunk, the client did not
            if self._held is None and said is not None and said.finished and self._is_last_finish():
                self._hold()
                self._final = frame
            if self._held is None:
                passed.append(frame.raw)
            else:
                self._held.append(frame.raw)
                self._held_bytes += len(frame.raw)
        actions: list[Action] = self._to_client([Send(b"".join(passed))]) if passed else []
        actions += offers
        if self._held_bytes > HELD_BYTES_MAX:
            return [*actions, *self.upstream_failed("protocol")]
        # A client that left waits for nothing, so the end is waited for: usage may follow [DONE].
        if is_done and not self._client_is_gone and self._phase is _Phase.FLOWING:
            actions += self._settle()
        return actions

    def _hold(self) -> None:
        if self._held is None:
            self._held = []

    def _is_last_finish(self) -> bool:
        return len(self._finished) >= (self.asked.choices if self.asked else 1)

    def _take(self, said: Said, offers: list[Action]) -> None:
        for delta in said.texts:
            kept = self.told.add(delta.choice, delta.text)
            if kept and self.is_scored:
                offers.append(Offer(delta.choice, kept))
        self._finished.update(said.finished)
        if said.counts is not None:  # the last word counts: some backends report a running total
            self._input, self._output = said.counts.input, said.counts.output
        if not self._model and said.model:
            self._model = said.model[:256]

    def _release(self) -> list[Action]:
        held, self._held = self._held or [], None
        final = self._final
        if final is not None and self._failure is None and self._splices():
            citations = citations_of(self._credits, top=self.wishes.works_top) if self._cites() else None
            held[0] = spliced_frame(final, self._view(), citations)
        rest = self._decoder.finish()  # what came after [DONE] and is no frame yet
        data = b"".join(held) + (rest.raw if rest is not None else b"")
        return [Send(data)] if data else []

    def _after_release(self) -> list[Action]:
        if self._failure is not None:
            self._phase = _Phase.OVER
            return [Close(is_clean=False)]
        if not self._upstream_has_ended:
            return []
        self._phase = _Phase.OVER
        return [Close()]

    # -- whole replies
    # -----------------------------------------------------------------------------------------

    def _read_reply(self) -> list[Action]:
        said = self.endpoint.read_reply(bytes(self._body))
        offers: list[Action] = []
        if said is not None:
            self._is_read = True
            self._take(said, offers)
        return offers

    def _whole_reply(self) -> list[Action]:
        status, kept = self._head
        body = bytes(self._body)
        if self._is_read and self._splices():
            if self._cites() and self._credits is not None:
                body = with_citations(
                    body, citations_of(self._credits, top=self.wishes.works_top), b"message"
                )
            body = spliced(body, self._view())
        extra = [id_header(self.id), status_header(self.status)]
        if self.status == "settled" and self._credits is not None:
            shares = [(work.work, work.ppm) for work in self._credits.works[: self.wishes.works_top]]
            extra += credit_headers(shares, self._credits.unattributed_ppm)
        return [Begin(status, sized(kept, len(body), extra)), Send(body)]

    def _end_refusal(self) -> list[Action]:
        said = self.endpoint.read_reply(bytes(self._body))
        if said is None or said.counts is None:
            self._phase = _Phase.OVER
            return [*self._refusal_passed_on(), Close()]
        self._take(Said(counts=said.counts, model=said.model), [])
        self._phase = _Phase.RECORDING
        self.outcome = "failed"
        self._credits = unscored("no_text", method=self._method)
        return [Record("failed", self.model, self.counts, self._credits)]

    def _refusal_passed_on(self) -> list[Action]:
        status, kept = self._head
        body = bytes(self._body)
        extra = [id_header(self.id), status_header("off")]
        return self._to_client([Begin(status, sized(kept, len(body), extra)), Send(body)])

    # -- what is passed on unread
    # ------------------------------------------------------------------------------

    def _begin_unread(self) -> list[Action]:
        status, kept = self._head
        extra = [id_header(self.id), status_header("off")]
        if self._inflate is not None:
            kept = [(name, value) for name, value in kept if name.lower() != b"content-length"]
        return self._to_client([Begin(status, [*kept, *extra])])

    def _unread_sent(self, chunk: bytes) -> list[Action]:
        """One piece stays behind, so that the last byte never leaves before the event is durable."""
        if not chunk:
            return []
        if self._phase is _Phase.RELEASED:
            return self._to_client([Send(chunk)])
        before, self._held = self._held, [chunk]
        return self._to_client([Send(before[0])]) if before else []

    def _too_long_to_read(self) -> list[Action]:
        body = bytes(self._body)
        self._body.clear()
        if self._mode is _Mode.REFUSAL:
            # An error is not metered unless it says so, and this one says too much.
            self._phase = _Phase.RELEASED
            actions = self._begin_unread()
            return [*actions, *self._to_client([Send(body)])]
        self._mode = _Mode.UNREAD
        return [*self._begin_unread(), *self._unread_sent(body)]

    # -- the end
    # -----------------------------------------------------------------------------------------------

    def _settle(self) -> list[Action]:
        if self.told.kept_characters == 0:
            reason = "not_attributed" if self._mode is _Mode.UNREAD else "no_text"
            return self.attributed(unscored(reason, method=self._method))
        if not self.is_scored:
            return self.attributed(unscored("not_attributed", method=self._method))
        self._phase = _Phase.SETTLING
        return [Settle(0 if self._shares_come_later() else self.wishes.deadline_ms)]

    def _shares_come_later(self) -> bool:
        """Whether nobody waits for the shares: they are hidden, deferred, or have no place in this stream."""
        view = self.wishes.view
        is_bare_stream = view == "headers" and self._mode is _Mode.STREAM
        return view == "off" or self.wishes.mode == "deferred" or is_bare_stream

    def _judged(self) -> Outcome:
        if self._client_is_gone:
            return "cut"
        if self._failure is not None:
            return "failed" if self._mode is _Mode.JSON else "cut"
        return "complete"

    def _splices(self) -> bool:
        return self.wishes.view in {"body", "full", "annotations"}

    def _cites(self) -> bool:
        return self.wishes.view == "annotations"

    def _view(self) -> AttributionView:
        asked = self.asked
        return view_of(
            self.id,
            self._credits,
            view=self.wishes.view,
            top=self.wishes.works_top,
            choices=asked.choices if asked else 1,
            method=self._method,
        )

    def _to_client(self, actions: list[Action]) -> list[Action]:
        return [] if self._client_is_gone else actions

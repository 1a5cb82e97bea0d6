"""One request and its answer as a state machine without a socket: events in, actions out.

The client's bytes go up and the backend's bytes come down as they are. What is decided here: which frame
waits (the finish_reason chunk of the last choice to finish, and all after it), until when (shares settled or
late, and the usage on disk), what is spliced into it, and what is metered when the backend fails or the
client leaves. The shell (handler.py) does what the actions say, in their order, and tells what happened.
What the bytes mean is the endpoint's to say (proxy.wire); nothing here knows one wire from another.

An answer that began (a 2xx from the backend) has exactly one event. A refusal by the backend has one,
`failed`, only when it reports usage: nothing was given otherwise. After the client has left, the backend is
still read, because only it knows the usage; that is bounded by the shell's time and by DRAINED_BYTES_MAX.
A reply that only promises an answer goes out at once; the shell then fetches the answer until it is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.metering.usage import Outcome
from proxy.relay.actions import (
    Action,
    Began,
    Begin,
    Close,
    Forward,
    Offer,
    Record,
    Reply,
    Send,
    Settle,
    own_reply,
)
from proxy.relay.counting import Reported
from proxy.relay.credits import Credited, unscored
from proxy.relay.failures import FAILURES, FailureKind
from proxy.relay.phases import Mode, Phase
from proxy.relay.showing import Showing
from proxy.relay.told import Told
from proxy.wire.coding import INFLATABLE, Inflater
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.errors import WireError, error_body
from proxy.wire.headers import RawHeaders, Status, Wishes, downward, field_of, kind_of, read_wishes, sized
from proxy.wire.output import Said, TextDelta, TokenCounts
from proxy.wire.sse import Frame, SseDecoder

REPLY_BYTES_MAX = 64 << 20  # a whole JSON reply is held; one with this much text or audio is passed on unread
REFUSAL_BYTES_MAX = 1 << 20  # an error's body is looked at for usage; a longer one is passed on unread
HELD_BYTES_MAX = 8 << 20  # after the last finish_reason come a usage chunk and [DONE], not megabytes
DRAINED_BYTES_MAX = 16 << 20  # read for its usage after the client left
_DONE = b"[DONE]"


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
        self.promised = ""  # the id under which the answer must be fetched: the reply only promised it
        self._is_fetched = False
        self.is_scored = True  # False: the scorer has no room and the operator chose to go on without it
        self._method = method
        self._phase = Phase.WAITING
        self._mode = Mode.UNREAD
        self._asked_for_usage = False
        self._client_is_gone = False
        self._upstream_has_ended = False
        self._failure: FailureKind | None = None
        self._model = ""
        self.reported = Reported()
        self._finished: set[int] = set()
        self._showing = Showing(event_id, endpoint, defaults, method)
        self._is_json = False
        self._is_read = False  # a whole reply that could be read: only such JSON is spliced
        self._decoder = SseDecoder(endpoint.frame_bytes_max)
        self._inflate: Inflater | None = None
        self._credits: Credited | None = None
        self._head: tuple[int, list[tuple[bytes, bytes]]] = (200, [])
        self._body = bytearray()  # a held reply, at most REPLY_BYTES_MAX
        self._final: tuple[int, Frame] | None = None  # the frame that takes the field, and its place below
        self._held: list[bytes] | None = None  # it and what follows, bounded; None: nothing is held
        self._held_bytes = 0
        self._held_bytes_max = max(HELD_BYTES_MAX, 2 * endpoint.frame_bytes_max)
        self._drained_bytes = 0

    @property
    def is_over(self) -> bool:
        """Nothing more will be asked for."""
        return self._phase is Phase.OVER

    @property
    def is_unmetered(self) -> bool:
        """An answer began and its event has not been recorded yet."""
        is_open = self._phase in {Phase.FLOWING, Phase.SETTLING, Phase.RECORDING}
        return is_open and self._mode is not Mode.REFUSAL

    # -- events ----------------------------------------------------------------------------------------------

    def client_asked(self, headers: RawHeaders, body: bytes) -> list[Action]:
        """Take the request. Raises nothing: what cannot be served is answered."""
        try:
            self.wishes = read_wishes(headers, self.wishes)
            self.asked = asked = self.endpoint.read_request(body, kind_of(headers))
        except WireError as error:
            return self.refused(error.status, str(error), code=error.code, param=error.param)
        self._showing = Showing(self.id, self.endpoint, self.wishes, self._method, asked.choices)
        self.told.may_be_kept = asked.is_kept
        if asked.is_streaming and not asked.wants_usage:
            body = self.endpoint.asking_for_usage(body)
            self._asked_for_usage = True
        return [Forward(body, asked.model)]

    def refused(
        self, status: int, message: str, *, code: str, param: str | None = None, extra: RawHeaders = ()
    ) -> list[Action]:
        """Answer with an error of ours, before anything was sent."""
        self._phase = Phase.OVER
        body = error_body(status, message, code=code, param=param, shape=self.endpoint.errors)
        return [own_reply(self.id, status, body, extra), Close()]

    def upstream_began(self, status: int, headers: RawHeaders) -> list[Action]:
        """Take the head of the backend's answer."""
        self._phase = Phase.FLOWING
        kind, encoding = field_of(headers, b"content-type"), field_of(headers, b"content-encoding")
        if encoding in INFLATABLE:
            # We asked for identity, so the client never agreed to this either: it gets what we can read.
            self._inflate = Inflater(REPLY_BYTES_MAX)
            headers = [(name, value) for name, value in headers if name.lower() != b"content-encoding"]
            encoding = b""
        is_readable = encoding in {b"", b"identity"}
        self._head = (status, downward(headers, may_change=status < 300 or self._inflate is not None))
        if not 200 <= status < 300:
            self._mode = Mode.REFUSAL
            return []
        spoken = self._spoken()
        if is_readable and kind == b"text/event-stream":
            self._mode = Mode.STREAM
            return [Began(), *self._begin_stream(), *spoken]
        self._is_json = kind == b"application/json" or kind.endswith(b"+json")
        if is_readable and (self._is_json or kind in self.endpoint.plain_kinds):
            self._mode = Mode.WHOLE
            return [Began(), *spoken]
        self._mode = Mode.UNREAD
        return [Began(), *self._begin_unread(), *spoken]

    def upstream_sent(self, chunk: bytes) -> list[Action]:
        """Take some bytes of the backend's body, cut anywhere."""
        if self._client_is_gone:
            self._drained_bytes += len(chunk)
            if self._drained_bytes > DRAINED_BYTES_MAX:
                return self.upstream_failed("protocol")
        try:
            if self._inflate is not None:
                chunk = self._inflate.feed(chunk)
            if self._mode is Mode.STREAM:
                return self._stream_sent(chunk)
        except WireError:
            return self.upstream_failed("protocol")
        if self._mode is Mode.UNREAD or self._phase is Phase.RELEASED:
            return self._unread_sent(chunk)
        self._body += chunk
        bytes_max = REPLY_BYTES_MAX if self._mode is Mode.WHOLE else REFUSAL_BYTES_MAX
        return self._too_long_to_read() if len(self._body) > bytes_max else []

    def upstream_ended(self) -> list[Action]:
        """The backend's body is complete."""
        self._upstream_has_ended = True
        if self._inflate is not None and self._inflate.is_cut:
            return self.upstream_failed("protocol")
        if self._phase is Phase.RELEASED:
            return self._after_release()
        if self._phase is not Phase.FLOWING:
            return []
        match self._mode:
            case Mode.STREAM:
                rest = self._decoder.finish()
                actions = self._frames([rest]) if rest is not None else []
                return actions if self._phase is not Phase.FLOWING else [*actions, *self._settle()]
            case Mode.WHOLE:
                offers = self._read_reply(bytes(self._body))
                return self._promise() if self.promised else [*offers, *self._settle()]
            case Mode.REFUSAL:
                return self._end_refusal()
            case Mode.UNREAD:
                return self._settle()

    def fetched(self, body: bytes) -> list[Action]:
        """Take what stands under the promised id now; nothing to do while it is still only promised."""
        said = self.endpoint.read_reply(body)
        if said is None or not said.finished:
            return []
        self._is_fetched = True
        return [*self._read_reply(body), *self._settle()]

    def upstream_failed(self, kind: FailureKind) -> list[Action]:
        """The backend could not be reached, or its answer broke off."""
        is_refusal = self._phase is Phase.FLOWING and self._mode is Mode.REFUSAL
        if self._phase is Phase.WAITING or is_refusal:  # nothing was sent yet
            status, code, message = FAILURES[kind]
            return self.refused(status, message, code=code)
        if self._phase is Phase.RELEASED:
            self._phase = Phase.OVER
            return [Close(is_clean=False)]
        if self._phase is not Phase.FLOWING:
            return []
        self._failure = kind
        return self._settle()

    def attributed(self, credits_: Credited | None) -> list[Action]:
        """The shares are there, or (None) late."""
        self._phase = Phase.RECORDING
        self._credits = credits_
        if self.wishes.view != "off" and not self.endpoint.unscored:
            self.status = "pending" if credits_ is None else "settled"
        self.outcome = self._judged()
        return [Record(self.outcome, self.model, self.counts, credits_, self.reported.media(self.asked))]

    def recorded(self, receipt: str = "") -> list[Action]:
        """The event is durable: what was held goes out, with the receipt that was signed for it."""
        self._phase, self._showing.receipt = Phase.RELEASED, receipt
        if self._client_is_gone or self.promised:
            self._phase = Phase.OVER
            return [Close(is_clean=False)]
        match self._mode:
            case Mode.WHOLE if self._failure is not None:
                status, code, message = FAILURES[self._failure]
                return self.refused(status, message, code=code)
            case Mode.WHOLE:
                self._phase = Phase.OVER
                status, headers, body = self._whole_reply()
                return [Begin(status, headers), Send(body), Close()]
            case Mode.REFUSAL:
                self._phase = Phase.OVER
                return [*self._refusal_passed_on(), Close()]
            case _:
                return [*self._release(), *self._after_release()]

    def not_recorded(self) -> list[Action]:
        """The journal refused: an answer without its event must not be completed."""
        if self._mode in {Mode.WHOLE, Mode.REFUSAL} and not (self._client_is_gone or self.promised):
            message, wait = "usage cannot be recorded now; try again shortly", ((b"retry-after", b"5"),)
            return self.refused(503, message, code="journal_unavailable", extra=wait)
        self._phase = Phase.OVER
        return [Close(is_clean=False)]

    def client_gone(self) -> list[Action]:
        """The client left. What was generated is still metered, so the backend is read on for its usage."""
        if self.promised:
            return []  # it has what it asked for
        self._client_is_gone = True
        if self._phase in {Phase.RELEASED, Phase.OVER}:
            self._phase = Phase.OVER
            return [Close(is_clean=False)]
        return []

    @property
    def model(self) -> str:
        """The model as the backend names it, else as asked."""
        return self._model or (self.asked.model if self.asked else "")

    @property
    def counts(self) -> TokenCounts:
        """What the backend has reported of tokens so far."""
        return self.reported.tokens

    @property
    def unscored(self) -> str:
        """Why no shares are asked for: there is no text, or there may be and nobody has compared it."""
        is_known = self._mode is not Mode.UNREAD and (not self.promised or self._is_fetched)
        is_empty = is_known and self.told.kept_characters == 0
        return self.endpoint.unscored or ("no_text" if is_empty else "not_attributed")

    # -- streams ---------------------------------------------------------------------------------------------

    def _begin_stream(self) -> list[Action]:
        status, kept = self._head
        known: Status | None = "pending" if self._shares_come_later() else None
        if self.wishes.view == "off" or self.endpoint.unscored:
            known = "off"
        extra = self._showing.headers(known)
        # A length the backend gave is wrong as soon as a byte is added.
        kept = [(name, value) for name, value in kept if name.lower() != b"content-length"]
        return self._to_client([Begin(status, [*kept, *extra])])

    def _stream_sent(self, chunk: bytes) -> list[Action]:
        if self._phase is Phase.RELEASED:
            return self._to_client([Send(chunk)]) if chunk else []
        run = None if self._held is not None or self.told.may_be_kept else self._decoder.run(chunk)
        if run is None:
            return self._frames(self._decoder.feed(chunk))
        heard = self.endpoint.read_run(run.data)
        offers: list[Action] = []
        self._tell(heard.texts, heard.model, offers)
        if heard.count == len(run.data):
            return [*self._to_client([Send(run.raw)]), *offers]
        return self._frames(*run.cut(heard.count), offers)

    def _frames(
        self, frames: Sequence[Frame], before: bytes = b"", offers: list[Action] | None = None
    ) -> list[Action]:
        passed = [before] if before else []
        offers = [] if offers is None else offers
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
                if self.told.may_be_kept:
                    self.told.see_made(data)
                if self._asked_for_usage and said.usage_only:
                    continue  # we asked for this chunk, the client did not
            if said is not None and said.finished:
                self._finish_at(frame)
            if said is not None and said.is_end:
                is_done = True
                self._hold()
            if self._held is None:
                passed.append(frame.raw)
            else:
                self._held.append(frame.raw)
                self._held_bytes += len(frame.raw)
        actions: list[Action] = self._to_client([Send(b"".join(passed))]) if passed else []
        actions += offers
        if self._held_bytes > self._held_bytes_max:
            return [*actions, *self.upstream_failed("protocol")]
        # A client that left waits for nothing, so the end is waited for: usage may follow [DONE].
        if is_done and not self._client_is_gone and self._phase is Phase.FLOWING:
            actions += self._settle()
        return actions

    def _hold(self) -> None:
        if self._held is None:
            self._held = []

    def _finish_at(self, frame: Frame) -> None:
        """Hold this frame, if its end is the last one."""
        if len(self._finished) < (self.asked.choices if self.asked else 1):
            return
        if self._held is None or (self._final is not None and self.endpoint.holds_last):
            self._hold()
            self._final = len(self._held or ()), frame

    def _take(self, said: Said, offers: list[Action]) -> None:
        self._tell(said.texts or (() if self.told.characters else said.whole), said.model, offers)
        self.told.cite(said.cited)
        self._finished.update(said.finished)
        self.reported.take(said)

    def _tell(self, texts: Sequence[TextDelta], model: str, offers: list[Action]) -> None:
        for delta in texts:
            kept = self.told.add(delta.choice, delta.text)
            if kept and self.is_scored:
                offers.append(Offer(delta.choice, kept))
        if model and not self._model:
            self._model = model[:256]

    def _release(self) -> list[Action]:
        held, self._held = self._held or [], None
        if self._final is not None and self._failure is None:
            place, frame = self._final
            held[place] = self._showing.frame(frame, self._credits)
        if (rest := self._decoder.finish()) is not None:  # what came after [DONE] and is no frame yet
            held.append(rest.raw)
        return [Send(b"".join(held))] if held else []

    def _after_release(self) -> list[Action]:
        if self._failure is not None:
            self._phase = Phase.OVER
            return [Close(is_clean=False)]
        if not self._upstream_has_ended:
            return []
        self._phase = Phase.OVER
        return [Close()]

    # -- whole replies ---------------------------------------------------------------------------------------

    def _read_reply(self, body: bytes) -> list[Action]:
        said = self.endpoint.read_reply(body)
        offers: list[Action] = []
        if said is not None:
            self._is_read = True
            self._take(said, offers)
            if self.told.may_be_kept:
                self.told.see_made(body)
            if said.promised and self.asked is not None and self.asked.is_background:
                self.promised = said.promised
        return offers

    def _spoken(self) -> list[Action]:
        """Take the request's text that the answer will say aloud, now that the answer has begun."""
        offers: list[Action] = []
        if self.asked is not None and self.asked.spoken:
            self._take(Said((TextDelta(0, self.asked.spoken),)), offers)
        return offers

    def _promise(self) -> list[Action]:
        """Pass the promise on at once: its shares are pending, and its usage comes with the answer."""
        if self.wishes.view != "off":
            self.status = "pending"
        return self._to_client([Reply(*self._whole_reply())])

    def _whole_reply(self) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        status, kept = self._head
        body = bytes(self._body)
        if self._is_read and self._is_json:
            body = self._showing.body(body, self._credits)
        extra = self._showing.headers_with(self.status, self._credits)
        return status, sized(kept, len(body), extra), body

    def _end_refusal(self) -> list[Action]:
        said = self.endpoint.read_reply(bytes(self._body))
        if said is None or said.counts is None:
            self._phase = Phase.OVER
            return [*self._refusal_passed_on(), Close()]
        self._take(Said(counts=said.counts, model=said.model), [])
        self._phase = Phase.RECORDING
        self.outcome = "failed"
        self._credits = unscored("no_text", method=self._method)
        return [Record("failed", self.model, self.counts, self._credits)]

    def _refusal_passed_on(self) -> list[Action]:
        status, kept = self._head
        body = bytes(self._body)
        extra = self._showing.headers("off")
        return self._to_client([Begin(status, sized(kept, len(body), extra)), Send(body)])

    # -- what is passed on unread ----------------------------------------------------------------------------

    def _begin_unread(self) -> list[Action]:
        status, kept = self._head
        is_told = self.told.kept_characters > 0 and self.wishes.view != "off"
        extra = self._showing.headers("pending" if is_told else "off")
        if self._inflate is not None:
            kept = [(name, value) for name, value in kept if name.lower() != b"content-length"]
        return self._to_client([Begin(status, [*kept, *extra])])

    def _unread_sent(self, chunk: bytes) -> list[Action]:
        """One piece stays behind, so that the last byte never leaves before the event is durable."""
        if not chunk:
            return []
        if self._phase is Phase.RELEASED:
            return self._to_client([Send(chunk)])
        before, self._held = self._held, [chunk]
        return self._to_client([Send(before[0])]) if before else []

    def _too_long_to_read(self) -> list[Action]:
        body = bytes(self._body)
        self._body.clear()
        if self._mode is Mode.REFUSAL:
            # An error is not metered unless it says so, and this one says too much.
            self._phase = Phase.RELEASED
            return [*self._begin_unread(), *self._to_client([Send(body)])]
        self._mode = Mode.UNREAD
        return [*self._begin_unread(), *self._unread_sent(body)]

    # -- the end ---------------------------------------------------------------------------------------------

    def _settle(self) -> list[Action]:
        if self.told.kept_characters == 0 or not self.is_scored:
            return self.attributed(unscored(self.unscored, method=self._method))
        self._phase = Phase.SETTLING
        return [Settle(0 if self._shares_come_later() else self.wishes.deadline_ms)]

    def _shares_come_later(self) -> bool:
        """Whether nobody waits for the shares: they are hidden, deferred, or their place is gone by."""
        view = self.wishes.view
        is_bare_stream = view == "headers" and self._mode is Mode.STREAM
        is_gone_by = is_bare_stream or self._mode is Mode.UNREAD
        return view == "off" or self.wishes.mode == "deferred" or is_gone_by

    def _judged(self) -> Outcome:
        if self._client_is_gone:
            return "cut"
        if self._failure is not None:
            return "failed" if self._mode is Mode.WHOLE and not self.promised else "cut"
        return "complete"

    def _to_client(self, actions: list[Action]) -> list[Action]:
        return [] if self._client_is_gone else actions

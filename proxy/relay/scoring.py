"""What the scorer is told and what it answers, and whose turn it is: the pure half of scorer.py.

A frame is a u32 length, then one msgpack message. Scoring is told messages, names an answer and scores a
slice of it. Slices are short and short answers come first, so that a long one delays them by a slice or two
and not by its own length; one turn in four goes to whoever was awaited first, so that nobody waits for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import msgspec

from proxy.relay.scored import ChoiceShares, Copied, Evidence, Scored, combine

if TYPE_CHECKING:
    # For their types alone: the proxy imports this module for its messages, and has no use for numpy.
    from attribution.copying import Copied as CopiedWords
    from attribution.grounding import Context
    from attribution.terms import Attribution

FRAME_BYTES_MAX = 16 << 20  # a megabyte of text, every clause of it evidence, fits four times over
TEXT_CHARACTERS_MAX = 16_000  # of one message: the pipe never holds another answer's end up for long
SLICE_CHARACTERS = 600  # some five sentences: one run of the encoder, 10 to 20 ms
WAITING_CHARACTERS_MAX = 8 << 20  # read ahead this far and no further: the parent keeps the texts anyway
TURNS_OF_THE_SHORT = (
    4  # of four turns three go to the shortest answer awaited, one to the one awaited longest
)


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Serve from this index from now on (None: an empty one). Answers under way finish on theirs.

    limits: of words copied from one work, about which the guard wants to know; empty: there is no guard.
    desk: the file in which this worker looks for whose turn it is (desk.py).
    """

    number: int
    index: str | None
    limits: tuple[int, ...] = ()
    desk: str = ""


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """More of the texts of the request that is answered; before any Text. is_last: there is no more."""

    id: str
    text: str
    is_last: bool


class Text(msgspec.Struct, frozen=True, tag="text"):
    """More of one choice of an answer."""

    id: str
    choice: int
    text: str


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """No more text will come. background: nobody waits for this one, others go first.

    cited: works that the backend named. grounded: works that stood in a request which is not kept any more.
    """

    id: str
    truncated: bool = False
    background: bool = False
    cited: tuple[str, ...] = ()
    grounded: tuple[str, ...] = ()


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """This answer's shares are no longer wanted."""

    id: str


class Count(msgspec.Struct, frozen=True, tag="count"):
    """How many word pieces has this text?"""

    number: int
    text: str


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The index serves; shares are made by `method`. is_empty: there is nobody to whom any could be owed."""

    number: int
    method: str
    is_empty: bool = False


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The index or the model cannot be used; the one before, if there was one, goes on serving."""

    number: int
    cause: str
    remedy: str = ""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """An answer's shares."""

    id: str
    scored: Scored


class Grounding(msgspec.Struct, frozen=True, tag="grounding"):
    """Works whose text stands in the request."""

    id: str
    works: tuple[str, ...]


class Copying(msgspec.Struct, frozen=True, tag="copying"):
    """What an answer has copied so far, once it is more than the guard's least limit."""

    id: str
    copied: tuple[Copied, ...]


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """The engine raised on this answer. `error` is the exception's type: its message might quote the text."""

    id: str
    error: str


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """Word pieces of the text of the Count with this number."""

    number: int
    tokens: int


Request = Open | Asked | Text | Finish | Forget | Count
Reply = Opened | Refused | Done | Broken | Counted | Grounding | Copying

_encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def frame(message: Request | Reply) -> bytes:
    """Return the message's bytes with their length before them."""
    payload = _encode(message)
    return len(payload).to_bytes(4, "little") + payload


class Frames:
    """Bytes as they come, whole frames out."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each frame that is complete now. Raises ValueError for one over FRAME_BYTES_MAX."""
        self._kept += data
        while len(self._kept) >= 4:
            length = int.from_bytes(self._kept[:4], "little")
            if length > FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {length} bytes; at most {FRAME_BYTES_MAX} are ever sent")
            if len(self._kept) < 4 + length:
                return
            payload = bytes(self._kept[4 : 4 + length])
            del self._kept[: 4 + length]
            yield payload


class Stream(Protocol):
    """What attribution.AttributionStream does for us."""

    context: Any

    def push(self, text: str) -> None: ...
    def finishing(self) -> Generator[None, None, Attribution]: ...


class Grounder(Protocol):
    """What attribution.grounding.Grounder does for us."""

    def push(self, text: str) -> None: ...
    def finish(self, cited: Iterable[str] = (), grounded: Iterable[str] = ()) -> Context: ...


class Watch(Protocol):
    """What attribution.copying.Copying does for us."""

    def push(self, text: str) -> bool: ...
    def finish(self) -> bool: ...
    def found(self, limits: Sequence[int]) -> Sequence[CopiedWords]: ...


class Engine(Protocol):
    """What attribution.Attributor does for us."""

    @property
    def method(self) -> str: ...
    @property
    def is_empty(self) -> bool: ...
    def stream(self) -> Stream: ...
    def grounder(self) -> Grounder: ...
    def copying(self) -> Watch: ...
    def count_tokens(self, text: str) -> int: ...
    def close(self) -> None: ...


class _Choice:
    """One choice of an answer: text that waits, and the stream that has had the rest."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.watch: Watch | None = None
        self.waiting: deque[str] = deque()

    def take(self) -> str:
        """Return the next slice of waiting text, at most SLICE_CHARACTERS."""
        pieces, room = list[str](), SLICE_CHARACTERS
        while self.waiting and room > 0:
            piece = self.waiting.popleft()
            if len(piece) > room:
                self.waiting.appendleft(piece[room:])
                piece = piece[:room]
            pieces.append(piece)
            room -= len(piece)
        return "".join(pieces)


class _Answer:
    """One answer on its way to shares, on the engine that served when its turn first came."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.choices: dict[int, _Choice] = {}
        self.asked: deque[Asked] = deque()
        self.grounder: Grounder | None = None
        self.context: Context | None = None
        self.characters = 0  # in all, scored or not
        self.finish: Finish | None = None
        self.finishing: Generator[None, None, Scored] | None = None

    @property
    def waiting(self) -> int:
        texts = sum(len(piece) for choice in self.choices.values() for piece in choice.waiting)
        return texts + sum(len(asked.text) for asked in self.asked)

    def copied(self, limits: tuple[int, ...]) -> tuple[Copied, ...]:
        """Return what the answer's choices have copied beyond the least of the limits."""
        return tuple(
            Copied(found.work_id, number, found.words, found.start, found.end, found.crossed)
            for number, choice in sorted(self.choices.items())
            for found in (choice.watch.found(limits) if choice.watch is not None else ())
        )

    @property
    def urgency(self) -> Literal[0, 1, 2]:
        """0: somebody waits for its end; 1: it is still being written; 2: nobody is in a hurry."""
        if self.finish is None:
            return 1
        return 2 if self.finish.background else 0


class Scoring:
    """Which answer is worked on next, and its work. Pure but for the engine it is handed."""

    def __init__(self, *, unused: Callable[[Engine], object] | None = None) -> None:
        """`unused` is told of an engine that serves no more and is not needed here; alone, we close it."""
        self.engine: Engine | None = None
        self.limits: tuple[int, ...] = ()
        self._answers: dict[str, _Answer] = {}
        self._ready: tuple[dict[str, None], dict[str, None], dict[str, None]] = ({}, {}, {})
        self.waiting_characters = 0
        self._turns = 0
        self._unused: Callable[[Engine], object] = unused or _close

    @property
    def urgency(self) -> Literal[0, 1, 2] | None:
        """How urgent its most urgent answer is (see _Answer); None when there is nothing to do."""
        ready = self._ready if self.engine is not None else ()
        return next((level for level, row in zip((0, 1, 2), ready, strict=False) if row), None)

    def use(self, engine: Engine) -> None:
        """Serve from `engine`; the one before closes when the last answer that uses it is done."""
        before, self.engine = self.engine, engine
        if before is not None and before is not engine:
            self._close_unused(before)

    def uses(self, engine: Engine) -> bool:
        """Tell whether an answer under way needs this engine."""
        return any(answer.engine is engine for answer in self._answers.values())

    def clear(self) -> None:
        """Forget every answer: whoever asked is gone."""
        for answer_id in tuple(self._answers):
            self._drop(answer_id)

    def receive(self, message: Asked | Text | Finish | Forget) -> Copying | None:
        """Take note; nothing is scored here, but words that are copied are seen at once."""
        match message:
            case Asked(answer_id, text):
                answer = self._answers.setdefault(answer_id, _Answer())
                answer.asked.append(message)
                self.waiting_characters += len(text)
                self._ready[answer.urgency][answer_id] = None
            case Text(answer_id, choice, text):
                answer = self._answers.setdefault(answer_id, _Answer())
                answer.choices.setdefault(choice, _Choice()).waiting.append(text)
                answer.characters += len(text)
                self.waiting_characters += len(text)
                self._ready[answer.urgency][answer_id] = None
                return self._watch(answer_id, answer, choice, text)
            case Finish(answer_id):
                answer = self._answers.setdefault(answer_id, _Answer())
                answer.finish = message
                self._ready[1].pop(answer_id, None)
                self._ready[answer.urgency][answer_id] = None
            case Forget(answer_id):
                self._drop(answer_id)
        return None

    def _watch(self, answer_id: str, answer: _Answer, number: int, text: str) -> Copying | None:
        choice = answer.choices[number]
        if choice.watch is None:
            if not self.limits or self.engine is None:
                return None
            choice.watch = self.engine.copying()
        try:
            is_more = choice.watch.push(text)
        except Exception:  # noqa: BLE001  # the same text is scored next, and what is wrong with it said then
            return None
        copied = answer.copied(self.limits) if is_more else ()
        return Copying(answer_id, copied) if copied else None

    def choose(self) -> str | None:
        """Return the answer whose turn it is; None when there is nothing to do, or nothing to do it with."""
        if self.engine is None:
            return None
        awaited, *others = self._ready
        if awaited and self._turns % TURNS_OF_THE_SHORT:
            return min(awaited, key=lambda answer_id: self._answers[answer_id].characters)
        return next((answer_id for row in (awaited, *others) for answer_id in row), None)

    def work(self, answer_id: str) -> Done | Broken | Grounding | None:
        """Score one slice of the answer, or take a step of its end when no text waits; then others go."""
        answer = self._answers[answer_id]
        row = self._ready[answer.urgency]
        if answer.urgency:  # an answer awaited keeps its place, others go to the end of their row
            row.pop(answer_id, None)
        self._turns += 1
        try:
            grounding = self._ground(answer_id, answer)
            scored = None if grounding else self._advance(answer)
        except Exception as error:  # noqa: BLE001  # whatever one text makes the engine do, the next is served
            self._drop(answer_id)
            return Broken(answer_id, type(error).__name__)
        if scored is not None:
            self._drop(answer_id)
            return Done(answer_id, scored)
        if answer.finish is not None or answer.waiting or answer.asked:
            row[answer_id] = None
        return grounding if isinstance(grounding, Grounding) else None

    def _ground(self, answer_id: str, answer: _Answer) -> Grounding | bool:
        """Take one piece of the request; False when none waits, the works found when it was the last."""
        engine = answer.engine = answer.engine or self.engine
        if engine is None or not answer.asked:
            return False
        asked = answer.asked.popleft()
        self.waiting_characters -= len(asked.text)
        grounder = answer.grounder = answer.grounder or engine.grounder()
        grounder.push(asked.text)
        if not asked.is_last:
            return True
        answer.context = grounder.finish()
        return Grounding(answer_id, tuple(found.work_id for found in answer.context.grounded))

    def _advance(self, answer: _Answer) -> Scored | None:
        engine = answer.engine = answer.engine or self.engine
        if engine is None:  # choose() names no answer before use()
            return None
        for choice in answer.choices.values():
            text = choice.take()
            if text:
                self.waiting_characters -= len(text)
                if choice.stream is None:
                    choice.stream = engine.stream()
                choice.stream.push(text)
                return None
        if answer.finish is None:
            return None
        if answer.finishing is None:
            answer.finishing = _finishing(answer, engine, answer.finish, self.limits)
        try:
            next(answer.finishing)
        except StopIteration as end:
            return cast("Scored", end.value)
        return None

    def _drop(self, answer_id: str) -> None:
        answer = self._answers.pop(answer_id, None)
        for row in self._ready:
            row.pop(answer_id, None)
        if answer is not None:
            self.waiting_characters -= answer.waiting
            if answer.engine is not None and answer.engine is not self.engine:
                self._close_unused(answer.engine)

    def _close_unused(self, engine: Engine) -> None:
        if not self.uses(engine):
            self._unused(engine)


def _close(engine: Engine) -> None:
    engine.close()


def _finishing(
    answer: _Answer, engine: Engine, finish: Finish, limits: tuple[int, ...]
) -> Generator[None, None, Scored]:
    context = answer.context
    if context is None and (finish.cited or finish.grounded):
        context = engine.grounder().finish(finish.cited, finish.grounded)
    elif context is not None and finish.cited:
        context = replace(context, cited=frozenset(finish.cited))
    shares: list[ChoiceShares] = []
    for number, choice in sorted(answer.choices.items()):
        if choice.watch is not None:
            choice.watch.finish()
        if choice.stream is not None:
            if context is not None:
                choice.stream.context = context
            shares.append(_choice_shares(number, (yield from choice.stream.finishing())))
    copied = answer.copied(limits)
    return combine(shares, method=engine.method, truncated=finish.truncated, copied=copied)


def _choice_shares(number: int, found: Attribution) -> ChoiceShares:
    return ChoiceShares(
        choice=number,
        words=found.words,
        unattributed_ppm=found.unattributed_ppm,
        ppm={share.work_id: share.ppm for share in found.shares},
        evidence={
            share.work_id: tuple(
                Evidence(m.kind, number, m.start, m.end, m.score, m.work_start, m.work_end)
                for m in share.matches
            )
            for share in found.shares
        },
    )


def sized(text: str) -> tuple[str, int]:
    """Return the text and its length in UTF-8; half a surrogate pair, which has none, becomes `?`."""
    if text.isascii():
        return text, len(text)
    encoded = text.encode("utf-8", "replace")
    return encoded.decode(), len(encoded)


def stretches(text: str) -> list[str]:
    """Cut at spaces into pieces of TEXT_CHARACTERS_MAX at most: apart, they have as many word pieces."""
    pieces: list[str] = []
    at = 0
    while at < len(text):
        end = at + TEXT_CHARACTERS_MAX
        if end < len(text):
            end = text.rfind(" ", at, end) + 1 or end
        pieces.append(text[at:end])
        at = end
    return pieces

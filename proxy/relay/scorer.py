"""The process that scores: the attribution engine beside the proxy, so that no event loop ever waits for it.

One for each host, `python -m proxy.relay.scorer`, spoken to in frames (see scoring.py): over its stdin and
stdout by the one worker that started it, or over a Unix socket by all workers of a server. It shares no
interpreter lock with a relay, runs at a lower priority, and goes when its parent goes. It holds no state that
matters: a worker keeps every text until it is settled, and sends it again to the next scorer.

Workers take turns: first those of whom somebody waits for an answer's end, one slice each. What is read ahead
of a worker and what it has not read yet are bounded, so that one that floods us or stops listening costs the
others nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from proxy.parting import end_with
from proxy.relay.desk import Desk
from proxy.relay.scoring import (
    FRAME_BYTES_MAX,
    WAITING_CHARACTERS_MAX,
    Asked,
    Copying,
    Count,
    Counted,
    Engine,
    Finish,
    Forget,
    Frames,
    Open,
    Opened,
    Refused,
    Reply,
    Request,
    Scoring,
    Text,
    decode_request,
    frame,
)

READ_BYTES = 1 << 18
UNREAD_BYTES_MAX = 2 * FRAME_BYTES_MAX  # of replies; who leaves more of them unread has stopped reading
TURN_S = 120  # no slice takes a second; an engine silent for so long will never answer


class _Gone(Exception):
    """Whoever we spoke with has closed the connection, or talks nonsense."""


class _Peer:
    """One worker: what it has asked, and what it was not told yet."""

    def __init__(self, reads: int, writes: int, scoring: Scoring) -> None:
        self.reads, self.writes, self.scoring = reads, writes, scoring
        self.unread = bytearray()
        self._frames = Frames()
        self._desk: Desk | None = None
        os.set_blocking(writes, False)

    def listen(self) -> list[Request]:
        """Return what has come. Raises _Gone."""
        try:
            data = os.read(self.reads, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise _Gone from error
        if not data:
            raise _Gone
        try:
            return [decode_request(payload) for payload in self._frames.feed(data)]
        except ValueError as error:
            raise _Gone from error

    def say(self, reply: Reply) -> None:
        """Send what the worker takes now and keep the rest. Raises _Gone when it has stopped reading."""
        self.unread += frame(reply)
        self.flush()
        if len(self.unread) > UNREAD_BYTES_MAX:
            raise _Gone

    def flush(self) -> None:
        """Send what was kept, as far as it is taken. Raises _Gone."""
        try:
            while self.unread:
                del self.unread[: os.write(self.writes, self.unread)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise _Gone from error

    def work(self) -> None:
        """Take one turn at its most pressing answer. Raises _Gone."""
        turn = self.scoring.choose()
        assert turn is not None  # asked only when its scoring is urgent
        if self._desk is not None:
            self._desk.begin(turn)
        reply = self.scoring.work(turn)
        if self._desk is not None:
            self._desk.end()
        if reply is not None:
            self.say(reply)

    def use_desk(self, path: str) -> None:
        """Note turns there from now on; where that cannot be, nobody is told of them."""
        if path and (self._desk is None or self._desk.path != path):
            with contextlib.suppress(OSError, ValueError):
                self._desk = Desk(path)

    def close(self) -> None:
        """Let go of the connection and of all that it asked."""
        self.scoring.clear()
        for descriptor in {self.reads, self.writes}:
            os.close(descriptor)


class _Opener:
    """Opens engines in turn on its own thread: loading a model takes 0.2 s, and no share waits for it.

    Workers ask for the same index one after the other; it is opened for the first and handed to the rest.
    """

    def __init__(self, open_engine: Callable[[Path | None], Engine]) -> None:
        self._open_engine = open_engine
        self._asked: queue.SimpleQueue[tuple[_Peer, Open]] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[tuple[_Peer, int, Engine | Refused]] = queue.SimpleQueue()
        self._last: tuple[str | None, Engine] | None = None
        self.wakes, self._wake = os.pipe()
        threading.Thread(target=self._run, daemon=True).start()

    def open(self, peer: _Peer, message: Open) -> None:
        self._asked.put((peer, message))

    def take(self) -> tuple[_Peer, int, Engine | Refused]:
        os.read(self.wakes, 1)
        return self._found.get()

    def _run(self) -> None:
        while True:
            peer, message = self._asked.get()
            self._found.put((peer, message.number, self._engine(message)))
            os.write(self._wake, b"!")

    def _engine(self, message: Open) -> Engine | Refused:
        if self._last is not None and self._last[0] == message.index:
            return self._last[1]
        path = None if message.index is None else Path(message.index)
        try:
            engine = self._open_engine(path)
        except Exception as error:  # noqa: BLE001  # a broken index must not end the one that serves
            cause = str(getattr(error, "cause", "")) or f"{type(error).__name__} while opening {path}"
            return Refused(message.number, cause, str(getattr(error, "remedy", "")))
        self._last = (message.index, engine)
        return engine


class _Service:
    """All workers, and whose turn it is."""

    def __init__(
        self,
        open_engine: Callable[[Path | None], Engine],
        *,
        listener: socket.socket | None = None,
        alarm: Callable[[int], object] = lambda _seconds: None,
    ) -> None:
        """`alarm` is told before each turn how long it may take, and 0 when there is nothing to do."""
        self._opener = _Opener(open_engine)
        self._listener, self._alarm = listener, alarm
        self._engine: Engine | None = None
        self._peers: dict[int, _Peer] = {}  # by what they are read from; who waited longest first

    def add(self, reads: int, writes: int) -> None:
        scoring = Scoring(unused=self._unused)
        if self._engine is not None:
            scoring.use(self._engine)
        self._peers[reads] = _Peer(reads, writes, scoring)

    def run(self) -> None:
        """Serve until nobody is left who could ask."""
        while self._peers or self._listener is not None:
            peer = self._next()
            self._alarm(0 if peer is None else TURN_S)
            if not self._heard(0 if peer is not None else None) and peer is not None:
                self._for(peer, peer.work)

    def _next(self) -> _Peer | None:
        """Return whose turn it is: of the most urgent, who waited longest."""
        urgent = [peer for peer in self._peers.values() if peer.scoring.urgency is not None]
        if not urgent:
            return None
        peer = min(urgent, key=lambda peer: peer.scoring.urgency or 0)
        self._peers[peer.reads] = self._peers.pop(peer.reads)
        return peer

    def _heard(self, timeout_s: float | None) -> bool:
        """Read what there is to read; True when somebody said something: it may change whose turn it is."""
        listening = [self._opener.wakes, *([] if self._listener is None else [self._listener.fileno()])]
        peers = list(self._peers.values())
        listening += [
            peer.reads
            for peer in peers
            if peer.scoring.waiting_characters < WAITING_CHARACTERS_MAX or peer.scoring.urgency is None
        ]
        behind = [peer.writes for peer in peers if peer.unread]
        readable, writable, _ = select.select(listening, behind, [], timeout_s)
        if self._opener.wakes in readable:
            self._opened(*self._opener.take())
        if self._listener is not None and self._listener.fileno() in readable:
            connection = self._listener.accept()[0].detach()
            self.add(connection, connection)
        said = False
        for peer in peers:
            if peer.writes in writable:
                self._for(peer, peer.flush)
            if peer.reads in readable:
                said = True
                self._for(peer, lambda peer=peer: self._listen(peer))
        return said

    def _for(self, peer: _Peer, act: Callable[[], None]) -> None:
        """Do something for a worker that may be gone; then it is forgotten."""
        if self._peers.get(peer.reads) is not peer:
            return
        try:
            act()
        except _Gone:
            del self._peers[peer.reads]
            peer.close()

    def _listen(self, peer: _Peer) -> None:
        copied: dict[str, Copying] = {}  # of answers whose end has not come: with that comes all they copied
        for message in peer.listen():
            match message:
                case Open():
                    peer.scoring.limits = message.limits
                    peer.use_desk(message.desk)
                    self._opener.open(peer, message)
                case Count(number, text):
                    # Asked once an engine serves; 0 pieces would be a wrong answer, no answer is a late one.
                    if peer.scoring.engine is not None:
                        peer.say(Counted(number, peer.scoring.engine.count_tokens(text)))
                case Asked() | Text() | Finish() | Forget():
                    if (copying := peer.scoring.receive(message)) is not None:
                        copied[message.id] = copying
                    elif isinstance(message, Finish):
                        copied.pop(message.id, None)
        for copying in copied.values():
            peer.say(copying)

    def _opened(self, peer: _Peer, number: int, found: Engine | Refused) -> None:
        if isinstance(found, Refused):
            self._for(peer, lambda: peer.say(found))
            return
        self._engine = found
        for other in self._peers.values():
            other.scoring.use(found)
        self._for(peer, lambda: peer.say(Opened(number, found.method, found.is_empty)))

    def _unused(self, engine: Engine) -> None:
        if engine is not self._engine and not any(peer.scoring.uses(engine) for peer in self._peers.values()):
            engine.close()


def serve(requests: int, replies: int, open_engine: Callable[[Path | None], Engine]) -> None:
    """Answer requests from one file descriptor on another until it ends; both are closed then."""
    service = _Service(open_engine)
    service.add(requests, replies)
    service.run()


def _open_attributor(path: Path | None) -> Engine:
    # Here, not above: the proxy imports this module for its messages, and has no use for numpy.
    from attribution import Attributor  # noqa: PLC0415

    return Attributor.open(path, threads=1)


def main(open_engine: Callable[[Path | None], Engine] = _open_attributor) -> None:
    """Serve stdin and stdout until the parent closes them; or whoever connects to the socket it left us."""
    parser = argparse.ArgumentParser(prog="python -m proxy.relay.scorer")
    parser.add_argument("--parent", type=int, required=True, help="process id whose end is ours")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--listen", type=int, help="descriptor of a listening Unix socket")
    arguments = parser.parse_args()
    # A stop of the whole group must not take us before the parent has settled what is under way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # An engine that never comes back cannot be told to stop; the kernel ends it, whatever it holds.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    end_with(arguments.parent)
    os.nice(arguments.nice)
    # Whatever a library prints goes to stderr: a stray line among the frames would end us.
    replies = os.dup(1)
    os.dup2(2, 1)
    if arguments.listen is None:
        service = _Service(open_engine, alarm=signal.alarm)
        service.add(0, replies)
    else:
        listener = socket.socket(fileno=arguments.listen)
        service = _Service(open_engine, listener=listener, alarm=signal.alarm)
    service.run()


if __name__ == "__main__":
    main()

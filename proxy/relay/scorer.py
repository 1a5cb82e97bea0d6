"""The process that scores: the attribution engine beside the proxy, so that the event loop never waits.

One child for each worker, `python -m proxy.relay.scorer`, spoken to over its stdin and stdout in frames (see
scoring.py). It shares no interpreter lock with the relay, runs at a lower priority, and goes when its parent
goes. It holds no state that matters: the parent keeps every text until it is settled, and sends it again to
the next child.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from proxy.relay.scoring import (
    WAITING_CHARACTERS_MAX,
    Asked,
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
    Working,
    decode_request,
    frame,
)

READ_BYTES = 1 << 18
PR_SET_PDEATHSIG = 1


class _Opener:
    """Opens engines in turn on its own thread: loading a model takes 0.2 s, and no share waits for it."""

    def __init__(self, open_engine: Callable[[Path | None], Engine]) -> None:
        self._open_engine = open_engine
        self._asked: queue.SimpleQueue[Open] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[tuple[int, Engine | Refused]] = queue.SimpleQueue()
        self.wakes, self._wake = os.pipe()
        threading.Thread(target=self._run, daemon=True).start()

    def open(self, message: Open) -> None:
        self._asked.put(message)

    def take(self) -> tuple[int, Engine | Refused]:
        os.read(self.wakes, 1)
        return self._found.get()

    def _run(self) -> None:
        while True:
            message = self._asked.get()
            path = None if message.index is None else Path(message.index)
            try:
                self._found.put((message.number, self._open_engine(path)))
            except Exception as error:  # noqa: BLE001  # a broken index must not end the one that serves
                cause = str(getattr(error, "cause", "")) or f"{type(error).__name__} while opening {path}"
                refused = Refused(message.number, cause, str(getattr(error, "remedy", "")))
                self._found.put((message.number, refused))
            os.write(self._wake, b"!")


def serve(requests: int, replies: int, open_engine: Callable[[Path | None], Engine]) -> None:
    """Answer requests from one file descriptor on another until it ends."""
    scoring, frames, opener = Scoring(), Frames(), _Opener(open_engine)
    said = ""

    def say(reply: Reply) -> None:
        view = memoryview(frame(reply))
        while view:
            view = view[os.write(replies, view) :]

    while True:
        turn = scoring.choose()
        listening = [opener.wakes]
        if turn is None or scoring.waiting_characters < WAITING_CHARACTERS_MAX:
            listening.append(requests)
        readable, _, _ = select.select(listening, [], [], None if turn is None else 0)
        if opener.wakes in readable:
            _opened(scoring, *opener.take(), say)
        if requests in readable:
            data = os.read(requests, READ_BYTES)
            if not data:
                return
            for payload in frames.feed(data):
                _act(scoring, opener, decode_request(payload), say)
            continue  # a Finish just read may change whose turn it is
        if turn is not None:
            if turn != said:
                said = turn
                say(Working(turn))
            if (reply := scoring.work(turn)) is not None:
                said = ""
                say(reply)


def _opened(scoring: Scoring, number: int, found: Engine | Refused, say: Callable[[Reply], None]) -> None:
    if isinstance(found, Refused):
        say(found)
    else:
        scoring.use(found)
        say(Opened(number, found.method))


def _act(scoring: Scoring, opener: _Opener, message: Request, say: Callable[[Reply], None]) -> None:
    match message:
        case Open():
            scoring.limits = message.limits
            opener.open(message)
        case Count(number, text):
            # Asked only once an engine serves; 0 pieces would be a wrong answer, no answer is a late one.
            if scoring.engine is not None:
                say(Counted(number, scoring.engine.count_tokens(text)))
        case Asked() | Text() | Finish() | Forget():
            if (copying := scoring.receive(message)) is not None:
                say(copying)


def end_with(parent: int) -> None:
    """See that this process ends when its parent does, even in the middle of a long computation.

    Twice over: Linux kills it when the thread that started it ends; and a thread waits for the other end of
    stdin to close, which works everywhere.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before we asked
        os._exit(0)
    gone = select.poll()
    gone.register(0, 0)  # no event but the hang-up, which is always reported

    def watch() -> None:
        gone.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _open_attributor(path: Path | None) -> Engine:
    # Here, not above: the proxy imports this module for its messages, and has no use for numpy.
    from attribution import Attributor  # noqa: PLC0415

    return Attributor.open(path, threads=1)


def main(open_engine: Callable[[Path | None], Engine] = _open_attributor) -> None:
    """Serve stdin and stdout until the parent closes them."""
    parser = argparse.ArgumentParser(prog="python -m proxy.relay.scorer")
    parser.add_argument("--parent", type=int, required=True, help="process id whose end is ours")
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    # A stop of the whole group must not take us before the parent has settled what is under way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with(arguments.parent)
    os.nice(arguments.nice)
    # Whatever a library prints goes to stderr: a stray line among the frames would end us.
    replies = os.dup(1)
    os.dup2(2, 1)
    serve(0, replies, open_engine)


if __name__ == "__main__":
    main()

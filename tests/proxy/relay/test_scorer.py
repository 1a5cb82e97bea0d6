"""The scorer as a process of its own, without the proxy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.relay.desk import OwnDesk
from proxy.relay.scorer import serve
from proxy.relay.scoring import (
    Count,
    Counted,
    Done,
    Finish,
    Frames,
    Open,
    Opened,
    Refused,
    Reply,
    Request,
    Text,
    decode_reply,
    frame,
)

ROOT = Path(__file__).parents[3]
SOON_S = 60  # a bound for a slow machine
TOY = Path(__file__).with_name("toy_scorer.py")


class Scorer:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.frames = Frames()

    def say(self, *requests: Request) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(map(frame, requests)))
        self.process.stdin.flush()

    def hear(self, count: int) -> list[Reply]:
        assert self.process.stdout is not None
        heard: list[Reply] = []
        while len(heard) < count:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, "the scorer ended"
            heard += [decode_reply(payload) for payload in self.frames.feed(data)]
        return heard


def until_at(desk: OwnDesk, answer_id: str) -> None:
    """Wait until the scorer's turn is this answer's."""
    until_s = time.monotonic() + SOON_S
    while desk.look()[1] != answer_id:
        assert time.monotonic() < until_s
        time.sleep(0.001)


def started(*, parent: int | None = None, nice: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(TOY), "--parent", str(parent or os.getpid()), "--nice", str(nice)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    with started() as process:
        yield Scorer(process)
        process.kill()


def test_texts_go_in_and_shares_come_out(scorer: Scorer):
    scorer.say(Open(1, None))
    assert scorer.hear(1) == [Opened(1, "toy/empty")]
    scorer.say(Text("rct_1", 0, "w_a and "), Text("rct_1", 0, "more of it"), Finish("rct_1"), Count(2, "a b"))
    counted, done = scorer.hear(2)
    assert counted == Counted(2, 2)
    assert isinstance(done, Done)
    assert [(work.work, work.ppm) for work in done.scored.works] == [("w_a", 200_000)]


def test_a_broken_index_is_refused_with_cause_and_remedy_and_the_next_one_opens(
    scorer: Scorer, tmp_path: Path
):
    scorer.say(Open(1, str(tmp_path / "absent")), Open(2, str(tmp_path)))
    assert scorer.hear(2) == [
        Refused(1, "absent is broken", "build it again"),
        Opened(2, f"toy/{tmp_path.name}"),
    ]


def test_it_outlives_the_signals_that_stop_its_group(scorer: Scorer):
    scorer.say(Open(1, None))
    scorer.hear(1)
    scorer.process.send_signal(signal.SIGTERM)
    scorer.process.send_signal(signal.SIGINT)
    scorer.say(Count(2, "still here"))
    assert scorer.hear(1) == [Counted(2, 2)]


def test_it_goes_when_its_parent_closes_the_pipe_even_in_the_middle_of_an_answer(
    scorer: Scorer, tmp_path: Path
):
    gate, desk = tmp_path / "gate", OwnDesk()
    os.mkfifo(gate)
    scorer.say(Open(1, None, desk=desk.path))
    scorer.hear(1)
    scorer.say(Text("rct_1", 0, f"GATE:{gate}"), Finish("rct_1"))
    until_at(desk, "rct_1")
    assert scorer.process.stdin is not None
    scorer.process.stdin.close()
    assert scorer.process.wait(timeout=20) == 0


def test_it_does_not_start_for_a_parent_that_is_gone():
    with started(parent=1 if os.getpid() != 1 else 2) as process:
        assert process.wait(timeout=20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_it_dies_with_a_parent_that_is_killed_although_the_pipe_stays_open(tmp_path: Path):
    # The parent starts the scorer and hands its stdin on to us, so that only the death itself can end it.
    script = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, {str(TOY)!r}, '--parent', str(os.getpid())], stdin=0)\n"
        "child.wait()\n"
    )
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=ours,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        os.write(theirs, frame(Open(1, None)))
        assert parent.stdout is not None
        first = os.read(parent.stdout.fileno(), 1 << 16)
        assert [decode_reply(payload) for payload in Frames().feed(first)] == [Opened(1, "toy/empty")]
        parent.kill()
        # Its stdout ends when the last holder of it is gone: the scorer.
        assert os.read(parent.stdout.fileno(), 1) == b""
    os.close(ours)
    os.close(theirs)


def test_it_runs_at_the_priority_it_was_given():
    with started(nice=7) as process:
        running = Scorer(process)
        running.say(Open(1, None))
        running.hear(1)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)
        process.kill()


def test_what_a_library_prints_does_not_reach_the_frames(tmp_path: Path):
    script = tmp_path / "printing.py"
    script.write_text(
        "from proxy.relay.scorer import main\n"
        "def open_engine(path):\n"
        "    print('a library says hello', flush=True)\n"
        "    raise OSError\n"
        "main(open_engine)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script), "--parent", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        running = Scorer(process)
        running.say(Open(1, None))
        assert running.hear(1) == [Refused(1, "OSError while opening None")]
        process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b"a library says hello\n"


class Worker:
    """One of several that speak with one scorer."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(60)
        self.frames = Frames()

    def say(self, *requests: Request) -> None:
        self.socket.sendall(b"".join(map(frame, requests)))

    def hear(self, count: int) -> list[Reply]:
        heard: list[Reply] = []
        while len(heard) < count:
            data = self.socket.recv(1 << 16)
            assert data, "the scorer ended"
            heard += [decode_reply(payload) for payload in self.frames.feed(data)]
        return heard


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """The socket of a scorer that several workers share."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(8)
    command = [sys.executable, str(TOY), "--parent", str(os.getpid()), "--listen", str(listener.fileno())]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        yield tmp_path / "s"
        process.kill()
    listener.close()


def test_several_workers_are_served_and_none_hears_of_anothers_answers(shared: Path):
    one, other = Worker(shared), Worker(shared)
    for worker in (one, other):
        worker.say(Open(1, None))
        assert worker.hear(1) == [Opened(1, "toy/empty")]
    one.say(Text("rct_1", 0, "w_a"), Finish("rct_1"))
    other.say(Text("rct_2", 0, "w_b"), Finish("rct_2"))
    for worker, answer, work in ((one, "rct_1", "w_a"), (other, "rct_2", "w_b")):
        (done,) = worker.hear(1)
        assert isinstance(done, Done)
        assert done.id == answer
        assert [scored.work for scored in done.scored.works] == [work]
        worker.socket.close()


def test_a_worker_with_much_to_do_does_not_hold_up_one_with_little(shared: Path, tmp_path: Path):
    gate, second = tmp_path / "gate", tmp_path / "second"
    for path in (gate, second):
        os.mkfifo(path)
    greedy, modest, desk, other = Worker(shared), Worker(shared), OwnDesk(), OwnDesk()
    for worker, path in ((greedy, desk.path), (modest, other.path)):
        worker.say(Open(1, None, desk=path))
        worker.hear(1)
    greedy.say(Text("rct_gate", 0, f"GATE:{gate}"), Finish("rct_gate"))
    until_at(desk, "rct_gate")
    assert other.look() == (0, "")
    # Each worker has its turns: whoever did all of the greedy one's first would wait at its sixth for ever.
    texts = ["w_a " * 300] * 5 + [f"GATE:{second}"] + ["w_a " * 300] * 44
    many = [(f"rct_{number}", text) for number, text in enumerate(texts)]
    greedy.say(*(request for one, text in many for request in (Text(one, 0, text), Finish(one))))
    modest.say(Text("rct_modest", 0, "w_b"), Finish("rct_modest"))
    gate.write_text("go")
    (done,) = modest.hear(1)
    assert isinstance(done, Done)
    assert done.id == "rct_modest"
    second.write_text("go")
    for worker in (greedy, modest):
        worker.socket.close()


def test_a_worker_that_talks_nonsense_or_leaves_is_forgotten_and_the_others_are_served(shared: Path):
    rude, gone, good = Worker(shared), Worker(shared), Worker(shared)
    for worker in (gone, good):
        worker.say(Open(1, None))
        worker.hear(1)
    gone.say(Text("rct_gone", 0, "w_a " * 20_000))
    gone.socket.close()
    rude.socket.sendall(b"\1\0\0\0!")
    assert rude.socket.recv(1) == b""
    good.say(Text("rct_1", 0, "w_b"), Finish("rct_1"))
    (done,) = good.hear(1)
    assert isinstance(done, Done)
    for worker in (rude, good):
        worker.socket.close()


def test_a_worker_that_stops_reading_is_let_go_and_the_others_are_served(shared: Path):
    deaf, good = Worker(shared), Worker(shared)
    deaf.say(Open(1, None))
    deaf.hear(1)
    with pytest.raises(OSError):  # noqa: PT012  # the scorer hangs up somewhere in the middle
        while True:
            deaf.say(*(Count(number, "word") for number in range(10_000)))
    good.say(Open(1, None), Count(2, "a b"))
    heard = good.hear(2)  # the index is opened already, so either may be told first
    assert Opened(1, "toy/empty") in heard
    assert Counted(2, 2) in heard
    for worker in (deaf, good):
        worker.socket.close()


def test_serving_ends_when_requests_end():
    requests, write = os.pipe()
    os.close(write)
    read, replies = os.pipe()
    serve(requests, replies, lambda path: (_ for _ in ()).throw(OSError))
    assert os.read(read, 1) == b""
    os.close(read)

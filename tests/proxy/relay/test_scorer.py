"""The scorer as a process of its own, without the proxy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    Working,
    decode_reply,
    frame,
)

ROOT = Path(__file__).parents[3]
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
    counted, working, done = scorer.hear(3)
    assert (counted, working) == (Counted(2, 2), Working("rct_1"))
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
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    scorer.say(Open(1, None))
    scorer.hear(1)
    scorer.say(Text("rct_1", 0, f"GATE:{gate}"), Finish("rct_1"))
    assert scorer.hear(1) == [Working("rct_1")]
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


def test_serving_ends_when_requests_end():
    requests, write = os.pipe()
    os.close(write)
    read, replies = os.pipe()
    serve(requests, replies, lambda path: (_ for _ in ()).throw(OSError))
    assert os.read(read, 1) == b""
    os.close(read)

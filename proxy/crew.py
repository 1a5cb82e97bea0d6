"""Several workers of one server: who they are, what they share, and who starts them again.

They share the listening socket (a connection that waits for a worker that dies is taken by another), the one
scorer of the host, and a folder with the files that metrics are kept in, so that whoever is asked for
/metrics can speak for all of them. Each has a number, its slot, which the one that replaces it inherits.

The supervisor is small and knows nothing of requests. A member that dies is started again, at once and then
ever more slowly; what it had in flight is in its journal shard, which its successor takes. A worker whose
event loop hangs would hold its connections for ever: so each says every few seconds that its loop turns, and
one that says so no more is killed. Members go with the supervisor, however it goes: workers as if they had
been asked to stop, the scorer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import proxy
from proxy.observability import configure_logging, get_log
from proxy.settings import serving

RESTART_S_MIN, RESTART_S_MAX = 0.1, 5.0
STEADY_S = 10.0  # a member that lived so long died of something new
FAILED_TO_START = 3  # a worker's exit status when its application could not start
STOP_MORE_S = 30.0  # beyond `[server] shutdown_s`: records, the last carrying, a busy machine
BEAT_S = 2.0  # how often a worker says that its event loop turns
SILENT_S = 30.0  # a loop that has not turned for so long will not; the longest pause measured is a second
STARTING_S = 300.0  # until the first beat: reading a journal of 60 million records takes so long
REST_S_MAX = 60.0
LATE_S = 5.0  # whoever slept so much longer than meant (a stopped machine, a stopped group) judges nobody
BACKLOG = 64  # connections of workers to the scorer: one each


@dataclass(frozen=True, slots=True)
class Crew:
    """What one worker knows of the others: the folder they share, and its own place among them."""

    folder: Path
    slot: int

    @property
    def scorer(self) -> Path:
        """The socket of the scorer that all share."""
        return self.folder / "scorer.sock"


@dataclass(slots=True)
class _Member:
    name: str
    command: Sequence[str]
    shares: socket.socket
    folder: Path
    gauges: str  # the files of metrics that end with their process
    is_worker: bool
    process: subprocess.Popen[bytes] | None = None
    line: socket.socket | None = None  # its stdin; nothing is said there but a worker's beats, and our end
    began_s: float = 0.0
    silent_at_s: float = math.inf  # when it is taken for hung, unless it says something
    due_s: float = 0.0
    pause_s: float = RESTART_S_MIN

    def start(self, now_s: float, starting_s: float) -> None:
        for path in self.folder.glob(self.gauges) if self.gauges else ():
            path.unlink()
        # -P and this path: members run the code we run, wherever it was started from.
        root = str(Path(proxy.__file__).parents[1])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        ours, theirs = socket.socketpair()  # we write nothing: its end tells them that we are gone
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603  # our own modules
                [*self.command, "--parent", str(os.getpid()), "--listen", str(self.shares.fileno())],
                stdin=theirs.fileno(),
                env={**os.environ, "PYTHONPATH": paths},
                pass_fds=[self.shares.fileno()],
            )
        ours.setblocking(False)
        self.line = ours
        self.began_s = now_s
        self.silent_at_s = now_s + starting_s if self.is_worker else math.inf

    def listen(self, now_s: float, silent_s: float) -> None:
        """Take what it has said, and give it `silent_s` until the next word."""
        if self.line is None:
            return
        try:
            said = self.line.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said:
            self.silent_at_s = now_s + silent_s
        else:
            self.let_go()  # it closed its side: it is ending

    def let_go(self) -> None:
        """Close the line, upon which it goes by itself."""
        if self.line is not None:
            self.line.close()
            self.line = None

    def died(self, now_s: float) -> bool:
        """Note that it has ended, if it has, and when it is to be started again."""
        if self.process is None or self.process.poll() is None:
            return False
        self.let_go()
        lived_s = now_s - self.began_s
        if lived_s > STEADY_S:
            self.pause_s = RESTART_S_MIN
        self.due_s, self.pause_s = now_s + self.pause_s, min(2 * self.pause_s, RESTART_S_MAX)
        return True


class Supervisor:
    """Starts the scorer and the workers, and starts again what dies, until it is asked to stop."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        workers: int,
        nice: int,
        shutdown_s: float,
        silent_s: float = SILENT_S,
        starting_s: float = STARTING_S,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="endcredits-"))  # short: a socket's path has 107 bytes
        self._shutdown_s = shutdown_s
        self._silent_s, self._starting_s = silent_s, starting_s
        self._stopping = False
        self._log = get_log()
        scoring = socket.socket(socket.AF_UNIX)
        scoring.bind(str(Crew(self._folder, 0).scorer))
        scoring.listen(BACKLOG)  # ours as long as we live: who connects between two scorers waits here
        python = (sys.executable, "-P", "-m")
        scorer = (*python, "proxy.relay.scorer", "--nice", str(nice))
        self._members = [_Member("scorer", scorer, scoring, self._folder, "", is_worker=False)]
        for slot in range(workers):
            command = (*python, "proxy.worker", "--crew", str(self._folder), "--slot", str(slot))
            gauges = f"gauge*_{slot}.db"
            worker = _Member(f"worker {slot}", command, listener, self._folder, gauges, is_worker=True)
            self._members.append(worker)

    def run(self) -> int:
        """Return the exit status: 0 after a stop, 1 when no worker could start."""
        wakes, wake = os.pipe()
        for descriptor in (wakes, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # it wakes us, that is all
        status = 0
        try:
            while not self._stopping and status == 0:
                now_s = time.monotonic()
                status = self._look(now_s)
                if status == 0:
                    rest_s = self._rest_s(now_s)
                    lines = [member.line for member in self._members if member.line is not None]
                    select.select([wakes, *lines], [], [], rest_s)
                    with contextlib.suppress(BlockingIOError):
                        os.read(wakes, 4096)
                    self._end_the_hung(time.monotonic(), now_s + rest_s)
        finally:
            self._stop()
        return status

    def _look(self, now_s: float) -> int:
        for member in self._members:
            if member.died(now_s):
                assert member.process is not None  # it died
                ended, member.process = member.process.returncode, None
                self._log.warning("member_died", member=member.name, status=ended)
                if ended == FAILED_TO_START and not self._is_any_steady(now_s):
                    return 1  # it would fail again, and so would the others
            if member.process is None and member.due_s <= now_s:
                member.start(now_s, self._starting_s)
                assert member.process is not None  # it was just started
                self._log.info("member_started", member=member.name, pid=member.process.pid)
        return 0

    def _end_the_hung(self, now_s: float, meant_s: float) -> None:
        """Hear everybody, then kill workers whose loop has stopped; they are started again like the dead."""
        for member in self._members:
            member.listen(now_s, self._silent_s)
        for member in self._members:
            if member.silent_at_s > now_s or member.process is None:
                continue
            if now_s > meant_s + LATE_S:
                member.silent_at_s = now_s + self._silent_s
                continue
            self._log.error("member_hung", member=member.name, pid=member.process.pid)
            member.silent_at_s = math.inf
            member.process.kill()

    def _is_any_steady(self, now_s: float) -> bool:
        return any(
            member.is_worker and member.process is not None and now_s - member.began_s > STEADY_S
            for member in self._members
        )

    def _rest_s(self, now_s: float) -> float:
        due = (member.due_s if member.process is None else member.silent_at_s for member in self._members)
        return min(max(0.0, min(due) - now_s), REST_S_MAX)

    def _asked_to_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _stop(self) -> None:
        """Ask the workers, wait for them, and only then let the scorer go: they settle until the end."""
        workers = [member.process for member in self._members if member.is_worker and member.process]
        for process in workers:
            process.terminate()
        until_s = time.monotonic() + self._shutdown_s + STOP_MORE_S
        for process in workers:
            _wait(process, until_s - time.monotonic())
        for member in self._members:
            if member.process is not None and not member.is_worker:
                member.let_go()
                _wait(member.process, 2.0)
            if not member.is_worker:
                member.shares.close()  # the scorer's socket is ours, the port is whose `main` took it
        shutil.rmtree(self._folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        process.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """Serve on a socket that `endcredits serve` has bound, with several workers."""
    parser = argparse.ArgumentParser(prog="python -m proxy.crew")
    parser.add_argument("--listen", type=int, required=True, help="descriptor of a listening socket")
    arguments = parser.parse_args()
    settings = serving()
    server = settings.server
    configure_logging(server.log_level)
    with socket.socket(fileno=arguments.listen) as listener:
        listener.set_inheritable(False)  # `serve` handed it over; workers are handed it, nobody else
        nice = settings.attribution.encoder_nice
        return Supervisor(listener, workers=server.workers, nice=nice, shutdown_s=server.shutdown_s).run()


if __name__ == "__main__":
    sys.exit(main())

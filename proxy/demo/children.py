"""The demo's child processes: started, waited for with a bound, shown when they fail, and always ended.

The demo runs the product as a user does, through its command line and its port, so it has processes to mind.
A child writes to files and never into a pipe: a pipe that nobody reads fills up and stops whoever writes.
Waiting looks at the process as well as at the clock, so that a child that died is reported at once, with what
it said.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

import proxy
from proxy.errors import Problem, Unavailable

START_S = 45  # a cold start on two busy cores takes about ten
COMMAND_S = 60  # the longest one builds the index of 28 works in a few seconds
STOP_S = 8  # the server gives open requests three (demo.toml) and then writes its journal out
POLL_S = 0.05
SAID_LINES = 12  # of a failed child's output: a traceback's end and its cause

PR_SET_PDEATHSIG = 1
_libc: ctypes.CDLL | None = (
    ctypes.CDLL(None) if sys.platform == "linux" else None
)  # loaded here: a fork must not

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever http_proxy says


class Child:
    """A running server of ours and the files it writes to."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.name = name
        self._process = process
        self._out, self._err = out, err
        self._deadline_s = time.monotonic() + START_S

    def first_line(self) -> dict[str, Any]:
        """Return the JSON line by which the child says where it listens.

        Raises Problem with the child's own cause and remedy when it refuses, Unavailable when it is silent.
        """
        while True:
            line, newline, _ = self._out.read_bytes().partition(b"\n")
            if newline:
                said = cast("dict[str, Any]", msgspec.json.decode(line))
                if "error" in said:
                    raise Problem(str(said["cause"]), remedy=str(said["remedy"]), code=str(said["error"]))
                return said
            self._wait("said nothing")

    def ready(self, url: str) -> None:
        """Return when `url` answers 200. Raises Unavailable."""
        while not _answers(url):
            self._wait(f"was not ready at {url}")

    def serve(self) -> None:
        """Wait until the child ends by itself, which it should not. Raises Unavailable then."""
        raise self.failed(f"ended with status {self._process.wait()}")

    def stop(self) -> None:
        """End the child: ask, wait, insist."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def _wait(self, failing: str) -> None:
        """Let a moment pass, unless the child is dead or late."""
        status = self._process.poll()
        if status is not None:
            raise self.failed(f"ended with status {status}")
        if time.monotonic() > self._deadline_s:
            raise self.failed(f"{failing} within {START_S} s")
        time.sleep(POLL_S)

    def failed(self, how: str) -> Unavailable:
        """Return the error that says how this child failed and what it printed last."""
        said = _tail(self._err.read_bytes() + self._out.read_bytes())
        return Unavailable(
            f"the {self.name} {how}: {said}", remedy="mend what it says and run the demo again"
        )


@contextmanager
def child(name: str, arguments: Sequence[str], folder: Path) -> Generator[Child]:
    """Run `python -m arguments` as a child, its output in `folder`, and end it with the block."""
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(  # noqa: S603  our own modules, no shell
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            cwd=folder,
            env=environment(),
            preexec_fn=_end_with_us,  # noqa: PLW1509  this process has one thread
        )
    started = Child(name, process, out, err)
    try:
        yield started
    finally:
        started.stop()


def command(arguments: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Run `endcredits arguments --json` and return its JSON lines. Raises Problem with what it said."""
    shown = "endcredits " + " ".join(arguments)
    try:
        done = subprocess.run(  # noqa: S603  our own command line, no shell
            [sys.executable, "-m", "proxy", *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
            cwd=folder,
            env=environment(),
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"'{shown}' took longer than {COMMAND_S} s", remedy="try again when idle") from late
    if done.returncode:
        raise Problem(
            f"'{shown}' failed with status {done.returncode}: {_tail(done.stdout + done.stderr)}", code="demo"
        )
    return [msgspec.json.decode(line) for line in done.stdout.splitlines() if line.strip()]


def environment() -> dict[str, str]:
    """Our environment without settings and keys that are not the demo's, able to find these very packages."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("ENDCREDITS_", "OPENAI_"))
    }
    here = str(Path(proxy.__file__).parents[1])
    return {
        **ours,
        "PYTHONPATH": os.pathsep.join(filter(None, (here, ours.get("PYTHONPATH")))),
        "PYTHONUTF8": "1",
    }


def _end_with_us() -> None:
    """Have a child asked to stop when the demo is killed, which then could not ask."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _tail(said: bytes) -> str:
    return "\n".join(said.decode(errors="replace").strip().splitlines()[-SAID_LINES:])

"""The scorer's process: started or joined, listened to, talked to, and left whatever happens.

What is said and what the replies mean is not known here (attributing.py). One call is one scorer's life as
we see it: it returns when its output ends, makes no sense, or has been silent for too long with work to do.
The only worker of a server starts its own; several share the one that `serve` started for them.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import proxy
from proxy.relay.scoring import Frames, Reply, decode_reply

READ_BYTES = 1 << 16
STUCK_S = 60.0  # no turn takes a second; an engine at the same one after so long will never answer
STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A scorer's end: its exit status (negative: the signal that killed it; None: not ours), and why."""

    status: int | None
    why: str


class _ChildEnded(Exception):
    """The child's stdout ended, or what came out of it made no sense."""


async def run_child(
    command: Sequence[str] | Path,
    *,
    nice: int,
    talk: Callable[[StreamWriter], Awaitable[None]],
    heard: Callable[[Reply], None],
    is_stuck: Callable[[], bool],
    stuck_s: float = STUCK_S,
) -> Ended:
    """Run `command` with `--parent PID --nice N`, or join the scorer of this host whose socket it is.

    Returns how it ended. Raises OSError when it cannot start, or nobody is there.

    talk: writes to the scorer for as long as it lives. heard: told every reply. is_stuck: asked when it has
    said nothing for `stuck_s`.
    """
    if isinstance(command, Path):
        stdout, stdin = await asyncio.open_unix_connection(command)
        try:
            return Ended(None, await _converse(stdout, stdin, talk, heard, is_stuck, stuck_s))
        finally:
            stdin.close()
    # -P and this path: the child runs the code we run, wherever it was started from.
    root = str(Path(proxy.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    child = await create_subprocess_exec(
        *command, "--parent", str(os.getpid()), "--nice", str(nice),
        stdin=PIPE, stdout=PIPE, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert child.stdin is not None  # a pipe was asked for
    assert child.stdout is not None
    try:
        why = await _converse(child.stdout, child.stdin, talk, heard, is_stuck, stuck_s)
    finally:
        await _end(child)
    return Ended(child.returncode, why)


async def _converse(
    stdout: StreamReader,
    stdin: StreamWriter,
    talk: Callable[[StreamWriter], Awaitable[None]],
    heard: Callable[[Reply], None],
    is_stuck: Callable[[], bool],
    stuck_s: float,
) -> str:
    """Talk and listen until one of them ends; return why."""
    why = ""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_listen(stdout, heard, is_stuck, stuck_s))
            group.create_task(_written(talk, stdin))
    except* Exception as ended:  # noqa: BLE001  # whatever went wrong, the next scorer starts clean
        why = _why(ended)
    return why


async def _written(talk: Callable[[StreamWriter], Awaitable[None]], stdin: StreamWriter) -> None:
    await talk(stdin)


async def _listen(
    stdout: StreamReader, heard: Callable[[Reply], None], is_stuck: Callable[[], bool], stuck_s: float
) -> None:
    frames = Frames()
    while True:
        try:
            async with asyncio.timeout(stuck_s):
                data = await stdout.read(READ_BYTES)
        except TimeoutError:
            if is_stuck():
                raise _ChildEnded("it was silent for too long") from None
            continue
        if not data:
            raise _ChildEnded("its output ended")
        try:
            for payload in frames.feed(data):
                heard(decode_reply(payload))
        except ValueError as error:  # a frame too long, or one that is no message
            raise _ChildEnded("its output made no sense") from error


def _why(ended: BaseExceptionGroup[Exception]) -> str:
    cause = ended.exceptions[0]
    return str(cause) if isinstance(cause, _ChildEnded) else type(cause).__name__


async def _end(child: Process) -> None:
    """Close its stdin, upon which it goes by itself; kill it if it does not."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()

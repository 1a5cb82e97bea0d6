"""One child's life, with children that are a line of Python."""

from __future__ import annotations

import asyncio
import sys
from asyncio import StreamWriter

import pytest

from proxy.relay.child import Ended, run_child
from proxy.relay.scoring import FRAME_BYTES_MAX, Counted, Reply, frame

pytestmark = pytest.mark.anyio
FIRST_LETTER = "import sys; b = sys.stdin.buffer.read(1); "


async def life(
    code: str, *, said: bytes = b"", is_stuck: bool = False, stuck_s: float = 20.0
) -> tuple[Ended, list[Reply]]:
    replies: list[Reply] = []

    async def talk(stdin: StreamWriter) -> None:
        stdin.write(said)
        await asyncio.Event().wait()

    ended = await run_child(
        (sys.executable, "-P", "-c", code),
        nice=0,
        talk=talk,
        heard=replies.append,
        is_stuck=lambda: is_stuck,
        stuck_s=stuck_s,
    )
    return ended, replies


async def test_what_the_child_says_is_heard_until_its_output_ends():
    data = frame(Counted(1, 7)) + frame(Counted(2, 8))
    code = f"{FIRST_LETTER} assert b == b'!'; sys.stdout.buffer.write({data!r})"
    ended, replies = await life(code, said=b"!")
    assert replies == [Counted(1, 7), Counted(2, 8)]
    assert ended == Ended(0, "its output ended")


async def test_a_killed_child_is_known_by_its_signal():
    ended, _ = await life("import os; os.kill(os.getpid(), 9)")
    assert ended == Ended(-9, "its output ended")


@pytest.mark.parametrize("nonsense", [(FRAME_BYTES_MAX + 1).to_bytes(4, "little"), b"\1\0\0\0!"])
async def test_a_child_that_talks_nonsense_is_ended(nonsense: bytes):
    code = f"import sys; sys.stdout.buffer.write({nonsense!r}); sys.stdout.flush(); sys.stdin.read()"
    ended, _ = await life(code)
    assert ended.why == "its output made no sense"


async def test_a_silent_child_is_ended_only_when_it_is_stuck():
    ended, _ = await life("import sys; sys.stdin.read()", is_stuck=True, stuck_s=0.05)
    assert ended.why == "it was silent for too long"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await life("import sys; sys.stdin.read()", stuck_s=0.05)


async def test_what_cannot_be_started_is_an_error_of_the_system():
    with pytest.raises(FileNotFoundError):
        await run_child(("/nonexistent/scorer",), nice=0, talk=_nothing, heard=print, is_stuck=bool)


async def _nothing(stdin: StreamWriter) -> None:
    del stdin


async def test_the_scorer_of_the_host_is_joined_by_its_socket_and_outlives_us(tmp_path):
    said = asyncio.Event()

    async def scorer(reader: asyncio.StreamReader, writer: StreamWriter) -> None:
        assert await reader.readexactly(1) == b"!"
        writer.write(frame(Counted(1, 7)))
        writer.close()
        said.set()

    async def talk(stdin: StreamWriter) -> None:
        stdin.write(b"!")
        await asyncio.Event().wait()

    path, replies = tmp_path / "s", list[Reply]()
    server = await asyncio.start_unix_server(scorer, path)
    for _ in range(2):
        ended = await run_child(path, nice=0, talk=talk, heard=replies.append, is_stuck=bool)
        assert ended == Ended(None, "its output ended")
    assert replies == [Counted(1, 7)] * 2
    server.close()
    await server.wait_closed()
    with pytest.raises(
        (ConnectionRefusedError, FileNotFoundError)
    ):  # a closed server may leave its socket, or not
        await run_child(path, nice=0, talk=_nothing, heard=print, is_stuck=bool)

from __future__ import annotations

import asyncio
import io
import subprocess
import sys

import pytest

from proxy.lines import GATHERED_BYTES_MAX, Lines

pytestmark = pytest.mark.anyio


class Writes(io.BytesIO):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.happened = asyncio.Event()

    def write(self, data) -> int:
        self.count += 1
        self.happened.set()
        return super().write(data)


async def test_lines_of_one_moment_are_written_together_and_soon():
    file = Writes()
    lines = Lines(file)
    for line in (b"one", b"two", b"three"):
        lines.info(line)
    assert file.count == 0
    await file.happened.wait()
    assert (file.count, file.getvalue()) == (1, b"one\ntwo\nthree\n")


async def test_a_warning_is_written_at_once_behind_what_came_before_it():
    file = Writes()
    lines = Lines(file)
    lines.info(b"one")
    lines.warning(b"two")
    assert file.getvalue() == b"one\ntwo\n"
    lines.info(b"three")
    file.happened.clear()
    await file.happened.wait()
    assert file.getvalue() == b"one\ntwo\nthree\n"


async def test_a_flood_of_lines_is_not_kept_in_memory():
    file = Writes()
    lines = Lines(file)
    for _ in range(3):
        lines.info(b"x" * GATHERED_BYTES_MAX)
    assert file.getvalue().count(b"\n") >= 2
    lines.flush()


async def test_lines_of_other_threads_are_written_whole():
    file = Writes()
    lines = Lines(file)
    await asyncio.gather(*(asyncio.to_thread(lines.info, b"%d" % n) for n in range(50)))
    assert sorted(file.getvalue().split(), key=int) == [b"%d" % n for n in range(50)]


SCRIPT = """
import asyncio, sys
from proxy.lines import Lines
lines = Lines(sys.stderr.buffer)
async def work():
    lines.info(b"last words")
asyncio.run(work())
"""


def test_what_is_gathered_is_written_when_the_program_ends():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    assert ran.stderr == b"last words\n"


def test_outside_an_event_loop_a_line_is_written_at_once():
    file = io.BytesIO()
    Lines(file).info(b"one")
    assert file.getvalue() == b"one\n"


class Full(io.BytesIO):
    is_full = True

    def write(self, data) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_log_that_cannot_be_written_keeps_nobody_from_working_and_says_later_how_much_is_missing():
    file = Full()
    lines = Lines(file)
    for _ in range(3):
        lines.write(b"lost")
    file.is_full = False
    lines.write(b"kept")
    lines.write(b"and this")
    lost = b'{"event":"log_lines_lost","level":"warning","lines":3}'
    assert file.getvalue() == lost + b"\nkept\nand this\n"

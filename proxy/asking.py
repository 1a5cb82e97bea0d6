"""Threads for what a request waits for: the store, which may fall silent, and the disk, apart from it.

A call in a thread cannot be cut off. A database that is reached and answers nothing any more (a frozen host,
a disk that hangs) keeps every thread that asks it, and with one pool of threads for everything an answer
could not end any more because its text could not be written. So requests ask the store in threads of their
own and wait a bounded time for it, and the disk has others. Pages and the API of people have theirs: what a
person asks for may take long, and neither an answer nor the resolver of names may wait behind it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from proxy.errors import Unavailable

STORE_THREADS = 16  # the engine has 15 connections: one that waits for a connection is told so soon
DISK_THREADS = 4  # each waits for a sync or two, which the disk does one after the other
PAGE_THREADS = 8  # people's clicks are few; the next waits in the queue
PAGE_S = 30.0  # the longest a person waits: a payment file of a hundred thousand creators takes some of it
ANSWER_S = 8.0  # longer than SQLite waits for a lock and an engine for a connection: both say so themselves

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A few threads for one kind of calls that block."""

    def __init__(self, name: str, count: int, answer_s: float | None = None) -> None:
        """answer_s: how long a caller waits; whoever is asked keeps the thread until they answer."""
        self._name, self._count, self._answer_s = name, count, answer_s
        self._pool: ThreadPoolExecutor | None = None

    async def __call__(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call in a thread. Raises Unavailable(code "store_unavailable") when that takes too long."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
        bound = functools.partial(call, *arguments, **named)
        limit = asyncio.timeout(self._answer_s)
        try:
            async with limit:
                return await asyncio.get_running_loop().run_in_executor(self._pool, bound)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the call's own
            raise Unavailable(
                f"the {self._name} has not answered for {self._answer_s} s",
                remedy="try again in a moment",
                code="store_unavailable",
            ) from error


of_store = Threads("store", STORE_THREADS, ANSWER_S)
of_pages = Threads("store", PAGE_THREADS, PAGE_S)
on_disk = Threads("disk", DISK_THREADS)

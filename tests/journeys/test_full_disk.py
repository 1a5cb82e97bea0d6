"""A real server whose disk is full, and then is not any more: the kernel refuses, not a fake.

Where the system lets anybody mount one, the data folder is on a small disk of its own (a tmpfs in a mount namespace of
the server's) that is filled from outside: ENOSPC. Everywhere the process's own limit (RLIMIT_FSIZE) does it too, set
and lifted from outside while it serves: EFBIG, for every file, the log that says so included.
"""

from __future__ import annotations

import contextlib
import errno
import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import Commands
from tests.processes import children, serving
from tests.proxy.test_crew import backend

SOON_S = 60  # a bound for a slow machine
DISK_MIB = 64  # a journal's segments and a store with room for the test
FIT_MAX = 200  # answers that may still fit into what is left of a page here and there
ASKED = {"model": "demo-credits-1", "messages": [{"role": "user", "content": "Tell me about bees"}]}
# Mounts a disk at $0, copies the data folder $1 there, and becomes the rest.
MOUNTED = f'mount -t tmpfs -o size={DISK_MIB}m none "$0" && cp -a "$1" "$0" && shift && exec "$@"'
UNSHARED = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def lets_us_mount() -> bool:
    try:
        return not subprocess.run(
            [*UNSHARED, "mount -t tmpfs none /tmp"], check=False, capture_output=True
        ).returncode
    except OSError:
        return False


@contextlib.contextmanager
def limited(pid: int, _: Path) -> Iterator[None]:
    """Let no file of this process grow."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.contextmanager
def filled(pid: int, disk: Path) -> Iterator[None]:
    """Fill this process's disk to the last byte."""
    ballast = Path(f"/proc/{pid}/root{disk}/ballast")
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            while has_taken(file, bytes(size)):
                pass
    try:
        yield
    finally:
        ballast.unlink()


def has_taken(file: Any, data: bytes) -> bool:
    try:
        return file.write(data) == len(data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def ask(client: httpx.Client, mode: str = "inline", *, stream: bool = False) -> tuple[int, str, bytes]:
    """Return the status, the id and the body; what was broken off has status 0."""
    content = b""
    with client.stream(
        "POST", "/v1/chat/completions", json={**ASKED, "stream": stream}, headers={"x-attribution-mode": mode}
    ) as answer:
        try:
            for piece in answer.iter_raw():
                content += piece
        except httpx.HTTPError:
            return 0, answer.headers["x-attribution-id"], content
    return answer.status_code, answer.headers["x-attribution-id"], content


def refused(client: httpx.Client, given: list[str], mode: str, *, stream: bool) -> tuple[int, bytes]:
    """Ask until the disk has no room even for so little; note what was given meanwhile."""
    for _ in range(FIT_MAX):
        status, name, content = ask(client, mode, stream=stream)
        if status != 200:
            return status, content
        given.append(name)
    raise AssertionError("the disk is not full")


@pytest.mark.parametrize(
    ("is_mounted", "full"),
    [(False, limited), *([(True, filled)] if lets_us_mount() else [])],
    ids=lambda way: getattr(way, "__name__", "on its own disk" if way else "on ours"),
)
def test_a_full_disk_refuses_what_it_cannot_record_and_loses_nothing_that_was_given(
    tmp_path, is_mounted: bool, full: Callable[[int, Path], contextlib.AbstractContextManager[None]]
):
    data, disk = tmp_path / "data", tmp_path / "disk"
    disk.mkdir()
    key = Commands(data).json("keys", "create", "--role", "app").row["key"]
    headers = {"authorization": f"Bearer {key}"}
    under = [*UNSHARED, MOUNTED, str(disk), str(data)] if is_mounted else []
    served = disk / "data" if is_mounted else data
    with backend() as upstream, serving(served, "--upstream", upstream, under=under) as base:
        (pid,) = children(b"proxy.worker")
        with httpx.Client(base_url=base, headers=headers, timeout=SOON_S, trust_env=False) as client:
            before = [ask(client), ask(client, stream=True), ask(client, "deferred")]
            assert [status for status, _, _ in before] == [200, 200, 200]
            given = [name for _, name, _ in before]
            with full(pid, disk):
                for mode in ("inline", "deferred"):
                    status, content = refused(client, given, mode, stream=False)
                    assert (status, json.loads(content)["error"]["code"]) == (503, "journal_unavailable")
                    status, content = refused(client, given, mode, stream=True)
                    assert (status, b"[DONE]" in content) == (0, False)
                assert client.get("/healthz").status_code == 200
                unready = client.get("/readyz")
                assert unready.status_code == 503, unready.text
                assert client.get("/v1/models").status_code == 200
            until_s = time.monotonic() + SOON_S
            while (again := ask(client))[0] != 200:
                assert time.monotonic() < until_s, again
            after = [again, ask(client, stream=True), ask(client, "deferred")]
            given += [name for _, name, _ in after]
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < until_s
            while not set(given) <= set(ids := carried(client)):
                assert time.monotonic() < until_s
    assert len(set(ids)) == len(ids)


def carried(client: httpx.Client) -> list[str]:
    """Return the ids of all the app's answers that are in the store."""
    ids: list[str] = []
    page = {"next_cursor": None}
    while page:
        page = client.get("/api/usage", params={"cursor": page["next_cursor"]} if ids else {}).json()
        ids += [event["id"] for event in page["items"]]
        page = page if page["next_cursor"] else None
    return ids

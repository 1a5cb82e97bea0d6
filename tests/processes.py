"""`endcredits serve` as a process of its own, on a free loopback port, as operators run it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

READY_S = 60  # a bound for a slow machine; a start takes a second or two


@contextlib.contextmanager
def serving(
    data: Path, *arguments: str, env: dict[str, str] | None = None, under: Sequence[str] = ()
) -> Iterator[str]:
    """Run the server until the block ends, then stop it as a service manager would; yield its base URL.

    under: a command that becomes the server's, which follows it (`nice`, `unshare`).
    """
    command = [
        *under,
        sys.executable,
        "-m",
        "proxy",
        "serve",
        "--data",
        str(data),
        "--port",
        "0",
        "--json",
        *arguments,
    ]
    log = data.parent / f"{data.name}.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **(env or {})}
        )
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        base = json.loads(line)["url"]
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(transport=transport, timeout=READY_S) as client:
            # The port is bound before the application starts, so this waits in the kernel's queue and not here.
            ready = client.get(f"{base}/readyz")
            assert ready.status_code == 200, ready.text
        yield base
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def children(name: bytes) -> list[int]:
    """Return the living processes that this one has started with `name` in their command lines."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            is_named = name in (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z" and is_named:
            found.append(int(stat.parent.name))
    return found

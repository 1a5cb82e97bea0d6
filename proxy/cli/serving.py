"""`serve`, `demo` and `doctor`: the commands that run or examine the proxy itself.

`serve` binds its socket before anything else, so that a taken port is one clear line. Then it becomes the one
worker, or the supervisor of several (crew.py): the process that serves is not a command any more.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

import proxy
from proxy.cli.desk import Desk, command, main
from proxy.errors import Problem

if TYPE_CHECKING:
    from proxy.settings import Settings

UPSTREAM_KEY = "OPENAI_API_KEY"
# glibc's malloc gives each thread an arena of its own and keeps what long requests once needed; measured over
# a mixed load, one arena and a fixed threshold keep the relay from growing. What the operator set wins.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}
BACKLOG = 2_048  # connections the kernel holds while the loop is busy; a burst of new streams fits


@command(main)
@click.option("--upstream", metavar="URL", help=f"One backend for every model; its key from {UPSTREAM_KEY}.")
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on [8080]; 0 picks a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes [1].")
def serve(
    desk: Desk, upstream: str | None, host: str | None, port: int | None, workers: int | None
) -> NoReturn:
    """Run the proxy, its API and its pages."""
    settings = _with_options(desk.settings, upstream=upstream, host=host, port=port, workers=workers)
    listener = _bind(settings.server.host, settings.server.port)
    address, bound_port = listener.getsockname()[:2]
    base = f"http://{f'[{address}]' if ':' in address else address}:{bound_port}"
    _greet(desk, settings, base)
    desk.close()
    _become(settings, listener)


def _with_options(
    settings: Settings, *, upstream: str | None, host: str | None, port: int | None, workers: int | None
) -> Settings:
    from proxy.access.providers import check
    from proxy.settings import Backend, check_backends

    check(settings.oidc)  # before a worker finds out
    replace = msgspec.structs.replace
    chosen = {"host": host, "port": port, "workers": workers}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = replace(settings, server=replace(settings.server, **given))
    if upstream is not None:
        backend = Backend(name="upstream", url=upstream.rstrip("/"), api_key_env=UPSTREAM_KEY)
        check_backends((backend,), "--upstream")
        settings = replace(settings, backends=(backend,))
    return settings


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        raise Problem(
            f"cannot listen on {host}:{port}: {error.strerror}",
            remedy="stop what uses that port, or pass --port"
            if taken
            else "pass an address of this machine as --host",
            code="port",
        ) from error
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


def _greet(desk: Desk, settings: Settings, base: str) -> None:
    """Say where we listen; on a loopback address with no app key yet, make one and show it once."""
    from proxy.access.store import count_living, create_key
    from proxy.clock import RandomIds, SystemClock

    for backend in settings.backends:
        if backend.api_key_env and not os.environ.get(backend.api_key_env):
            desk.note(
                f"warning: {backend.api_key_env} is not set; requests to {backend.url} carry no Authorization"
            )
    fresh = ""
    engine = (
        desk.engine
    )  # opened whoever listens: it brings the schema up to date for the processes that serve
    if _is_loopback(settings.server.host) and count_living(engine, "app") == 0:
        fresh = create_key(engine, "app", name="default", clock=SystemClock(), ids=RandomIds()).secret
    lines = [f"Endcredits listens on {base}"]
    if fresh:
        lines += [
            "",
            "A key for your app (shown once, only its hash is kept):",
            "",
            f"  export OPENAI_BASE_URL={base}/v1",
            f"  export OPENAI_API_KEY={fresh}",
            "",
        ]
    answer = {"url": base, "base_url": f"{base}/v1"} | ({"key": fresh} if fresh else {})
    desk.say(answer, "\n".join(lines))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _become(settings: Settings, listener: socket.socket) -> NoReturn:
    """Become the process that serves: what only commands need is left behind, the process id stays."""
    module = "proxy.worker" if settings.server.workers == 1 else "proxy.crew"
    from proxy.settings import handed_over

    # -P and this path: it runs the code we run, wherever it was started from.
    root = str(Path(proxy.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**ALLOCATOR, **os.environ, **handed_over(settings), "PYTHONPATH": paths}
    arguments = (sys.executable, "-P", "-m", module, "--listen", str(listener.fileno()))
    sys.stdout.flush()
    os.execve(sys.executable, arguments, environment)  # noqa: S606  # our own interpreter, our own module


@command(main)
@click.option("--once", is_flag=True, help="Exit when the journey is told, instead of serving on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0 picks a free one."
)
def demo(desk: Desk, port: int, *, once: bool) -> int:
    """Show the whole job on a sample catalogue and a built-in backend."""
    from proxy.demo.journey import run

    return run(once=once, port=port, data_dir=desk.data)


@command(main)
def doctor(desk: Desk) -> int:
    """Check settings, ports, model, store, journal and index: each line ok, or the remedy."""
    from proxy.cli.doctor import examine

    findings = examine(desk)
    for finding in findings:
        mark = "ok    " if finding.ok else "FAILED"
        line = f"{mark} {finding.name}: {finding.fact}" + (f"; {finding.remedy}" if finding.remedy else "")
        desk.say(msgspec.structs.asdict(finding), line)
    return 0 if all(finding.ok for finding in findings) else 1

"""The process that serves: alone, or one of several.

`endcredits serve` becomes it, or crew.Supervisor starts it: `python -m proxy.worker --listen FD`. The socket
is bound and the settings are in the environment. One of several ends as if asked to when its supervisor is
gone, so that answers under way are finished and the port is free for the next server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import functools
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from proxy.app import Asgi, at_once, create_app
from proxy.crew import BEAT_S, FAILED_TO_START, Crew
from proxy.errors import Problem
from proxy.front import Front
from proxy.observability import configure_logging, get_log
from proxy.receipts.apart import Apart
from proxy.relay.sockets import MESSAGE_BYTES_MAX
from proxy.running import logs
from proxy.settings import Server, serving

PR_SET_PDEATHSIG = 1
FILES_MAX = 1_048_576  # beyond what one loop serves; some systems allow "unlimited" and count through it
STOP_MORE_S = 25.0  # beyond `[server] shutdown_s`; a supervisor waits for 30
GIVES_WAY_S = 0.001  # for so long at most a thread at work (the carrier of usage) holds up the event loop


class Serving(uvicorn.Server):
    """A server that any signal asks to finish what is under way; a second one does not cut that short.

    Control-C reaches the whole group, and the supervisor then asks once more. line: where a supervisor hears
    that the event loop turns, from the moment connections are taken until the process ends. bound: is told
    the seconds that a stop may take.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        line: socket.socket | None = None,
        *,
        bound: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._line = line
        self._bound = bound

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and take connections; from then on the loop is heard."""
        await super().startup(sockets)
        if self._line is not None:
            self._beat(asyncio.get_running_loop(), self._line)

    def _beat(self, loop: asyncio.AbstractEventLoop, line: socket.socket) -> None:
        try:
            line.send(b".")
        except BlockingIOError:
            pass  # nobody has listened for a long time, and what is there will be enough
        except OSError:
            return  # the supervisor is gone, and `end_with` has seen it
        loop.call_later(BEAT_S, self._beat, loop, line)

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002  # uvicorn's own names
        """Stop taking connections and finish what is under way, within a bounded time."""
        self.should_exit = True
        bound, self._bound = self._bound, None
        if bound is not None:
            bound((self.config.timeout_graceful_shutdown or 0) + STOP_MORE_S)


def end_within(seconds: float) -> None:
    """End this process then, whatever still runs: a thread that waits for a silent database never ends.

    Nothing is lost by it: what was acknowledged is in the journal, and the next start takes it up.
    """

    def end() -> None:
        get_log().error("stop_overdue", seconds=seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def options(server: Server) -> dict[str, Any]:
    """Return what uvicorn is told, for one process as for several."""
    return {
        "loop": "uvloop" if os.name != "nt" else "asyncio",
        "http": functools.partial(Front, bytes_per_s=server.client_bytes_per_s),
        "ws": "websockets-sansio",
        "ws_max_size": MESSAGE_BYTES_MAX,
        "ws_per_message_deflate": False,  # it is mostly audio, and unpacking it would cost more than it saves
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,  # the peer is who it is; [server] trusted_proxies says whose word counts
        "timeout_keep_alive": server.client_idle_s,
        "timeout_graceful_shutdown": server.shutdown_s,
        "lifespan": "on",
    }


def end_with(parent: int) -> None:
    """Have this process asked to stop when its supervisor ends: by Linux, and by a thread everywhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it went before we asked
        sys.exit(0)
    gone = select.poll()
    gone.register(0, 0)  # no event but the hang-up, which is always reported

    def watch() -> None:
        gone.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def room_for_connections() -> None:
    """Let this process have as many open files as it may: the usual 1,024 are a few hundred streams."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # some systems name a limit that cannot be set
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FILES_MAX)), hard))


def main() -> int:
    """Serve until asked to stop; return 0 then, FAILED_TO_START when the application could not start."""
    parser = argparse.ArgumentParser(prog="python -m proxy.worker")
    parser.add_argument("--listen", type=int, required=True, help="descriptor of a listening socket")
    parser.add_argument("--parent", type=int, help="process id of the supervisor, whose end is ours")
    parser.add_argument("--crew", type=Path, help="the folder that all workers share")
    parser.add_argument("--slot", type=int, default=0, help="this worker's number")
    arguments = parser.parse_args()
    room_for_connections()
    settings = serving()
    sys.setswitchinterval(GIVES_WAY_S)
    configure_logging(settings.server.log_level)
    # uvicorn raises the signal again once it has stopped cleanly; these handlers are what it then meets, so
    # that a clean stop exits 0 (service managers read anything else as a crash).
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    crew = None if arguments.crew is None else Crew(arguments.crew, arguments.slot)
    apart = Apart.fork(settings) if logs(crew) else None  # before the first thread
    if arguments.parent is not None:
        end_with(arguments.parent)

    def make() -> Asgi:
        return at_once(create_app(settings, crew=crew, has_schema=True, apart=apart))

    line = None
    if crew is not None:
        line = socket.socket(fileno=os.dup(0))
        line.setblocking(False)
    listener = socket.socket(fileno=arguments.listen)
    # It came to us through exec and must go no further: a scorer that outlived us would hold the port.
    listener.set_inheritable(False)
    server = Serving(uvicorn.Config(make, factory=True, **options(settings.server)), line, bound=end_within)
    try:
        server.run(sockets=[listener])
    except Problem as problem:
        sys.stderr.write(f"error: {problem.cause}\nremedy: {problem.remedy}\n")
        return FAILED_TO_START if crew else 1
    return 0 if server.started else FAILED_TO_START if crew else 1


if __name__ == "__main__":
    sys.exit(main())

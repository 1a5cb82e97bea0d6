from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn

from proxy.front import Front
from proxy.settings import Server
from proxy.worker import STOP_MORE_S, Serving, options
from tests.processes import children, serving


def test_uvicorn_is_told_the_settings_and_the_fast_parts():
    told = options(Server(client_idle_s=7, client_bytes_per_s=5, shutdown_s=3))
    config = uvicorn.Config("nobody:app", **told)
    assert (config.timeout_keep_alive, config.timeout_graceful_shutdown) == (7, 3)
    assert (config.proxy_headers, config.server_header) == (False, False)
    assert (told["http"].func, told["http"].keywords) == (Front, {"bytes_per_s": 5})


def test_a_second_signal_does_not_cut_short_what_the_first_lets_finish():
    bounds: list[float] = []
    server = Serving(uvicorn.Config("nobody:app", timeout_graceful_shutdown=7), bound=bounds.append)
    server.handle_exit(signal.SIGTERM, None)
    server.handle_exit(signal.SIGINT, None)
    assert server.should_exit
    assert not server.force_exit
    assert bounds == [7 + STOP_MORE_S]


def test_serve_becomes_the_worker_and_keeps_its_process_id(tmp_path):
    data = tmp_path / "data"
    with serving(data, "--upstream", "http://127.0.0.1:9/v1") as base:
        assert httpx.get(f"{base}/healthz").status_code == 200
        (started,) = [
            line for line in (tmp_path / "data.log").read_text().splitlines() if "proxy_started" in line
        ]
        assert "endcredits/1" in started


def listening(pid: int) -> set[str]:
    """Return the listening TCP sockets that a process holds, by their inode."""
    tcp = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {fields[9] for line in tcp if (fields := line.split())[3] == "0A"}
    held = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    return {inode for inode in inodes if f"socket:[{inode}]" in held}


@pytest.mark.skipif(sys.platform != "linux", reason="who holds a socket is asked of Linux")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_scorer_does_not_hold_the_port_that_its_server_listens_on(tmp_path, workers):
    arguments = ("--upstream", "http://127.0.0.1:9/v1", "--workers", str(workers))
    with serving(tmp_path / "data", *arguments):
        (server,) = children(b"proxy.worker" if workers == 1 else b"proxy.crew")
        below = [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
        named = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in below}
        (scorer,) = [pid for pid, name in named.items() if b"relay.scorer" in name]
        assert len(listening(server)) == 1
        assert listening(scorer) == set()


def test_a_worker_whose_supervisor_is_gone_does_not_begin():
    command = [sys.executable, "-m", "proxy.worker", "--listen", "0", "--parent", str(os.getppid())]
    settings = {"ENDCREDITS_SERVING": "{}"}
    ran = subprocess.run(
        command, env={**os.environ, **settings}, stdin=subprocess.PIPE, timeout=60, check=False
    )
    assert ran.returncode == 0


def test_a_process_whose_thread_never_ends_ends_all_the_same():
    said = "import threading; from proxy.worker import end_within; end_within(0.05); threading.Event().wait()"
    ended = subprocess.run(
        [sys.executable, "-c", said], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "stop_overdue" in ended.stdout + ended.stderr

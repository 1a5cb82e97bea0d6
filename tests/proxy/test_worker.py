from __future__ import annotations

import os
import signal
import subprocess
import sys

import httpx
import uvicorn

from proxy.settings import Server
from proxy.worker import Serving, options
from tests.processes import serving


def test_uvicorn_is_told_the_settings_and_the_fast_parts():
    told = options(Server(client_idle_s=7, shutdown_s=3))
    config = uvicorn.Config("nobody:app", **told)
    assert (config.timeout_keep_alive, config.timeout_graceful_shutdown) == (7, 3)
    assert (config.http, config.proxy_headers, config.server_header) == ("httptools", False, False)


def test_a_second_signal_does_not_cut_short_what_the_first_lets_finish():
    server = Serving(uvicorn.Config("nobody:app"))
    server.handle_exit(signal.SIGTERM, None)
    server.handle_exit(signal.SIGINT, None)
    assert server.should_exit
    assert not server.force_exit


def test_serve_becomes_the_worker_and_keeps_its_process_id(tmp_path):
    data = tmp_path / "data"
    with serving(data, "--upstream", "http://127.0.0.1:9/v1") as base:
        assert httpx.get(f"{base}/healthz").status_code == 200
        (started,) = [
            line for line in (tmp_path / "data.log").read_text().splitlines() if "proxy_started" in line
        ]
        assert "endcredits/1" in started


def test_a_worker_whose_supervisor_is_gone_does_not_begin():
    command = [sys.executable, "-m", "proxy.worker", "--listen", "0", "--parent", str(os.getppid())]
    settings = {"ENDCREDITS_SERVING": "{}"}
    ran = subprocess.run(
        command, env={**os.environ, **settings}, stdin=subprocess.PIPE, timeout=60, check=False
    )
    assert ran.returncode == 0

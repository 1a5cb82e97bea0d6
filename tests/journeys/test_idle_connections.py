"""Ten thousand clients that connect and say nothing: they cost little, end after their time, and hold up nobody."""

from __future__ import annotations

import resource
import socket
import time

import httpx

from tests.processes import serving

CONNECTIONS = 10_000
IDLE_S = 12


def test_ten_thousand_idle_connections_hold_up_nobody_and_end(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(CONNECTIONS, hard - 500)
    assert count >= 1_000, "this machine lets a process have hardly any files"
    (tmp_path / "endcredits.toml").write_text(f"[server]\nclient_idle_s = {IDLE_S}\n")
    # The server is started with few and must help itself to more.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
    try:
        with serving(tmp_path / "data", "--config", str(tmp_path / "endcredits.toml")) as base:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            address = ("127.0.0.1", int(base.rpartition(":")[2]))
            began = time.monotonic()
            idle = [socket.create_connection(address, timeout=30) for _ in range(count)]
            assert httpx.get(f"{base}/healthz", timeout=30).status_code == 200
            assert time.monotonic() - began < 10 * IDLE_S
            for one in idle:
                one.settimeout(4 * IDLE_S)
                assert one.recv(1) == b""
                one.close()
            assert httpx.get(f"{base}/healthz", timeout=30).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

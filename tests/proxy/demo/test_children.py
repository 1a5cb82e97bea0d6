"""The demo's processes: waited for with a bound, shown when they fail, always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.demo.children import child, command, environment
from proxy.errors import Problem, Unavailable


@pytest.fixture
def module(tmp_path: Path):
    """Give a function that writes a module where a child can find it."""

    def write(source: str) -> str:
        (tmp_path / "spoken.py").write_text(source)
        return "spoken"

    return write


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_is_ended_with_its_block_also_when_a_step_fails(tmp_path, module) -> None:
    name = module("import os, signal\nprint('{\"pid\": %d}' % os.getpid(), flush=True)\nsignal.pause()")
    with contextlib.suppress(Problem), child("sleeper", [name], tmp_path) as started:
        pid = started.first_line()["pid"]
        assert is_running(pid)
        raise Problem("a step failed")
    assert not is_running(pid)


def test_a_child_ends_also_when_the_demo_is_killed(tmp_path, module) -> None:
    name = module(
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open('ended', 'w').close(), os._exit(0)))\n"
        "print('{\"pid\": %d}' % os.getpid(), flush=True)\nsignal.pause()"
    )
    demo = (
        "import os, sys, pathlib\nfrom proxy.demo.children import child\n"
        f"with child('sleeper', [{name!r}], pathlib.Path(sys.argv[1])) as started:\n"
        "    started.first_line()\n    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", demo, str(tmp_path)], env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    until_s = time.monotonic() + 20
    while not (tmp_path / "ended").exists():
        assert time.monotonic() < until_s, "nobody asked it to end"
        time.sleep(0.01)


def test_a_child_that_dies_is_reported_at_once_with_what_it_said(tmp_path, module) -> None:
    name = module("raise SystemExit('the port is taken')")
    with child("server", [name], tmp_path) as started, pytest.raises(Unavailable, match="the port is taken"):
        started.first_line()


def test_a_child_that_refuses_is_quoted_with_its_own_remedy(tmp_path, module) -> None:
    refusal = {"error": "port", "cause": "cannot listen on port 8080", "remedy": "pass --port"}
    name = module(f"import json\nprint(json.dumps({refusal!r}))")
    with child("server", [name], tmp_path) as started, pytest.raises(Problem, match="8080") as refused:
        started.first_line()
    assert (refused.value.code, refused.value.remedy) == ("port", "pass --port")


def test_waiting_for_readiness_notices_a_dead_child(tmp_path, module) -> None:
    name = module("raise SystemExit(3)")
    with child("server", [name], tmp_path) as started, pytest.raises(Unavailable, match="status 3"):
        started.ready("http://127.0.0.1:9/readyz")


def test_a_child_that_ends_while_serving_is_an_error(tmp_path, module) -> None:
    name = module("print('{}')")
    with child("server", [name], tmp_path) as started, pytest.raises(Unavailable, match="status 0"):
        started.serve()


def test_the_demonstration_backend_becomes_ready(tmp_path) -> None:
    with child("backend", ["proxy.demo.backend", "--port", "0"], tmp_path) as started:
        base_url = started.first_line()["base_url"]
        started.ready(f"{base_url}/models")


def test_a_command_that_fails_is_shown_with_what_it_said(tmp_path) -> None:
    with pytest.raises(Problem, match="endcredits no-such-command"):
        command(["no-such-command"], tmp_path)


def test_a_child_gets_no_settings_or_keys_of_ours(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private")
    monkeypatch.setenv("ENDCREDITS_CONFIG", "elsewhere.toml")
    assert not [name for name in environment() if name.startswith(("OPENAI_", "ENDCREDITS_"))]
    assert Path(environment()["PYTHONPATH"].split(os.pathsep)[0], "proxy", "demo").is_dir()

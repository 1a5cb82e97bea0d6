import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOUND = "forked 0, lost 0, doubled 0, broken 0"


def kill(times: int, seed: int) -> str:
    # A process of its own: the children are forked, and a test run has threads that must not be.
    ran = subprocess.run(
        [sys.executable, "-m", "tests.crash.log_kill", "--kills", str(times), "--seed", str(seed)],
        capture_output=True, text=True, timeout=900, check=False, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_three_kills_leave_one_log():
    assert SOUND in kill(3, seed=1)


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_two_hundred_kills_at_every_named_point_leave_one_log_without_a_gap():
    assert SOUND in kill(200, seed=2)

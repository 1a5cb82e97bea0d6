import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ledger_kill.py")
SOUND = "lost 0, doubled 0, unbalanced 0"


def kill(times: int, seed: int) -> str:
    # A process of its own: the children are forked, and a test run has threads that must not be.
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", str(times), "--seed", str(seed)],
        capture_output=True, text=True, timeout=900, check=False, cwd=SCRIPT.parents[2],
        env={"PYTHONPATH": str(SCRIPT.parents[2]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_three_kills_leave_sound_books():
    assert SOUND in kill(3, seed=1)


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_a_hundred_kills_at_every_named_point_leave_sound_books():
    assert SOUND in kill(100, seed=2)

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("server_kill.py")


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_no_answer_is_lost_or_doubled_by_twenty_kills_of_the_whole_server():
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "20"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "lost 0, doubled 0, unbalanced 0" in ran.stdout

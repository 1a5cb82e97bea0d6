import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("long_kill.py")


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_when_the_server_is_killed_under_a_batchs_download_and_a_realtime_session():
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "6"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "lost 0, doubled 0" in ran.stdout

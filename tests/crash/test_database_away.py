import subprocess
import sys

import pytest

from tests.repository import ROOT


@pytest.mark.crash
@pytest.mark.postgres
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["stopped", "frozen", "locked"])
def test_a_store_that_is_away_refuses_no_answer_and_loses_none(how):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.crash.database_away", "--minutes", "0.2", "--rate", "20", "--how", how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "lost 0, doubled 0" in ran.stdout
    assert "refused 0" in ran.stdout

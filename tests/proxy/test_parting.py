from __future__ import annotations

import os
import subprocess
import sys

CHILD = (
    "import sys; from proxy.parting import end_with; end_with(int(sys.argv[1])); print('on', flush=True); "
)


def begun(parent: int, then: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", CHILD + then, str(parent)], text=True, **pipes)


def test_a_child_goes_when_nobody_holds_its_line_whatever_it_computes():
    with begun(os.getpid(), "\nwhile True: pass") as child:
        assert child.stdout.readline() == "on\n"
        child.stdin.close()
        assert child.wait(20) == 0


def test_a_child_whose_parent_went_before_it_asked_does_not_begin():
    with begun(os.getppid(), "") as child:
        assert child.stdout.read() == ""
        assert child.wait(20) == 0

"""How a child process goes when its parent goes, however that ends.

Only the standard library: it is loaded by processes that are to stay small.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """See that this process ends when its parent does, even in the middle of a long computation.

    Twice over: Linux kills it when the thread that started it ends; and a thread waits for the other end of
    stdin to close, which works everywhere.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before we asked
        os._exit(0)
    gone = select.poll()
    gone.register(0, 0)  # no event but the hang-up, which is always reported

    def watch() -> None:
        gone.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()

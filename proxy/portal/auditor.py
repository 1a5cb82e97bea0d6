"""The child that audits the books for `/api/audits`, and where its result lies.

An audit reads every row there is, for minutes on a large store. In the server's own process it would hold up
the streams that it carries meanwhile, so it has one to itself, which steps back from all others. Its result
is a file in the data folder, so that each worker can tell it, also after a restart. Who holds the lock
audits. Run as `python -m proxy.portal.auditor`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from proxy.billing.audit_store import audit
from proxy.billing.invariants import Checked
from proxy.clock import Clock, SystemClock
from proxy.database import open_engine
from proxy.errors import Problem
from proxy.settings import Settings, serving

RESULT, LOCK = "books-audit.json", "books-audit.lock"
NICE: Final = 19


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """An audit's end. problem: why there is none, else empty; items: every invariant."""

    began_us: int
    ended_us: int
    items: tuple[Checked, ...] = ()
    problem: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether it came to its end and found nothing broken."""
        return not self.problem and all(one.state != "broken" for one in self.items)


def last(data_dir: Path) -> Audited | None:
    """Return the last audit's end, None where there was none, or what is there is none."""
    try:
        return msgspec.json.decode((data_dir / RESULT).read_bytes(), type=Audited)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def is_running(data_dir: Path) -> bool:
    """Return whether a process is auditing at this moment."""
    descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def keep(data_dir: Path, one: Audited) -> None:
    """Put an audit's end in the place of the one before."""
    beside = data_dir / f"{RESULT}.{os.getpid()}"
    beside.touch(mode=0o600)
    beside.write_bytes(msgspec.json.encode(one))
    beside.replace(data_dir / RESULT)


def run(settings: Settings, clock: Clock) -> Audited:
    """Audit the books, and keep what was found; one after the other, where two ask."""
    with _alone(settings.data_dir):
        began_us = clock.now_us()
        engine = open_engine(settings.store_url)
        try:
            items, problem = tuple(audit(engine)), ""
        except Problem as refused:
            items, problem = (), refused.cause
        finally:
            engine.dispose()
        made = Audited(began_us=began_us, ended_us=clock.now_us(), items=items, problem=problem)
        keep(settings.data_dir, made)
    return made


@contextmanager
def _alone(data_dir: Path) -> Generator[None]:
    descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    """Audit once."""
    os.nice(NICE)
    run(serving(), SystemClock())


if __name__ == "__main__":
    main()

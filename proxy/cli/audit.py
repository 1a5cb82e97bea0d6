"""`audit`: every invariant of the books on the store as it is, one line each, and what breaks it.

It reads one moment of a live store and changes nothing. Exit 1 says that something is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.cli.desk import Desk, command, main

if TYPE_CHECKING:
    from proxy.billing.invariants import Checked


@command(main)
def audit(desk: Desk) -> int:
    """Check every invariant of the books on a live store: ok, or the rows that break it."""
    from proxy.billing.audit_store import audit as audited

    engine = desk.engine
    with desk.progress("periods") as progress:
        found = audited(engine, progress=progress)
    for one in found:
        desk.say(one, _line(one))
    return int(any(one.state == "broken" for one in found))


def _line(one: Checked) -> str:
    state = {"ok": "ok", "broken": "BROKEN", "not_yet": "not yet"}[one.state]
    colour = {"ok": "green", "broken": "red", "not_yet": "yellow"}[one.state]
    head = f"{one.id:<4} {click.style(f'{state:<8}', fg=colour)} {one.says}"
    if one.state == "ok":
        looked = f"{head} ({one.rows:,} looked at)" if one.rows else head
        return f"{looked}; {one.why}" if one.why else looked
    if one.state == "not_yet":
        return f"{head}: {one.why}"
    more = one.broken - len(one.named)
    named = [f"       {what}" for what in one.named] + ([f"       and {more:,} more"] if more else [])
    return "\n".join([f"{head}: {one.broken:,} broken", *named])

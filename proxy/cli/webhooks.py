"""`webhooks`: addresses that are told what happens, each message signed.

A running server sends them; what is added or removed here acts there within five seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from proxy.cli.desk import Desk, command, main
from proxy.clock import SystemClock, iso_utc

if TYPE_CHECKING:
    from proxy.hooks.store import Webhooks
    from proxy.hooks.targets import Kind

KINDS = (
    "period.closed", "statements.final", "payout.settled", "payout.returned", "dispute.opened",
    "consent.withdrawn", "work.erased",
)  # fmt: skip


@main.group()
def webhooks() -> None:
    """Addresses that are told what happens."""


def open_webhooks(desk: Desk) -> Webhooks:
    """Return the webhooks of the desk's store."""
    from proxy.hooks.store import webhooks_in

    return webhooks_in(desk.engine, desk.settings.data_dir, SystemClock())


@command(webhooks)
@click.argument("url")
@click.option("--event", "kinds", multiple=True, type=click.Choice(KINDS), help="What to tell [everything].")
@click.option("--by", default="operator", show_default=True, help="Who adds it.")
def add(desk: Desk, url: str, kinds: tuple[str, ...], by: str) -> None:
    """Tell URL (https) what happens from now on. Its secret is shown once."""
    told = cast("tuple[Kind, ...]", kinds or KINDS)
    made, secret = open_webhooks(desk).add(url, told, by=by)
    row: dict[str, Any] = {"id": made.id, "url": made.url, "events": list(made.kinds), "secret": secret}
    desk.say(row, f"{made.id}  {made.url}\nsecret, shown this once: {secret}")


@command(webhooks, "list")
def list_webhooks(desk: Desk) -> None:
    """List addresses that are told something."""
    rows = (
        {
            "id": one.id,
            "url": one.url,
            "events": ", ".join(one.kinds),
            "by": one.by,
            "since": iso_utc(one.at_us),
        }
        for one in open_webhooks(desk).living()
    )
    empty = "no webhooks; `endcredits webhooks add https://...`"
    desk.table(rows, ("id", "url", "events", "by", "since"), empty=empty)


@command(webhooks)
@click.argument("webhook")
def remove(desk: Desk, webhook: str) -> None:
    """Tell an address nothing more."""
    changed = open_webhooks(desk).end(webhook)
    said = f"{webhook} is told nothing more{'' if changed else ', as before'}"
    desk.say({"id": webhook, "removed": True, "changed": changed}, said)


@command(webhooks)
@click.argument("webhook", required=False, default="")
def messages(desk: Desk, webhook: str) -> None:
    """List the newest messages and what came of each, of one address or all."""
    rows = (
        {
            "id": row["id"], "webhook": row["webhook_id"], "event": row["kind"],
            "made": iso_utc(cast("int", row["made_us"])), "attempts": row["attempts"],
            "answer": row["answer"], "waits": row["next_us"] is not None,
        }
        for row in open_webhooks(desk).messages(webhook)
    )  # fmt: skip
    columns = ("made", "event", "webhook", "attempts", "answer", "waits", "id")
    desk.table(rows, columns, empty="nothing has happened since an address was added")

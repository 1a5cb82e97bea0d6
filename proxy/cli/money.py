"""`usage`, `periods` and `statements`: what was used, and what it is worth to whom.

Usage that a stopped or killed server left in its journal is carried into the store first, so that these
commands never answer from half of what was metered.
"""

from __future__ import annotations

import asyncio
import collections
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from proxy.cli.desk import Desk, command, main
from proxy.clock import SystemClock, iso_utc, parse_time_us
from proxy.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.billing.interchange import Form
    from proxy.billing.prices import PriceTable
    from proxy.billing.statements import Closing
    from proxy.metering.usage import MeteredEvent

FORMATS = ("openattribution", "rsl", "cloudevents")


@main.group()
def periods() -> None:
    """Intervals of the log that are closed into statements."""


@main.group()
def statements() -> None:
    """What each creator is owed, and why."""


def carry_left_over(desk: Desk) -> None:
    """Carry the journals of servers that no longer run; what a running server holds is its own to carry."""
    from proxy.metering.sink import carry_orphans

    settings = desk.settings
    engine = desk.engine

    async def carry() -> None:
        if not settings.journal_dir.is_dir():
            return
        for sink in await carry_orphans(
            settings.journal_dir, engine, settings=settings.metering, clock=SystemClock()
        ):
            await sink.journal.close()
            await sink.close()

    asyncio.run(carry())


def event_line(event: MeteredEvent, app_names: dict[str, str]) -> dict[str, Any]:
    """Return one event as `usage --json` prints it; a pending one has no shares yet."""
    pending = event.status == "pending"
    return {
        "id": event.id,
        "app": event.app_id,
        "app_name": app_names.get(event.app_id, ""),
        "model": event.model,
        "endpoint": event.endpoint,
        "occurred": iso_utc(event.occurred_us),
        "outcome": event.outcome,
        "status": event.status,
        "tokens": {"input": event.input_tokens, "output": event.output_tokens, "estimated": event.estimated},
        "images": event.images,
        "milliseconds": event.milliseconds,
        "price_grains": event.price_grains,
        "price_version": event.price_version,
        "policy_seq": event.policy_seq,
        "unattributed_ppm": None if pending else event.unattributed_ppm,
        "works": [{"work": line.work, "ppm": line.ppm, "verdict": line.verdict} for line in event.lines],
        "reason": event.reason,
    }


@command(main)
@click.option("--since", metavar="TIME", help="Only answers given since then, e.g. 2026-11-01.")
@click.option("--events", is_flag=True, help="One row an answer instead of totals by app and model.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="Settled answers as other systems take them."
)
def usage(desk: Desk, since: str | None, form: Form | None, *, events: bool) -> None:
    """Show what was used: one line an answer with --json."""
    from proxy.access.store import app_names
    from proxy.billing.interchange_store import exported
    from proxy.metering.store import usage as usage_events

    try:
        since_us = parse_time_us(since) if since else 0
    except ValueError as error:
        raise BadRequest(
            f"--since '{since}' is not a time", remedy="write 2026-11-01 or 2026-11-01T12:00Z"
        ) from error
    carry_left_over(desk)
    if form is not None:
        for line in exported(desk.engine, form, since_us=since_us, source=desk.settings.receipts.origin):
            click.echo(line)
        return
    names = app_names(desk.engine)
    lines = (event_line(event, names) for event in usage_events(desk.engine, since_us))
    if desk.as_json:
        desk.table(lines, (), empty="")
        return
    if events:
        columns = (
            "occurred",
            "app_name",
            "model",
            "outcome",
            "status",
            "input",
            "output",
            "unattributed",
            "works",
            "id",
        )
        desk.table(map(_event_row, lines), columns, empty="no answers yet; point an app at the proxy")
        return
    desk.table(_totals(lines), ("app", "model", "answers", "input", "output"), empty="no answers yet")


def _event_row(line: dict[str, Any]) -> dict[str, object]:
    ppm = line["unattributed_ppm"]
    return {
        **line,
        "input": line["tokens"]["input"],
        "output": line["tokens"]["output"],
        "unattributed": "" if ppm is None else f"{ppm / 10_000:.1f} %",
        "works": len(line["works"]),
    }


def _totals(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, object]]:
    sums: dict[tuple[str, str], list[int]] = collections.defaultdict(lambda: [0, 0, 0])
    for line in lines:
        total = sums[line["app_name"] or line["app"], line["model"]]
        for place, amount in enumerate((1, line["tokens"]["input"], line["tokens"]["output"])):
            total[place] += amount
    for (app, model), (answers, tokens_in, tokens_out) in sorted(sums.items()):
        yield {"app": app, "model": model, "answers": answers, "input": tokens_in, "output": tokens_out}


def load_prices(desk: Desk) -> PriceTable:
    """Return the price table of the settings."""
    from proxy.billing import prices

    folder = desk.settings.billing.prices_dir
    return prices.load(Path(folder) if folder else None)


@command(periods)
@click.argument("label")
@click.option("--dry-run", is_flag=True, help="Compute and print everything, write nothing.")
def close(desk: Desk, label: str, *, dry_run: bool) -> None:
    """Close everything metered since the last period into statements, under LABEL (like 2026-11)."""
    from proxy.billing.proving import Prover
    from proxy.billing.run import close_period
    from proxy.cli.proofs import issuer_of

    carry_left_over(desk)
    closing = close_period(
        desk.engine,
        label,
        desk.settings.billing,
        load_prices(desk),
        dry_run=dry_run,
        now_us=SystemClock().now_us(),
        prover=Prover(desk.engine, issuer_of(desk)),
    )
    desk.say(_closing_json(closing, dry_run=dry_run), _closing_text(closing, dry_run=dry_run))


def _closing_json(closing: Closing, *, dry_run: bool) -> dict[str, Any]:
    return {
        "label": closing.label,
        "dry_run": dry_run,
        "currency": closing.currency,
        "closed": iso_utc(closing.closed_us),
        "statements": len(closing.statements),
        "totals": msgspec.to_builtins(closing.totals),
        "charged_by_app": closing.charged_by_app,
        "manifest_sha256": closing.manifest_sha256,
    }


def _closing_text(closing: Closing, *, dry_run: bool) -> str:
    from proxy.billing.money import decimal_text

    totals = closing.totals
    amounts = [
        ("charged to apps", totals.charged_grains),
        ("to creators", totals.creators_grains),
        ("held as unclaimed", totals.escrow_grains - totals.claimed_grains),
        *((("held by open claims", totals.claimed_grains),) if totals.claimed_grains else ()),
        *((("let go by decided claims", -totals.released_grains),) if totals.released_grains else ()),
        *((f"common, {reason}", grains) for reason, grains in sorted(totals.common_grains.items())),
        ("to the platform", totals.platform_grains),
    ]
    shown = [
        (name, f"{decimal_text(grains, closing.currency)} {closing.currency}") for name, grains in amounts
    ]
    width = max(len(name) for name, _ in shown)
    right = max(len(amount) for _, amount in shown)
    head = f"period {closing.label} {'would be closed (nothing written)' if dry_run else 'is closed'}"
    return "\n".join(
        [
            f"{head}: {totals.events} answers, {len(closing.statements)} statements",
            *(f"  {name:<{width}}  {amount:>{right}}" for name, amount in shown),
        ]
    )


@command(periods, "list")
def list_periods(desk: Desk) -> None:
    """List closed periods, newest first: drafts may still be commented on, final ones are paid out."""
    from proxy.billing.periods_store import summaries

    rows = [_period_row(summary) for summary in summaries(desk.engine, SystemClock().now_us())]
    columns = ("label", "state", "closed", "answers", "statements", "charged", "currency")
    desk.table(rows, columns, empty="no period closed yet; `endcredits periods close 2026-11` closes one")


def _period_row(summary: Any) -> dict[str, Any]:
    from proxy.billing.money import decimal_text

    return {
        "label": summary.label,
        "state": summary.state,
        "closed": iso_utc(summary.closed_us),
        "answers": summary.totals.events,
        "statements": summary.statements,
        "charged": decimal_text(summary.totals.charged_grains, summary.currency),
        "currency": summary.currency,
        "totals": msgspec.to_builtins(summary.totals),
        "basis": msgspec.to_builtins(summary.basis),
        "manifest_sha256": summary.manifest_sha256,
    }


@command(periods)
@click.argument("label")
def show(desk: Desk, label: str) -> None:
    """Show a closed period's totals."""
    from proxy.billing import store

    closing = store.load_closing(desk.engine, label)
    if closing is None:
        raise NotFound(
            f"no period '{label}' is closed", remedy="`endcredits periods list` shows those that are"
        )
    desk.say(_closing_json(closing, dry_run=False), _closing_text(closing, dry_run=False))


@command(periods)
@click.argument("label")
def report(desk: Desk, label: str) -> None:
    """Show what is concentrated in a closed period: large parts, income from one app, sudden growth."""
    from proxy.billing.run import concentration_of

    found = concentration_of(desk.engine, label, desk.settings.concentration)
    if desk.as_json:
        desk.say(found, "")
        return
    from proxy.billing.concentration import percent
    from proxy.billing.money import decimal_text

    def money(grains: int) -> str:
        return f"{decimal_text(grains, found.currency)} {found.currency}"

    click.echo(
        f"period {label}: {money(found.creators_grains)} to {found.creators} creators "
        f"for {found.works} works by {found.apps} apps; {found.works_registered} works registered\n"
        f"sum of squared parts: creators {percent(found.herfindahl_creators_ppm)}, "
        f"works {percent(found.herfindahl_works_ppm)}; creators' own apps: {money(found.own_app_grains)}"
    )
    rows = (
        {"name": row.name, "earned": money(row.earned_grains), "part": percent(row.part_ppm)}
        | {"works": row.works, "from one app": percent(row.top_app_ppm), "registered": row.registered}
        for row in found.top_creators
    )
    columns = ("name", "earned", "part", "works", "from one app", "registered")
    desk.table(rows, columns, empty="nobody earned anything")
    flags = ({"look at": one.name, "id": one.subject, "because it": one.reason} for one in found.flags)
    desk.table(flags, ("look at", "id", "because it"), empty="nothing is out of the ordinary")


def creator_id(desk: Desk, handle: str | None) -> str:
    """Return the id of the creator with this id or ref, "" for none."""
    if not handle:
        return ""
    from proxy.cli.registry import open_catalogue

    return open_catalogue(desk).creator(handle).id


@command(statements, "list")
@click.option("--period", default="", help="Only of this period.")
@click.option("--creator", help="Only of this creator (id or ref).")
def list_statements(desk: Desk, period: str, creator: str | None) -> None:
    """List statements, newest period first."""
    from proxy.billing import store
    from proxy.billing.money import decimal_text
    from proxy.cli.registry import open_catalogue

    summaries = store.list_statements(desk.engine, label=period, creator=creator_id(desk, creator))
    people = {person.id: person for person in open_catalogue(desk).creators()}
    rows = (
        {
            "id": summary.id,
            "period": summary.period,
            "creator": summary.creator,
            "ref": people[summary.creator].ref if summary.creator in people else "",
            "name": people[summary.creator].name if summary.creator in people else "",
            "currency": summary.currency,
            "opening_grains": summary.opening_grains,
            "earned_grains": summary.earned_grains,
            "closing_grains": summary.closing_grains,
            "earned": decimal_text(summary.earned_grains, summary.currency),
            "closing": decimal_text(summary.closing_grains, summary.currency),
        }
        for summary in summaries
    )
    desk.table(
        rows,
        ("period", "name", "earned", "closing", "currency", "id"),
        empty="no statements; close a period first",
    )

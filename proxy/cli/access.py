"""`apps`, `keys limit` and `keys rotate`: how much an app may use, and which models a key opens for how long.

What is not given stays as it is; `none` takes a limit away. A change acts in running servers within a second.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.registry import keys
from proxy.clock import RandomIds, SystemClock, iso_utc, parse_time_us
from proxy.errors import BadRequest

if TYPE_CHECKING:
    from proxy.access.limits import Limits
    from proxy.metering.audited import AuditedExchanges

NONE = "none"
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
OVERLAP_S_MAX = 366 * 86_400  # longer is two keys, not one that is being replaced


@main.group()
def apps() -> None:
    """Programs that send requests, and how much each may use."""


@command(apps, "list")
def list_apps(desk: Desk) -> None:
    """List apps with their limits and what they spent this month."""
    from proxy.access.store import app_names

    rows = [_app_row(desk, name) for name in sorted(app_names(desk.engine).values())]
    columns = ("app", "requests_per_min", "tokens_per_min", "budget", "spent", "held", "origins")
    desk.table(rows, columns, empty="no apps; `endcredits keys create --role app --name NAME` makes one")


@command(apps, "limit")
@click.argument("app")
@click.option("--requests-per-min", metavar="N", help="Requests a minute, every path of /v1.")
@click.option("--tokens-per-min", metavar="N", help="Input and output tokens a minute.")
@click.option("--budget", metavar="AMOUNT", help="Most to be spent in a calendar month, UTC.")
@click.option("--origins", metavar="LIST", help="Pages whose scripts may call us: https://a.example,...")
@click.option("--known-endpoints-only", metavar="yes|no", help="Refuse paths that are not metered.")
def limit_app(desk: Desk, app: str, **given: str | None) -> None:
    """Limit APP (id or name); `none` takes a limit away, what is not given stays."""
    from proxy.access import limits_store

    changes = _changes(desk, given)
    if not changes:
        raise click.UsageError("give at least one limit")

    def change(before: Limits) -> Limits:
        return dataclasses.replace(before, **changes)

    limits_store.limit_app(desk.engine, app, change, clock=SystemClock())
    row = _app_row(desk, app)
    desk.say(row, "\n".join(f"{name:<22} {value}" for name, value in row.items()))


@command(apps, "audit")
@click.argument("state", type=click.Choice(["on", "off"]))
@click.argument("app")
def audit_app(desk: Desk, state: str, app: str) -> None:
    """Say whether a sample of APP's exchanges may be kept for `audit-causal`: off unless you say so.

    On, prompts and answers of that app are kept on this machine, sealed, as [audit] bounds them. Off erases
    what was kept. Ask the app's users first.
    """
    from proxy.access import limits_store

    kept = audited_exchanges(desk)

    def change(before: Limits) -> Limits:
        return dataclasses.replace(before, audited=state == "on")

    app_id, _ = limits_store.limit_app(desk.engine, app, change, clock=SystemClock())
    if state == "on":
        kept.opt_in(app_id)
        rules = desk.settings.audit
        told = f"{rules.sample_ppm / 10_000:g} % of {app}'s answers are kept for {rules.days} days at most"
        desk.say({"app": app, "audited": True, "erased": 0}, told)
        return
    erased = kept.opt_out(app_id)
    desk.say(
        {"app": app, "audited": False, "erased": erased},
        f"nothing of {app}'s exchanges is kept any more; {erased} were erased",
    )


def audited_exchanges(desk: Desk) -> AuditedExchanges:
    """Return the exchanges that are kept on this machine."""
    from proxy.metering.audited import AuditedExchanges as Kept

    rules = desk.settings.audit
    return Kept(desk.settings.data_dir, exchanges_max=rules.exchanges_max, days=rules.days)


@command(keys, "sign-in")
@click.option("--creator", default="", help="The creator whom it signs in (id or ref).")
@click.option("--operator", default="", metavar="NAME", help="The operator whom it signs in, by their name.")
@click.option("--app", default="", metavar="NAME", help="The app whom it signs in, as its oldest living key.")
@click.option("--base", default="", metavar="URL", help="Where people find the server.")
def sign_in(desk: Desk, creator: str, operator: str, app: str, base: str) -> None:
    """Make a link that signs one person in to the pages, once; it is shown once."""
    from proxy.access.sessions_store import Sessions

    if sum(map(bool, (creator, operator, app))) != 1:
        raise click.UsageError("give one of --creator, --operator and --app")
    rules, server = desk.settings.portal, desk.settings.server
    sessions = Sessions(
        desk.engine,
        clock=SystemClock(),
        session_hours=rules.session_hours,
        link_hours=rules.link_hours,
    )
    role = "creator" if creator else "operator" if operator else "app"
    made = sessions.link(role, creator=creator, name=operator or app, by="operator")
    host = f"[{server.host}]" if ":" in server.host else server.host
    address = f"{(base or f'http://{host}:{server.port}').rstrip('/')}/portal/enter/{made.secret}"
    until = iso_utc(made.until_us)
    told = f"{address}\nfor {made.name}, once, until {until}; whoever holds it can use it"
    desk.say({"link": address, "for": made.name, "role": role, "until": until}, told)


@command(keys, "limit")
@click.argument("key_id")
@click.option("--models", metavar="LIST", help="Models this key opens: gpt-*,llama")
@click.option("--expires", metavar="TIME", help="When it ends, e.g. 2026-12-31 or 2026-12-31T12:00Z.")
def limit_key(desk: Desk, key_id: str, models: str | None, expires: str | None) -> None:
    """Say which models a key opens (`none`: all), and when it ends."""
    from proxy.access import limits_store

    if models is None and expires is None:
        raise click.UsageError("give --models, --expires, or both")
    patterns = None if models is None else () if models == NONE else _listed(models)
    try:
        expires_us = None if expires is None else parse_time_us(expires)
    except ValueError as error:
        raise BadRequest(f"--expires '{expires}' is not a time", remedy="write 2026-12-31") from error
    limits_store.limit_key(desk.engine, key_id, clock=SystemClock(), models=patterns, expires_us=expires_us)
    answer: dict[str, object] = {"id": key_id}
    if patterns is not None:
        answer["models"] = patterns
    if expires_us is not None:
        answer["expires"] = iso_utc(expires_us)
    desk.say(answer, f"{key_id} is limited")


@command(keys)
@click.argument("key_id")
@click.option(
    "--overlap", default="24h", show_default=True, help="How long the old one goes on: 30s, 24h, 7d."
)
def rotate(desk: Desk, key_id: str, overlap: str) -> None:
    """Make a new key for the holder of KEY_ID, show it once, and let the old one end after the overlap."""
    from proxy.access import store

    found = re.fullmatch(r"(\d{1,9})([smhd])", overlap, re.ASCII)
    overlap_s = int(found[1]) * _SECONDS[found[2]] if found else OVERLAP_S_MAX + 1
    if overlap_s > OVERLAP_S_MAX:
        raise BadRequest(f"--overlap '{overlap}' is not up to a year", remedy="write 30s, 24h or 7d")
    made = store.rotate(desk.engine, key_id, clock=SystemClock(), ids=RandomIds(), overlap_s=overlap_s)
    desk.say(
        {"id": made.id, "key": made.secret, "replaces": key_id},
        f"{made.secret}\n(shown once; its id is {made.id}; {key_id} ends in {overlap})",
    )


def _app_row(desk: Desk, app: str) -> dict[str, object]:
    from proxy.access.limits import month_of
    from proxy.access.limits_store import app_limits, spent
    from proxy.billing.money import decimal_text

    app_id, limits = app_limits(desk.engine, app)
    currency = limits.currency or desk.settings.billing.currency
    spent_grains, held_grains = spent(desk.engine, app_id, month_of(SystemClock().now_us()))
    budget = limits.budget_grains
    return {
        "app": app,
        "requests_per_min": limits.requests_per_min or None,
        "tokens_per_min": limits.tokens_per_min or None,
        "budget": None if budget is None else decimal_text(budget, currency),
        "currency": currency,
        "spent": decimal_text(spent_grains, currency),
        "held": decimal_text(held_grains, currency),
        "origins": ", ".join(limits.origins),
        "known_endpoints_only": limits.known_endpoints_only,
        "audited": limits.audited,
    }


def _changes(desk: Desk, given: dict[str, str | None]) -> dict[str, Any]:
    """Return the fields of Limits that were given. Raises BadRequest naming one that cannot be read."""
    from proxy.access.limits import origins_of
    from proxy.billing.money import parse

    changes: dict[str, Any] = {}
    for name in ("requests_per_min", "tokens_per_min"):
        text = given[name]
        if text is not None:
            changes[name] = 0 if text == NONE else _count(name, text)
    budget, origins, known = given["budget"], given["origins"], given["known_endpoints_only"]
    currency = desk.settings.billing.currency
    try:
        if budget is not None:
            changes["budget_grains"] = None if budget == NONE else parse(budget, currency)
            changes["currency"] = currency
        if origins is not None:
            changes["origins"] = () if origins == NONE else origins_of(_listed(origins))
    except (ValueError, OverflowError) as error:
        remedy = "write an amount like 25.00, and origins like https://app.example without a path"
        raise BadRequest(f"a limit cannot be read: {error}", remedy=remedy) from error
    if (changes.get("budget_grains") or 0) < 0:
        raise BadRequest("a budget is not negative", remedy="write an amount like 25.00, or none")
    if known is not None:
        if known not in {"yes", "no"}:
            raise BadRequest(f"--known-endpoints-only is '{known}'", remedy="write yes or no")
        changes["known_endpoints_only"] = known == "yes"
    return changes


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) > 0):
        option = "--" + name.replace("_", "-")
        raise BadRequest(f"{option} is '{text}'", remedy=f"write a whole number from 1 on, or {NONE}")
    return int(text)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())

"""`policies`, `pools`, `common` and `terms`: by which rules use becomes money, and who said so.

Policies reach forward only. What an app declares of its revenue, and what is given out of the common account,
is proposed by one person (--by) and approved by another.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.registry import open_catalogue
from proxy.clock import RandomIds, SystemClock, parse_time_us
from proxy.errors import BadRequest

if TYPE_CHECKING:
    from proxy.billing.common_store import Common
    from proxy.billing.floors_store import Scope
    from proxy.billing.policies_store import Policies
    from proxy.billing.pools_store import Pools

by_option = click.option("--by", default="operator", show_default=True, help="Who does this; kept with it.")
REVENUES = ("subscription", "ads", "other")
TERMS = ("floor", "rate", "excerpt_words")


@main.group()
def policies() -> None:
    """Rules of compensation by version: which holds from when, never changed, never backdated."""


@main.group()
def pools() -> None:
    """Revenue that apps declare for a period, a part of which their users' works divide."""


@main.group()
def common() -> None:
    """Money that belongs to no one yet, and giving it out by the rule that a policy names."""


@main.group()
def terms() -> None:
    """What works ask for by themselves: a floor price, an agreed rate, a limit of quotation."""


def _policies(desk: Desk, by: str) -> Policies:
    from proxy.billing.policies_store import Policies as Store

    return Store(desk.engine, clock=SystemClock(), by=by, currency=desk.settings.billing.currency)


@command(policies, "import")
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--settings", "adopt", is_flag=True, help="Keep the [billing] settings as a policy.")
@by_option
def add(desk: Desk, file: Path | None, by: str, *, adopt: bool) -> None:
    """Keep the policy in FILE (TOML: a name and keys of [billing]); it holds once it is activated."""
    from proxy.billing.policies import FILE_BYTES_MAX, of_settings, read_policy

    if (file is None) != adopt:
        raise click.UsageError("give a FILE, or --settings")
    if file is None:
        policy = of_settings(desk.settings.billing)
    else:
        with file.open("rb") as opened:
            policy = read_policy(opened.read(FILE_BYTES_MAX + 1))
    is_new = _policies(desk, by).add(policy)
    then = f"\nin force with: endcredits policies activate {policy.id}"
    desk.say(
        {"id": policy.id, "name": policy.name, "added": is_new},
        f"{policy.id}  {policy.name}{then if is_new else ', known already'}",
    )


@command(policies, "list")
def list_policies(desk: Desk) -> None:
    """List policies and the times from which each holds."""
    from proxy.billing import policies_store
    from proxy.billing.compensation_rows import policy_row

    rows = [policy_row(known) for known in policies_store.policies(desk.engine)]
    if not desk.as_json:
        for row in rows:
            row |= {key: ", ".join(map(str, row[key])) for key in ("holds_from", "activations")}
    desk.table(
        rows,
        ("id", "name", "holds_from", "activations", "by"),
        empty="no policies; the [billing] settings hold for everything",
    )


@command(policies)
@click.argument("policy", required=False)
def show(desk: Desk, policy: str | None) -> None:
    """Show all rules of a POLICY, or of the one in force now."""
    from proxy.billing import policies_store
    from proxy.billing.compensation_rows import rules_row

    if policy:
        found = policies_store.policy(desk.engine, policy)
    else:
        agenda = policies_store.agenda(desk.engine, desk.settings.billing)
        found = agenda.at(SystemClock().now_us())
    row = rules_row(found)
    rules = "\n".join(f"  {key} = {value}" for key, value in row["rules"].items())
    desk.say(row, f"{row['id']}  {row['name']}\n{rules}")


@command(policies)
@click.argument("policy")
@click.option("--period", default="", help="A closed period [what is not closed yet].")
@click.option(
    "--prices", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A price file by which every answer is priced anew [recorded prices stand].",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows of each kind.")
def preview(desk: Desk, policy: str, period: str, prices: Path | None, limit: int) -> None:
    """Say what a period would have paid by POLICY (an id, or "settings"). Nothing is written."""
    from proxy.billing import preview as previews
    from proxy.billing import preview_run
    from proxy.cli.money import load_prices

    made = preview_run.preview(
        desk.engine,
        policy,
        desk.settings.billing,
        load_prices(desk),
        now_us=SystemClock().now_us(),
        period=period,
        price_file=prices.read_text(encoding="utf-8") if prices else "",
    )
    row = previews.told(made, limit)
    if desk.as_json:
        desk.say(row, "")
        return
    for kind, titles in (("account", "accounts"), ("creator", "creators"), ("app", "apps")):
        desk.table(row[titles], (kind, "name", "before", "after", "difference"), empty=f"no {titles}")
    counts = row["counts"]
    same = f"{counts['same']} get the same" if counts["same"] else "nobody gets the same"
    desk.note(f"{counts['gain']} creators would get more, {counts['lose']} less, {same}")


@command(policies)
@click.argument("policy")
@click.option("--from", "since", metavar="TIME", help="From when on, e.g. 2026-12-01 (UTC) [now].")
@by_option
def activate(desk: Desk, policy: str, since: str | None, by: str) -> None:
    """Let a POLICY hold from now on, or from a later time on."""
    from proxy.billing.compensation_rows import activation_row

    try:
        from_us = parse_time_us(since) if since else None
    except ValueError as error:
        raise BadRequest(
            f"--from '{since}' is not a time", remedy="write 2026-12-01 or 2026-12-01T12:00Z"
        ) from error
    row = activation_row(_policies(desk, by).activate(policy, from_us))
    desk.say(row, f"{row['name']} ({row['id']}) holds from {row['holds_from']} on")


# -- pools -------------------------------------------------------------------------------------------------


def _pools(desk: Desk, by: str) -> Pools:
    from proxy.billing.pools_store import Pools as Store

    currency = desk.settings.billing.currency
    return Store(desk.engine, clock=SystemClock(), ids=RandomIds(), by=by, currency=currency)


@command(pools)
@click.argument("app")
@click.argument("period")
@click.argument("amount")
@click.option("--kind", type=click.Choice(REVENUES), default="subscription", show_default=True)
@click.option("--users", type=int, help="How many users paid [as many as used something].")
@click.option("--less", is_flag=True, help="Take AMOUNT off what was declared: refunds, a mistake.")
@click.option("--why", default="", help="What it rests on: invoices, deductions.")
@by_option
def declare(desk: Desk, app: str, period: str, amount: str, *, less: bool, by: str, **facts: Any) -> None:
    """Declare what APP earned in a PERIOD that is not closed yet; another person approves it."""
    from proxy.billing.compensation_rows import revenue_row

    made = _pools(desk, by).declare(app, period, f"-{amount}" if less else amount, **facts)
    row = revenue_row(made)
    then = f"another person now: endcredits pools approve {made.id} --by NAME"
    desk.say(row, f"{made.id}  {app} {period}: {row['amount']} {row['currency']}\n{then}")


def _decided(desk: Desk, revenue: str, by: str, outcome: Literal["approved", "withdrawn"]) -> None:
    from proxy.billing.compensation_rows import revenue_row

    known, is_new = _pools(desk, by).decide(revenue, outcome)
    row = revenue_row(known)
    said = f"{known.id}  {row['amount']} {row['currency']} of {known.app}, {known.period}: {outcome}"
    desk.say(row | {"new": is_new}, said + ("" if is_new else " already"))


@command(pools, "approve")
@click.argument("revenue")
@by_option
def approve_revenue(desk: Desk, revenue: str, by: str) -> None:
    """Approve a REVENUE that somebody else declared."""
    _decided(desk, revenue, by, "approved")


@command(pools)
@click.argument("revenue")
@by_option
def withdraw(desk: Desk, revenue: str, by: str) -> None:
    """Take back a REVENUE that nobody has approved."""
    _decided(desk, revenue, by, "withdrawn")


@command(pools, "list")
@click.option("--period", default="", help="Only of this period.")
@click.option("--app", default="", help="Only of this app.")
def list_revenues(desk: Desk, period: str, app: str) -> None:
    """List what was declared, and what became of it."""
    from proxy.billing import pools_store
    from proxy.billing.compensation_rows import revenue_row

    rows = map(revenue_row, pools_store.revenues(desk.engine, period, app))
    columns = ("id", "app", "period", "kind", "amount", "currency", "users", "state", "by", "decided_by")
    desk.table(rows, columns, empty="nothing was declared")


# -- common ------------------------------------------------------------------------------------------------


def _common(desk: Desk, by: str) -> Common:
    from proxy.billing.common_store import Common as Store

    return Store(desk.engine, clock=SystemClock(), ids=RandomIds(), by=by)


@command(common)
@click.argument("period")
@click.option("--dry-run", is_flag=True, help="Say what would be proposed; keep nothing.")
@by_option
def distribute(desk: Desk, period: str, by: str, *, dry_run: bool) -> None:
    """Propose to give out a closed PERIOD's common money by the policy's rule; another person approves it."""
    from proxy.billing.compensation_rows import proposal_row

    proposal, is_new = _common(desk, by).propose(period, desk.settings.billing, dry_run=dry_run)
    row = proposal_row(proposal)
    said = f"{row['amount']} {row['currency']} of {period} among {row['parties']} by rule {row['rule']}"
    then = f"{row['id']}  {said}\nanother person now: endcredits common approve {row['id']} --by NAME"
    desk.say(row | {"new": is_new, "dry_run": dry_run}, f"would give {said}" if dry_run else then)


def _settled(desk: Desk, distribution: str, by: str, outcome: Literal["approved", "cancelled"]) -> None:
    from proxy.billing.compensation_rows import proposal_row

    known, is_new = _common(desk, by).decide(distribution, outcome)
    row = proposal_row(known)
    said = f"{row['id']}  {row['amount']} {row['currency']} of {row['period']}: {outcome}"
    desk.say(row | {"new": is_new}, said + ("" if is_new else " already"))


@command(common, "approve")
@click.argument("distribution")
@by_option
def approve_distribution(desk: Desk, distribution: str, by: str) -> None:
    """Approve a DISTRIBUTION that somebody else proposed; next statements tell everybody of their part."""
    _settled(desk, distribution, by, "approved")


@command(common)
@click.argument("distribution")
@by_option
def cancel(desk: Desk, distribution: str, by: str) -> None:
    """Cancel a DISTRIBUTION that nobody has approved."""
    _settled(desk, distribution, by, "cancelled")


@command(common, "list")
def list_common(desk: Desk) -> None:
    """List what stands in the common account, and what was proposed about it."""
    from proxy.billing import common_store
    from proxy.billing.compensation_rows import carried_rows, proposal_row

    currency = desk.settings.billing.currency
    carried = carried_rows(common_store.carried(desk.engine, currency), currency)
    proposals = [proposal_row(one) for one in common_store.proposals(desk.engine)]
    if desk.as_json:
        desk.say({"carried": carried, "distributions": proposals}, "")
        return
    desk.table(carried, ("reason", "amount", "currency"), empty="the common account is empty")
    columns = ("id", "period", "rule", "amount", "currency", "parties", "state", "by", "decided_by")
    desk.table(proposals, columns, empty="nothing was proposed")


# -- terms -------------------------------------------------------------------------------------------------


def _whose(desk: Desk, work: str | None, creator: str | None) -> tuple[Scope, str]:
    if (work is None) == (creator is None):
        raise click.UsageError("name a --work, or a --creator for all of theirs")
    catalogue = open_catalogue(desk)
    if creator is not None:
        return "creator", catalogue.creator(creator).id
    return "work", catalogue.find_work(str(work)).id


@command(terms, "set")
@click.argument("kind", type=click.Choice(TERMS))
@click.argument("value")
@click.option("--work", help="Of this work (id or ref).")
@click.option("--creator", help="Of all works of this creator (id or ref).")
@click.option("--why", default="", help="Where that was said or agreed.")
@by_option
def set_terms(
    desk: Desk, kind: str, value: str, work: str | None, creator: str | None, why: str, by: str
) -> None:
    """Record what is asked from now on: an amount for a whole answer, or words; VALUE none ends it."""
    from proxy.billing.compensation_rows import term_row
    from proxy.billing.floors_store import AskedTerms

    scope, scope_id = _whose(desk, work, creator)
    asked = AskedTerms(desk.engine, clock=SystemClock(), by=by, currency=desk.settings.billing.currency)
    row = term_row(asked.ask(scope, scope_id, kind, value, why=why))
    desk.say(row, f"{scope} {scope_id}: {kind} {row['value']} {row['currency']}".rstrip())


@command(terms, "list")
@click.option("--work", help="Of this work (id or ref).")
@click.option("--creator", help="Of this creator (id or ref), said of all their works.")
def list_terms(desk: Desk, work: str | None, creator: str | None) -> None:
    """List everything that was ever asked, oldest first; the last word holds."""
    from proxy.billing.compensation_rows import term_row
    from proxy.billing.floors_store import asked_terms

    of = "" if work is None and creator is None else _whose(desk, work, creator)[1]
    rows: list[dict[str, Any]] = [term_row(one) for one in asked_terms(desk.engine, of)]
    columns = ("seq", "scope", "of", "kind", "value", "currency", "by", "at")
    desk.table(rows, columns, empty="no work asks for anything by itself")

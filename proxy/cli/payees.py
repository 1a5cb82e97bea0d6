"""`payees`: where creators are paid, what they declared for tax, and who is not to be paid for now.

An account given as `-` is read from standard input, so that it stands in no history and no list of processes.
What is printed of one is its last four, but to whoever asks with --reveal, to check it with the creator.
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.desk import Desk, command, main
from proxy.cli.registry import open_catalogue
from proxy.clock import RandomIds, SystemClock
from proxy.errors import BadRequest

if TYPE_CHECKING:
    from proxy.billing.paying import Paying

RAILS = ("sepa", "stripe", "manual")
TAX_FORMS = ("W9", "W8BEN", "W8BENE", "none", "other")
ACCOUNT_LINE_MAX = 1_000  # characters read of standard input: no account has as many
by_option = click.option("--by", default="operator", show_default=True, help="Who does this; kept with it.")


@main.group()
def payees() -> None:
    """Where creators are paid, and what keeps them from being paid."""


def open_paying(desk: Desk) -> Paying:
    """Return paying out by the desk's settings."""
    from proxy.billing.paying import Paying as Ways

    return Ways(desk.engine, desk.settings, clock=SystemClock(), ids=RandomIds())


@command(payees, "set")
@click.argument("creator")
@click.option("--rail", type=click.Choice(RAILS), required=True, help="How they are paid.")
@click.option(
    "--account",
    required=True,
    help="IBAN (sepa), acct_... (stripe), any line (manual); - reads standard input.",
)
@click.option("--holder", required=True, help="The account holder's name, as the bank knows it.")
@click.option("--country", required=True, help="The holder's country, two letters.")
@click.option("--bic", default="", help="The bank's BIC, where it still asks for one (sepa).")
@click.option(
    "--minimum", default="", help="Pay only from this amount on; less than the operator's means nothing."
)
@click.option(
    "--unverified", is_flag=True, help="Nobody has checked yet whose account it is: nothing is paid."
)
@by_option
def set_account(
    desk: Desk,
    creator: str,
    rail: str,
    account: str,
    holder: str,
    country: str,
    bic: str,
    minimum: str,
    by: str,
    *,
    unverified: bool,
) -> None:
    """Keep where CREATOR (id or ref) is paid from now on, sealed under payees.key."""
    from proxy.billing import payees as values
    from proxy.billing.payout_rows import account_row

    said = sys.stdin.readline(ACCOUNT_LINE_MAX).strip() if account == "-" else account
    person = open_catalogue(desk).creator(creator)
    made = values.account(
        rail,  # pyright: ignore[reportArgumentType]  click has checked it
        said,
        holder=holder,
        country_code=country,
        bic_code=bic,
    )
    known = open_paying(desk).enter(person.id, made, minimum=minimum, by=by, verified=not unverified)
    row = account_row(known)
    desk.say(row, f"{person.name} is paid by {row['rail']} to {row['account']} (version {row['version']})")


@command(payees)
@click.argument("creator")
@click.option(
    "--version", type=int, required=True, help="Which version you have checked, as `show` prints it."
)
@by_option
def verify(desk: Desk, creator: str, version: int, by: str) -> None:
    """Record that you have checked with CREATOR whose account it is; before that nobody is paid there."""
    person = open_catalogue(desk).creator(creator)
    changed = open_paying(desk).payees(by).verify(person.id, version)
    answer = {"creator": person.id, "version": version, "verified": True, "changed": changed}
    said = "is verified" if changed else "was verified already"
    desk.say(answer, f"version {version} of {person.name}'s account {said}")


@command(payees)
@click.argument("creator")
@click.option("--form", type=click.Choice(TAX_FORMS), required=True, help="The form they gave you.")
@click.option("--country", required=True, help="The country that the form speaks of, two letters.")
@click.option("--treaty-ppm", type=int, help="The rate that a treaty gives them, in parts per million.")
@click.option("--from", "start", required=True, metavar="DATE", help="The first day of which it speaks.")
@click.option("--to", "end", metavar="DATE", help="The first day of which it speaks no more.")
@by_option
def tax(
    desk: Desk,
    creator: str,
    form: str,
    country: str,
    treaty_ppm: int | None,
    start: str,
    end: str | None,
    by: str,
) -> None:
    """Keep what CREATOR declared for tax. What follows from it, your own table [payouts] withholding says."""
    from proxy.billing import payees as values
    from proxy.billing.payout_rows import tax_rows

    person = open_catalogue(desk).creator(creator)
    profile = values.TaxProfile(
        form,  # pyright: ignore[reportArgumentType]  click has checked it
        values.country(country),
        treaty_ppm,
        _day(start),
        _day(end) if end else None,
    )
    ways = open_paying(desk).payees(by)
    changed = ways.declare(person.id, profile)
    answer = {
        "creator": person.id,
        "changed": changed,
        "tax_profiles": tax_rows(ways.tax_profiles(person.id)),
    }
    desk.say(
        answer, f"{person.name}: {form} of {profile.country} from {start}{'' if changed else ', as it was'}"
    )


@command(payees, "tax-check")
@click.argument("creator")
@click.option(
    "--version", type=int, required=True, help="Which version you have checked, as `show` prints it."
)
@click.option("--accept", is_flag=True, help="It is so: it holds from its first day on.")
@click.option("--refuse", default="", metavar="WHY", help="It is not; `--refuse help` lists the reasons.")
@by_option
def tax_check(desk: Desk, creator: str, version: int, refuse: str, by: str, *, accept: bool) -> None:
    """Accept or refuse what CREATOR declared for tax themselves; until then it changes nothing."""
    from proxy.billing.declarations_store import WHY

    if refuse == "help":
        desk.table(({"why": key, "means": said} for key, said in WHY.items()), ("why", "means"), empty="")
        return
    if accept == bool(refuse):
        raise click.UsageError("say --accept, or --refuse WHY")
    person = open_catalogue(desk).creator(creator)
    changed = open_paying(desk).declarations(by).check(person.id, version, why=refuse)
    state = "refused" if refuse else "accepted"
    answer = {"creator": person.id, "version": version, "state": state, "changed": changed}
    already = "" if changed else " already"
    desk.say(answer, f"what {person.name} declared is {state}{already}")


@command(payees, "tax-number")
@click.argument("creator")
@click.option("--country", required=True, help="The country whose number it is, two letters.")
@click.option("--number", required=True, help="The number; - reads standard input.")
@by_option
def tax_number(desk: Desk, creator: str, country: str, number: str, by: str) -> None:
    """Keep CREATOR's tax number, sealed under payees.key; shown is its end."""
    said = sys.stdin.readline(ACCOUNT_LINE_MAX).strip() if number == "-" else number
    person = open_catalogue(desk).creator(creator)
    kept = open_paying(desk).tax_numbers(by)
    changed = kept.enter(person.id, said, country)
    where, last4 = kept.known(person.id) or ("", "")
    answer = {"creator": person.id, "country": where, "last4": last4, "changed": changed}
    desk.say(answer, f"{person.name}: a tax number of {where} that ends in {last4}")


@command(payees, "new-key")
@click.option("--yes", is_flag=True, help="Do it: accounts that were replaced can never be opened again.")
def new_key(desk: Desk, *, yes: bool) -> None:
    """Seal accounts and tax numbers under a new payees.key, and destroy the old one."""
    from proxy.billing.paying import KEY_FILE
    from proxy.billing.resealing_store import reseal

    if not yes:
        raise BadRequest("the key was not changed", remedy="say --yes when you are sure", code="not_agreed")
    count = reseal(desk.engine, desk.settings.data_dir / KEY_FILE, clock=SystemClock())
    desk.say({"sealed": count}, f"{count} accounts and tax numbers are sealed under a new key")


@command(payees)
@click.argument("creator")
@click.option("--reason", required=True, help="Why; CREATOR reads it.")
@by_option
def hold(desk: Desk, creator: str, reason: str, by: str) -> None:
    """Pay CREATOR nothing until they are released; what they earn goes on being owed."""
    _hold(desk, creator, reason, by, held=True)


@command(payees)
@click.argument("creator")
@click.option("--reason", required=True, help="Why; kept beside the hold.")
@by_option
def release(desk: Desk, creator: str, reason: str, by: str) -> None:
    """Let CREATOR be paid again."""
    _hold(desk, creator, reason, by, held=False)


def _hold(desk: Desk, creator: str, reason: str, by: str, *, held: bool) -> None:
    person = open_catalogue(desk).creator(creator)
    changed = open_paying(desk).payees(by).hold(person.id, reason, held=held)
    state = "held" if held else "not held"
    said = f"{person.name}'s payouts are {state}{'' if changed else ', as they were'}"
    desk.say({"creator": person.id, "held": held, "changed": changed}, said)


@command(payees)
@click.argument("creator")
@click.option("--reveal", is_flag=True, help="Print the whole account and its holder, to check them.")
def show(desk: Desk, creator: str, *, reveal: bool) -> None:
    """Show where CREATOR is paid, what they declared, what is owed, and what keeps it from being paid."""
    from proxy.billing.payout_rows import payee_row

    person = open_catalogue(desk).creator(creator)
    ways = open_paying(desk)
    row: dict[str, Any] = {"creator": person.id, "ref": person.ref, "name": person.name}
    row |= payee_row(ways, person.id)
    if reveal and row["tax_number"]:
        row["tax_number"]["number"] = ways.tax_numbers("operator").revealed(person.id)
    if reveal and row["account"]:
        kept = ways.payees("operator")
        opened = kept.unsealed([(person.id, row["account"]["version"])])[person.id]
        row["account"] |= {
            "account": opened.account,
            "holder": opened.holder,
            "country": opened.country,
            "bic": opened.bic,
        }
    desk.say(row, "\n".join(_lines(row)))


def _lines(row: dict[str, Any]) -> list[str]:
    account = row["account"]
    lines = [f"{row['name']} ({row['ref']}, {row['creator']})"]
    if account:
        checked = f"verified by {account['verified_by']}" if account["verified"] else "not verified"
        named = f", {account['holder']}, {account['country']}" if "holder" in account else ""
        where = f"{account['rail']} {account['account']}{named}"
        lines.append(f"  account   {where} (version {account['version']}, {checked})")
        lines.append(f"  minimum   {account['minimum']} {account['currency']}")
    else:
        lines.append("  account   none entered")
    for one in row["tax_profiles"]:
        until = f" to before {one['to']}" if one["to"] else ""
        treaty = "" if one["treaty_ppm"] is None else f", treaty {one['treaty_ppm']} ppm"
        lines.append(f"  tax       {one['form']} of {one['country']} from {one['from']}{until}{treaty}")
    if (given := row["tax_given"]) and given["state"] != "accepted":
        state = f"refused: {given['why_said']}" if given["why"] else f"waits as version {given['version']}"
        treaty = "" if given["treaty_ppm"] is None else f", treaty {given['treaty_ppm']} ppm"
        lines.append(
            f"  given     {given['form']} of {given['country']} from {given['from']}{treaty}: {state}"
        )
    if number := row["tax_number"]:
        lines.append(f"  number    {number['country']} {number.get('number') or '...' + number['last4']}")
    if row["hold"]:
        lines.append(f"  held      {row['hold']}")
    for one in row["owed"]:
        then = one["why"] if one["reason"] else f"the next batch pays {one['payable']}"
        kept = f", withholding {one['withheld']}" if one["withheld_minor"] else ""
        kept += f" ({one['draft']} of it is of periods that are not final)" if one["draft_grains"] else ""
        lines.append(f"  owed      {one['owed']} {one['currency']}: {then}{kept}")
    return lines


@command(payees, "waiting")
def waiting(desk: Desk) -> None:
    """List accounts and tax declarations that creators gave and that nobody has checked yet."""
    from proxy.billing.payout_rows import check_rows

    people = {person.id: person.ref for person in open_catalogue(desk).creators()}
    rows: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page, after = open_paying(desk).to_check(after)
        rows += check_rows(page)
    for row in rows:
        account, given = row["account"], row["tax_given"]
        row["ref"] = people.get(row["creator"], "")
        if not desk.as_json:
            row["account"] = f"{account['account']} (version {account['version']})" if account else ""
            row["tax"] = (
                f"{given['form']} of {given['country']} (version {given['version']})" if given else ""
            )
    desk.table(rows, ("ref", "account", "tax", "creator"), empty="nothing waits to be checked")


@command(payees, "list")
@click.option("--unverified", is_flag=True, help="Only accounts that nobody has checked yet.")
def list_payees(desk: Desk, *, unverified: bool) -> None:
    """List creators who have entered an account, and where they are paid."""
    from proxy.billing.payout_rows import account_row

    people = {person.id: person.ref for person in open_catalogue(desk).creators()}
    rows = (
        {**account_row(account), "ref": people.get(account.creator, "")}
        for account in open_paying(desk).payees("operator").newest()
        if not (unverified and account.verified_by)
    )
    columns = ("ref", "rail", "account", "version", "verified_by", "minimum", "currency", "creator")
    desk.table(rows, columns, empty="no accounts; `endcredits payees set` enters one")


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"'{text[:40]}' is not a day", remedy="write it like 2026-11-01") from error

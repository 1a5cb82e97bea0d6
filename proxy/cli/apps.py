"""`apps invoice` and `apps usage`: what apps are charged for a closed period, for tools that read costs.

Both are CSV in the columns of FOCUS 1.2 and sum to what the ledger charged, to the grain.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.access import apps
from proxy.cli.desk import Desk, command
from proxy.cli.exporting import write
from proxy.cli.money import load_prices
from proxy.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

_period = click.option("--period", required=True, metavar="LABEL", help="A closed period.")
_app = click.option("--app", default="", help="Only of this app (id or name) [all].")
_out = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="A file [standard output]."
)


@command(apps)
@_period
@_app
@_out
def invoice(desk: Desk, period: str, app: str, out: Path | None) -> None:
    """Write what each app owes and where it goes, as FOCUS CSV."""
    from proxy.billing import focus_store

    app_id = _app_id(desk, app)
    _give(desk, period, out, lambda: focus_store.invoice(desk.engine, desk.settings, period, app_id))


@command(apps)
@_period
@_app
@_out
def usage(desk: Desk, period: str, app: str, out: Path | None) -> None:
    """Write what the answers of each day and model cost each app, as FOCUS CSV."""
    from proxy.billing import focus_store

    app_id, prices = _app_id(desk, app), load_prices(desk)
    _give(desk, period, out, lambda: focus_store.usage(desk.engine, desk.settings, prices, period, app_id))


def _app_id(desk: Desk, named: str) -> str:
    if not named:
        return ""
    from proxy.access.store import app_names

    known = app_names(desk.engine)
    found = [one for one, name in known.items() if named in {one, name}]
    if len(found) != 1:
        raise NotFound(
            f"{len(found) or 'no'} apps are called '{named}'",
            remedy="`endcredits keys list` shows apps with their ids",
        )
    return found[0]


def _give(desk: Desk, period: str, out: Path | None, content: Callable[[], bytes]) -> None:
    if out is None:
        click.echo(content(), nl=False)
        return
    write(out, content())
    desk.say({"period": period, "file": str(out)}, str(out))

"""The child that closes a period for a page: `python -m proxy.portal.closer LABEL dry|real`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from proxy.billing import prices
from proxy.billing.proving import Prover
from proxy.billing.run import close_period
from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.errors import Problem
from proxy.receipts.issuing import Issuer
from proxy.settings import Settings, serving


def closed(settings: Settings, label: str, *, dry_run: bool) -> dict[str, Any]:
    """Close `label`, or say what that would book."""
    clock, folder = SystemClock(), settings.billing.prices_dir
    engine = open_engine(settings.store_url)
    try:
        made = close_period(
            engine,
            label,
            settings.billing,
            prices.load(Path(folder) if folder else None),
            dry_run=dry_run,
            now_us=clock.now_us(),
            prover=Prover(engine, Issuer(settings.data_dir, settings.receipts.origin, clock)),
        )
    finally:
        engine.dispose()
    names = {one.creator: one.name for one in made.statements}
    most = sorted(made.statements, key=lambda one: -one.earned_grains)[:20]
    return {
        "label": made.label,
        "currency": made.currency,
        "statements": len(made.statements),
        "totals": msgspec.to_builtins(made.totals),
        "creators": [
            {"creator": one.creator, "name": names[one.creator], "earned_grains": one.earned_grains}
            for one in most
        ],
    }


def main() -> None:
    """Print what closing found, or why it was refused."""
    _, label, how = sys.argv
    try:
        told = closed(serving(), label, dry_run=how == "dry")
    except Problem as refused:
        told = {
            "error": {
                "cause": refused.cause,
                "remedy": refused.remedy,
                "code": refused.code,
                "status": refused.status,
            }
        }
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()

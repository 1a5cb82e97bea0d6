"""The child that computes a preview for the server: `python -m proxy.portal.previewer`, asked in JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from proxy.billing import preview_run, prices
from proxy.billing.preview import told
from proxy.clock import SystemClock
from proxy.database import open_engine
from proxy.errors import Problem
from proxy.portal.previews import Asked
from proxy.settings import Settings, serving


def previewed(settings: Settings, asked: Asked) -> dict[str, Any]:
    """Return what the period would have paid."""
    folder = settings.billing.prices_dir
    engine = open_engine(settings.store_url)
    try:
        made = preview_run.preview(
            engine,
            asked.policy,
            settings.billing,
            prices.load(Path(folder) if folder else None),
            now_us=SystemClock().now_us(),
            period=asked.period,
            price_file=asked.prices,
        )
    finally:
        engine.dispose()
    return told(made, asked.limit)


def main() -> None:
    """Print what was found, or why it was refused."""
    try:
        said = previewed(serving(), msgspec.json.decode(sys.stdin.buffer.read(), type=Asked))
    except Problem as refused:
        cause = {"cause": refused.cause, "remedy": refused.remedy}
        said = {"error": cause | {"code": refused.code, "status": refused.status}}
    sys.stdout.buffer.write(msgspec.json.encode(said))


if __name__ == "__main__":
    main()

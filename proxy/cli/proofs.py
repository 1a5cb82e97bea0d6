"""`verify` and `signing`: what anybody checks offline, and the keys that an operator signs with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.desk import Desk, command, main
from proxy.clock import SystemClock, iso_utc
from proxy.errors import BadRequest

if TYPE_CHECKING:
    from proxy.receipts.issuing import Issuer

FILE_BYTES_MAX = 8_388_608  # a receipt with all its lines and its proof is some kB
DAY_US = 86_400_000_000


@command(main)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The operator's /.well-known/endcredits.json, saved (default: the keys in this data folder).",
)
def verify(desk: Desk, file: Path, keys: Path | None) -> int:
    """Check a receipt offline: that it is signed, stands in the log, and holds the lines shown with it.

    FILE: a receipt as a reply carries it, or the JSON of /api/receipts/{id}/proof. Nothing is fetched.
    `python verify.py FILE KEYS` does the same with nothing but that file and `cryptography`.
    """
    from proxy.catalogue.reading import read_bounded
    from proxy.receipts.verify import Invalid, Keys, canonical, check_file

    saved = read_bounded(keys, FILE_BYTES_MAX) if keys else canonical(_own_keys(desk))
    try:
        proven = check_file(read_bounded(file, FILE_BYTES_MAX), Keys.parse(saved))
    except Invalid as error:
        desk.say({"file": str(file), "holds": False, "why": str(error)}, f"does not hold: {error}")
        return 1
    desk.say({"file": str(file), "holds": True, "proven": proven}, "\n".join(proven))
    return 0


@main.group()
def signing() -> None:
    """The keys that sign receipts and the log's checkpoints."""


@command(signing, "list")
def list_keys(desk: Desk) -> None:
    """List the public keys, and from when to when each signs."""
    for key in _own_keys(desk)["keys"]:
        until = iso_utc(key["until_us"]) if key["until_us"] else "open"
        desk.say(key, f"{key['kid']}  from {iso_utc(key['from_us'])} until {until}  {key['verifier']}")


@command(signing)
@click.option(
    "--overlap-days",
    type=click.IntRange(0, 3_650),
    default=30,
    show_default=True,
    help="How long the older keys go on signing checkpoints, for those who know only them.",
)
def rotate(desk: Desk, overlap_days: int) -> None:
    """Sign with a new key from now on. What older keys signed stays valid; running servers follow at once."""
    from proxy.receipts.issuing import KEYS_DIR
    from proxy.receipts.signing import rotate as rotated

    new = rotated(desk.settings.data_dir / KEYS_DIR, SystemClock().now_us(), overlap_days * DAY_US)
    desk.say({"kid": new.kid, "from_us": new.from_us}, f"{new.kid} signs from now on")


def _own_keys(desk: Desk) -> dict[str, Any]:
    from proxy.receipts.issuing import KEYS_DIR
    from proxy.receipts.signing import read_keys

    data_dir = desk.settings.data_dir
    if not read_keys(data_dir / KEYS_DIR):
        raise BadRequest(
            f"there are no signing keys in {data_dir}",
            remedy="pass --keys with the operator's /.well-known/endcredits.json, saved",
            code="no_signing_keys",
        )
    return issuer_of(desk).about()


def issuer_of(desk: Desk) -> Issuer:
    """Return who signs with the keys in this data folder, which are made where there are none."""
    from proxy.receipts.issuing import Issuer

    return Issuer(desk.settings.data_dir, desk.settings.receipts.origin, SystemClock())

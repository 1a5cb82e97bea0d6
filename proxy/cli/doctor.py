"""`doctor`: everything that must be in place, looked at once, each line ok or the remedy.

It changes nothing and works beside a running server: it reads the journal as a second reader and asks the
store for its version without upgrading it.
"""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from proxy import __version__
from proxy.errors import Problem

if TYPE_CHECKING:
    from proxy.cli.desk import Desk
    from proxy.settings import Settings

CONNECT_S = 3  # a backend on the same continent answers a connect well under this


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    name: str
    ok: bool
    fact: str
    remedy: str = ""


def examine(desk: Desk) -> list[Finding]:
    """Return the findings, in the order in which a person would mend them."""
    try:
        settings = desk.settings
    except Problem as problem:
        return [Finding("settings", ok=False, fact=problem.cause, remedy=problem.remedy)]
    findings = [Finding("settings", ok=True, fact=f"read; data folder {settings.data_dir.resolve()}")]
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("packages", _packages),
        ("data folder", _data_folder),
        ("encoder", _encoder),
        ("scorer", _scorer),
        ("store", _store),
        ("index", _index),
        ("journal", _journal),
        ("prices", _prices),
        ("payouts", _payouts),
        ("identity providers", _oidc),
        ("port", _port),
        ("backends", _backends),
    )
    for name, check in checks:
        try:
            findings.append(Finding(name, ok=True, fact=check(settings)))
        except Problem as problem:
            findings.append(Finding(name, ok=False, fact=problem.cause, remedy=problem.remedy))
    return findings


def _packages(_settings: Settings) -> str:
    """Two other distributions own our import names; pip overwrites without a word."""
    owners = importlib.metadata.packages_distributions()
    for package in ("attribution", "proxy"):
        others = sorted(set(owners.get(package, [])) - {"endcredits"})
        if others:
            raise Problem(
                f"the package '{package}' also comes from {', '.join(others)}",
                remedy="install endcredits into an environment of its own (a venv, a container, pipx)",
            )
    return f"endcredits {__version__}, nobody else owns its package names"


def _oidc(settings: Settings) -> str:
    from proxy.access.providers import check

    names = check(settings.oidc)
    return ", ".join(names) if names else "none; people sign in by key or link"


def _data_folder(settings: Settings) -> str:
    folder = settings.data_dir
    if not folder.exists():
        return f"{folder} is not there yet; the first command creates it"
    if folder.stat().st_mode & 0o077:
        raise Problem(f"{folder} can be read by other users of this machine", remedy=f"chmod 700 {folder}")
    return "private to its owner"


def _encoder(_settings: Settings) -> str:
    from attribution.encoder import Encoder
    from proxy.cli.offline import library_problems

    with library_problems():
        return f"model sha256 {Encoder.open().model_sha256[:12]} is the one its manifest names"


def _scorer(_settings: Settings) -> str:
    from attribution import Attributor
    from proxy.cli.offline import library_problems

    with library_problems():
        return Attributor.open(None).method


def _store(settings: Settings) -> str:
    from sqlalchemy.exc import SQLAlchemyError

    from proxy.database import open_engine, versions

    if not settings.store.url and not (settings.data_dir / "endcredits.db").exists():
        return "not there yet; the first command creates it"
    engine = open_engine(settings.store_url)
    try:
        found, wanted = versions(engine)
    except SQLAlchemyError as error:
        raise Problem(
            f"the store does not answer ({type(error).__name__})",
            remedy="check [store] url and that its server runs",
        ) from error
    finally:
        engine.dispose()
    if found != wanted:
        raise Problem(
            f"schema {found}, this version wants {wanted}", remedy="any command but doctor upgrades it"
        )
    return f"{engine.dialect.name}, schema {found}"


def _index(settings: Settings) -> str:
    from proxy.catalogue import indexing

    found = indexing.info(settings.index_dir)
    if found is None:
        return "none yet: everything is unattributed until `endcredits works add PATH`"
    return f"{found.path.name}: {found.manifest.works} works, every file checked"


def _journal(settings: Settings) -> str:
    from proxy.metering.repair import damaged_folders, is_damaged
    from proxy.metering.segments import list_segments

    shards = [path for path in sorted(settings.journal_dir.glob("shard-*")) if path.is_dir()]
    for shard in shards:
        if is_damaged(shard):
            raise Problem(
                f"{shard} is damaged in the middle",
                remedy="start the server: it keeps the damaged files aside and saves what can be read",
            )
    segments = sum(len(list_segments(shard)) for shard in shards)
    aside = len(damaged_folders(settings.journal_dir))
    kept = f"; {aside} kept aside as damaged, in {settings.journal_dir}" if aside else ""
    return f"{len(shards)} shards, {segments} segments{kept}" if shards else "not there yet"


def _prices(settings: Settings) -> str:
    from pathlib import Path

    from proxy.billing import prices

    table = prices.load(Path(settings.billing.prices_dir) if settings.billing.prices_dir else None)
    return f"version {table.version}"


def _payouts(settings: Settings) -> str:
    import datetime as dt

    from proxy.billing import paying

    return paying.looked_at(settings, dt.datetime.now(dt.UTC).date())


def _port(settings: Settings) -> str:
    address = (settings.server.host, settings.server.port)
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
        probe.settimeout(CONNECT_S)
        if probe.connect_ex(address) == 0:
            return f"{address[0]}:{address[1]} is in use (by our server, if one runs)"
    return f"{address[0]}:{address[1]} is free"


def _backends(settings: Settings) -> str:
    for backend in settings.backends:
        parts = urlsplit(backend.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((str(parts.hostname), port), timeout=CONNECT_S).close()
        except OSError as error:
            raise Problem(
                f"backend '{backend.name}' at {parts.hostname}:{port} cannot be reached ({error})",
                remedy="start it, correct backends[].url, or name it by `serve --upstream`",
            ) from error
    return f"{len(settings.backends)} can be reached"

"""Exports a closed period for an auditor: everything that receipts/bundle.py reads, as a zip file.

It holds every receipt of the period with all of its lines opened, and every statement: for whoever may see
all of that, and for nobody else. Written part by part, with a page of each in memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from proxy.billing import repricing_store
from proxy.billing import store as books
from proxy.billing.documents import to_json
from proxy.billing.export_store import each
from proxy.billing.prices import PriceTable
from proxy.errors import Conflict, NotFound, Problem
from proxy.metering.store import answers_of
from proxy.receipts import history_store, manifest_store, store
from proxy.receipts.bundle import PARTS_OF_A_BUNDLE, Read
from proxy.receipts.history import Batch
from proxy.receipts.issuing import Issuer
from proxy.receipts.receipt import ordered, payload
from proxy.receipts.sums import CHUNK, Kind
from proxy.receipts.verify import b64url, canonical, from_b64url
from proxy.settings import Billing

AT_ONCE: Final = 500  # answers, or entries of the log: some hundred kB
PIECE_BYTES: Final = 1 << 20


class Bundle:
    """A closed period's parts. Raises NotFound (code "not_signed") for one without a manifest."""

    def __init__(
        self, engine: sa.Engine, issuer: Issuer, label: str, billing: Billing, prices: PriceTable
    ) -> None:
        """Find the period; the log is as it is now. billing, prices: by which it was closed."""
        self._engine, self._issuer, self._label = engine, issuer, label
        self._billing, self._prices = billing, prices
        self._works: set[str] = set()  # of the receipts that were read
        periods = {one.label: one for one in books.list_periods(engine)}
        signed = [one for name in reversed(periods) if (one := manifest_store.read(engine, name)) is not None]
        labels = [one.label for one in signed]
        if label not in labels:
            raise NotFound(f"{label} has no signed manifest", remedy="`periods list`", code="not_signed")
        self._signed = signed[: labels.index(label) + 1]
        if len(self._signed) == 1 and self._signed[0].seq > 1:
            raise NotFound(
                f"{label} follows a period without a manifest: nothing says where it begins in the log",
                remedy="bundle the periods after it",
                code="not_signed",
            )
        self._period = periods[label]
        self._state = store.read_state(engine)

    def parts(self) -> Iterator[tuple[str, Iterable[bytes]]]:
        """Yield each part's name and its bytes. Raises Conflict where answers have left the store."""
        for name in PARTS_OF_A_BUNDLE:
            yield name, getattr(self, f"_{name}")()

    def _checkpoint(self) -> Iterator[bytes]:
        yield self._issuer.signer.checkpoint(self._state.size, self._state.root).encode()

    def _entries(self) -> Iterator[bytes]:
        for begin in range(0, self._state.size, AT_ONCE):
            yield b"".join(store.read_entries(self._engine, begin, min(begin + AT_ONCE, self._state.size)))

    def _manifests(self) -> Iterator[bytes]:
        for one in self._signed:
            yield canonical({"manifest": one.jws}) + b"\n"

    def _receipts(self) -> Iterator[bytes]:
        begin, end = self._interval()
        for start in range(begin, end, AT_ONCE):
            ids = store.answers_between(self._engine, start, min(start + AT_ONCE, end))
            found = {event.id: event for event in answers_of(self._engine, ids)}
            for event_id in ids:
                event = found.get(event_id)
                if event is None:
                    raise Conflict(
                        f"the answers of {self._label} have left the store",
                        remedy="bundles are written before that: [retention] says when",
                        code="usage_trimmed",
                    )
                secrets = self._issuer.kept_secrets_of(event.occurred_us)
                self._works.update(line.work for line in event.lines)
                lines = [
                    {
                        "ppm": line.ppm,
                        "salt": b64url(secrets.salt(event.id, place)),
                        "verdict": line.verdict,
                        "work": line.work,
                    }
                    for place, line in enumerate(ordered(event))
                ]
                receipt = self._issuer.signer.jws(payload(event, secrets))
                yield canonical({"lines": lines, "receipt": receipt}) + b"\n"

    def _changes(self) -> Iterator[bytes]:
        for last in history_store.batches_between(self._engine, *self._interval()):
            changes = history_store.batch_with(self._engine, last)
            yield canonical(Batch.of(changes, self._issuer.kept_secrets_of).to_object()) + b"\n"

    def _interval(self) -> tuple[int, int]:
        """Return from where to where the period's answers stand in the log."""
        ends = [msgspec.json.decode(_payload(one.jws))["log"]["size"] for one in self._signed[-2:]]
        follows = len(ends) > 1 and self._signed[-1].seq == self._signed[-2].seq + 1
        return (ends[0] if follows else 0), ends[-1]

    def _statements(self) -> Iterator[bytes]:
        for statement in each(self._engine, label=self._label):
            yield to_json(statement)

    def _charges(self) -> Iterator[bytes]:
        yield canonical(self._period.charged_by_app)

    def _payees(self) -> Iterator[bytes]:
        return self._leaves("payee", self._signed[-1].payees)

    def _apps(self) -> Iterator[bytes]:
        return self._leaves("app", self._signed[-1].apps)

    def _leaves(self, kind: Kind, size: int) -> Iterator[bytes]:
        read = manifest_store.chunks(self._engine, self._label, kind)
        return (read(0, number) for number in range(-(-size // CHUNK)))

    def _rules(self) -> Iterator[bytes]:
        """Yield what the period was priced by, read again. Raises Conflict where it is not what was signed.

        The receipts come before it: their works are those whose splits are told.
        """
        signed = msgspec.json.decode(_payload(self._signed[-1].jws)).get("rules")
        if signed is None:
            return
        basis, totals = self._period.basis, self._period.totals
        found = repricing_store.rules(self._engine, self._billing, self._prices, basis, totals)
        splits = books.splits_of(self._engine, self._works, basis.registry_seq)
        claimed = books.claimed_works(self._engine, basis.registry_seq)
        if found.digest(sorted(self._works), splits, claimed) != signed:
            raise Conflict(
                f"{self._label} was closed by other rules or price files than the settings name now",
                remedy="bundle it with the [billing] settings and the price files of its close",
                code="rules_changed",
            )
        yield from found.rows(sorted(self._works), splits, claimed)

    def _secret(self) -> Iterator[bytes]:
        yield self._issuer.kept_secrets_of(self._period.closed_us).tree(self._label)


def write_bundle(bundle: Bundle, target: Path) -> None:
    """Write a bundle as a zip file, under its name only when it is whole."""
    part = target.with_name(f"{target.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            for name, pieces in bundle.parts():
                with file.open(name, "w", force_zip64=True) as into:
                    for piece in pieces:
                        into.write(piece)
        part.replace(target)
    except OSError as error:
        raise Problem(
            f"{target}: cannot be written ({error.strerror})", remedy="pass another --out"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def reading(file: zipfile.ZipFile) -> Read:
    """Return what reads a bundle's parts. Raises KeyError for one that is not there."""

    def read(part: str) -> Iterator[bytes]:
        with file.open(part) as opened:
            if part in {"manifests", "receipts", "changes", "statements", "rules"}:
                yield from opened
            else:
                while piece := opened.read(PIECE_BYTES):
                    yield piece

    return read


def _payload(jws: str) -> bytes:
    return from_b64url(jws.split(".")[1], "a manifest")

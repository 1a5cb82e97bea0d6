"""Makes a closed period provable: its signed manifest, and what shows one party her own place in it.

A period that is closed with a Prover ends where the log ends: every answer below is logged, and none above is
counted, so that the period is an interval of the log which anybody holds a receipt of. The manifest is signed
in the transaction that writes the period, and is in the log a second later.

A creator's file holds her statement, a path for each of her leaves and the manifest; an app's its charge.
They are checked offline (receipts/verify.py). What was closed before there were manifests has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from proxy.billing.closing_files import bodies
from proxy.billing.documents import to_json
from proxy.billing.movements import Move
from proxy.billing.spill import Spilled
from proxy.billing.statement import RELEASED, Closing, Statement
from proxy.errors import NotFound, Problem, Unavailable
from proxy.metering.log_store import pages_between
from proxy.metering.usage import MeteredEvent
from proxy.receipts import history, history_store, manifest, manifest_store, store
from proxy.receipts.appending import drain
from proxy.receipts.issuing import Issuer
from proxy.receipts.receipt import open_line, payload, to_object
from proxy.receipts.signing import proof_file
from proxy.receipts.sums import KeptTree, Kind, SumTree
from proxy.receipts.tree import inclusion_path
from proxy.receipts.verify import MANIFEST_TYPE, b64, b64url, canonical, changes_entry, commitment

RECEIPTS_AT_ONCE: Final = 200  # whose ways to the log's root share the tiles that are read
TREES_KEPT: Final = 4  # of a period's two kinds; each keeps some chunks of nodes in memory


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a statement is signed as it is: every member of Statement that names nobody."""

    id: str
    period: str
    creator: str
    currency: str
    closed_us: int
    opening_grains: int
    earned_grains: int
    closing_grains: int
    lines_sha256: str
    moves: tuple[Move, ...] = ()
    adjustments_grains: int = 0
    held_grains: int = 0
    released_grains: int = 0
    paid_grains: int = 0
    withheld_grains: int = 0
    returned_grains: int = 0
    distributed_grains: int = 0


class _Named(Head, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    app_names: dict[str, str]


_named: Final = msgspec.json.Decoder(_Named)
_HEAD: Final = Head.__struct_fields__


class Prover:
    """Signs periods with `issuer`, and shows parties their places in them."""

    def __init__(self, engine: sa.Engine, issuer: Issuer) -> None:
        """Read nothing yet."""
        self._engine = engine
        self._issuer = issuer
        self._trees: dict[tuple[str, Kind], KeptTree] = {}
        self._log = (0, b"")

    # -- closing

    def ends(self, start: Mapping[str, int]) -> dict[str, int]:
        """Return where a period that is closed now ends in each shard: where the log does.

        start: where it begins. What cannot be logged yet (a record is still on its way) falls into the next
        period.
        """
        try:
            drain(self._engine, self._issuer.secrets_of)
        except Problem as problem:
            if problem.code != "events_incomplete":
                raise
        state = store.read_state(self._engine)
        self._log = (state.size, state.root)
        return {**start, **{shard: max(end, start.get(shard, 0)) for shard, end in state.positions.items()}}

    def sign(self, connection: sa.Connection, closing: Closing, seq: int, rules: str = "") -> None:
        """Write the manifest of a closing that this transaction writes as the period of number `seq`.

        rules: sha256 of what it was priced by, hex (repricing.py).
        """
        secret = self._issuer.secrets_of(closing.closed_us).tree(closing.label)
        payees = SumTree("payee", dict(_payees(closing.statements, secret)), secret)
        charges = {app: (sum_, _charged(closing, app, sum_)) for app, sum_ in closing.charged_by_app.items()}
        apps = SumTree("app", charges, secret)
        period = manifest.Period(
            label=closing.label,
            seq=seq,
            currency=closing.currency,
            closed_us=closing.closed_us,
            basis=msgspec.to_builtins(closing.basis),
            totals=msgspec.to_builtins(closing.totals),
            books=closing.manifest_sha256,
            log=self._log,
            previous=manifest_store.previous(connection, seq).hex(),
            rules=rules,
        )
        said = manifest.payload(period, payees, apps)
        made = manifest_store.Manifest(
            label=closing.label,
            seq=seq,
            jws=self._issuer.signer.jws(said, MANIFEST_TYPE),
            digest=manifest.digest(said),
            payees=payees.size,
            apps=apps.size,
        )
        manifest_store.write(connection, made, [("payee", payees), ("app", apps)])

    def log(self) -> None:
        """Put what was signed into the log, so that a command leaves nothing to a server. Raises Problem."""
        drain(self._engine, self._issuer.secrets_of)

    # -- showing

    def has_signed(self, label: str) -> bool:
        """Say whether a period has a manifest."""
        return manifest_store.read(self._engine, label) is not None

    def manifest_file(self, label: str) -> bytes:
        """Return a period's manifest with its place in the log. Raises NotFound while there is none."""
        return canonical(self._shown(label)) + b"\n"

    def statement_file(self, statement: Statement) -> bytes:
        """Return a statement as one file that is checked offline."""
        secret = self._secret(statement.closed_us, statement.period)
        shown: dict[str, Any] = self._shown(statement.period)
        shown["statement"] = json.loads(to_json(statement))
        shown["nonce"] = b64url(manifest.nonce_of(secret, statement.creator))
        shown["leaves"] = self._leaves("payee", statement, statement.creator, statement.earned_grains)
        return canonical(shown) + b"\n"

    def uses_file(self, statement: Statement) -> Iterator[bytes]:
        """Yield, line by line, the receipts of all answers that a statement counts, her lines of them opened.

        The first line is the log's checkpoint. Reads the period's answers once; memory: a page of them.
        Raises Conflict (code "usage_trimmed") where they have left the store.
        """
        kept, basis = self._kept(statement.period), statement.basis
        state = store.read_state(self._engine)
        works = {line.work for line in statement.lines if line.verdict != RELEASED}
        checkpoint = self._issuer.signer.checkpoint(state.size, state.root)
        yield canonical({"checkpoint": checkpoint, "manifest": kept.jws, "statement": statement.id}) + b"\n"
        for page in pages_between(self._engine, basis.start_bounds, basis.end_bounds):
            drew = {idx for idx, work, *_ in page.lines if work in works}
            places = [place for place, row in enumerate(page.rows) if row[page.IDX] in drew]
            for begin in range(0, len(places), RECEIPTS_AT_ONCE):
                events = list(page.answers(places[begin : begin + RECEIPTS_AT_ONCE]))
                logged = store.places_of(self._engine, [event.id for event in events])
                node = store.nodes(self._engine, state.size)  # keeps the tiles that it reads: not for all
                for event in events:
                    path = inclusion_path(logged[event.id], state.size, node)
                    yield from self._uses(event, works, logged[event.id], [b64(one) for one in path])

    def _uses(
        self, event: MeteredEvent, works: AbstractSet[str], index: int, path: list[str]
    ) -> Iterator[bytes]:
        secrets = self._issuer.kept_secrets_of(event.occurred_us)
        receipt = self._issuer.signer.jws(payload(event, secrets))
        for line in event.lines:
            if line.work in works:
                opened = to_object(open_line(event, secrets, line.work))
                shown = {"index": index, "line": opened, "path": path, "receipt": receipt}
                yield canonical(shown) + b"\n"

    def charge_file(self, label: str, app: str, currency: str, closed_us: int, grains: int) -> bytes:
        """Return what an app was charged in a period as one file that is checked offline."""
        shown: dict[str, Any] = self._shown(label)
        shown["charge"] = manifest.charge(app, label, currency, grains)
        tree = self._tree("app", label, closed_us)
        shown["leaves"] = manifest.leaves_object(tree.openings(app, grains))
        return canonical(shown) + b"\n"

    def change_file(self, seq: int) -> bytes:
        """Return a change of the registry with its place in the log, as one file that is checked offline.

        Raises NotFound for none of that number, or while it is not in the log; Unavailable (code
        "log_contradicted") where the log holds another batch than the registry has.
        """
        changes = history_store.batch_with(self._engine, seq)
        if not changes:
            raise NotFound(
                f"change {seq} of the registry is not in the log",
                remedy="ask again in a second; where no server runs, `endcredits periods close` logs it",
                code="not_logged",
            )
        change = changes[seq - changes[0].seq]
        shown: dict[str, Any] = dict(history.shown(seq, changes, self._issuer.kept_secrets_of))
        if (said := history_store.said_of(self._engine, change)) is not None:
            shown["said"] = said
        ref = history_store.ref_of(changes[-1].seq)
        entry = changes_entry(canonical(shown["batch"]))
        return canonical({**shown, "proof": self._proof(ref, entry)}) + b"\n"

    def _leaves(self, kind: Kind, statement: Statement, ident: str, grains: int) -> list[dict[str, Any]]:
        tree = self._tree(kind, statement.period, statement.closed_us)
        return manifest.leaves_object(tree.openings(ident, grains))

    def _tree(self, kind: Kind, label: str, closed_us: int) -> KeptTree:
        tree = self._trees.get((label, kind))
        if tree is None:
            while len(self._trees) >= TREES_KEPT:
                self._trees.pop(next(iter(self._trees)))
            kept = self._kept(label)
            size = kept.payees if kind == "payee" else kept.apps
            read: Callable[[int, int], bytes] = manifest_store.chunks(self._engine, label, kind)
            tree = self._trees[label, kind] = KeptTree(kind, size, self._secret(closed_us, label), read)
        return tree

    def _kept(self, label: str) -> manifest_store.Manifest:
        kept = manifest_store.read(self._engine, label)
        if kept is None:
            raise NotFound(
                f"{label} has no signed manifest",
                remedy="it is not closed, or was closed before there were manifests",
                code="not_signed",
            )
        return kept

    def _secret(self, closed_us: int, label: str) -> bytes:
        return self._issuer.kept_secrets_of(closed_us).tree(label)

    def _shown(self, label: str) -> dict[str, Any]:
        kept = self._kept(label)
        ref, entry = manifest_store.ref_of(label), store.MARKS["manifest"] + kept.digest
        return {"manifest": kept.jws, "proof": self._proof(ref, entry)}

    def _proof(self, ref: str, entry: bytes) -> str:
        """Return the tlog-proof of an entry. Raises NotFound while the log has none of that name."""
        place = store.place_of(self._engine, ref)
        if place is None:
            raise NotFound(
                f"{ref} is not in the log yet",
                remedy="ask again in a second; `endcredits periods close` puts it there where no server runs",
                code="not_logged",
            )
        if list(store.read_entries(self._engine, place, place + 1)) != [entry]:
            raise Unavailable(
                f"the log holds something else of {ref} than the store would make now",
                remedy="restore what it is salted with (receipt-secrets/), and run `endcredits audit`",
                code="log_contradicted",
            )
        state = store.read_state(self._engine)
        path = inclusion_path(place, state.size, store.nodes(self._engine, state.size))
        return proof_file(place, path, self._issuer.signer.checkpoint(state.size, state.root))


def _payees(statements: Sequence[Statement], secret: bytes) -> Iterable[tuple[str, tuple[int, bytes]]]:
    """Yield (creator, (grains, commitment)) of each statement, without reading its lines."""
    named: Iterable[Any] = (
        map(_named.decode, bodies(statements)) if isinstance(statements, Spilled) else statements
    )
    for one in named:
        head = msgspec.to_builtins(Head(**{name: getattr(one, name) for name in _HEAD}))
        names = {"app_names": one.app_names, "name": one.name}
        committed = manifest.statement_commitment(head, names, manifest.nonce_of(secret, one.creator))
        yield one.creator, (one.earned_grains, committed)


def _charged(closing: Closing, app: str, grains: int) -> bytes:
    return commitment(manifest.charge(app, closing.label, closing.currency, grains))

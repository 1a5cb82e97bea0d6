"""Prices a bundle's answers again: whether what was signed is what the period's own rules make of them.

A bundle whose sums agree may still have been priced wrongly all along. So the manifest names, by hash, what
the period was priced by: policies and from when each holds, price files, what works ask for, whose own apps
were, the split and version of each work. Here every receipt is priced by them once more with the functions
that closed the period, and compared with the receipt's price, with each line of each statement, with what
each app was charged and with the totals. Nothing is read but the bundle.

What an answer of a pool brought depends on who asked, which no receipt tells; and what a claim let go, on
periods before. Those lines are not priced again, and it is said how many. Bundles whose manifest names no
rules cannot be priced again at all, and that is said too. docs/receipts.md is the normative text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from proxy.access.links import AppLinks
from proxy.billing.closing_files import spilled_statements, spilled_transfers
from proxy.billing.floors import NOTHING_ASKED, Asked
from proxy.billing.ledger import Unbalanced
from proxy.billing.policies import Activation, Agenda, from_text
from proxy.billing.prices import PriceTable
from proxy.billing.rollup import Rollup, count, finish
from proxy.billing.schemes import Terms
from proxy.billing.statement import RELEASED, Books, Closing, SplitSet
from proxy.billing.statements import close_period
from proxy.errors import Problem
from proxy.metering.usage import Line, MeteredEvent
from proxy.receipts.verify import Invalid, Keys, canonical, from_b64url, from_canonical, open_manifest, use_of

VERSION: Final = 1
NAMED_MAX: Final = 50  # findings that are told one by one: who has more has a wrong price table
RECEIPTS_NAMED_MAX: Final = 3  # of a line: where to look first
# Totals that depend on nothing but the period's own answers, whatever was let go or divided besides.
_OWN_SUMS: Final = (
    "events", "estimated_events", "outcomes", "unscored_events", "price_grains", "not_charged_grains",
    "free_ppm_sum", "prohibited_ppm_sum", "unattributed_ppm_sum",
)  # fmt: skip
_ALL_SUMS: Final = ("charged_grains", "platform_grains", "paid_ppm_sum", "claimed_grains")
_SPLIT_SUMS: Final = ("creators_grains", "escrow_grains", "common_grains")
Read = Callable[[str], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a period was priced by, but for splits. prices: files as they were written; policies canonical.

    activations: (number, from when, policy); links: whose own each app was, by the registry's numbers.
    """

    registry_seq: int
    policy_seq: int
    default: str
    activations: tuple[tuple[int, int, str], ...] = ()
    prices: tuple[str, ...] = ()
    asked: Asked = NOTHING_ASKED
    links: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict[str, Any])

    def rows(
        self, works: Iterable[str], splits: Mapping[str, SplitSet], claimed: Collection[str]
    ) -> Iterator[bytes]:
        """Yield the lines of a bundle's `rules`: these, then each work's split. works: in order."""
        head = {
            "activations": self.activations,
            "default": self.default,
            "floors": dict(self.asked.floors),
            "links": dict(self.links),
            "policy_seq": self.policy_seq,
            "prices": self.prices,
            "rates": dict(self.asked.rates),
            "registry_seq": self.registry_seq,
            "v": VERSION,
        }
        yield canonical(head) + b"\n"
        for work in works:
            split = splits.get(work)
            row = {
                "claimed": int(work in claimed),
                "owner": self.asked.owners.get(work, ""),
                "parties": split.parties if split else None,
                "version": split.version if split else 0,
                "work": work,
            }
            yield canonical(row) + b"\n"

    def digest(self, works: Iterable[str], splits: Mapping[str, SplitSet], claimed: Collection[str]) -> str:
        """Return what a manifest names them by: SHA-256 of their lines, hex."""
        hashed = hashlib.sha256()
        for row in self.rows(works, splits, claimed):
            hashed.update(row)
        return hashed.hexdigest()


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. what: a receipt's id, a statement's line, an app or a sum; cause; remedy."""

    what: str
    cause: str
    remedy: str

    @property
    def text(self) -> str:
        """The finding as one line."""
        return f"{self.what}: {self.cause}; {self.remedy}"


@dataclass(slots=True)
class Repriced:
    """What pricing again came to. proven: sentences; not_named: differences beyond the first NAMED_MAX."""

    findings: list[Finding] = field(default_factory=list[Finding])
    proven: list[str] = field(default_factory=list[str])
    not_named: int = 0

    def add(self, what: str, cause: str, remedy: str) -> None:
        """Name a difference, or count it."""
        if len(self.findings) < NAMED_MAX:
            self.findings.append(Finding(what, cause, remedy))
        else:
            self.not_named += 1


@dataclass(frozen=True, slots=True)
class _Priced:
    """The rules as functions use them."""

    terms: Terms
    prices: PriceTable
    links: AppLinks
    splits: Mapping[str, SplitSet]
    claimed: frozenset[str]
    policy_seq: int
    registry_seq: int


def reprice(read: Read, keys: Keys) -> Repriced:
    """Return what pricing a checked bundle again shows. Raises Invalid where its rules are not those signed.

    Call it after check_bundle, which shows that the receipts and statements are the log's.
    """
    manifests = [str(from_canonical(row.strip(), "a manifest")["manifest"]) for row in read("manifests")]
    said, _ = open_manifest(manifests[-1], keys)
    found = Repriced()
    if "rules" not in said:
        found.proven.append(
            f"prices: NOT priced again: the manifest of {said['period']} does not name what it was priced by"
        )
        return found
    try:
        rules = _rules(read, said)
        rollup, pooled, receipts = _receipts(read, rules, found)
        if found.findings and rollup is None:
            return _told(found, said)
        assert rollup is not None
        closing = _closed(rollup, rules, said)
        lines, skipped = _statements(read, closing, pooled, said, found)
        _sums(read, closing, said, found, apps_of_pools={*pooled, *_declared(said)})
    except Problem as problem:
        raise Invalid(f"the period's rules price nothing: {problem.cause}") from problem
    except (KeyError, TypeError, ValueError, AttributeError, Unbalanced) as error:
        raise Invalid(f"the rules are not as bundles are written: {error}") from error
    if not found.findings:
        found.proven.append(
            f"prices: {receipts} receipts and {lines} lines agree, priced again by the signed rules"
        )
    if skipped:
        found.proven.append(f"prices: {skipped} lines NOT priced again (pools, and what claims let go)")
    return _told(found, said)


def _told(found: Repriced, said: Mapping[str, Any]) -> Repriced:
    if found.not_named:
        found.findings.append(
            Finding(str(said["period"]), f"{found.not_named} more differences", "mend these and audit again")
        )
    return found


def _rules(read: Read, said: Mapping[str, Any]) -> _Priced:
    """Return the bundle's rules. Raises Invalid unless the manifest names just these."""
    hashed, rows = hashlib.sha256(), iter(_rows(read))
    first = next(rows, b"")
    hashed.update(first)
    splits, claimed, owners = dict[str, SplitSet](), set[str](), dict[str, str]()
    for row in rows:
        hashed.update(row)
        one = from_canonical(row.strip(), "a split")
        if one["parties"] is not None:
            parties = tuple((str(party), int(ppm)) for party, ppm in one["parties"])
            splits[str(one["work"])] = SplitSet(int(one["version"]), parties)
        if one["owner"]:
            owners[str(one["work"])] = str(one["owner"])
        if one["claimed"]:
            claimed.add(str(one["work"]))
    if hashed.hexdigest() != said["rules"]:
        raise Invalid("the rules are not those that the period's manifest names")
    head, basis = from_canonical(first.strip(), "the rules"), said["basis"]
    made = tuple(Activation(seq, since_us, from_text(text)) for seq, since_us, text in head["activations"])
    agenda = Agenda(from_text(head["default"]), made)
    known = {agenda.default.id, *(one.policy.id for one in made)}
    if missing := sorted(set(basis.get("policies", ())) - known):
        raise Invalid(f"answers were paid by the policy {missing[0]}, which is not among the rules")
    numbers = (head["registry_seq"], head["policy_seq"], agenda.seq)
    policy_seq = basis.get("policy_seq", 0)
    if numbers != (basis["registry_seq"], policy_seq, policy_seq):
        raise Invalid("the rules are of another number of the registry or of policies than the period's")
    asked = Asked(_history(head["floors"]), _history(head["rates"]), owners)
    return _Priced(
        terms=Terms.of_agenda(agenda, asked),
        prices=PriceTable.parse(head["prices"]),
        links=AppLinks(_history(head["links"])),
        splits=splits,
        claimed=frozenset(claimed),
        policy_seq=policy_seq,
        registry_seq=basis["registry_seq"],
    )


def _rows(read: Read) -> Iterable[bytes]:
    try:
        yield from read("rules")
    except KeyError:
        raise Invalid("the rules that the period's manifest names are not here") from None


def _history(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple((seq, value) for seq, value in changes) for key, changes in said.items()}


def _receipts(read: Read, rules: _Priced, found: Repriced) -> tuple[Rollup | None, dict[str, set[str]], int]:
    """Return (the receipts priced and rolled up, {app: works} of pools, receipts); None without a price."""
    rollup, pooled, receipts, unpriced = Rollup(), dict[str, set[str]](), 0, 0
    for row in read("receipts"):
        shown = json.loads(row)
        event = _event(shown)
        receipts += 1
        _check_price(event, rules, found)
        count(rollup, event, rules.terms, rules.prices, rules.links)
        if len(rollup.unpriced) > unpriced:
            unpriced = len(rollup.unpriced)
            found.add(
                event.id,
                f"no price of {event.model} is among the rules",
                "ask for the price file of then",
            )
        if rollup.pool_uses:  # whom a pool pays depends on who asked: no receipt says that
            pooled.setdefault(event.app_id, set()).update(line.work for line in event.lines)
            rollup.pool_uses.clear()
    if rollup.unpriced:
        return None, pooled, receipts
    finish(rollup, "", rules.terms, ())
    return rollup, pooled, receipts


def _event(shown: Mapping[str, Any]) -> MeteredEvent:
    """Return the answer that a receipt with all its lines tells of."""
    said = from_canonical(_payload(shown["receipt"]), "a receipt")
    return MeteredEvent(
        id=said["rid"],
        occurred_us=said["iat"],
        app_id=said["app"],
        model=said["mdl"],
        endpoint=said["end"],
        outcome=said["res"],
        input_tokens=said["in"],
        output_tokens=said["out"],
        estimated=bool(said["est"]),
        price_version=said["pver"],
        price_grains=said.get("price"),
        currency=said["cur"],
        unattributed_ppm=said["unat"],
        reason=said["why"],
        lines=tuple(Line(one["work"], one["ppm"], one["verdict"]) for one in shown["lines"]),
        method=said["att"],
        registry_seq=said["reg"],
        policy_seq=said.get("pol"),
        images=said.get("img", 0),
        milliseconds=said.get("ms", 0),
    )


def _payload(token: str) -> bytes:
    return from_b64url(token.split(".")[1], "the payload")


def _check_price(event: MeteredEvent, rules: _Priced, found: Repriced) -> None:
    """Name what a receipt says of its price, policy or registry that the rules do not."""
    if (event.policy_seq or 0) > rules.policy_seq or event.registry_seq > rules.registry_seq:
        found.add(
            event.id,
            f"it quotes activation {event.policy_seq} of a policy and change {event.registry_seq} of the "
            "registry, which the period's rules do not reach",
            "the period must be closed by rules that hold all that its answers quote",
        )
    if event.price_grains is None:
        return
    listed = rules.prices.at(event.occurred_us)
    if listed is None or listed.version != event.price_version:
        held = listed.version if listed else "none"
        found.add(
            event.id,
            f"it was priced by the table {event.price_version or '(none)'}, where {held} was in force",
            "ask for the price file in force at that time; an answer is priced by it and by no other",
        )
        return
    price = listed.price(
        event.model, event.input_tokens, event.output_tokens, event.images, event.milliseconds
    )
    if price is None or (price.grains, price.currency) != (event.price_grains, event.currency):
        expected = f"{price.grains} grains in {price.currency}" if price else "no price"
        found.add(
            event.id,
            f"it says {event.price_grains} grains in {event.currency}; by {listed.version} {event.model} "
            f"costs {expected} for {_counted(event)}",
            "have the answer adjusted by the difference",
        )


def _counted(event: MeteredEvent) -> str:
    said = f"{event.input_tokens} tokens in and {event.output_tokens} out"
    said += f", {event.images} images" if event.images else ""
    return said + (f", {event.milliseconds} ms of sound or video" if event.milliseconds else "")


def _closed(rollup: Rollup, rules: _Priced, said: Mapping[str, Any]) -> Closing:
    """Return the period as these answers and rules make it, without what earlier periods bring to it."""
    basis = said["basis"]
    return close_period(
        label=said["period"],
        rollup=rollup,
        terms=rules.terms,
        books=Books(rules.splits, {}, {}, {}, registry_seq=rules.registry_seq, claimed=rules.claimed),
        start_bounds=basis["start_bounds"],
        end_bounds=basis["end_bounds"],
        closed_us=said["closed"],
        transfers=spilled_transfers(None),
        statements=spilled_statements(None),
    )


def _statements(
    read: Read, closing: Closing, pooled: Mapping[str, set[str]], said: Mapping[str, Any], found: Repriced
) -> tuple[int, int]:
    """Return (lines that were compared, lines that cannot be); name each that is not what its answers pay."""
    basis = canonical(msgspec.to_builtins(closing.basis))
    if not pooled and not _declared(said) and basis != canonical(said["basis"]):
        found.add(said["period"], "its `basis` is not what the rules make", "compare it with `rules`")
    left_out = set[str]().union(*pooled.values())
    made = {one.creator: place for place, one in enumerate(closing.statements)}
    compared = skipped = 0
    differing: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
    for row in read("statements"):
        shown = json.loads(row)
        creator, stated = shown["creator"], shown["lines"]
        lines = [one for one in stated if one["verdict"] != RELEASED and one["work"] not in left_out]
        skipped += len(stated) - len(lines)
        compared += len(lines)
        place = made.pop(creator, None)
        priced = () if place is None else closing.statements[place].lines
        expected: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for line in map(msgspec.to_builtins, priced):
            if line["work"] not in left_out:
                expected.setdefault(_name(line), []).append(line)
        for line in lines:
            other = (expected.get(_name(line)) or [{}]).pop(0)
            if not other or any(line.get(key) != value for key, value in other.items() if key != "title"):
                _differs(differing, found, (shown["id"], line, other))
        for other in itertools.chain.from_iterable(expected.values()):
            _differs(differing, found, (shown["id"], {}, other))
    for creator, place in made.items():
        if any(line.work not in left_out for line in closing.statements[place].lines):
            found.add(creator, "works were used and no statement says so", "ask for the statement")
    _name_receipts(read, differing, found)
    return compared, skipped


def _differs(
    differing: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]],
    found: Repriced,
    one: tuple[str, Mapping[str, Any], Mapping[str, Any]],
) -> None:
    if len(differing) < NAMED_MAX:
        differing.append(one)
    else:
        found.not_named += 1


def _name(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells a line from the others of a statement."""
    return tuple(line[key] for key in ("work", "app", "model", "day", "scheme", "verdict"))


def _name_receipts(
    read: Read, differing: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]], found: Repriced
) -> None:
    """Name each line that differs with the first answers that it counts."""
    behind: dict[tuple[Any, ...], list[str]] = {_use(one or other): [] for _, one, other in differing}
    for row in read("receipts") if behind else ():
        shown = json.loads(row)
        said = from_canonical(_payload(shown["receipt"]), "a receipt")
        for line in shown["lines"]:
            named = behind.get(use_of(said, line["work"]))
            if named is not None and len(named) < RECEIPTS_NAMED_MAX:
                named.append(said["rid"])
    for ident, line, other in differing:
        one = line or other
        where = f"{ident}, {one['work']} in {one['app']} by {one['model']} on {one['day']}"
        keys = [key for key in other if key != "title" and line.get(key) != other[key]] if line else []
        differs = ", ".join(f"{key} {line.get(key)} and not {other[key]}" for key in keys)
        absent = "no answer pays this line" if line else "its line is not there"
        cause = f"it says {differs}" if keys else absent
        receipts = ", ".join(behind[_use(one)]) or "none"
        found.add(where, cause, f"have it adjusted; its receipts: {receipts}")


def _use(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return line["work"], line["app"], line["model"], line["day"]


def _declared(said: Mapping[str, Any]) -> list[str]:
    """Return the apps whose declared revenue was divided, used or not."""
    return [str(pool["app"]) for pool in said["totals"].get("pools", ())]


def _sums(
    read: Read, closing: Closing, said: Mapping[str, Any], found: Repriced, *, apps_of_pools: AbstractSet[str]
) -> None:
    """Name what apps were charged, and sums of the period, that its answers do not come to."""
    totals, own = said["totals"], msgspec.to_builtins(closing.totals)
    is_own = not totals.get("released_grains")  # what was let go comes from earlier periods
    names = _OWN_SUMS + (() if apps_of_pools else _ALL_SUMS + (_SPLIT_SUMS if is_own else ()))
    for name in names:
        if totals.get(name, 0) != own.get(name, 0):
            found.add(
                f"{said['period']}, {name}",
                f"{totals.get(name, 0)} was signed, and its answers come to {own.get(name, 0)}",
                "compare the statements and charges above",
            )
    charges: dict[str, int] = json.loads(b"".join(read("charges")))
    for app in sorted({*charges, *closing.charged_by_app} - apps_of_pools):
        pays, asked = closing.charged_by_app.get(app, 0), charges.get(app, 0)
        if pays != asked:
            found.add(app, f"it was charged {asked} grains, and its answers cost {pays}", "have it refunded")

"""Books kept for tests: creators, works and apps in a real store, and each thing that people do with money.

One small object, so that the audit's tests, the state machine and the processes that are killed all do the
same things by the same calls as the commands.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing import payees
from proxy.billing.money import PPM
from proxy.billing.payees import TaxProfile
from proxy.billing.payees_store import Payees
from proxy.billing.payouts import Batch, Debtor, Rules
from proxy.billing.payouts_store import Payouts
from proxy.billing.prices import PriceTable, load
from proxy.billing.proving import Prover
from proxy.billing.run import close_period
from proxy.billing.statement import Closing
from proxy.catalogue.ownership_store import Ownership
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Consent, Part, Split, Use
from proxy.database import registry_seq
from proxy.metering.frames import Frame, encode_record
from proxy.metering.store import carry, watermark
from proxy.metering.usage import Attributed, Line, Used
from proxy.settings import Billing, WithholdingRow
from tests.fakes import CountingIds, FrozenClock

NOVEMBER_US = 1_793_491_200_000_000
DAY_US = 86_400_000_000
TAXED = WithholdingRow(regime="xx", form="other", ppm=123_457, effective_from=dt.date(2026, 1, 1))
RULES = Billing(comment_days=0)
PRICES = load()


class Bookkeeping:
    """A store with creators c_0.., works w_0.. (each its creator's alone) and apps app_0...; what people do.

    number: of answers given; it names the next one.
    """

    def __init__(
        self, engine: sa.Engine, *, creators: int = 4, works: int = 6, apps: int = 2, new: bool = True
    ) -> None:
        self.engine, self.number = engine, 0
        self.prover: Prover | None = None  # who signs periods, if anybody does
        self.clock, self.ids = FrozenClock(NOVEMBER_US), CountingIds()
        self.creators = [f"c_{number}" for number in range(creators)]
        self.works = [f"w_{number}" for number in range(works)]
        self.apps = [f"app_{number}" for number in range(apps)]
        self.catalogue = Catalogue(engine, clock=self.clock, ids=self.ids)
        self.ownership = Ownership(engine, clock=self.clock, ids=self.ids)
        self.ada, self.bob = (
            Payouts(engine, clock=self.clock, ids=self.ids, by=name) for name in ("ada", "bob")
        )
        if new:
            self._register()

    def _register(self) -> None:
        def named(name: str) -> dict[str, object]:
            return {"id": name, "ref": name, "name": name, "country": "", "created_us": 0}

        rows: dict[str, list[dict[str, object]]] = {
            "creator": [named(one) for one in self.creators],
            "app": [{"id": one, "name": one, "owner_creator": None, "created_us": 0} for one in self.apps],
            "work": [
                {
                    "id": work, "ref": work, "creator_id": self.creators[place % len(self.creators)],
                    "title": work, "medium": "text", "text_sha256": "", "text_bytes": 0, "licence": "", "url": "",
                    "registered_us": 0, "registered_seq": 1_000_000 + place, "status": "active",
                }
                for place, work in enumerate(self.works)
            ],
        }  # fmt: skip
        with self.engine.begin() as connection:
            for table, new in rows.items():
                connection.execute(sa.insert(SQLModel.metadata.tables[table]), new)
        known = Payees(self.engine, clock=self.clock, key=lambda: bytes(32))
        for creator in self.creators:
            account = payees.account("manual", f"cheque to {creator}", holder=creator, country_code="DE")
            known.enter(creator, account, minimum_grains=0, currency="USD")
            known.declare(creator, TaxProfile("other", "DE", None, dt.date(2026, 1, 1)))

    # Use

    def seq(self) -> int:
        """The registry's number now."""
        with self.engine.connect() as connection:
            return registry_seq(connection)

    def records(
        self, lines: Sequence[Line], *, price_grains: int, app: str = "app_0", day: int = 0, reason: str = ""
    ) -> tuple[Used, Attributed]:
        """The two records of the next answer."""
        self.number += 1
        used = Used(
            id=f"rct_{self.number:026d}", occurred_us=NOVEMBER_US + day * DAY_US, app=app, backend="default",
            model="demo-writer", endpoint="chat", outcome="complete", input_tokens=10, output_tokens=20,
            estimated=False, price_version="p1@00000000", price_grains=price_grains,
        )  # fmt: skip
        rest = PPM - sum(line.ppm for line in lines)
        return used, Attributed(
            id=used.id, unattributed_ppm=rest, lines=tuple(lines), method="m", reason=reason,
            registry_seq=self.seq(),
        )  # fmt: skip

    def carry(self, records: Iterable[Used | Attributed], *, shard: str = "shd_a") -> None:
        """Carry records into the store behind what the shard holds, as a journal would."""
        first = watermark(self.engine, shard)
        frames = [Frame(first + place, encode_record(record), 0) for place, record in enumerate(records)]
        assert carry(self.engine, shard, frames)

    def answer(self, lines: Sequence[Line], *, price_grains: int = 30_000_000_007, **facts: object) -> None:
        """Give an answer and carry it."""
        self.carry(self.records(lines, price_grains=price_grains, **facts))  # pyright: ignore[reportArgumentType]

    # The registry

    def deny(self, work: str) -> None:
        """Take consent back."""
        self.catalogue.set_consent(work, Consent(Use.OUTPUT_INFLUENCE, "denied"))

    def allow(self, work: str) -> None:
        """Give it again."""
        self.catalogue.set_consent(work, Consent(Use.OUTPUT_INFLUENCE, "paid"))

    def split(self, work: str, parts: Sequence[tuple[str, int]]) -> None:
        """Agree on another split."""
        self.catalogue.set_split(work, Split(tuple(Part(party, ppm) for party, ppm in parts)))

    def claim(self, work: str, claimant: str) -> str:
        """Open a claim; return its id."""
        return self.ownership.open_claim(work, claimant, "it is mine").id

    # Money

    def close(self, label: str, billing: Billing = RULES, prices: PriceTable = PRICES) -> Closing:
        """Close a period; its comment window ends at once."""
        self.clock.advance(1)
        now_us, by = self.clock.now_us(), self.prover
        made = close_period(self.engine, label, billing, prices, dry_run=False, now_us=now_us, prover=by)
        self.clock.advance(1)
        return made

    def propose(self) -> Batch:
        """Propose to pay everybody who can be paid."""
        rules = Rules("manual", "USD", dt.date(2026, 12, 1), 0, (TAXED,))
        return self.ada.create(rules, Debtor())[0]

    def export(self, batch: str) -> None:
        """Have the file for the bank written."""
        self.bob.export(batch, lambda made, _at_us: made.id.encode())


def a_year_of_everything(books: Bookkeeping, *, claims: bool = True, paid: bool = True) -> None:
    """Two periods with free, prohibited, unclaimed and claimed use, a re-split, and a batch paid in part.

    claims, paid: whether anybody claims a work, and is paid.
    """
    half, some = 500_000, 123_456
    w0, w1, w2, w3, w4, w5 = books.works
    c0, c1, c2, _ = books.creators
    books.split(w1, [(c1, 600_001), ("~unclaimed", 399_999)])
    for day in range(3):
        books.answer([Line(w0, half), Line(w1, some)], day=day)
        books.answer([Line(w2, some, "free"), Line(w3, half)], app="app_1", day=day)
    books.deny(w4)
    books.answer([Line(w4, half, "prohibited"), Line(w5, some)], day=4)
    held = books.claim(w3, c1) if claims else ""
    books.close("2026-11")
    if paid:
        batch = books.propose()
        books.bob.approve(batch.id)
        books.export(batch.id)
        first, second, *_ = batch.payments
        books.bob.settle(batch.id, [first.id], ref="bank-1")
        books.bob.give_back(second.id, "account closed")
    if claims:
        books.ownership.decide_claim(held, "upheld", "the manuscript shows it")
        books.claim(w5, c2)
    books.split(w0, [(c0, 1), (c2, PPM - 1)])
    books.answer([Line(w0, half), Line(w5, some)], day=31)
    books.answer([], day=31, reason="not_attributed")
    books.close("2026-12")
    if paid:
        late = books.propose()
        books.bob.approve(late.id)
        books.bob.cancel(late.id, "wrong day")
        books.bob.approve(books.propose().id)

"""Answers made up for billing: a seeded month of them, and the books they are closed with."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing.prices import PriceTable, load
from proxy.billing.rollup import NO_LINKS, roll_up
from proxy.billing.schemes import Terms
from proxy.billing.statements import UNCLAIMED, Books, Closing, SplitSet, Statement, close_period
from proxy.clock import parse_time_us
from proxy.database import open_engine
from proxy.metering.frames import Frame, encode_record
from proxy.metering.store import carry, watermark
from proxy.metering.usage import PPM, Attributed, Line, MeteredEvent, Used
from proxy.settings import Billing, Scheme
from tests.stores import lay

NOVEMBER_US = parse_time_us("2026-11-01")
CLOSED_US = parse_time_us("2026-12-01")


def make_event(number: int = 1, lines: tuple[Line, ...] = (), **changes: object) -> MeteredEvent:
    facts: dict[str, object] = {
        "id": f"rct_{number:026d}",
        "occurred_us": NOVEMBER_US + number * 60_000_000,
        "app_id": "app_a",
        "model": "demo-writer",
        "endpoint": "chat",
        "outcome": "complete",
        "input_tokens": 100,
        "output_tokens": 1_225,
        "estimated": False,
        "price_version": "",
        "price_grains": None,
        "currency": "USD",
        "unattributed_ppm": PPM - sum(line.ppm for line in lines),
        "reason": "",
        "lines": lines,
    }
    return MeteredEvent(**(facts | changes))


@dataclass(frozen=True)
class Month:
    events: list[MeteredEvent]
    books: Books


def make_month(count: int = 10_000, creators: int = 200, works: int = 600, seed: int = 7) -> Month:
    """Skewed use of works with splits of one to four parties, some unclaimed; every verdict and reason."""
    draw = random.Random(seed)
    splits: dict[str, SplitSet] = {}
    for number in range(works):
        parties = draw.sample(range(creators), draw.choice((1, 1, 2, 4)))
        cuts = sorted(draw.sample(range(1, PPM), len(parties) - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, PPM], strict=True)]
        names = [f"c_{party:04d}" for party in parties]
        if number % 17 == 0 and len(names) > 1:
            names[0] = UNCLAIMED
        splits[f"w_{number:05d}"] = SplitSet(
            1 + number % 3, tuple(zip(names, sizes, strict=True)), f"Work {number}"
        )
    events: list[MeteredEvent] = []
    for number in range(count):
        used = {int(works * draw.random() ** 3) for _ in range(draw.choice((0, 1, 2, 3, 5, 8)))}
        left, lines = PPM, []
        for work in sorted(used):
            ppm = draw.randint(1, max(1, left // 3))
            left -= ppm
            verdict = draw.choices(("paid", "free", "prohibited"), (90, 6, 4))[0]
            lines.append(Line(f"w_{work:05d}", ppm, verdict))
        reason = "" if lines else draw.choice(("", "", "no_text", "not_attributed", "cut_by_crash"))
        price = draw.choice((None, 0, 1, draw.randint(1, 10**9)))
        events.append(
            make_event(
                number,
                tuple(lines),
                occurred_us=NOVEMBER_US + draw.randrange(30 * 86_400) * 1_000_000,
                app_id=f"app_{draw.randrange(7)}",
                model=f"demo-{draw.randrange(5)}",
                outcome=draw.choices(("complete", "cut", "failed"), (90, 7, 3))[0],
                input_tokens=draw.randrange(5_000),
                output_tokens=draw.randrange(2_000),
                estimated=draw.random() < 0.1,
                price_grains=price,
                price_version="" if price is None else "recorded@00000000",
                reason=reason,
                method="endcredits/1 0123456789ab",
            )
        )
    names = {f"c_{number:04d}": f"Creator {number}" for number in range(creators)}
    return Month(events, Books(splits, names, {f"app_{n}": f"App {n}" for n in range(7)}, {}))


@pytest.fixture(scope="session")
def month() -> Month:
    return make_month()


@pytest.fixture(scope="session")
def prices() -> PriceTable:
    return load()


Close = Callable[..., Closing]


@pytest.fixture(scope="session")
def close(prices) -> Close:
    """Close events under rules: the pure path, as the shell takes it."""

    rules = Billing()

    def closed(
        events, books, *, label="2026-11", billing=rules, end=None, start=None, links=NO_LINKS, **where
    ):
        terms = Terms.from_settings(billing)
        return close_period(
            label=label,
            rollup=roll_up(label, events, terms, prices, links),
            terms=terms,
            books=books,
            start_bounds=start or {},
            end_bounds=end or {"shard-0": 20_000},
            closed_us=CLOSED_US,
            **where,
        )

    return closed


@pytest.fixture(scope="session")
def event() -> Callable[..., MeteredEvent]:
    return make_event


@pytest.fixture(scope="session")
def make() -> Callable[..., Month]:
    return make_month


@pytest.fixture(scope="session")
def statement(close) -> Statement:
    """A creator's statement with every verdict, reason and scheme on it."""
    small = make_month(count=800, creators=6, works=30)
    billing = Billing(schemes=(Scheme(scheme="direct", app="app_3"),))
    return max(
        close(small.events, small.books, billing=billing).statements, key=lambda one: one.earned_grains
    )


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request, tmp_path) -> Iterator[sa.Engine]:
    """An empty store of this version's schema, on either engine."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    opened = open_engine(url)
    yield opened
    opened.dispose()


def register(engine: sa.Engine, books: Books, *, seq: int = 1) -> None:
    """Put the creators, apps, works and splits of `books` into the registry as of number `seq`."""
    tables = SQLModel.metadata.tables
    change = {"seq": seq, "kind": "test", "work_id": None, "payload_sha256": "", "actor": "test", "at_us": 0}
    works, parts = [], []
    for number, (work, split) in enumerate(sorted(books.splits.items())):
        owner = next(party for party, _ in split.parties if party != UNCLAIMED)
        works.append(
            {
                "id": work, "ref": work, "creator_id": owner, "title": split.title, "medium": "text",
                "text_sha256": "", "text_bytes": 0, "licence": "", "url": "", "registered_us": 0,
                "registered_seq": 1_000_000 * seq + number, "status": "active",
            }
        )  # fmt: skip
        for party, ppm in split.parties:
            row = {"work_id": work, "version": split.version, "party": party, "ppm": ppm, "role": "author"}
            parts.append({**row, "valid_from_seq": seq})
    creators = [
        {"id": key, "ref": key, "name": name, "country": "", "created_us": 0}
        for key, name in books.creator_names.items()
    ]
    apps = [
        {"id": key, "name": name, "owner_creator": None, "created_us": 0}
        for key, name in books.app_names.items()
    ]
    with engine.begin() as connection:
        for table, rows in (
            ("registry_event", [change]), ("creator", creators), ("app", apps), ("work", works), ("split", parts)
        ):  # fmt: skip
            if rows:
                connection.execute(sa.insert(tables[table]), rows)


def facts_of(event: MeteredEvent) -> tuple[Used, Attributed]:
    used = Used(
        id=event.id, occurred_us=event.occurred_us, app=event.app_id, backend="default", model=event.model,
        endpoint=event.endpoint, outcome=event.outcome, input_tokens=event.input_tokens,
        output_tokens=event.output_tokens, estimated=event.estimated, price_version=event.price_version,
        price_grains=event.price_grains, currency=event.currency, subject_digest=event.subject_digest,
        images=event.images, milliseconds=event.milliseconds,
    )  # fmt: skip
    return used, Attributed(
        id=event.id, unattributed_ppm=event.unattributed_ppm, lines=event.lines, reason=event.reason,
        method=event.method, registry_seq=event.registry_seq,
    )  # fmt: skip


def meter(
    engine: sa.Engine, events: Iterable[MeteredEvent], *, shard: str = "shd_a", pending: bool = False
) -> None:
    """Carry events into the store behind what the shard holds, as a journal would."""
    first = watermark(engine, shard)
    records = [record for event in events for record in facts_of(event)[: 1 if pending else 2]]
    frames = [Frame(first + place, encode_record(record), 0) for place, record in enumerate(records)]
    for start in range(0, len(frames), 1_000):
        assert carry(engine, shard, frames[start : start + 1_000])


@pytest.fixture(scope="session")
def into_store() -> SimpleNamespace:
    return SimpleNamespace(register=register, meter=meter)

"""How long a page takes a server for somebody with many works that were used much, and what summing costs."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time

import pytest
import sqlalchemy as sa

from proxy.billing.daily_store import DailyUses
from proxy.catalogue.works import NewWork
from tests.portal import portal

pytestmark = [pytest.mark.bench, pytest.mark.anyio, pytest.mark.timeout(900)]
WORKS = 10_000
ANSWERS = int(os.environ.get("ANSWERS", "1000000"))
ROUNDS = 15
PAGE_MS_MAX = 100
PAGES = ("/portal/", "/portal/works", "/portal/uses?span=90", "/portal/statements", "/portal/money")
DAY_US = 86_400_000_000
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :answers)"

FILLED = (
    """INSERT INTO event SELECT 'rct_' || i, 's', i, :now - (i % 90) * :day, 'app_' || (i % 12), 'b',
    'model-' || (i % 5), 'chat', 'complete', 100, 100, 0, '', '', '', 0, 'USD', 'x' FROM n""",
    "INSERT INTO attributed SELECT 'rct_' || i, 's', i, 700000, '', 'm', 1, 'x' FROM n",
    """INSERT INTO event_line SELECT 'rct_' || n.i, 0, beside.work, 300000, 'paid' FROM n
    JOIN beside ON beside.i = (n.i * 7919) % :works""",
)


def meter_much(engine: sa.Engine, works: list[str], now_us: int) -> None:
    """Put ANSWERS answers of the last 90 days into the store, each with one work, as carriers leave them."""
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE beside (i INTEGER PRIMARY KEY, work TEXT)"))
        rows = [{"i": i, "work": work} for i, work in enumerate(works)]
        connection.execute(sa.text("INSERT INTO beside VALUES (:i, :work)"), rows)
        connection.execute(sa.text("INSERT INTO shard VALUES ('s', :answers)"), {"answers": ANSWERS})
        for statement in FILLED:
            into, _, rest = statement.partition(" SELECT ")
            values = {"answers": ANSWERS, "now": now_us, "day": DAY_US, "works": len(works)}
            wanted = {name: value for name, value in values.items() if f":{name}" in f"{NUMBERS} {rest}"}
            connection.execute(sa.text(f"{into} {NUMBERS} SELECT {rest}"), wanted)


async def test_a_page_of_somebody_with_ten_thousand_works_and_a_million_answers(tmp_path):
    async with portal(tmp_path) as there:
        rows = (NewWork(str(n), "ada", f"Song {n}", f"text number {n} of hers") for n in range(WORKS))
        works = [one.work_id for one in there.catalogue.add_works(rows)]
        engine = there.running.engine
        meter_much(engine, works, there.running.clock.now_us())
        daily, began, answers = DailyUses(engine), time.process_time(), 0
        while done := daily.step():
            answers += done
        summing_us = (time.process_time() - began) / answers * 1e6
        ada = await there.browser(there.key("creator", creator="ada")[1])
        told = {}
        for path in PAGES:
            cpu, wall = [], []
            for _ in range(ROUNDS):
                cpu_s, wall_s = time.process_time(), time.perf_counter()
                reply = await ada.get(path)
                cpu.append((time.process_time() - cpu_s) * 1_000)
                wall.append((time.perf_counter() - wall_s) * 1_000)
                assert reply.status_code == 200
            told[path] = {"cpu_ms": [round(q, 1) for q in statistics.quantiles(cpu)],
                          "wall_ms": [round(q, 1) for q in statistics.quantiles(wall)]}  # fmt: skip
        print(json.dumps({
            "works": WORKS, "answers": answers, "summing_us_an_answer": round(summing_us, 1), "pages": told,
            "machine": platform.processor() or platform.machine(), "python": platform.python_version(),
        }))  # fmt: skip
        assert answers == ANSWERS
        assert max(page["cpu_ms"][1] for page in told.values()) < PAGE_MS_MAX

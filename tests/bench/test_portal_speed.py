"""How long a page takes a server for somebody with many works that were used much, and what summing costs.

Her answers are put into the store in bulk, summed by day as a server sums them, and their months closed; one
work is a long book whose every line was used, in each of two years, in every app and by every model.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time

import pytest
import sqlalchemy as sa

from proxy.billing.daily_store import DailyUses
from proxy.billing.passages import CELL
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.billing.store import list_statements
from proxy.catalogue.works import NewWork
from proxy.clock import iso_utc
from tests.portal import portal

pytestmark = [pytest.mark.bench, pytest.mark.anyio, pytest.mark.timeout(900)]
WORKS = 10_000
ANSWERS = int(os.environ.get("ANSWERS", "1000000"))
ROUNDS = 15
PAGE_MS_MAX = 100
BOOK = "It rained on the harbour and on all of its seven boats. " * 4_000
PAGES = (
    "/portal/", "/portal/works", "/portal/works?after=9000", "/portal/works/{book}",
    "/portal/works/{book}/passages", "/portal/works/{book}/passages?page=12&month=2026-05",
    "/portal/uses?span=90", "/portal/statements", "/portal/statements/{statement}", "/portal/money",
    "/portal/matters",
)  # fmt: skip
DAY_US = 86_400_000_000
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :answers)"

FILLED = (
    """INSERT INTO event (id, shard_id, idx, occurred_us, app_id, backend, model, endpoint, outcome, input_tokens,
    output_tokens, estimated, output_digest, subject_digest, price_version, price_grains, currency, body_sha256)
    SELECT 'rct_' || i, 's', i, :now - (i % 90) * :day, 'app_' || (i % 12), 'b',
    'model-' || (i % 5), 'chat', 'complete', 100, 100, 0, '', '', '', 1000000000, 'USD', 'x' FROM n""",
    "INSERT INTO attributed SELECT 'rct_' || i, 's', i, 700000, '', 'm', 1, 'x' FROM n",
    """INSERT INTO event_line SELECT 'rct_' || n.i, 0, beside.work, 300000, 'paid' FROM n
    JOIN beside ON beside.i = (n.i * 7919) % :works""",
)
# Every stretch of the book, ever and in 24 months, in 12 apps and by 5 models: more than a million answers do.
MARKED = """WITH RECURSIVE c(cell) AS (SELECT -1 UNION ALL SELECT cell + 1 FROM c WHERE cell + 1 < :cells),
    m(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM m WHERE i < 24),
    a(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM a WHERE i < 59)
    INSERT INTO passage_use (work_id, month, cell, app_id, model, answers)
    SELECT :work, CASE m.i WHEN 24 THEN '' ELSE printf('%d-%02d', 2025 + m.i / 12, 1 + m.i % 12) END, cell,
    'app_' || (a.i % 12), 'model-' || (a.i / 12), 1 + (cell * 31 + m.i) % 7
    FROM c, m, a WHERE (cell + m.i + a.i) % 7 < 1"""


def meter_much(engine: sa.Engine, works: list[str], now_us: int) -> None:
    """Put ANSWERS answers of the last 90 days into the store, each with one work, as carriers leave them."""
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE beside (i INTEGER PRIMARY KEY, work TEXT)"))
        rows = [{"i": i, "work": work} for i, work in enumerate(works)]
        connection.execute(sa.text("INSERT INTO beside VALUES (:i, :work)"), rows)
        connection.execute(sa.text("INSERT INTO shard VALUES ('s', :answers)"), {"answers": ANSWERS})
        for statement in FILLED:
            into, _, rest = statement.partition("SELECT ")
            values = {"answers": ANSWERS, "now": now_us, "day": DAY_US, "works": len(works)}
            wanted = {name: value for name, value in values.items() if f":{name}" in f"{NUMBERS} {rest}"}
            connection.execute(sa.text(f"{into} {NUMBERS} SELECT {rest}"), wanted)


async def test_a_page_of_somebody_with_ten_thousand_works_and_a_million_answers(tmp_path):
    async with portal(tmp_path) as there:
        texts = (BOOK if n == 0 else f"text number {n} of hers" for n in range(WORKS))
        rows = (NewWork(str(n), "ada", f"Song {n}", text) for n, text in enumerate(texts))
        works = [one.work_id for one in there.catalogue.add_works(rows)]
        engine = there.running.engine
        meter_much(engine, works, there.running.clock.now_us())
        daily, began, answers = DailyUses(engine), time.process_time(), 0
        while done := daily.step():
            answers += done
        summing_us = (time.process_time() - began) / answers * 1e6
        with engine.begin() as connection:
            cells = {"work": works[0], "cells": len(BOOK) // CELL}
            connection.execute(sa.text(MARKED), cells)
            marks = connection.scalar(sa.text("SELECT count(*) FROM passage_use"))
        now_us, began = there.running.clock.now_us(), time.process_time()
        billing = there.running.settings.billing
        close_period(engine, iso_utc(now_us)[:7], billing, load(), dry_run=False, now_us=now_us)
        closing_s = time.process_time() - began
        statement = list_statements(engine)[0].id
        ada = await there.browser(there.key("creator", creator="ada")[1])
        told = {}
        for page in PAGES:
            cpu, wall, path = [], [], page.format(book=works[0], statement=statement)
            for _ in range(ROUNDS):
                cpu_s, wall_s = time.process_time(), time.perf_counter()
                reply = await ada.get(path)
                cpu.append((time.process_time() - cpu_s) * 1_000)
                wall.append((time.perf_counter() - wall_s) * 1_000)
                assert reply.status_code == 200
            told[page] = {"cpu_ms": [round(q, 1) for q in statistics.quantiles(cpu)],
                          "wall_ms": [round(q, 1) for q in statistics.quantiles(wall)]}  # fmt: skip
        print(json.dumps({
            "works": WORKS, "answers": answers, "marks": marks, "closing_s": round(closing_s, 1),
            "summing_us_an_answer": round(summing_us, 1), "pages": told,
            "machine": platform.processor() or platform.machine(), "python": platform.python_version(),
        }))  # fmt: skip
        assert answers == ANSWERS
        assert max(page["cpu_ms"][1] for page in told.values()) < PAGE_MS_MAX

"""How long a close takes: a made-up period of LINES lines, closed in a process of its own, for each size.

Run by `make bench-close`; LINES="100000 1000000 10000000" names the sizes. A hundred lines a creator, three works
each, five lines an answer, 20 apps of 4 models over 30 days, and three works in ten shared by two: nearly every
line is a sum of its own, which is the dearest case. CPU time is the figure; the ratio is the last size's time
a line over the first's. After each close its statements are made as JSON and as CSV.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proxy.billing import documents
from proxy.billing.prices import load
from proxy.billing.run import close_period
from proxy.database import open_engine, upgrade
from proxy.settings import Billing

SIZES = "100000 1000000"
LINES_A_CREATOR, WORKS_A_CREATOR, LINES_AN_ANSWER = 100, 3, 5
APPS, MODELS, DAYS = 20, 4, 30
BEGIN_US = 1_793_500_000_000_000
BATCH = 20_000
PRINTED_MAX = 10_000  # statements made as files: those of ten million lines have a hundred lines each too


def make(path: Path, lines: int) -> int:
    """Fill a new store at `path`; return how many creators it has."""
    upgrade(f"sqlite:///{path}")
    answers, creators = lines // LINES_AN_ANSWER, max(10, lines // LINES_A_CREATOR)
    works, draw = creators * WORKS_A_CREATOR, random.Random(lines)
    into = sqlite3.connect(path)
    into.execute("PRAGMA synchronous = OFF")

    def put(table: str, **columns: object) -> None:
        rows = zip(*columns.values(), strict=True)
        into.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
            rows,
        )

    def same(value: object, count: int) -> list[object]:
        return [value] * count

    people, numbers = [f"cr_{n:026d}" for n in range(creators)], range(works)
    ids = [f"w_{n:026d}" for n in numbers]
    put(
        "registry_event", seq=[n + 1 for n in numbers], kind=same("work", works), work_id=ids,
        payload_sha256=same("", works), actor=same("bench", works), at_us=same(0, works),
    )  # fmt: skip
    put(
        "creator", id=people, ref=people, name=[f"Creator {n}" for n in range(creators)],
        country=same("", creators), created_us=same(0, creators),
    )  # fmt: skip
    put(
        "work", id=ids, ref=ids, creator_id=[people[n % creators] for n in numbers],
        title=[f"Work {n}" for n in numbers], medium=same("text", works), text_sha256=same("", works),
        text_bytes=same(0, works), licence=same("", works), url=same("", works), registered_us=same(0, works),
        registered_seq=[n + 1 for n in numbers], status=same("active", works),
    )  # fmt: skip
    parts: list[tuple[str, str, int, int]] = []
    for n in numbers:
        other, cut = (n * 7 + 1) % creators, draw.randint(200_000, 800_000)
        if draw.random() < 0.7 or other == n % creators:
            parts.append((ids[n], people[n % creators], 1_000_000, n + 1))
        else:
            parts.append((ids[n], people[n % creators], cut, n + 1))
            parts.append((ids[n], people[other], 1_000_000 - cut, n + 1))
    work_ids, parties, ppms, seqs = zip(*parts, strict=True)
    put(
        "split", work_id=work_ids, version=same(1, len(parts)), party=parties, ppm=ppms,
        role=same("author", len(parts)), valid_from_seq=seqs,
    )  # fmt: skip
    for start in range(0, answers, BATCH):
        _answers(put, draw, range(start, min(start + BATCH, answers)), ids, DAYS * 86_400_000_000 // answers)
        into.commit()
    into.execute("INSERT INTO shard VALUES ('s1', ?)", (2 * answers,))
    into.commit()
    into.close()
    return creators


def _answers(put, draw, numbers, works, step_us):
    count, answers = len(numbers), [f"rct_{n:026d}" for n in numbers]
    lines, rest = [], []
    for answer in answers:
        used: set[int] = set()
        while len(used) < LINES_AN_ANSWER:
            used.add(int(len(works) * draw.random() ** 3))  # a few are used much
        left = 1_000_000
        for place, work in enumerate(used):
            ppm = draw.randint(1, left // 3)
            left -= ppm
            lines.append((answer, place, works[work], ppm))
        rest.append(left)
    fixed = {
        "shard_id": "s1", "backend": "default", "endpoint": "/v1/chat/completions", "outcome": "complete",
        "input_tokens": 800, "output_tokens": 400, "estimated": 0, "output_digest": "", "subject_digest": "",
        "price_version": "v1", "currency": "USD", "body_sha256": "x",
    }  # fmt: skip
    put(
        "event", id=answers, idx=[2 * n for n in numbers], occurred_us=[BEGIN_US + n * step_us for n in numbers],
        app_id=[f"app_{draw.randrange(APPS):022d}" for _ in numbers],
        model=[f"model-{draw.randrange(MODELS)}" for _ in numbers],
        price_grains=[600 * draw.randint(2_000, 50_000) for _ in numbers],
        **{name: [value] * count for name, value in fixed.items()},
    )  # fmt: skip
    put(
        "attributed", event_id=answers, shard_id=["s1"] * count, idx=[2 * n + 1 for n in numbers],
        unattributed_ppm=rest, reason=[""] * count, method=["endcredits/1 0123456789ab"] * count,
        registry_seq=[len(works)] * count, body_sha256=["x"] * count,
    )  # fmt: skip
    of, places, named, ppms = zip(*lines, strict=True)
    put("event_line", event_id=of, ord=places, work_id=named, ppm=ppms, verdict=["paid"] * len(of))


def measure(lines: int) -> dict[str, object]:
    """Make a period, close it, make every statement's files; return the figures."""
    folder = Path(tempfile.mkdtemp(prefix="ec-close-", dir=os.environ.get("BENCH_DIR")))
    try:
        subprocess.run(  # a process of its own, so that what making costs is not in our peak
            [sys.executable, "-m", "tests.bench.closing", "--make", str(folder / "store.db"), str(lines)],
            check=True,
        )
        engine = open_engine(f"sqlite:///{folder / 'store.db'}")
        prices, began, wall = load(), _cpu(), time.perf_counter()
        closing = close_period(engine, "2026-11", Billing(), prices, dry_run=False, now_us=BEGIN_US)
        closed, waited = _cpu(), time.perf_counter() - wall
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        printed = 0
        for statement in itertools.islice(closing.statements, PRINTED_MAX):
            documents.to_json(statement)
            documents.to_csv(statement)
            printed += 1
        return {
            "lines": lines,
            "creators": len(closing.statements),
            "close_s": round(waited, 1),
            "close_cpu_s": round(closed - began, 1),
            "us_a_line": round((closed - began) / lines * 1e6, 2),
            "peak_mib": peak_mib,
            "json_csv_ms_a_statement": round((_cpu() - closed) / printed * 1e3, 3),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cpu() -> float:
    """Seconds of CPU that this process has used, the system's on its behalf included."""
    return time.process_time()


def main() -> None:
    """Measure each size in a process of its own and print a row for each."""
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
        return
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(int(sys.argv[2]))))
        return
    sizes = [int(size) for size in (os.environ.get("LINES") or SIZES).split()]
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    rates: list[float] = []
    for size in sizes:
        made = subprocess.run(
            [sys.executable, "-m", "tests.bench.closing", "--one", str(size)], check=True, capture_output=True
        )
        row = json.loads(made.stdout)
        rates.append(row["us_a_line"])
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    print(f"time a line, {sizes[-1]} lines over {sizes[0]}: {rates[-1] / rates[0]:.2f}")


if __name__ == "__main__":
    main()

"""What an answer costs, and how far shares move, when the catalogue is ten times or a hundred times as large.

    python -m attribution.scale BENCH 100k --work build/scale

BENCH/dev holds works.jsonl.gz, outputs.jsonl.gz and works_stretch.jsonl.gz (distractors). `base` is the works
alone, `100k` adds distractors up to 100,000 passages, `1m` adds nine more copies of all that, each with 30 %
of its words replaced by others of the catalogue: likely words in unlikely company, with nothing new to say.
`copies` adds to `base` the nine copies of the works that the labelled outputs owe: what `1m` does to shares,
for a tenth of its encoding.
An index already built is used again; one that was cut is built on.

Time is processor time of this process, so that a busy machine disturbs it least; its threads count.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import random
import resource
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from attribution.building import PASSAGE_WORDS
from attribution.engine import Attributor, build_index
from attribution.errors import IndexCorrupt, IndexMissing
from attribution.index import Manifest
from attribution.normalise import words
from attribution.segments import segments
from attribution.terms import PPM, Attribution, SourceWork

PASSAGES = {"base": 0, "copies": 0, "100k": 100_000, "1m": 100_000}
COPIES, REPLACED_PART, SEED = 10, 0.3, 1
ANSWER_WORDS = 300  # about 400 tokens
ANSWERS = 60


def read_works(path: Path) -> Iterator[SourceWork]:
    """Read a .jsonl.gz of {"work_id", "creator_id", "text", "registered_at"}."""
    for work in _lines(path):
        when = datetime.fromisoformat(work["registered_at"])
        yield SourceWork(work["work_id"], work["text"], int(when.timestamp()) * 1_000_000, work["creator_id"])


def passages_of(text: str) -> int:
    """Count the passages that an index makes of a text."""
    count, open_words = 0, 0
    for segment in segments(text):
        size = len(words(segment.text).texts)
        if not size:
            continue
        count += open_words == 0
        open_words = 0 if open_words + size >= PASSAGE_WORDS else open_words + size
    return count


def catalogue(works: Iterable[SourceWork], stretch: Iterable[SourceWork], passages: int) -> list[SourceWork]:
    """Return the works, and of `stretch` as many as it takes to reach so many passages."""
    result = list(works)
    if not passages:
        return result
    count = sum(passages_of(work.text) for work in result)
    for work in stretch:
        if count >= passages:
            break
        result.append(work)
        count += passages_of(work.text)
    return result


def reworded(works: Sequence[SourceWork], number: int) -> Iterator[SourceWork]:
    """Return a copy of every work with REPLACED_PART of its words replaced by words of the catalogue."""
    chance = random.Random(f"{SEED} {number}")  # noqa: S311  repeatable on purpose
    pool = [word for work in works[::7] for word in work.text.split()[::3]]
    for work in works:
        text = " ".join(
            chance.choice(pool) if chance.random() < REPLACED_PART else word for word in work.text.split()
        )
        yield SourceWork(f"{work.work_id}~{number}", text, work.registered_us + number, f"~{number}")


def answers(texts: Sequence[str], count: int = ANSWERS, length: int = ANSWER_WORDS) -> list[str]:
    """Return answers of so many words each, made of outputs in a fixed random order."""
    order = list(texts)
    random.Random(SEED).shuffle(order)  # noqa: S311  repeatable on purpose
    result: list[str] = []
    held: list[str] = []
    for text in order:
        held += text.split(" ")
        if len(held) >= length and len(result) < count:
            result.append(" ".join(held[:length]))
            held = []
    return result


def timed(attributor: Attributor, texts: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return processor milliseconds of each text: all at once, and after the last word of a stream."""
    whole: list[float] = []
    last: list[float] = []
    for text in texts:
        began = time.process_time()
        attributor.attribute(text)
        whole.append((time.process_time() - began) * 1e3)
    for text in texts:
        stream = attributor.stream()
        for word in text.split(" "):
            stream.push(f"{word} ")
        began = time.process_time()
        stream.finish()
        last.append((time.process_time() - began) * 1e3)
    return whole, last


def movement(
    truth: Sequence[dict[str, Any]], here: Sequence[Attribution], there: Sequence[Attribution]
) -> float:
    """Return by how many points of 100 a true work's share differs between two catalogues, on average."""
    moved: list[float] = []
    for output, one, other in zip(truth, here, there, strict=True):
        first = {share.work_id: share.ppm for share in one.shares}
        second = {share.work_id: share.ppm for share in other.shares}
        moved += [
            abs(first.get(owed["work_id"], 0) - second.get(owed["work_id"], 0)) * 100 / PPM
            for owed in output["truth"]
        ]
    return statistics.fmean(moved) if moved else 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what is missing, measure, print the table, write the predictions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", type=Path)
    parser.add_argument("scale", choices=sorted(PASSAGES))
    parser.add_argument("--work", type=Path, default=Path("build/scale"))
    given = parser.parse_args(arguments)
    dev: Path = given.bench / "dev"
    truth = list(_lines(dev / "outputs.jsonl.gz"))
    texts: list[str] = [output["text"] for output in truth]
    base = None
    if given.scale != "base":
        with Opened(dev, "base", given.work) as attributor:
            base = [attributor.attribute(text) for text in texts]
    with Opened(dev, given.scale, given.work) as attributor:
        chosen = answers(texts)
        for text in chosen[:5]:
            attributor.attribute(text)  # pages and tables come into memory once
        whole, last = timed(attributor, chosen)
        found = [attributor.attribute(text) for text in texts]
        assert attributor.index is not None
        manifest = attributor.index.manifest
    lines = [
        {
            "output_id": output["output_id"],
            "unattributed_share": one.unattributed_ppm / PPM,
            "credits": [{"work_id": share.work_id, "share": share.ppm / PPM} for share in one.shares],
        }
        for output, one in zip(truth, found, strict=True)
    ]
    out: Path = given.work / f"predictions-{given.scale}.jsonl"
    out.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    size = sum(bytes_ for bytes_, _ in manifest.files.values())
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = f"{platform.machine()}, Python {platform.python_version()}"
    _say(f"{host}, {len(chosen)} answers of {ANSWER_WORDS} words")
    _say(f"{manifest.works} works, {manifest.passages} passages, {manifest.words} words")
    _say(f"{size >> 20} MB on disk")
    _say(f"an answer, all at once: {spread(whole)}")
    _say(f"after the last word of a stream: {spread(last)}")
    _say(f"largest resident memory, mapped pages included: {resident >> 10} MB")
    if base is not None:
        _say(
            f"true works' shares against the base catalogue: moved {movement(truth, base, found):.2f} points"
        )


class Opened:
    """An engine over one of the catalogues, built when it is not there yet."""

    def __init__(self, dev: Path, scale: str, work: Path) -> None:
        directory, previous = work / f"index-{scale}", work / "index-base"
        try:
            Manifest.read(directory)
        except (IndexMissing, IndexCorrupt) as error:
            if isinstance(error, IndexCorrupt):  # of an earlier version, whose vectors are still good
                previous = work / f"index-{scale}.old"
                shutil.rmtree(previous, ignore_errors=True)
                directory.rename(previous)
            works = catalogue(
                read_works(dev / "works.jsonl.gz"),
                read_works(dev / "works_stretch.jsonl.gz"),
                PASSAGES[scale],
            )
            if scale == "1m":
                works += [copy for number in range(1, COPIES) for copy in reworded(works, number)]
            if scale == "copies":
                owed = {
                    one["work_id"] for output in _lines(dev / "outputs.jsonl.gz") for one in output["truth"]
                }
                works += [
                    copy
                    for number in range(1, COPIES)
                    for work, copy in zip(works, reworded(works, number), strict=True)
                    if work.work_id in owed
                ]
            began = time.monotonic()
            build_index(works, directory, previous=previous, progress=_show)
            _say(f"\nbuilt {directory} in {time.monotonic() - began:.0f} s")
        self._attributor = Attributor.open(directory)

    def __enter__(self) -> Attributor:
        """Return the engine."""
        return self._attributor

    def __exit__(self, *_: object) -> None:
        """Let go of its files."""
        self._attributor.close()


def spread(milliseconds: Sequence[float]) -> str:
    """Return median and 95th percentile as text."""
    ordered = sorted(milliseconds)
    high = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return f"p50 {statistics.median(ordered):.1f} ms, p95 {high:.1f} ms of one core"


def _show(done: int, total: int) -> None:
    _say(f"\rencoded {done} of {total} sentences", end="")


def _say(line: str, end: str = "\n") -> None:
    print(line, end=end, flush=True)  # noqa: T201  what this command is for


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


if __name__ == "__main__":
    main()

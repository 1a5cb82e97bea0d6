"""Where in a work answers found what they drew on: stretches become cells, and cells mark sentences.

What an answer drew on is kept as counts and nothing else: of a work's text, cell by cell of CELL code points,
how many answers. A stretch that begins within a word, and the thousand stretches that differ by one, come to
the same cells; so what is kept of a work is bounded by its length, and nothing of it tells what anybody asked
or was answered. Who looks sees sentences: one is marked as often as the cell was used that mostly is its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

CELL: Final = 32  # code points: a short line of a song, so that one is seldom marked for its neighbour
LEAF_CHARACTERS: Final = 9_000  # of a text on one page: some five printed pages
PARAGRAPH: Final = "\n\n"
# What is cut wrongly here costs a mark its edge; how answers are cut (attribution/segments.py) costs shares.
SENTENCE: Final = re.compile(r"\S.*?(?:[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？।؟]+|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class By:
    """How many answers an app gave with a model."""

    app: str
    model: str
    answers: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """A stretch of a work's text, in code points of it, and how many answers drew on it.

    passage: the place of its passage on the leaf, from 1; 0 for one that is in none.
    """

    start: int
    end: int
    text: str
    answers: int = 0
    passage: int = 0


@dataclass(frozen=True, slots=True)
class Passage:
    """Sentences one after the other that answers drew on. answers: of the one used most; by: most first."""

    start: int
    end: int
    answers: int
    by: tuple[By, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of a text as one page shows it: lines of sentences, none where a line is empty."""

    start: int
    end: int
    lines: tuple[tuple[Sentence, ...], ...]
    passages: tuple[Passage, ...]


def cells(start: int, end: int) -> range:
    """Return the cells that a stretch mostly fills, or mostly lies in: one at least, if it is not empty."""
    if start < 0 or end <= start:
        return range(0)
    first, last = start // CELL, (end - 1) // CELL
    enough = min(CELL, end - start)
    if first != last and 2 * ((first + 1) * CELL - start) < enough:
        first += 1
    if first != last and 2 * (end - last * CELL) < enough:
        last -= 1
    return range(first, last + 1)


def leaf_starts(text: str) -> list[int]:
    """Return where each leaf of a text begins: behind a paragraph if there is one, else a line or a word."""
    starts, at = [0], 0
    while len(text) - at > LEAF_CHARACTERS:
        low, high = at + LEAF_CHARACTERS // 2, at + LEAF_CHARACTERS
        for mark in (PARAGRAPH, "\n", " "):
            found = text.rfind(mark, low, high)
            if found >= 0:
                at = found + len(mark)
                break
        else:
            at = high
        starts.append(at)
    return starts


def leaf(text: str, start: int, end: int, uses: Mapping[int, Sequence[By]]) -> Leaf:
    """Return text[start:end] in lines of sentences, with the passages that were used. uses: by cell."""
    lines: list[tuple[Sentence, ...]] = []
    passages: list[Passage] = []
    at, goes_on = start, False
    for line in text[start:end].splitlines(keepends=True):
        row: list[Sentence] = []
        for one in SENTENCE.finditer(line.rstrip()):
            place = (at + one.start(), at + one.end())
            by = _by(uses[cell] for cell in cells(*place) if cell in uses)
            if by and goes_on:
                passages[-1] = _longer(passages[-1], place[1], by)
            elif by:
                passages.append(Passage(*place, sum(of.answers for of in by), by))
            goes_on = bool(by)
            answers = sum(of.answers for of in by)
            row.append(Sentence(*place, one.group(), answers, len(passages) if by else 0))
        goes_on = goes_on and bool(row)  # an empty line ends a passage: it ends a stanza or a paragraph
        lines.append(tuple(row))
        at += len(line)
    return Leaf(start, end, tuple(lines), tuple(passages))


def _longer(passage: Passage, end: int, by: tuple[By, ...]) -> Passage:
    both = _by((passage.by, by))
    return Passage(passage.start, end, max(passage.answers, sum(of.answers for of in by)), both)


def _by(several: Iterable[Sequence[By]]) -> tuple[By, ...]:
    """Return who used any of several cells: of each app and model the most, because an answer uses many."""
    most: dict[tuple[str, str], int] = {}
    for uses in several:
        for one in uses:
            most[one.app, one.model] = max(most.get((one.app, one.model), 0), one.answers)
    return tuple(By(*who, n) for who, n in sorted(most.items(), key=lambda item: (-item[1], item[0])))

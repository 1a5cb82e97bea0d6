"""The training catalogue and the made outputs whose owners are known.

Whole books, parts of books and abstracts are held out of the catalogue: their sentences are the negatives
that
matter, text of the same author or subject that nobody registered. From part of the abstracts one sentence is
held out, and serves as a statement about the work in words that the registered text does not contain.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.segments import segments
from attribution.terms import SourceWork
from attribution.training.corpus import TrainingWork
from attribution.training.edits import Editor, Made

CLAIM_MARKS = (
    "we propose",
    "we present",
    "we introduce",
    "we show",
    "we demonstrate",
    "this paper",
    "in this work",
    "we develop",
)

# How often each family is made.
WEIGHTS = {
    "quote": 1.6, "passage": 1.0, "reworded": 2.2, "one_sentence": 2.4, "summary": 2.0, "headline": 2.2,
    "mixture": 2.0, "outside_passage": 1.0, "outside_summary": 1.6, "outside_headline": 1.8, "nothing": 0.5,
    "transplant": 2.0, "beside": 1.2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is registered, what is held out, and the sentence held out of some registered abstracts."""

    registered: list[SourceWork]
    sentences: dict[str, list[str]]
    outside: dict[str, list[list[str]]]  # source -> works held out, as sentences
    claims: dict[str, str]
    source: dict[str, str]
    titles: dict[str, str]  # of registered abstracts
    outside_titles: list[str]  # of those held out
    beside: list[list[str]]  # held out, and next to something registered: the same book, the same subject


def split(works: Sequence[TrainingWork], rng: random.Random) -> Catalogue:
    """Hold out books, parts and abstracts."""
    books = sorted({work.book for work in works if work.source == "books"})
    away = set(rng.sample(books, len(books) // 5))
    registered: list[SourceWork] = []
    known_books: set[str] = set()
    parts_of: list[tuple[str, list[str]]] = []
    sentences: dict[str, list[str]] = {}
    outside: dict[str, list[list[str]]] = {"books": [], "scitldr": [], "begin-wow": []}
    claims: dict[str, str] = {}
    titles: dict[str, str] = {}
    outside_titles: list[str] = []
    for number, work in enumerate(works):
        parts = [one.text for one in segments(work.text)]
        chance = 0.15 if work.source == "books" else 0.35
        held_out = work.book in away and work.source == "books"
        if held_out or rng.random() < chance:
            outside[work.source].append(parts)
            if work.title:
                outside_titles.append(work.title)
            if work.source == "books":
                parts_of.append((work.book, parts))
            continue
        known_books.add(work.book)
        if work.title:
            titles[work.work_id] = work.title
        text = work.text
        if work.source == "scitldr" and len(parts) >= 4 and rng.random() < 0.5:
            marked = [at for at, one in enumerate(parts) if any(mark in one.lower() for mark in CLAIM_MARKS)]
            at = rng.choice(marked or list(range(len(parts))))
            claims[work.work_id] = parts.pop(at)
            text = " ".join(parts)
        registered.append(SourceWork(work.work_id, text, number, work.creator_id))
        sentences[work.work_id] = parts
    registered.extend(_copies(registered, sentences, rng))
    beside = [parts for book, parts in parts_of if book in known_books]
    return Catalogue(
        registered,
        sentences,
        outside,
        claims,
        {work.work_id: work.source for work in works},
        titles,
        outside_titles,
        beside,
    )


def add_same_subject(
    catalogue: Catalogue, encode: Callable[[list[str]], NDArray[np.float32]], part: float = 0.3
) -> None:
    """Add to `beside` the abstracts and fact sheets held out that are nearest to a registered one."""
    outside = [parts for source in ("scitldr", "begin-wow") for parts in catalogue.outside[source]]
    inside = [
        work.text for work in catalogue.registered if catalogue.source.get(work.work_id, "books") != "books"
    ]
    rows = encode([" ".join(parts)[:300] for parts in outside])
    nearest = (rows @ encode([text[:300] for text in inside]).T).max(axis=1)
    order = np.argsort(-nearest, kind="stable")[: int(len(outside) * part)]
    near = [outside[at] for at in order.tolist()]
    # Books are many and abstracts few: as often one as the other.
    catalogue.beside.extend(near * max(1, len(catalogue.beside) // max(len(near), 1)))


def _copies(
    registered: list[SourceWork], sentences: dict[str, list[str]], rng: random.Random
) -> list[SourceWork]:
    """Return later copies: whole works uploaded again, and passages of one work put into another."""
    copies: list[SourceWork] = []
    for number, work in enumerate(rng.sample(registered, len(registered) // 12)):
        text = work.text
        if rng.random() < 0.5:
            other = rng.choice(registered)
            at = rng.randint(0, max(0, len(sentences[work.work_id]) - 4))
            text = other.text[:1500] + " " + " ".join(sentences[work.work_id][at : at + 4])
        elif rng.random() < 0.5:
            text = text.lower()
        copies.append(SourceWork(f"copy{number}", text, len(registered) * 4 + number, f"copier{number}"))
    return copies


class Maker:
    """Makes outputs of every family from a catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        neighbours: Mapping[str, Sequence[str]],
        rng: random.Random,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """weights: of families, by name, where they are not WEIGHTS."""
        self._weights = {**WEIGHTS, **(weights or {})}
        self.catalogue, self.rng, self.edit = catalogue, rng, Editor(rng, neighbours)
        self.by_source: dict[str, list[str]] = {}
        for work in catalogue.registered:
            if len(catalogue.sentences.get(work.work_id, ())) >= 3:
                self.by_source.setdefault(catalogue.source[work.work_id], []).append(work.work_id)
        self.titled = sorted(catalogue.titles)

    def make(self) -> Made:
        """Return one output of a family drawn by weight."""
        name = self.rng.choices(list(self._weights), list(self._weights.values()))[0]
        family: Callable[[], Made] = getattr(self, name)
        made = family()
        made.kind = name
        return made

    def pick(self, *weights: float) -> tuple[str, list[str]]:
        """Return a registered work and its sentences; weights: books, abstracts, fact sheets."""
        source = self.rng.choices(("books", "scitldr", "begin-wow"), weights)[0]
        work_id = self.rng.choice(self.by_source[source])
        return work_id, self.catalogue.sentences[work_id]

    def some(self, sentences: list[str], low: int, high: int) -> list[str]:
        """Return some sentences in a row."""
        count = min(self.rng.randint(low, high), len(sentences))
        at = self.rng.randint(0, len(sentences) - count)
        return sentences[at : at + count]

    def around(self, made: Made, *, low: int = 1, high: int = 4) -> None:
        """Add text that owes nothing: templates, or sentences nobody registered."""
        if self.rng.random() < 0.6:
            made.add(self.edit.filler(self.rng.randint(low, high)), None)
        else:
            source = self.rng.choices(("books", "scitldr", "begin-wow"), (1, 1, 0.7))[0]
            made.add(" ".join(self.some(self.rng.choice(self.catalogue.outside[source]), low, high)), None)

    def quote(self) -> Made:
        """A quotation of 8 to 20 words, begun and ended mid-sentence."""
        made, (work_id, sentences) = Made(), self.pick(3, 1, 0.5)
        words = " ".join(self.some(sentences, 2, 4)).split()
        length = self.rng.randint(8, 20)
        at = self.rng.randint(0, max(0, len(words) - length))
        self.around(made)
        made.add(self.edit.filler(1).rstrip(".!") + ", " + self.edit.lead().lower(), None)
        made.add(" ".join(words[at : at + length]), work_id)
        made.add("and " + self.edit.filler(1)[:1].lower() + self.edit.filler(1)[1:], None)
        self.around(made)
        return made

    def passage(self) -> Made:
        """A copied passage, at times misread, among other text."""
        made, (work_id, sentences) = Made(), self.pick(3, 1, 0.3)
        text = " ".join(self.some(sentences, 2, 6))
        alone = self.rng.random() < 0.4
        if not alone:
            self.around(made)
        made.add(self.edit.noise(text) if self.rng.random() < 0.3 else text, work_id)
        if not alone:
            self.around(made)
        return made

    def reworded(self) -> Made:
        """A passage reworded sentence by sentence."""
        made, (work_id, sentences) = Made(), self.pick(2, 2, 1)
        edit = self.edit.light if self.rng.random() < 0.4 else self.edit.heavy
        for sentence in self.some(sentences, 2, 7):
            if self.rng.random() < 0.1:
                made.add(self.edit.filler(1), None)
            made.add(edit(sentence), work_id)
        if self.rng.random() < 0.3:
            self.around(made)
        return made

    def one_sentence(self) -> Made:
        """One sentence reworded, alone or among text that owes nothing."""
        work_id, sentences = self.pick(3, 1, 1)
        sentence = self.rng.choice(sentences)
        text = self.edit.heavy(sentence) if self.rng.random() < 0.7 else self.edit.light(sentence)
        return self._framed(text, work_id)

    def summary(self) -> Made:
        """One compressed statement: of sentences registered, or of the one that was held out."""
        work_id, sentences = self.pick(0.5, 3, 1.2)
        held = self.catalogue.claims.get(work_id)
        if held is not None and self.rng.random() < 0.8:
            text = self.edit.summary([held]) if self.rng.random() < 0.7 else self.edit.claim(held)
        else:
            text = self.edit.summary(self.rng.sample(sentences, self.rng.randint(1, min(3, len(sentences)))))
            if self.rng.random() < 0.3:
                text = self.edit.lead() + " " + text
        return self._framed(text, work_id)

    def headline(self) -> Made:
        """What an abstract's own authors called it, said as a statement: a summary in words of its own."""
        work_id = self.rng.choice(self.titled)
        return self._framed(self.edit.headline(self.catalogue.titles[work_id]), work_id)

    def outside_headline(self) -> Made:
        """The same of an abstract nobody registered."""
        return self._framed(self.edit.headline(self.rng.choice(self.catalogue.outside_titles)), None)

    def _framed(self, text: str, work_id: str | None) -> Made:
        made = Made()
        before, after = self.rng.random() < 0.4, self.rng.random() < 0.4
        if before:
            self.around(made, high=3)
        made.add(text, work_id)
        if after:
            self.around(made, high=3)
        return made

    def mixture(self) -> Made:
        """Two to four works in one output, copied, reworded or summarised."""
        made = Made()
        for _ in range(self.rng.randint(2, 4)):
            work_id, sentences = self.pick(2, 2, 1)
            some = self.some(sentences, 1, 4)
            way = self.rng.random()
            if way < 0.4:
                made.add(" ".join(some), work_id)
            elif way < 0.75:
                made.add(" ".join(self.edit.heavy(one) for one in some), work_id)
            elif way < 0.85 or work_id not in self.catalogue.titles:
                made.add(self.edit.summary(some[:2]), work_id)
            else:
                made.add(self.edit.headline(self.catalogue.titles[work_id]), work_id)
            if self.rng.random() < 0.5:
                self.around(made, high=3)
        return made

    def outside_passage(self) -> Made:
        """Text of works nobody registered, as it is or reworded."""
        made = Made()
        source = self.rng.choices(("books", "scitldr", "begin-wow"), (1.5, 1, 0.7))[0]
        plain = self.rng.random() < 0.6
        for sentence in self.some(self.rng.choice(self.catalogue.outside[source]), 1, 6):
            made.add(sentence if plain else self.edit.heavy(sentence), None)
        return made

    def outside_summary(self) -> Made:
        """A summary of a work nobody registered."""
        source = self.rng.choices(("books", "scitldr", "begin-wow"), (0.5, 3, 1))[0]
        sentences = self.rng.choice(self.catalogue.outside[source])
        chosen = self.rng.sample(sentences, self.rng.randint(1, min(2, len(sentences))))
        text = self.edit.summary(chosen) if self.rng.random() < 0.7 else self.edit.claim(chosen[0])
        return self._framed(text, None)

    def beside(self) -> Made:
        """Text nobody registered, of a book or a subject of which something else is registered."""
        made, plain = Made(), self.rng.random() < 0.6
        for sentence in self.some(self.rng.choice(self.catalogue.beside), 1, 6):
            made.add(sentence if plain else self.edit.heavy(sentence), None)
        return made

    def transplant(self) -> Made:
        """Sentences nobody registered with a registered work's terms set in: its subject, not its claims."""
        made, (_, sentences) = Made(), self.pick(1, 1.5, 1)
        source = self.rng.choices(("books", "scitldr", "begin-wow"), (1, 1.5, 1))[0]
        pool = self.catalogue.outside[source]
        is_long = self.rng.random() < 0.5
        text = self.some(self.rng.choice(pool), 1, 6)
        if is_long:
            for _ in range(self.rng.randint(1, 3)):
                text = text + self.some(self.rng.choice(pool), 2, 6)
        theme, part = self._terms(sentences), self.rng.uniform(0.08, 0.4)
        for sentence in text:
            put: list[str] = []
            skip = 0  # words that a term of two words has taken the place of
            for word in sentence.split():
                if skip:
                    skip -= 1
                elif len(word) >= 5 and self.rng.random() < part:
                    put.append(self.rng.choice(theme))
                    skip = len(put[-1].split()) - 1
                else:
                    put.append(word)
            made.add(" ".join(put), None)
        return made

    def _terms(self, sentences: list[str]) -> list[str]:
        """Return what a text keeps coming back to: words, the frequent ones twice, and pairs of words."""
        own = [word.strip(".,;:!?()\"'") for word in " ".join(sentences).split()]
        long = [word for word in own if len(word) >= 5] or ["subject"]
        pairs = [f"{one} {two}" for one, two in itertools.pairwise(own) if len(one) >= 4 and len(two) >= 5]
        frequent = sorted(set(long), key=lambda word: (-long.count(word), word))[:8]
        return (
            frequent * 2
            + self.rng.sample(long, min(6, len(long)))
            + self.rng.sample(pairs, min(5, len(pairs)))
        )

    def nothing(self) -> Made:
        """Only templates."""
        made = Made()
        made.add(self.edit.filler(self.rng.randint(2, 8)), None)
        return made

"""What a request already holds: registered works among its messages, and words that are the user's own.

A registered work's text in the request (a retrieved passage, a pasted chapter) is a fact about the answer,
not a likeness, so it raises what is thought of that work before the answer is read. Text of the request that
nobody registered is nobody's: an answer that repeats it owes it to no work that merely resembles it.

A request may be a hundred thousand tokens long and the answer's first words are waited for, so only every
fourth fingerprint is looked up: a run of MIN_WORDS words has one of those for certain, and what lies around
a hit is then looked up whole.

A prior is a factor on the odds that a piece is owed to a work, and nothing else: a piece that shares no word
with the work stays nobody's, whatever the request held. Grounded works get GROUNDED_ODDS; a work whose
address the backend cites gets CITED_ODDS, being named for what is said but seldom repeated.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attribution.index import Index
from attribution.lexical import GRAM_WORDS, HOLDERS_MAX, I64, Run, diagonals, distinct, grams
from attribution.normalise import REMEMBERED_CHARS_MAX, fold, word_hash, words
from attribution.replication import NOT_QUARANTINED
from attribution.runs import SHARED_CREATORS, SHARED_WORDS_MAX, creators_apart

MIN_WORDS = 8  # in a row; fewer in common with a book are chance
STRIDE = MIN_WORDS - GRAM_WORDS + 1
OWN_WORDS_MIN = 6  # in a row, repeated from the request
CONTEXT_WORDS_MAX = 400_000  # half a million tokens; what is beyond is not looked at
RUNS_MAX = 4_000  # longest first
WORKS_MAX = 16  # that are candidates of every piece of the answer; a request quotes no more to some purpose
PLACES_MAX = 8
GROUNDED_ODDS = 3.0
CITED_ODDS = 3.0
CARRIED_CHARACTERS_MAX = 2_000  # without white space: no word of a language is so long

_RARE_LETTERS_MAX = 64  # passes over the text that are cheaper than a look at each of its letters
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")  # folded by the word they stand in
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
# Each begins with a sign that is searched for quickly; as one pattern they would be tried at every letter.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_STARS = re.compile(r"\*\*(?=[^\W_])(?<=[^\W_]\*\*)")


@dataclass(frozen=True, slots=True)
class Grounded:
    """A registered work of which `words` words stand in the request, from the request's word `start` on.

    places: where in the catalogue's words its longest runs lie, at most PLACES_MAX; empty when only the work
    is known (after a restart, which has not kept the request).
    """

    work_id: str
    words: int = 0
    start: int = 0
    places: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a request, for the answer to it.

    grounded: most words first. cited: works whose address the backend named. fingerprints: of OWN_WORDS_MIN
    words in a row that stand in the request and are nobody's, uint64 (n,), sorted.
    """

    grounded: tuple[Grounded, ...] = ()
    cited: frozenset[str] = frozenset()
    fingerprints: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def kinds(self) -> dict[str, Literal["grounded", "cited"]]:
        """Return the works that the request or its answer speaks for, and how."""
        kinds: dict[str, Literal["grounded", "cited"]] = dict.fromkeys(sorted(self.cited), "cited")
        kinds.update(dict.fromkeys((found.work_id for found in self.grounded), "grounded"))
        return kinds

    def own_words(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which of an output's words stand in runs that are the user's own."""
        covered = np.zeros(len(hashes), bool)
        asked = grams(hashes, OWN_WORDS_MIN)
        if len(asked) and len(self.fingerprints):
            at = np.minimum(np.searchsorted(self.fingerprints, asked), len(self.fingerprints) - 1)
            for step in np.flatnonzero(self.fingerprints[at] == asked).tolist():
                covered[step : step + OWN_WORDS_MIN] = True
        return covered


class Grounder:
    """A request's texts as they come; `finish` looks them up."""

    def __init__(self, index: Index | None) -> None:
        self._index = index
        self._kept = ""
        self._hashes: list[NDArray[np.uint64]] = []
        self._words = 0

    def push(self, text: str) -> None:
        """Take more of the request; words it completes are hashed now."""
        if self._words >= CONTEXT_WORDS_MAX:
            return
        whole, self._kept = completed(self._kept + text)
        self._add(whole)

    def finish(self, cited: Iterable[str] = (), grounded: Iterable[str] = ()) -> Context:
        """Return what the texts hold. cited: works named by the backend; grounded: works known before."""
        self._add(self._kept)
        self._kept = ""
        hashes = np.concatenate([*self._hashes, np.zeros(0, np.uint64)])[:CONTEXT_WORDS_MAX]
        found = _context(self._index, hashes, frozenset(cited))
        known = tuple(Grounded(work) for work in sorted(set(grounded))[:WORKS_MAX])
        return replace(found, grounded=found.grounded or known)

    def _add(self, text: str) -> None:
        if text:
            self._hashes.append(word_hashes(text))
            self._words += len(self._hashes[-1])


def ground(index: Index | None, texts: str | Sequence[str], cited: Iterable[str] = ()) -> Context:
    """Return what a request's texts hold: works whose words stand there, and words that are nobody's."""
    grounder = Grounder(index)
    for text in (texts,) if isinstance(texts, str) else texts:
        grounder.push(text)
        grounder.push("\n")
    return grounder.finish(cited)


def completed(text: str) -> tuple[str, str]:
    """Return the text up to its last white space, and the rest, which may be the beginning of a word."""
    end = len(text.rstrip())
    if end < len(text):
        return text, ""
    begun = (text[-CARRIED_CHARACTERS_MAX:].split() or [""])[-1]
    if len(begun) in {0, CARRIED_CHARACTERS_MAX}:
        return text, ""
    return text[: len(text) - len(begun)], begun


def word_hashes(text: str) -> NDArray[np.uint64]:
    """Return words(text).hashes, without where they stand: three times as fast for what folds to ASCII."""
    plain = _without_markup(text)
    rare = [char for char in set(plain) if char > "~" or (char < " " and not char.isspace())]
    if len(rare) > _RARE_LETTERS_MAX or any(_GREEK.match(char) for char in rare):
        return words(text).hashes
    for char in rare:
        folded = fold(char).text
        if not folded.isascii() and any(unicodedata.category(one)[0] in "LMN" for one in folded):
            return words(text).hashes
        plain = plain.replace(char, folded if folded.isascii() else " ")
    found: list[str] = _WORD.findall(plain.lower().replace("`", "'"))
    distinct = set(found)
    if max(map(len, distinct), default=0) > REMEMBERED_CHARS_MAX:
        return words(text).hashes
    hashes = {word: word_hash(word) for word in distinct}
    return np.fromiter(map(hashes.__getitem__, found), np.uint64, len(found))


def _without_markup(text: str) -> str:
    """Return the text with its HTML entities meant, and without stars of emphasis inside words."""
    found = [*_ENTITY.finditer(text), *_STARS.finditer(text)]  # they never overlap
    pieces: list[str] = []
    at = 0
    for match in sorted(found, key=re.Match[str].start):
        pieces += text[at : match.start()], html.unescape(match.group()) if text[match.start()] == "&" else ""
        at = match.end()
    return "".join([*pieces, text[at:]]) if found else text


def _context(index: Index | None, hashes: NDArray[np.uint64], cited: frozenset[str]) -> Context:
    works: list[Grounded] = []
    is_registered = np.zeros(len(hashes), bool)
    if index is not None and index.work_ids and len(hashes) >= GRAM_WORDS:
        works = _works(index, *_hits(index, grams(hashes)), is_registered)
    own = grams(hashes, OWN_WORDS_MIN)
    if len(own):
        # A run of words is the user's own unless all of it stands in a registered run.
        inside = np.convolve(is_registered, np.ones(OWN_WORDS_MIN, np.int64), "valid") == OWN_WORDS_MIN
        own = own[~inside]
    own.sort()
    return Context(tuple(works), cited, own)


def _hits(index: Index, fingerprints: NDArray[np.uint64]) -> tuple[I64, I64]:
    sampled = np.arange(0, len(fingerprints), STRIDE)
    # In order of the fingerprints: neighbours in the index are neighbours in memory.
    sampled = sampled[np.argsort(fingerprints[sampled])]
    at = np.minimum(np.searchsorted(index.gram_hash, fingerprints[sampled]), max(len(index.gram_hash) - 1, 0))
    hit = sampled[index.gram_hash[at] == fingerprints[sampled]] if len(index.gram_hash) else sampled[:0]
    near = np.unique(
        np.clip(np.add.outer(hit, np.arange(1 - STRIDE, STRIDE)).ravel(), 0, len(fingerprints) - 1)
    )
    near = near[np.argsort(fingerprints[near])]
    position, place = index.holders(fingerprints[near])
    return near[position].astype(np.int64), place


def _works(index: Index, positions: I64, places: I64, is_registered: NDArray[np.bool_]) -> list[Grounded]:
    """Return the works that own runs of the request, marking the words of all runs."""
    runs = [run for run in diagonals(positions, places, GRAM_WORDS) if run.end - run.start >= MIN_WORDS]
    runs.sort(key=lambda run: (run.start - run.end, run.place))
    runs = runs[:RUNS_MAX]
    holder: list[int] = index.work_at(np.array([run.place for run in runs], np.int64)).tolist()
    nobody = len(index.work_ids)
    owner = np.full(len(is_registered), nobody, np.int64)
    for work, run in zip(holder, runs, strict=True):
        if index.work_reason[work] == NOT_QUARANTINED:
            np.minimum(owner[run.start : run.end], work, out=owner[run.start : run.end])
        is_registered[run.start : run.end] = True
    owned, first, count = np.unique(owner, return_index=True, return_counts=True)
    works: list[Grounded] = []
    numbers: list[int] = owned.tolist()
    for work, start, total in zip(numbers, first.tolist(), count.tolist(), strict=True):
        if work == nobody or index.work_commons[work] or total < MIN_WORDS:
            continue
        if total <= SHARED_WORDS_MAX and _creators_at(index, runs, holder, start) >= SHARED_CREATORS:
            continue  # so few words, held by so many, are a saying
        longest = [run.place for one, run in zip(holder, runs, strict=True) if one == work][:PLACES_MAX]
        works.append(Grounded(index.work_ids[work], total, start, tuple(longest)))
    return sorted(works, key=lambda one: (-one.words, one.work_id))[:WORKS_MAX]


def _creators_at(index: Index, runs: Sequence[Run], holder: Sequence[int], at: int) -> int:
    here = sorted(
        (work, run.place, run.start, run.end)
        for work, run in zip(holder, runs, strict=True)
        if run.start <= at < run.end
    )
    work, place, start, end = np.array(here[:HOLDERS_MAX], np.int64).T
    if len(distinct(index.work_creator[work])) < SHARED_CREATORS:
        return 0
    return creators_apart(index, work, place, start, end)


def spoken_for(index: Index, context: Context) -> dict[int, list[int]]:
    """Return the context's works by number, with passages of theirs that every piece is held against."""
    places = {found.work_id: found.places for found in context.grounded}
    found: dict[int, list[int]] = {}
    for number in index.numbers_of(context.kinds):
        if index.work_passage[number] < index.work_passage[number + 1]:
            sentences = index.sentence_at(np.array(places.get(index.work_ids[number], ()), np.int64))
            at = np.searchsorted(index.passage_sentence, sentences, "right") - 1
            found[number] = sorted(set(at.tolist())) or [int(index.work_passage[number])]
    return found


def raised(
    probability: NDArray[np.float32], is_spoken_for: NDArray[np.bool_], odds: float
) -> NDArray[np.float32]:
    """Return the probabilities, those of works spoken for at `odds` times their odds, in steps of 1e-4."""
    higher = probability * odds / (1 - probability + probability * odds)
    return np.where(is_spoken_for, np.round(higher, 4), probability).astype(np.float32)

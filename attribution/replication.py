"""What a work must not be to earn by likeness: a list, a pile of words, or the same lines again.

A farmer registers what many answers will happen to say: openings, sayings, keywords. Such texts share
something
that honest ones do not: their sentences have nothing to do with each other, or they are no sentences at all.
A work found to be one is *quarantined*: it stays in the index, so that what it holds still counts as known to
others, but no share comes of it until somebody has looked. The reason is kept with the work.

Nothing here looks at dates, names or how much somebody registers, and short works pass: a rule for them would
hit honest collections (commonplace books, fact sheets) first. A farm cut into short works passes too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.lexical import I64

NOT_QUARANTINED, LIST, KEYWORDS, REPETITION, COPY, PATCHWORK, PARAPHRASE, COMMON = range(8)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a work is held up: a word for machines and a sentence for people, naming the other work."""

    code: str
    text: str

    def note(self, of: str | None, part_ppm: int) -> str:
        """Return the sentence, with what was found."""
        return self.text.format(of=of or "another work", percent=f"{part_ppm / 10_000:.0f} %")


REASONS = {
    LIST: Reason("list", "its sentences have nothing to do with each other"),
    KEYWORDS: Reason("keywords", "it has hardly any function words: keywords, not sentences"),
    REPETITION: Reason("repetition", "it says the same lines again and again"),
    COPY: Reason("copy", "{percent} of its words stand in {of}, which outranks it"),
    PATCHWORK: Reason(
        "patchwork", "{percent} of its words stand in works that outrank it, most of them in {of}"
    ),
    PARAPHRASE: Reason("paraphrase", "{percent} of it restates {of}, which outranks it, in the same order"),
    COMMON: Reason(
        "common", "it says what anybody says: boilerplate, sayings, worn phrases ({percent} on their own)"
    ),
}
# Neighbouring sentences of honest prose are alike (mean cosine .3), those of a pile of phrases are not (.1).
# A work begins with some honest neighbours: a chapter of 25 sentences may hang together loosely by chance.
HONEST_COHERENCE, PRIOR_NEIGHBOURS = 0.3, 4.0
# Of 8,900 honest books and abstracts with enough sentences, 1 in 500 lies below .186; lists lie below .15.
COHERENCE_MIN = 0.17
LIST_SENTENCES_MIN = 20
STOP_IDF, STOP_PART_MIN, WORDS_MIN = 1.5, 0.1, 100
DISTINCT_PART_MIN = 0.3
# Of a work's words, in the background table: English works have .93 and more, French .65 ("on", "me", names).
# Rules made for English judge no work with fewer.
KNOWN_PART_MIN = 0.8


def quarantine(
    coherence: NDArray[np.float32],
    sentences: I64,
    token_idf: NDArray[np.float32],
    token_known: NDArray[np.bool_],
    work_token: I64,
    distinct_grams: NDArray[Any],
) -> NDArray[np.uint8]:
    """Return each work's reason, uint8 (works,).

    token_known: words of the background table; a work in another language has few, and is not judged by them.
    distinct_grams: each work's part of fingerprints that are distinct.
    """
    count = len(work_token) - 1
    owner = np.repeat(np.arange(count), np.diff(work_token))
    lengths = np.maximum(np.diff(work_token), 1)
    known = np.bincount(owner, token_known, minlength=count) / lengths
    stop = np.bincount(owner, token_idf < STOP_IDF, minlength=count) / lengths
    reason = np.zeros(count, np.uint8)
    pairs = np.maximum(sentences - 1, 0)
    judged = (coherence * pairs + HONEST_COHERENCE * PRIOR_NEIGHBOURS) / (pairs + PRIOR_NEIGHBOURS)
    reason[(judged < COHERENCE_MIN) & (sentences >= LIST_SENTENCES_MIN)] = LIST
    long = lengths >= WORDS_MIN
    reason[(stop < STOP_PART_MIN) & (known >= KNOWN_PART_MIN) & long] = KEYWORDS
    reason[(distinct_grams < DISTINCT_PART_MIN) & long] = REPETITION
    return reason

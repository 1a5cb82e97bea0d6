"""Outputs made for training: quotes, rewordings, summaries and mixtures of works, and text that owes nothing.

Every edit is mechanical and seeded. Rewording swaps words for near neighbours, drops and reorders clauses,
fuses and compresses sentences; filler is written here, from templates, in the voice of an assistant. What a
piece owes is known by construction and kept as character spans.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_TOPICS = """compost|interest rates|the water cycle|bicycle gears|sourdough|time zones|photosynthesis|tax
brackets|houseplants
knitting|vaccines|spreadsheets|volcanoes|job interviews|chess openings|solar panels|migraines|sleep|jazz
harmony|tide pools
mortgages|coral reefs|first aid|yoga|watercolour|black holes|onboarding|recycling|hiking boots|noise
cancelling|tea|fractions
public speaking|wifi routers|budgeting|garden soil|penguins|meditation|insulation|bread ovens|cover
letters|road trips""".replace("\n", "|").split("|")
_TEMPLATES = """Here is a short overview of {a} and how it relates to {b}.|Many people find that {a} is
easier to understand with an example.
There are several things to keep in mind when you think about {a}.|First, consider what you already know
about {a}.
It is important to note that {a} can vary depending on your situation.|Overall, {a} rewards patience and a
little practice.
If you have any other questions about {a}, feel free to ask!|Let me know if you would like more detail on {a}
or {b}. One common mistake with {a} is to skip the basics.|In addition, {a} may help you make sense of {b}.
I hope this helps you get started with {a}.|For example, someone new to {a} might begin with a small and
simple task.
Experts usually recommend starting slowly with {a} and keeping notes.|On the other hand, {b} calls for a
different approach.
As you can see, {a} and {b} have more in common than it first appears.|Sure, I can help with that.
The main benefit of {a} is that it saves time in the long run.|It depends on your goals, your budget and the
time you have.
To summarise, there is no single right answer when it comes to {a}.|Remember to check a reliable source
before you decide anything about {a}.
That said, {a} is not for everyone, and that is perfectly fine.|You may want to talk to a professional about
{a}. Step one is to gather what you need for {a}.|Step two is to set aside about {n} minutes and begin.
A good rule of thumb is to spend {n} percent of your effort on {a}.|Finally, review what worked and what did
not.
Some studies suggest that {a} improves mood, although the evidence is mixed.|In short, {a} is a skill like
any other.
Whether you are a beginner or an expert, {a} offers something new to learn.|The history of {a} goes back
further than most people think.
Thank you for your question about {a}.|This is a broad subject, so I will focus on {a}.|Keep in mind that
results may differ.
Another popular option is {b}, which costs about {n} dollars a month.|Here are {n} tips for getting better at
{a}. With that in mind, let us look at {a} more closely.|People often ask how {a} differs from {b}.|The short
answer is yes.""".replace("\n", "|").split("|")
_LEADS = """As one writer put it,|I know that|Yes,|It has been said that|According to one source,|In other
words,|Well,|Interestingly,
One account says that|I read that|Apparently,|To put it briefly,|The text notes that""".replace(
    "\n", "|"
).split("|")
_CLAIMS = (
    (
        r"\b[Ww]e (?:propose|present|introduce)\b",
        ("This paper proposes", "The authors introduce", "Proposes", "A paper on"),
    ),
    (r"\b[Ww]e (?:show|demonstrate|find) that\b", ("It is shown that", "Shows that", "The study finds that")),
    (r"\b[Ii]n this (?:paper|work),?\s*", ("", "", "Here, ")),
    (r"\b[Oo]ur (?:method|approach|model)\b", ("The method", "The proposed approach", "This technique")),
    (r"\bstate[- ]of[- ]the[- ]art\b", ("SOTA", "best known", "leading")),
    (r"\b[Ww]e\b", ("the authors", "they")),
)
_HEADLINES = """{}|{}|{}|We propose {}|We present {}|This paper is about {}|This paper presents {}
The authors study {}
A paper on {}|Proposes {}|Introduces {}|A method for {}|We introduce a method for {}|{} is studied
It presents {}, with experiments|{} is proposed and evaluated|We study {} and show results|An approach to {}
An analysis of {}""".replace("\n", "|").split("|")
_FUNCTION = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "to",
        "in",
        "and",
        "or",
        "that",
        "this",
        "these",
        "those",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "with",
        "for",
        "on",
        "at",
        "by",
        "as",
        "it",
        "its",
        "from",
        "which",
        "who",
        "have",
        "has",
        "had",
        "not",
        "but",
        "also",
        "very",
        "such",
        "more",
        "most",
        "so",
        "than",
        "then",
        "there",
        "their",
        "his",
        "her",
        "our",
        "your",
        "we",
        "i",
        "you",
        "he",
        "she",
        "they",
        "them",
    ]
)


@dataclass(slots=True)
class Made:
    """An output made for training: text, and spans (start, end, work id) of what it owes."""

    text: str = ""
    spans: list[tuple[int, int, str]] = field(default_factory=list)
    kind: str = ""

    def add(self, text: str, work_id: str | None, separator: str = " ") -> None:
        """Append text, owed to a work or to nobody."""
        if self.text:
            self.text += separator
        if work_id is not None:
            self.spans.append((len(self.text), len(self.text) + len(text), work_id))
        self.text += text


class Editor:
    """Mechanical rewording with a seeded source of chance."""

    def __init__(self, rng: random.Random, neighbours: Mapping[str, Sequence[str]]) -> None:
        self.rng, self._neighbours = rng, neighbours

    def filler(self, sentences: int) -> str:
        """Return assistant-like sentences that owe nothing."""
        a, b = self.rng.sample(_TOPICS, 2)
        chosen = self.rng.sample(_TEMPLATES, min(sentences, len(_TEMPLATES)))
        return " ".join(one.format(a=a, b=b, n=self.rng.randint(2, 60)) for one in chosen)

    def lead(self) -> str:
        """Return the opening of a sentence that passes something on."""
        return self.rng.choice(_LEADS)

    def swap(self, text: str, part: float) -> str:
        """Swap this part of the content words for a near neighbour."""

        def one(match: re.Match[str]) -> str:
            word = match.group()
            near = self._neighbours.get(word.lower())
            if near is None or self.rng.random() > part:
                return word
            new = self.rng.choice(list(near))
            return new.capitalize() if word[0].isupper() else new

        return re.sub(r"[A-Za-z]{4,}", one, text)

    def drop(self, text: str, part: float) -> str:
        """Drop this part of the words, function words and adverbs first."""
        kept = []
        for word in text.split():
            bare = word.strip(".,;:!?\"'").lower()
            weight = 1.6 if bare in _FUNCTION or bare.endswith("ly") else 0.7
            if self.rng.random() >= part * weight:
                kept.append(word)
        return " ".join(kept) or text

    def reorder(self, text: str) -> str:
        """Move a clause of the sentence to its other end."""
        clauses = re.split(r"(?<=[,;:])\s+", text.rstrip(".!? "))
        if len(clauses) < 2:
            return text
        at = self.rng.randint(1, len(clauses) - 1)
        turned = " ".join([*clauses[at:], *clauses[:at]]).strip(",;: ")
        return turned[:1].upper() + turned[1:] + "."

    def clause(self, text: str) -> str:
        """Keep the sentence's longest clauses only."""
        clauses = re.split(r"(?<=[,;:])\s+|\s+(?=which |because |although |while |when )", text)
        if len(clauses) < 2:
            return text
        keep = sorted(
            sorted(range(len(clauses)), key=lambda at: -len(clauses[at]))[: max(1, len(clauses) // 2)]
        )
        kept = " ".join(clauses[at] for at in keep).strip(",;: ")
        return kept[:1].upper() + kept[1:].rstrip(".") + "."

    def claim(self, text: str) -> str:
        """Turn an author's sentence into a reader's."""
        for pattern, instead in _CLAIMS:
            if self.rng.random() < 0.8:
                text = re.sub(pattern, lambda _, options=instead: self.rng.choice(options), text, count=1)
        return text[:1].upper() + text[1:]

    def headline(self, title: str) -> str:
        """Turn a title into a reader's one-line statement of what the work is about."""
        name, _, rest = title.partition(": ")
        if not rest or self.rng.random() < 0.3:
            plain = title
        else:
            plain = rest if self.rng.random() < 0.5 else f"{name}, {rest}"
        if self.rng.random() < 0.6:
            plain = " ".join(
                word if any(char.isupper() or char.isdigit() for char in word[1:]) else word.lower()
                for word in plain.split()
            )
        frame = self.rng.choice(_HEADLINES)
        text = frame.format(plain[:1].upper() + plain[1:] if frame.startswith("{") else plain)
        way = self.rng.random()
        if way < 0.35:
            text = self.swap(text, self.rng.uniform(0.1, 0.4))
        elif way < 0.5:
            text = self.drop(text, 0.1)
        return text.rstrip(".") + "."

    def noise(self, text: str) -> str:
        """Misread a few letters, or change case."""
        if self.rng.random() < 0.4:
            return text.lower() if self.rng.random() < 0.7 else text.upper()
        swaps = {"rn": "m", "l": "1", "e": "c", "h": "b", "o": "0"}
        return "".join(swaps.get(char, char) if self.rng.random() < 0.02 else char for char in text)

    def light(self, sentence: str) -> str:
        """Reword a little."""
        sentence = self.swap(sentence, 0.25)
        if self.rng.random() < 0.3:
            sentence = self.reorder(sentence)
        return self.drop(sentence, 0.06)

    def heavy(self, sentence: str) -> str:
        """Reword nearly everything."""
        sentence = self.claim(sentence) if self.rng.random() < 0.5 else sentence
        if self.rng.random() < 0.6:
            sentence = self.reorder(sentence)
        if self.rng.random() < 0.4:
            sentence = self.clause(sentence)
        return self.drop(self.swap(sentence, self.rng.uniform(0.4, 0.9)), self.rng.uniform(0.05, 0.3))

    def summary(self, sentences: Sequence[str]) -> str:
        """Compress one to three sentences into one."""
        chosen = [self.clause(self.claim(one)).rstrip(". ") for one in sentences]
        joined = self.rng.choice((" and ", ", ", " by ", ": ", " with ")).join(
            one if at == 0 else one[:1].lower() + one[1:] for at, one in enumerate(chosen)
        )
        words = self.drop(self.swap(joined, self.rng.uniform(0.1, 0.6)), self.rng.uniform(0.1, 0.45)).split()
        limit = self.rng.randint(12, 34)
        start = self.rng.randint(0, max(0, len(words) - limit)) if self.rng.random() < 0.3 else 0
        return " ".join(words[start : start + limit]).rstrip(".,;: ") + "."

"""Which grounded work an answer leaned on: score the answer again with each work left out of its context.

The fast model measures likeness. Where the texts of an exchange are at hand, a second question can be asked
that likeness cannot answer: how much less likely is this very answer, to a scoring model, when one work's
passages are taken out of the context? That drop in log-probability is the work's causal influence on this
answer, in this context, for this scoring model. It says nothing of what any model was trained on, and it is
no share: influences do not add up (two works that say the same cover for each other, and both come out low).
It keeps the fast model honest: over a sample of exchanges, do both put the works in the same order?

Pure: this plans the prompts and reads the log-probabilities; who asks a model for them is another's business.

Sources: Cohen-Wang and others, "ContextCite" (NeurIPS 2024); Liu and others, "AttriBoT" (ICLR 2025); Kendall,
"The treatment of ties in ranking problems" (1945), for tau-b.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attribution.index import Index
from attribution.normalise import words
from attribution.runs import claims

WORKS_MAX = 8  # scored for one exchange, most grounded words first: each costs a whole scoring of the answer
POSITIONS_MAX = 64  # of the answer's tokens, where each costs a request of its own
# A token, below which works rank as equal: a 4-bit model differs by 0.008 with a warm and a cold cache.
INFLUENCE_STEP_NATS = 0.02
BOOTSTRAP_DRAWS = 2_000
INTERVAL = (2.5, 97.5)  # per cent


@dataclass(frozen=True, slots=True)
class Message:
    """What one side said: `role` as on the wire, and its text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Code points [start, end) of a message that stand word for word in a registered work."""

    work_id: str
    message: int
    start: int
    end: int
    words: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to score: the whole prompt, and one prompt for each work left out, the largest work first.

    grounded_words: of the works that are scored. not_scored: grounded works beyond WORKS_MAX; they stay in
    every prompt.
    """

    full: str
    without: Mapping[str, str]
    grounded_words: Mapping[str, int]
    not_scored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Influence:
    """What leaving a work out costs the answer; negative where the answer becomes likelier without it."""

    total_nats: float
    token_nats: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One exchange's works in two orders: by causal influence and by the fast model's shares.

    tau_b and spearman are None where one of the orders has all works equal; top_agrees is None where the fast
    model credits none of them, or where no work's left-out answer is less likely.
    """

    tau_b: float | None
    spearman: float | None
    top_agrees: bool | None


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `count` exchanges with its bootstrap interval; None where nothing can be said."""

    value: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Over all exchanges of an audit, each weighing the same."""

    tau_b: Mean
    spearman: Mean
    top: Mean


def grounded(index: Index, messages: Sequence[Message]) -> list[Passage]:
    """Return the registered passages in an exchange's messages, in reading order.

    The exact stage's runs: a passage is its earliest registrant's, and what is common is nobody's.
    """
    passages: list[Passage] = []
    for number, message in enumerate(messages):
        found = words(message.text)
        if not len(found.texts):
            continue
        passages.extend(
            Passage(
                index.work_ids[claim.work],
                number,
                int(found.starts[claim.start]),
                int(found.ends[claim.end - 1]),
                claim.end - claim.start,
            )
            for claim in claims(index, found.hashes)
            if not claim.is_common
        )
    return passages


def plan(messages: Sequence[Message], passages: Sequence[Passage]) -> Plan:
    """Return the prompts to score an answer after; ties in size go by work id."""
    size: dict[str, int] = {}
    for passage in passages:
        size[passage.work_id] = size.get(passage.work_id, 0) + passage.words
    order = sorted(size, key=lambda work: (-size[work], work))
    scored = order[:WORKS_MAX]
    return Plan(
        transcript(messages),
        {
            work: transcript(_without(messages, [one for one in passages if one.work_id == work]))
            for work in scored
        },
        {work: size[work] for work in scored},
        tuple(order[WORKS_MAX:]),
    )


def transcript(messages: Sequence[Message]) -> str:
    """Return the messages as plain text that ends where the answer begins.

    No chat template: a base model reads this as well as a tuned one, and every prompt of an exchange ends
    with the same characters, so that the answer is cut into the same tokens.
    """
    said = "".join(f"{message.role.capitalize()}:\n{message.text}\n\n" for message in messages)
    return f"{said}Assistant:\n"


def positions(count: int, salt: str, *, most: int = POSITIONS_MAX) -> list[int]:
    """Return which of `count` tokens to score: all, or `most` of them evenly spread; `salt` shifts them."""
    if count <= most:
        return list(range(count))
    offset = int.from_bytes(hashlib.sha256(salt.encode()).digest()[:4], "big") / 2**32
    return [min(int((at + offset) * count / most), count - 1) for at in range(most)]


def influences(
    full: Sequence[float], without: Mapping[str, Sequence[float]], tokens: int
) -> dict[str, Influence]:
    """Return each work's influence from the log-probabilities, in nats, of the same tokens after each prompt.

    tokens: in the whole answer; where fewer were scored the total is scaled up from them. Raises ValueError
    where lengths differ, nothing was scored, or a log-probability is none.
    """
    scored = len(full)
    if not 0 < scored <= tokens:
        raise ValueError(f"{scored} tokens scored of {tokens}")
    found: dict[str, Influence] = {}
    for work, left in without.items():
        if len(left) != scored:
            raise ValueError(f"{scored} tokens scored with all works, {len(left)} without {work}")
        drop = math.fsum(full) - math.fsum(left)
        if not math.isfinite(drop):
            raise ValueError(f"a log-probability that is no number, without {work}")
        found[work] = Influence(drop * tokens / scored, drop / scored)
    return found


def compare(found: Mapping[str, Influence], share_ppm: Mapping[str, int]) -> Comparison:
    """Compare the two orders of an exchange's scored works; a work without a share has 0."""
    causal = [round(one.token_nats / INFLUENCE_STEP_NATS) for one in found.values()]
    shares = [share_ppm.get(work, 0) for work in found]
    top_agrees = None
    if max(causal, default=0) > 0 and max(shares, default=0) > 0:
        first = {at for at, value in enumerate(causal) if value == max(causal)}
        top_agrees = any(shares[at] == max(shares) for at in first)
    return Comparison(kendall_tau_b(causal, shares), spearman(causal, shares), top_agrees)


def agreement(compared: Sequence[Comparison], *, seed: int = 0) -> Agreement:
    """Return the means over exchanges where each is defined; the same seed, the same interval."""
    return Agreement(
        _mean([one.tau_b for one in compared if one.tau_b is not None], seed),
        _mean([one.spearman for one in compared if one.spearman is not None], seed),
        # With one work there is no order to agree on.
        _mean(
            [
                float(one.top_agrees)
                for one in compared
                if one.top_agrees is not None and one.tau_b is not None
            ],
            seed,
        ),
    )


def kendall_tau_b(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return (concordant - discordant) / sqrt(pairs untied in first x pairs untied in second), or None."""
    balance = untied_first = untied_second = 0
    for at, (a, b) in enumerate(zip(first, second, strict=True)):
        for c, d in zip(first[:at], second[:at], strict=True):
            x, y = (a > c) - (a < c), (b > d) - (b < d)
            balance += x * y
            untied_first += x * x
            untied_second += y * y
    if not untied_first or not untied_second:
        return None
    return balance / math.sqrt(untied_first * untied_second)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Pearson's correlation of the ranks, ties sharing their mean rank, or None where all tie."""
    a, b = _ranks(first), _ranks(second)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values beside {len(b)}")
    middle = (len(a) + 1) / 2
    together = math.fsum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True))
    spread = math.fsum((x - middle) ** 2 for x in a) * math.fsum((y - middle) ** 2 for y in b)
    return together / math.sqrt(spread) if spread else None


def _ranks(values: Sequence[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def _mean(values: Sequence[float], seed: int) -> Mean:
    """Return the mean with the percentile interval of resampled means; one value has no interval."""
    if not values:
        return Mean(None, None, None, 0)
    row = np.array(values, np.float64)
    if len(row) == 1:
        return Mean(float(row[0]), None, None, 1)
    draws = np.random.default_rng(seed).integers(0, len(row), (BOOTSTRAP_DRAWS, len(row)))
    low, high = np.percentile(row[draws].mean(axis=1), INTERVAL).tolist()
    return Mean(float(row.mean()), low, high, len(row))


def _without(messages: Sequence[Message], passages: Sequence[Passage]) -> list[Message]:
    """Cut passages out, each with the punctuation that clings to it."""
    left: list[Message] = []
    for number, message in enumerate(messages):
        text, cursor = message.text, 0
        kept: list[str] = []
        for passage in sorted(
            (one for one in passages if one.message == number), key=lambda one: (one.start, one.end)
        ):
            start, end = passage.start, passage.end
            while start > cursor and _clings(text[start - 1]):
                start -= 1
            while end < len(text) and _clings(text[end]):
                end += 1
            kept.append(text[cursor : max(start, cursor)])
            cursor = max(end, cursor)
        left.append(Message(message.role, "".join([*kept, text[cursor:]])))
    return left


def _clings(char: str) -> bool:
    return not char.isalnum() and not char.isspace()

"""How right the shares are: made-known truths against predictions, family by family.

    python -m attribution.evaluation truth.jsonl predictions.jsonl

A truth line is {"output_id", "family", "truth": [{"work_id", "share"}]}, a prediction line is what
`endcredits attribute` prints: {"output_id", "credits": [{"work_id", "share"}]}. Money is the measure: a
share paid to the wrong party, or owed and not paid, is a part of the answer misallocated.

- recall: the part of what was owed that was paid to whom it was owed
- precision: the part of what was paid that was owed to whom it was paid
- false credit: the mean part paid on outputs that owe nobody
- skill: 1 - misallocated / misallocated by paying nobody; 1 is perfect, 0 is no better than silence
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """One output: what it owes and what was paid, each as parts of 1 by work; the rest is nobody's."""

    family: str
    owed: Shares
    paid: Shares

    @property
    def kept(self) -> float:
        """What was paid to whom it was owed."""
        return sum(min(share, self.paid.get(work, 0.0)) for work, share in self.owed.items())

    @property
    def misallocated(self) -> float:
        """The part of the answer that went to the wrong party, nobody being a party too."""
        wrong = sum(
            abs(self.owed.get(work, 0.0) - self.paid.get(work, 0.0)) for work in {*self.owed, *self.paid}
        )
        return (wrong + abs(sum(self.owed.values()) - sum(self.paid.values()))) / 2


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Figures of one family; None where there is nothing to divide by."""

    outputs: int
    recall: float | None
    precision: float | None
    skill: float | None
    false_credit: float | None


def accuracy(judged: Sequence[Judged]) -> Accuracy:
    """Return the figures of these outputs together."""
    owed = sum(sum(one.owed.values()) for one in judged)
    paid = sum(sum(one.paid.values()) for one in judged)
    kept = sum(one.kept for one in judged)
    silence = sum(sum(one.owed.values()) for one in judged)
    nothing = [sum(one.paid.values()) for one in judged if not one.owed]
    return Accuracy(
        outputs=len(judged),
        recall=kept / owed if owed else None,
        precision=kept / paid if paid else None,
        skill=1 - sum(one.misallocated for one in judged) / silence if silence else None,
        false_credit=sum(nothing) / len(nothing) if nothing else None,
    )


def by_family(judged: Iterable[Judged]) -> dict[str, Accuracy]:
    """Return each family's figures."""
    families: dict[str, list[Judged]] = {}
    for one in judged:
        families.setdefault(one.family, []).append(one)
    return {family: accuracy(families[family]) for family in sorted(families)}


def calibration(scored: Sequence[tuple[float, bool]], bins: int = 5) -> list[tuple[float, float, int]]:
    """Return, by equal bins of probability, those empty left out: mean probability, part right, count."""
    result: list[tuple[float, float, int]] = []
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            pair for pair in scored if low <= pair[0] < high or (number == bins - 1 and pair[0] == high)
        ]
        if inside:
            mean = sum(score for score, _ in inside) / len(inside)
            result.append((mean, sum(right for _, right in inside) / len(inside), len(inside)))
    return result


def judge(truth: Path, predictions: Path) -> list[Judged]:
    """Join two files by output id; an output without a prediction was paid nothing."""
    paid: dict[str, dict[str, float]] = {}
    for line in predictions.read_text().splitlines():
        row = json.loads(line)
        mine = paid.setdefault(row["output_id"], {})
        for credit in row["credits"]:
            mine[credit["work_id"]] = mine.get(credit["work_id"], 0.0) + float(credit["share"])
    judged: list[Judged] = []
    for line in truth.read_text().splitlines():
        row = json.loads(line)
        owed = {part["work_id"]: float(part["share"]) for part in row["truth"]}
        judged.append(Judged(row["family"], owed, paid.get(row["output_id"], {})))
    return judged


def table(figures: Mapping[str, Accuracy]) -> str:
    """Return the figures as text."""

    def cell(value: float | None) -> str:
        return f"{value:9.3f}" if value is not None else "        -"

    lines = [f"{'family':12s} outputs    recall precision     skill     false"]
    lines += [
        f"{family:12s} {one.outputs:7d} {cell(one.recall)} {cell(one.precision)} {cell(one.skill)} "
        f"{cell(one.false_credit)}"
        for family, one in figures.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of a predictions file."""
    parser = argparse.ArgumentParser(description="Score a predictions file against known truths.")
    parser.add_argument("truth", type=Path)
    parser.add_argument("predictions", type=Path)
    given = parser.parse_args(arguments)
    print(table(by_family(judge(given.truth, given.predictions))))  # noqa: T201  what this command is for


if __name__ == "__main__":
    main()

"""Lone farms, one kind at a time, and what they would be paid: the measure of the novelty check.

    python -m attribution.training.farms DATA_DIR [--previous INDEX] [--stretch]

Each farm registers works of one kind among honest ones (DATA_DIR/works.jsonl.gz), and each kind comes
with outputs that would pay it: answers made of its sentences, some of them lightly changed. Printed per
kind: works held up, and the part of the farm's words in the outputs that is not paid to it. Then the
honest works that are held up, each with its reason. Boilerplate, sayings and stock phrases come from
farm_phrases.txt, which the detector never learned from; sections ending in "-other" are in a manner that
it never saw either.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from attribution.background import Background
from attribution.building import build
from attribution.encoder import Encoder
from attribution.engine import Attributor
from attribution.normalise import words
from attribution.ownership import held
from attribution.segments import segments
from attribution.terms import PPM, Held, SourceWork
from attribution.training.corpus import read_lines, sections
from attribution.training.edits import Editor

PHRASES = Path(__file__).parent / "farm_phrases.txt"
SEED = 20260202
WORKS_A_KIND = 12
SENTENCES_A_WORK = (5, 9, 14, 20, 28, 36)  # farms of phrases come in every size
OUTPUTS_A_KIND = 24
FARM = "farm-"
_SUBJECTS = """beekeeping|pensions|yoga|car insurance|tomatoes|public speaking|backpacks|cat food
online courses|meal planning|credit cards|home offices|running shoes|family trees|email
wall paint|rain barrels|guitar strings|first dates|board games""".replace("\n", "|").split("|")
# Written for this: what a machine swaps without reading. Each pair works both ways.
_SWAPS = """big large|small little|quick fast|begin start|began started|end finish|ended finished
house dwelling|road path|man fellow|woman lady|children youngsters|said declared|asked inquired
answered replied|looked gazed|saw noticed|went walked|came arrived|took seized|gave handed
found discovered|thought believed|knew understood|wanted wished|made formed|old aged
young youthful|good fine|bad poor|great vast|long lengthy|short brief|happy glad|sad sorrowful
angry furious|dark dim|bright brilliant|beautiful lovely|strong powerful|weak feeble
rich wealthy|often frequently|always constantly|never seldom|very extremely|quite rather
perhaps maybe|suddenly abruptly|quickly rapidly|slowly gradually|almost nearly|only merely
help aid|need require|show reveal|keep retain|use employ|try attempt|tell inform|speak talk
call name|turn rotate|leave depart|stay remain|buy purchase|sell trade|build construct
break shatter|carry bear|throw toss|fall drop|grow increase|change alter|money funds|work labour
friend companion|enemy foe|king ruler|town city|country land|water stream|fire flame
night evening|morning dawn|day daytime|year twelvemonth|time moment|place spot|thing object
people folk|voice tone|face countenance|hand palm|heart bosom|mind intellect|eyes gaze
room chamber|door entrance|window pane|table desk|book volume|letter message|story tale
method approach|result outcome|problem difficulty|model system|data information
important significant|different distinct|new novel|several various|many numerous|because since
although though|however yet|therefore hence|before earlier|after following|toward towards
about regarding|under beneath|above over|between among|fear dread|joy delight|anger rage
silence stillness|noise sound|truth verity|reason cause|power force|order command|war conflict
peace calm|law rule|ship vessel|horse steed|sea ocean|mountain hill|forest wood|field meadow
garden yard|church chapel""".replace("\n", "|").split("|")


@dataclass(frozen=True, slots=True)
class Farm:
    """One kind's works, and outputs with the words of each that are the farm's."""

    kind: str
    works: tuple[SourceWork, ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Earned:
    """What became of one kind: works held up, and its words in the outputs, asked for and paid."""

    kind: str
    works: int
    held: int
    words: int
    paid_words: float

    @property
    def refused(self) -> float:
        """The part of the farm's money that it does not get."""
        return 1 - self.paid_words / self.words if self.words else 1.0


def swaps() -> dict[str, list[str]]:
    """Return the words that the machine rewording knows, each with its stand-ins."""
    found: dict[str, list[str]] = {}
    for pair in _SWAPS:
        one, other = pair.split()
        found.setdefault(one, []).append(other)
        found.setdefault(other, []).append(one)
    return found


def farms(honest: Sequence[SourceWork], seed: int = SEED) -> Iterator[Farm]:
    """Yield a farm of each kind. honest: what copies, patchworks and paraphrases are made of."""
    rng = random.Random(seed)  # noqa: S311  repeatable on purpose
    editor = Editor(rng, swaps())
    late = max((work.registered_us for work in honest), default=0) + 1
    for name, lines in sections(PHRASES).items():
        sizes = [SENTENCES_A_WORK[number % len(SENTENCES_A_WORK)] for number in range(WORKS_A_KIND)]
        texts = [_phrases(lines, size, rng) for size in sizes]
        yield _farm(name, texts, rng, editor, late)
    long = [work for work in honest if len(segments(work.text)) >= 16]
    if not long:
        return
    pile = sorted({word for work in honest[:200] for word in words(work.text).texts if len(word) > 4})
    if len(pile) >= 200:
        texts = [" ".join(rng.sample(pile, min(len(pile), 400))) + "." for _ in range(WORKS_A_KIND)]
        yield _farm("keywords", texts, rng, editor, late)
    picked = rng.sample(long, min(WORKS_A_KIND, len(long)))
    makers = {
        "copy": lambda text: _copied(text, rng),
        "copy-edited": lambda text: " ".join(editor.light(line.text) for line in segments(text)),
        "paraphrase": lambda text: " ".join(editor.heavy(line.text) for line in segments(text)),
    }
    for name, make in makers.items():
        yield _farm(name, [make(work.text) for work in picked], rng, editor, late)
    sources = rng.sample(long, min(200, len(long)))
    texts = [_patchwork(sources, rng) for _ in range(WORKS_A_KIND)]
    yield _farm("patchwork", texts, rng, editor, late)


def _phrases(lines: list[str], size: int, rng: random.Random) -> str:
    chosen = rng.sample(lines, min(size, len(lines)))
    return " ".join(filled(line, rng) for line in chosen)


def filled(line: str, rng: random.Random) -> str:
    """Return a line of farm_phrases.txt with something in its blanks."""
    a, b = rng.sample(_SUBJECTS, 2)
    return line.format(a=a, b=b, n=rng.randint(2, 40))


def _copied(text: str, rng: random.Random) -> str:
    """Copy with small edits: a word changed here and there, or another case, or look-alike letters."""
    way = rng.randrange(3)
    if way == 0:
        return " ".join(
            "indeed" if rng.random() < 0.03 else word for word in text.split() if rng.random() > 0.02
        )
    return text.upper() if way == 1 else text.translate(str.maketrans("aeoc", "аеос"))


def _patchwork(sources: Sequence[SourceWork], rng: random.Random) -> str:
    parts: list[str] = []
    for work in rng.sample(sources, min(20, len(sources))):
        lines = segments(work.text)
        at = rng.randrange(max(len(lines) - 2, 1))
        parts.append(" ".join(line.text for line in lines[at : at + 2]))
    return "\n\n".join(parts)


def _farm(kind: str, texts: list[str], rng: random.Random, editor: Editor, late: int) -> Farm:
    works = tuple(
        # One farmer a kind: works of two would be copies of each other, and these copy nobody.
        SourceWork(f"{FARM}{kind}-{number}", text, late + number, f"{FARM}{kind}")
        for number, text in enumerate(texts)
    )
    outputs: list[tuple[str, int]] = []
    for _ in range(OUTPUTS_A_KIND):
        lines = [line.text for line in segments(rng.choice(texts))]
        at = rng.randrange(max(len(lines) - 5, 1))
        taken = lines[at : at + 5]
        said = [editor.swap(line, 0.3) if rng.random() < 0.3 else line for line in taken]
        before, after = editor.filler(1), editor.filler(1)
        text = " ".join([before, *said, after])
        outputs.append((text, sum(len(words(line).texts) for line in said)))
    return Farm(kind, works, tuple(outputs))


def measure(made: Sequence[Farm], attributor: Attributor, queue: Sequence[Held]) -> list[Earned]:
    """Return what each farm gets of an index that holds it."""
    waiting = {one.work_id for one in queue}
    result: list[Earned] = []
    for farm in made:
        mine = {work.work_id for work in farm.works}
        paid = 0.0
        for text, _ in farm.outputs:
            found = attributor.attribute(text)
            paid += sum(share.ppm for share in found.shares if share.work_id in mine) * found.words / PPM
        asked = sum(count for _, count in farm.outputs)
        result.append(Earned(farm.kind, len(mine), len(mine & waiting), asked, paid))
    return result


def catalogue(path: Path) -> list[SourceWork]:
    """Read works.jsonl.gz: work_id, text, creator_id, registered_at."""
    return [
        SourceWork(row["work_id"], row["text"], _microseconds(row["registered_at"]), row["creator_id"])
        for row in read_lines(path)
    ]


def _microseconds(when: str) -> int:
    return int(datetime.fromisoformat(re.sub("Z$", "+00:00", when)).timestamp()) * 1_000_000


def main() -> None:
    """Build an index of honest works and farms, and print who gets what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--previous", type=Path, help="an index with the honest works' vectors")
    parser.add_argument("--stretch", action="store_true", help="add works_stretch.jsonl.gz")
    parser.add_argument("--unheld", action="store_true", help="release every farm: what it would get")
    arguments = parser.parse_args()
    rows = read_lines(arguments.data / "provenance.jsonl.gz")
    tag = {row["work_id"]: row["tag"] for row in rows if "work_id" in row}
    works = catalogue(arguments.data / "works.jsonl.gz")
    honest = [work for work in works if tag.get(work.work_id) == "orig"]
    if arguments.stretch:
        more = catalogue(arguments.data / "works_stretch.jsonl.gz")
        honest, works = honest + more, works + more
    made = list(farms(honest))
    planted = [_released(work, arguments.unheld) for farm in made for work in farm.works]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        build(
            [*works, *planted],
            index,
            [Encoder.open(threads=1)],
            Background.open(),
            previous=arguments.previous,
        )
        queue = held(index)
        print(f"{'kind':20} works  held  refused")
        reasons = Counter((one.work_id.rpartition("-")[0], one.reason) for one in queue)
        for one in measure(made, Attributor.open(index), queue):
            why = {reason: count for (kind, reason), count in reasons.items() if kind == FARM + one.kind}
            print(f"{one.kind:20} {one.works:5} {one.held:5}  {one.refused:.3f}  {why}")
        _honest(queue, {work.work_id for work in honest})


def _released(work: SourceWork, released: bool) -> SourceWork:
    return SourceWork(work.work_id, work.text, work.registered_us, work.creator_id, released)


def _honest(queue: Sequence[Held], honest: set[str]) -> None:
    mine: list[Any] = [one for one in queue if one.work_id in honest]
    print(f"honest works held up: {len(mine)} of {len(honest)} {dict(Counter(one.reason for one in mine))}")
    for one in mine:
        print(f"  {one.work_id}: {one.note}")


if __name__ == "__main__":
    main()

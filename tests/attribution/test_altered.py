from __future__ import annotations

import random

import pytest

from attribution.background import Background
from attribution.building import build
from attribution.index import Index
from attribution.terms import SourceWork

BACKGROUND = Background.open()


@pytest.fixture
def listed(word_encoder, tmp_path):
    """Return {work: [whether each of its passages can be found by its words]} of an index of these works."""

    def of(works: list[SourceWork]) -> dict[str, list[bool]]:
        build(works, tmp_path / "index", [word_encoder], BACKGROUND)
        index = Index(tmp_path / "index", BACKGROUND, model_sha256="words")
        found = index.passage_listed.tolist()
        bounds = index.work_passage.tolist()
        return {
            name: found[low:high] for name, low, high in zip(index.work_ids, bounds, bounds[1:], strict=False)
        }

    return of


def swapped(text: str, part: float, pool: list[str], seed: int) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choice(pool) if chance.random() < part else word for word in text.split())


def longest(works: list[SourceWork]) -> SourceWork:
    return max(works, key=lambda work: len(work.text))


@pytest.mark.parametrize("seed", range(3))
def test_with_three_words_in_ten_swapped_a_later_work_is_not_found_by_its_words(own_works, listed, seed):
    pool = [word for work in own_works for word in work.text.split()]
    later = [
        SourceWork(f"{work.work_id}~", swapped(work.text, 0.3, pool, seed), 10**15) for work in own_works
    ]
    found = listed([*own_works, *later])
    passages = [one for work in later for one in found[work.work_id]]
    assert sum(passages) <= 0.05 * len(passages)


def test_the_earlier_work_is_found_as_before(own_works, listed, tmp_path, word_encoder):
    text = longest(own_works)
    changed = SourceWork("later", swapped(text.text, 0.3, ["stone", "cloud"], 1), 10**15)
    assert all(listed([text, changed])[text.work_id])


def test_words_put_in_and_left_out_do_not_hide_it(own_works, listed):
    chance, text = random.Random(5), longest(own_works)
    changed: list[str] = []
    for word in text.text.split():
        draw = chance.random()
        changed += [word, "indeed"] if draw < 0.05 else [] if draw < 0.1 else [word]
    found = listed([text, SourceWork("later", " ".join(changed), 10**15)])
    assert not any(found["later"])


def test_what_a_later_work_adds_of_its_own_is_found(own_works, listed):
    first, *_, other = sorted(own_works, key=lambda work: len(work.text))[-4:]
    both = f"{swapped(first.text, 0.3, ['stone', 'cloud'], 2)}\n\n{other.text}"
    found = listed([first, SourceWork("later", both, 10**15)])["later"]
    assert not found[0]
    assert found[-1]


def test_a_stock_phrase_in_a_short_line_hides_no_work(listed):
    phrase = "at the end of the day nothing is ever quite as bad"
    works = [
        SourceWork(
            "first",
            f"She kept bees on the roof, salted the herring herself, and said that {phrase} as the letter made it "
            "sound to her sister.",
            1,
        ),
        SourceWork(
            "second",
            f"Rowing home past the two lamps, he thought again: {phrase} as it looks from shore, where nobody had "
            "lit a fire.",
            2,
        ),
    ]
    assert listed(works) == {"first": [True], "second": [True]}


def test_honest_works_stay_as_they_are(own_works, listed):
    found = listed([work for work in own_works if not work.work_id.endswith("-copy")])
    assert all(all(passages) for passages in found.values())

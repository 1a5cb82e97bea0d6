from __future__ import annotations

import random

import pytest

from attribution.training.corpus import TrainingWork
from attribution.training.edits import Editor
from attribution.training.outputs import WEIGHTS, Maker, split

NAMES = ("tides", "looms", "kilns", "owls", "bridges", "vowels", "glaciers", "ledgers")


def works() -> list[TrainingWork]:
    made = []
    for number in range(160):
        name, source = NAMES[number % len(NAMES)], ("books", "scitldr", "begin-wow")[number % 3]
        text = " ".join(
            f"The {name} of district {number} were measured in season {line}, and nobody expected result {line}."
            for line in range(8)
        )
        title = f"Counting {name}: a study of district {number}" if source == "scitldr" else ""
        made.append(TrainingWork(f"w{number}", f"c{number}", f"book {number % 20}", source, text, title))
    return made


@pytest.fixture(scope="module")
def maker() -> Maker:
    catalogue = split(works(), random.Random(1))
    catalogue.beside.extend(catalogue.outside["scitldr"])
    return Maker(catalogue, {"measured": ["counted"]}, random.Random(2))


@pytest.mark.parametrize("family", sorted(WEIGHTS))
def test_what_an_output_owes_is_marked_to_the_letter(maker, family):
    registered = {work.work_id for work in maker.catalogue.registered}
    for _ in range(30):
        made = getattr(maker, family)()
        assert made.text.strip()
        assert all(0 <= start < end <= len(made.text) for start, end, _ in made.spans)
        assert {work for _, _, work in made.spans} <= registered
        owes = family in {"quote", "passage", "reworded", "one_sentence", "summary", "headline", "mixture"}
        assert bool(made.spans) == owes


def test_families_come_as_often_as_their_weights_say(maker):
    none = dict.fromkeys(WEIGHTS, 0.0)
    only = Maker(maker.catalogue, {}, random.Random(3), {**none, "headline": 1.0})
    assert {only.make().kind for _ in range(20)} == {"headline"}


def test_a_headline_says_the_title_and_only_of_a_registered_work(maker):
    for _ in range(20):
        made = maker.headline()
        ((start, end, work),) = made.spans
        title = maker.catalogue.titles[work].lower().replace(":", "").split()
        assert set(title) & set(made.text[start:end].lower().replace(":", "").rstrip(".").split())
    outside = [maker.outside_headline() for _ in range(5)]
    assert not any(made.spans for made in outside)


def test_a_title_is_framed_as_a_statement():
    edit = Editor(random.Random(4), {})
    said = {edit.headline("LoomNet: Weaving Graphs with Few Threads") for _ in range(60)}
    assert len(said) > 20
    told = ("weaving", "graphs", "threads", "loomnet")
    assert all(one.endswith(".") and any(word in one.lower() for word in told) for one in said)


def test_the_same_seed_makes_the_same_outputs(maker):
    first = Maker(maker.catalogue, {}, random.Random(5))
    second = Maker(maker.catalogue, {}, random.Random(5))
    assert [first.make() for _ in range(40)] == [second.make() for _ in range(40)]

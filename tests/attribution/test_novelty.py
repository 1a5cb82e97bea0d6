from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution import SourceWork, build_index
from attribution.background import Background
from attribution.building import build
from attribution.encoder import Encoder
from attribution.errors import ModelMissing
from attribution.novelty import COUNTS, SCORE_MAX, Probe, rarity, says_nothing_new
from attribution.ownership import held
from attribution.training.corpus import sections
from attribution.training.farms import PHRASES, farms

HONEST = {
    "chant": (
        "Haul on the bowline, the herring are running. Haul on the bowline, the herring are home. The wind has gone "
        "round to the north of Skarn island. Haul on the bowline, the herring are home. My mother salts barrels and "
        "father mends creels. Haul on the bowline, the herring are running. The cooper is drunk and the gulls have "
        "his supper. Haul on the bowline, the herring are home. There's tar on the hatches and frost on the hawsers. "
        "Haul on the bowline, the herring are running. The skipper's red beard has gone white in one winter. Haul on "
        "the bowline, the herring are home."
    ),
    "poem": (
        "I carried the clock down the hill in a blanket, and the owl in the larch said nothing. It struck eleven "
        "against my ribs, and the owl in the larch said nothing. The ford had taken the stepping stones and left a "
        "shoe on the willow. I waded with eleven in my arms, and the owl in the larch said nothing. My brother had "
        "wound it the day he left for the slate mines at Corris. I set it going on the sill of the toll house, and "
        "the owl in the larch said nothing. The toll keeper gave me soup with barley and asked what hour I wanted."
    ),
    "glossary": (
        "Thwart: a seat across a boat, on which the rower sits. Gunwale: the upper edge of the hull, where the "
        "oarlocks are. Painter: the rope at the bow by which a dinghy is made fast. Bilge: the lowest part of the "
        "hull, where water gathers. Strake: one of the planks that run from stem to stern. Transom: the flat end of "
        "a hull, on which the rudder hangs. Coaming: the raised rim that keeps water out of a hatch. Fender: a bag "
        "of cork between hull and quay. Tholepin: a peg that holds an oar where there is no oarlock."
    ),
    "statute": (
        "The warden of the weir keeps a register of eels taken between the first of May and the feast of Saint "
        "Martin. Whoever sets a trap of more than nine hoops pays the parish two shillings for each hoop above nine. "
        "A miller who lowers his sluice by night without a lantern on the post forfeits his grist of that week. If "
        "the bank is breached by cattle, the owner of the cattle restores it with osier and clay within ten days. "
        "The warden may enter any yard on the east bank to measure nets, but not on a Sunday. Appeals against the "
        "warden go to the bailiff at Stow, who hears them on the first Tuesday after the fair."
    ),
    "recipes": (
        "Chestnut soup. Score two pounds of chestnuts, roast them at 220 degrees and peel them hot. Sweat a leek in "
        "goose fat, add the chestnuts and a quart of stock, and simmer for half an hour. Sieve it and finish with a "
        "spoon of sherry. Pickled walnuts. Prick green walnuts in June and leave them nine days in brine. Dry them "
        "in the sun until they turn black, then cover them with vinegar boiled with mace and pepper. Barley "
        "dumplings. Rub suet into barley flour, wet it with buttermilk and drop spoonfuls into the broth. They are "
        "done when they rise and turn over."
    ),
    "manual": (
        "Remove the four screws under the label and lift the lid of the gearbox away from you. The worm wheel is "
        "brass and scratches easily, so lay it on felt. Clean the old grease from the shaft with paraffin and look "
        "for pitting near the keyway. If the play at the crank exceeds two millimetres, fit the thicker of the two "
        "shims in the bag. Pack the housing with lithium grease to the line, not above it. Turn the crank twenty "
        "times before you close the lid, and listen for the click of a chipped tooth. The lid screws take four "
        "newton metres; more strips the thread."
    ),
    "review": (
        "The Tarvin Players have moved Hamlet into a laundromat, and for two acts it works. Dora Quill's Ophelia "
        "folds sheets through the mad scene with a precision that made the woman beside me cry. The ghost speaks "
        "from inside a drum at forty revolutions a minute, and you catch one word in three. Fortinbras arrives with "
        "a delivery of softener, which got a laugh it did not want. The duel is fought with mop handles, and the "
        "poison is bleach. At three hours ten it is long for a stall with no heating."
    ),
    "faq": (
        "Why is my sourdough flat? Most often the starter was fed too late, and its acids have eaten the gluten. "
        "Feed it when it has just begun to sink, about five hours after the last meal at 24 degrees. Can I use rye "
        "from the mill at Anselm? Yes, but hold back a tenth of the water, since that rye is milled fine and gets "
        "sticky. Why does the crust come off? The oven steamed too long, so open its door for ten seconds after the "
        "first quarter of an hour. My loaf tastes of metal. The tin has lost its coating, and the acid takes iron."
    ),
}


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    def of(works):
        folder = tmp_path_factory.mktemp("novelty") / "index"
        build_index(works, folder, threads=1)
        return {one.work_id: one for one in held(folder)}

    return of


@pytest.fixture(scope="module")
def planted(queue, own_works):
    """Honest works, and a lone farm of every kind made of them and of sentences the probe never saw."""
    long = [
        SourceWork(f"book-{at}", " ".join(work.text for work in own_works[at : at + 5]), 1, f"writer-{at}")
        for at in (0, 5)
    ]
    honest = [SourceWork(name, text, 2, name) for name, text in HONEST.items()]
    made = list(farms(long))
    works = [work for farm in made for work in farm.works]
    return made, queue([*long, *honest, *works])


@pytest.mark.parametrize("name", HONEST)
def test_honest_works_of_unusual_form_are_not_held(planted, name):
    assert planted[1].get(name) is None


@pytest.mark.parametrize(
    ("kind", "part"),
    [("boilerplate", 1.0), ("proverbs", 1.0), ("stock", 1.0), ("boilerplate-other", 0.9), ("proverbs-other", 0.7),
     ("stock-other", 0.5), ("copy", 1.0), ("copy-edited", 1.0), ("paraphrase", 1.0)],
)  # fmt: skip
def test_a_lone_farm_is_held(planted, kind, part):
    made, found = planted
    works = next(farm.works for farm in made if farm.kind == kind)
    assert sum(work.work_id in found for work in works) >= part * len(works)


def test_farms_are_the_same_every_time_and_another_seed_makes_others(own_works):
    assert list(farms(own_works)) == list(farms(own_works))
    assert list(farms(own_works, 1)) != list(farms(own_works, 2))


def test_the_reason_of_common_text_says_how_much_of_it_is(planted):
    reasons = [one for one in planted[1].values() if one.work_id.startswith("farm-boilerplate-")]
    common = [one for one in reasons if one.reason == "common"]
    assert common
    assert all(one.of is None and "anybody" in one.note for one in common)
    assert np.mean([one.part_ppm for one in common]) > 500_000


def test_a_farm_cut_into_one_sentence_works_is_held(queue):
    lines = [line for line in sections(PHRASES)["boilerplate"] if "{" not in line]
    works = [SourceWork(f"piece-{at}", line, 1, "farmer") for at, line in enumerate(lines)]
    assert len(queue(works)) == len(works)


def test_a_long_chapter_that_speaks_for_itself_is_not_lost_by_its_neighbours(queue, own_works):
    lines = [line for line in sections(PHRASES)["proverbs"] if "{" not in line]
    farm = [SourceWork(f"piece-{at}", " ".join(lines[at : at + 5]), 1, "farmer") for at in range(0, 25, 5)]
    chapter = SourceWork("chapter", " ".join(work.text for work in own_works[:5]), 1, "farmer")
    assert set(queue([*farm, chapter])) == {work.work_id for work in farm}


def test_few_sentences_say_more_of_who_gathers_them_than_of_themselves():
    # Two works of the same mean score (-1.9) among a farmer's: one of five sentences, one of sixty.
    number = np.array([20.0, 20.0, 20.0, 20.0, 5.0, 60.0])
    mean = np.array([0.5, 0.5, 0.5, 0.5, -1.9, -1.9])
    sums = np.stack([number, mean * number * 10, number * 10, number - 1, (number - 1) * 0.2])
    assert says_nothing_new(sums, np.zeros(6, np.int64)).tolist() == [True, True, True, True, True, False]
    assert not says_nothing_new(sums, np.arange(6))[4:].any()


def test_a_work_that_a_person_released_may_earn(queue):
    lines = " ".join(line for line in sections(PHRASES)["boilerplate"] if "{" not in line)
    works = [SourceWork("held", lines, 1, "a"), SourceWork("free", lines, 0, "b", reviewed=True)]
    assert list(queue(works)) == ["held"]


def test_the_probe_knows_the_encoder_that_ships():
    assert Probe.open().model_sha256 == Encoder.open(threads=1).model_sha256


def test_an_index_of_another_encoder_is_not_judged_by_the_probe(word_encoder, tmp_path):
    lines = sections(PHRASES)["stock"][:12]
    build([SourceWork("a", " ".join(lines))], tmp_path / "i", [word_encoder], Background.open())
    assert held(tmp_path / "i") == ()


def test_a_missing_probe_says_what_to_do(tmp_path):
    with pytest.raises(ModelMissing, match="probe"):
        Probe.open(tmp_path)


@given(st.lists(st.floats(0, 12, width=32), min_size=1, max_size=40), st.data())
def test_counts_of_rarity_are_bounded_by_the_rarest_word(idf, data):
    row = np.array(idf, np.float32)
    starts = np.array(sorted({0, *data.draw(st.lists(st.integers(0, len(row) - 1), max_size=5))}), np.int64)
    counts = rarity(row, starts)
    assert counts.shape == (len(starts), COUNTS)
    assert (counts[:, 0] <= counts[:, 1] + 1e-3).all()
    assert ((counts[:, 2:] >= 0) & (counts[:, 2:] <= 1)).all()


def test_no_sentence_counts_for_more_than_its_share():
    probe = Probe(np.full(8 + COUNTS, 100.0, np.float32), 0.0, "m", "s")
    rows = np.array([np.ones(8), -np.ones(8)], np.float32)
    assert probe.scores(rows, np.zeros((2, COUNTS), np.float32)).tolist() == [SCORE_MAX, -SCORE_MAX]
    assert len(rarity(np.zeros(0, np.float32), np.zeros(0, np.int64))) == 0

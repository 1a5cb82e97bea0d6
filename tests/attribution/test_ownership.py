from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution import Attributor, build_index
from attribution.background import Background
from attribution.building import build
from attribution.errors import IndexCorrupt, IndexMissing
from attribution.ownership import Sentences, Verdicts, held, paraphrases, quarantined
from attribution.replication import COPY, NOT_QUARANTINED, PATCHWORK
from attribution.terms import SourceWork

BACKGROUND = Background.open()
HARBOUR = (
    "The harbour froze on the ninth of December and the pilot boats lay in it like teeth. Old Marit walked out to "
    "the lightship with a sack of coal and found the keeper asleep over a game of patience. She counted the oil, "
    "wound the clock, and wrote in the log that the lamp had been low since Tuesday. On the way back the ice sang "
    "under her boots, and a fox followed her as far as the breakwater."
)
MILL = (
    "Nobody in Tarvin remembered who had built the windmill, only that its sails turned against the sun. The miller's "
    "daughter kept accounts in chalk on the inside of the door, nine sacks of rye to the bishop, four to the widow "
    "Anselm. When the new railway took the grain away she painted the door white and sold lemonade from the steps."
)
BEES = (
    "In the third week of May the swarm left the hollow ash and settled on the postman's bicycle. He waited for two "
    "hours with the letters in his bag, because the queen had chosen his bell. My aunt came with a skep and a goose "
    "wing, brushed the bees down in one movement, and sent him off with a jar from the year before."
)
LINES = [line.strip() + "." for text in (HARBOUR, MILL, BEES) for line in text.rstrip(".").split(". ")]


@pytest.fixture
def queue(word_encoder, tmp_path):
    def of(*works):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        build(works, folder, [word_encoder], BACKGROUND)
        return {one.work_id: one for one in held(folder)}

    return of


def edited(text, every=9):
    """Change one word in so many."""
    return " ".join(
        f"rather{'.' * word.endswith('.')}" if at % every == every - 1 else word
        for at, word in enumerate(text.split())
    )


@pytest.mark.parametrize(
    "change",
    [str, str.upper, edited, lambda text: text.replace("a", "\u0430").replace("o", "\u043e"), lambda text: text + " The end."],
)  # fmt: skip
def test_a_text_uploaded_again_is_a_copy_of_the_first(queue, change):
    found = queue(SourceWork("first", HARBOUR, 1, "ada"), SourceWork("again", change(HARBOUR), 2, "bo"))
    assert list(found) == ["again"]
    assert (found["again"].reason, found["again"].of) == ("copy", "first")
    assert found["again"].part_ppm > 700_000
    assert "first" in found["again"].note


def test_a_copy_of_a_copy_is_named_after_the_head_of_the_cluster(queue):
    texts = (HARBOUR, edited(HARBOUR), edited(edited(HARBOUR), 25))
    works = [
        SourceWork(name, text, at, name) for at, (name, text) in enumerate(zip("abc", texts, strict=True))
    ]
    assert {name: one.of for name, one in queue(*works).items()} == {"b": "a", "c": "a"}


def test_pages_of_several_works_are_a_patchwork(queue):
    patched = f"{HARBOUR} {MILL} {BEES}"
    works = [SourceWork(name, text, 1, name) for name, text in (("h", HARBOUR), ("m", MILL), ("b", BEES))]
    found = queue(*works, SourceWork("patched", patched, 2, "late"))
    assert [(one.work_id, one.reason) for one in found.values()] == [("patched", "patchwork")]


def test_a_page_of_a_patchwork_is_owed_to_those_it_is_made_of(paid):
    works = [SourceWork(name, text, 1, name) for name, text in (("h", HARBOUR), ("m", MILL), ("b", BEES))]
    patched = SourceWork("patched", f"{HARBOUR} {MILL} {BEES}", 2, "late")
    assert paid(*works, patched, text=f"{LINES[3]} {LINES[4]}") == {"h", "m"}


def test_an_essay_that_quotes_is_no_copy(queue):
    essay = (
        "What strikes me in the winter pages is how little is said. 'She counted the oil, wound the clock, and wrote "
        "in the log that the lamp had been low since Tuesday.' Four acts, no feeling, and yet the reader shivers. "
        "Compare the miller's daughter, whose chalk accounts are funnier and colder at once: 'nine sacks of rye to "
        "the bishop, four to the widow Anselm.' Both writers trust a list more than an adjective, and so should you."
    )
    works = [SourceWork("h", HARBOUR, 1, "ada"), SourceWork("m", MILL, 1, "bo")]
    assert queue(*works, SourceWork("essay", essay, 2, "cy")) == {}


def test_a_creators_own_new_edition_is_nobodys_copy(queue):
    new = f"{HARBOUR} In this edition the fox comes back, and Marit feeds it herring from her glove."
    assert queue(SourceWork("first", HARBOUR, 1, "ada"), SourceWork("second", new, 2, "ada")) == {}


def test_what_a_person_has_released_is_not_held(queue):
    assert queue(SourceWork("a", HARBOUR, 1, "ada"), SourceWork("b", HARBOUR, 2, "bo", reviewed=True)) == {}


def test_an_adaptation_whose_licence_names_the_original_is_not_held(queue):
    original = SourceWork("first", HARBOUR, 1, "ada")
    assert queue(original, SourceWork("stage", edited(HARBOUR), 2, "bo", adapts=("first",))) == {}
    assert list(queue(original, SourceWork("stage", edited(HARBOUR), 2, "bo", adapts=("else",)))) == ["stage"]


def test_an_adaptation_is_held_for_what_it_takes_from_others(queue):
    works = [SourceWork(name, text, 1, name) for name, text in (("h", HARBOUR), ("m", MILL))]
    found = queue(*works, SourceWork("stage", f"{HARBOUR} {MILL} {MILL}", 2, "bo", adapts=("h",)))
    assert {name: (one.reason, one.of) for name, one in found.items()} == {"stage": ("copy", "m")}


def test_who_copies_an_adaptation_copies_both(queue):
    works = [SourceWork("h", HARBOUR, 1, "ada"), SourceWork("stage", edited(HARBOUR), 2, "bo", adapts=("h",))]
    found = queue(*works, SourceWork("thief", edited(HARBOUR), 3, "cy"))
    assert list(found) == ["thief"]
    assert found["thief"].of in {"h", "stage"}


@pytest.mark.parametrize(
    ("early", "late", "copy"),
    [(0, 0, "late"), (0, 1, "early"), (1, 2, "early"), (2, 1, "late"), (1, 1, "late")],
)
def test_an_upheld_claim_outranks_an_identifier_and_that_outranks_being_first(queue, early, late, copy):
    found = queue(
        SourceWork("early", HARBOUR, 1, "ada", standing=early),
        SourceWork("late", HARBOUR, 2, "bo", standing=late),
    )
    assert list(found) == [copy]


def test_who_copies_a_commons_is_held_and_the_commons_never_is(queue):
    found = queue(SourceWork("free", HARBOUR, 1, commons=True), SourceWork("claimer", HARBOUR, 2, "bo"))
    assert {name: one.of for name, one in found.items()} == {"claimer": "free"}


@pytest.fixture
def paid(tmp_path):
    def of(*works, text=HARBOUR):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        build_index(works, folder, threads=1)
        return {share.work_id for share in Attributor.open(folder).attribute(text).shares}

    return of


def test_a_match_in_a_commons_is_nobodys_and_later_registrants_get_nothing(paid):
    assert paid(SourceWork("free", HARBOUR, 1, commons=True), SourceWork("late", HARBOUR, 2, "bo")) == set()


def test_what_restates_a_commons_is_nobodys_too(paid):
    said = (
        "Marit went out to the lightship carrying coal, and the keeper was asleep over his game of patience."
    )
    assert paid(SourceWork("book", HARBOUR, 1, "ada"), text=said) == {"book"}
    assert paid(SourceWork("free", HARBOUR, 1, commons=True), text=said) == set()


def test_a_commons_does_not_take_from_who_was_there_before(paid):
    assert paid(SourceWork("early", HARBOUR, 1, "ada"), SourceWork("free", HARBOUR, 2, commons=True)) == {
        "early"
    }


def test_the_earlier_registrant_is_paid_and_the_copy_is_not(paid):
    assert paid(SourceWork("a", HARBOUR, 1, "ada"), SourceWork("b", edited(HARBOUR), 2, "bo")) == {"a"}


def test_an_upheld_claim_takes_the_matches_from_the_earlier_registrant(paid):
    works = (SourceWork("thief", HARBOUR, 1, "bo"), SourceWork("author", HARBOUR, 2, "ada", standing=2))
    assert paid(*works) == {"author"}


def test_the_earlier_of_two_editions_by_one_creator_is_paid_once(paid):
    assert paid(SourceWork("first", HARBOUR, 1, "ada"), SourceWork("second", HARBOUR, 2, "ada")) == {"first"}


@pytest.mark.parametrize(("part_at", "paid_for"), [(2, "book"), (1, "part")])
def test_an_excerpt_of_ones_own_book_is_no_second_claimant_whichever_came_first(paid, part_at, paid_for):
    part = " ".join(LINES[:4])
    works = (
        SourceWork("part", part, part_at, "ada"),
        SourceWork("book", " ".join(LINES), 3 - part_at, "ada"),
    )
    assert paid(*works, text=part) == {paid_for}


def swapped(text):
    swaps = {
        "froze": "was frozen", "walked": "went", "found": "discovered", "asleep": "sleeping", "counted": "checked",
        "wrote": "noted", "sack": "bag", "built": "made", "remembered": "knew", "daughter": "girl", "left": "quit",
        "waited": "stood", "settled": "landed", "sold": "offered", "brushed": "swept", "followed": "trailed",
    }  # fmt: skip
    return " ".join(swaps.get(word, word) for word in text.split())


@pytest.mark.parametrize("part", [slice(None), slice(3, 9)], ids=["all", "six sentences"])
def test_a_book_reworded_line_by_line_is_a_paraphrase_of_it(tmp_path, part):
    reworded = " ".join(edited(swapped(line), 6) for line in LINES[part])
    works = [SourceWork("book", " ".join(LINES), 1, "ada"), SourceWork("machine", reworded, 2, "bo")]
    build_index(works, tmp_path / "i", threads=1)
    assert [(one.work_id, one.reason, one.of) for one in held(tmp_path / "i")] == [
        ("machine", "paraphrase", "book")
    ]


def test_a_licensed_retelling_is_not_held_and_what_it_says_anew_is_its_own(tmp_path):
    reworded = " ".join(edited(swapped(line), 6) for line in LINES)
    book = SourceWork("book", " ".join(LINES), 1, "ada")
    build_index([book, SourceWork("retold", reworded, 2, "bo", adapts=("book",))], tmp_path / "i", threads=1)
    assert held(tmp_path / "i") == ()
    shares = Attributor.open(tmp_path / "i").attribute(reworded).shares
    assert shares[0].work_id == "retold"


def test_the_same_sentences_in_no_order_are_no_paraphrase():
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((24, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    packed = np.round(np.concatenate([rows, rows[::-1]]) * 127).astype(np.int8)
    sentences = Sentences(
        packed, np.full(48, 1 / 127, np.float16), np.full(48, 12), np.array([0, 24, 48], np.int64)
    )
    assert paraphrases(sentences, np.array([0, 1])).reason.tolist() == [NOT_QUARANTINED, NOT_QUARANTINED]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(LINES), st.integers(0, 2), st.integers(0, 3), st.sampled_from("xyz"), st.booleans()),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_judging_depends_on_precedence_alone_and_nobody_is_held_for_a_lower_one(tmp_path_factory, found, rng):
    encoder = _Encoder()
    works = [
        SourceWork(f"w{at}", f"{line} {line}", registered, creator, commons=commons, standing=standing)
        for at, (line, standing, registered, creator, commons) in enumerate(found)
    ]
    shuffled = rng.sample(works, len(works))
    one, other = tmp_path_factory.mktemp("one") / "i", tmp_path_factory.mktemp("other") / "i"
    build(works, one, [encoder], BACKGROUND)
    build(shuffled, other, [encoder], BACKGROUND)
    assert held(one) == held(other)
    by_id = {work.work_id: work for work in works}
    for entry in held(one):
        work = by_id[entry.work_id]
        assert not work.commons
        if entry.of is not None:
            assert by_id[entry.of].precedence < work.precedence
            assert by_id[entry.of].creator_id != work.creator_id


class _Encoder:
    dim, model_sha256 = 8, "ones"

    def encode(self, texts):
        return np.full((len(texts), 8), 8**-0.5, np.float32)


def test_a_verdict_keeps_the_first_reason_and_lets_go_of_what_was_released():
    first = Verdicts(np.array([COPY, 0], np.uint8), np.array([1, -1], np.int32), np.array([9, 0], np.int32))
    second = Verdicts(np.full(2, PATCHWORK, np.uint8), np.array([0, 0], np.int32), np.array([5, 5], np.int32))
    both = first.or_else(second)
    assert (both.reason.tolist(), both.of.tolist(), both.part_ppm.tolist()) == (
        [COPY, PATCHWORK],
        [1, 0],
        [9, 5],
    )
    assert both.released(np.array([True, False])).of.tolist() == [-1, 0]


def test_the_review_queue_of_a_damaged_index_says_so(word_encoder, tmp_path):
    with pytest.raises(IndexMissing):
        held(tmp_path)
    build([SourceWork("a", HARBOUR)], tmp_path / "i", [word_encoder], BACKGROUND)
    assert quarantined(tmp_path / "i") == {}
    (tmp_path / "i" / "works.jsonl").write_text(json.dumps({"no": "id"}))
    with pytest.raises(IndexCorrupt, match="id"):
        held(tmp_path / "i")

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.scored import PPM, ChoiceShares, Evidence, Failed, Scored, ScoredWork, combine


def choice(number: int, words: int, **ppm: int) -> ChoiceShares:
    return ChoiceShares(number, words, PPM - sum(ppm.values()), ppm, {})


@st.composite
def any_choice(draw: st.DrawFn) -> ChoiceShares:
    cuts = sorted(draw(st.lists(st.integers(0, PPM), max_size=5)))
    parts = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
    names = draw(st.permutations(["w_a", "w_b", "w_c", "w_d", "w_e", "w_f"]))
    ppm = {name: part for name, part in zip(names, parts, strict=False) if part}
    return choice(0, draw(st.integers(0, 10_000)), **ppm)


@given(st.lists(any_choice(), max_size=6))
def test_shares_of_any_choices_sum_to_a_million_and_lie_within_one_ppm_of_exact(choices: list[ChoiceShares]):
    scored = combine(choices, method="m")  # its constructor refuses any other sum
    words = sum(each.words for each in choices)
    assert scored.words == words
    for work in scored.works:
        exact = sum(each.ppm.get(work.work, 0) * each.words for each in choices)
        assert abs(work.ppm * words - exact) < words


@given(st.lists(any_choice(), max_size=6), st.randoms(use_true_random=False))
def test_shares_do_not_depend_on_the_order_of_choices(choices: list[ChoiceShares], random):
    mixed = list(choices)
    random.shuffle(mixed)
    assert combine(mixed, method="m") == combine(choices, method="m")


def test_one_choice_keeps_its_shares_exactly():
    scored = combine([choice(0, 7, w_a=333_333, w_b=1)], method="m")
    assert [(work.work, work.ppm) for work in scored.works] == [("w_a", 333_333), ("w_b", 1)]
    assert (scored.unattributed_ppm, scored.words) == (666_666, 7)


def test_a_choice_weighs_as_much_as_it_has_words():
    scored = combine([choice(0, 30, w_a=PPM), choice(1, 10)], method="m")
    assert scored.works == (ScoredWork("w_a", 750_000),)


def test_a_missing_ppm_goes_to_the_smaller_work_id_when_remainders_tie():
    scored = combine([choice(0, 1, w_b=PPM), choice(1, 1, w_a=PPM - 1, w_c=1)], method="m")
    assert [(work.work, work.ppm) for work in scored.works] == [("w_a", 500_000), ("w_b", 500_000)]


def test_no_words_are_fully_unattributed():
    assert combine([], method="m").unattributed_ppm == PPM
    assert combine([choice(0, 0, w_a=PPM)], method="m").works == ()


def test_evidence_keeps_its_choice_and_its_order():
    first, second = Evidence("verbatim", 0, 0, 9, 1.0, 5, 14), Evidence("restated", 1, 2, 8, 0.8, 0, 6)
    scored = combine(
        [
            ChoiceShares(0, 5, 0, {"w_a": PPM}, {"w_a": (first,)}),
            ChoiceShares(1, 5, 0, {"w_a": PPM}, {"w_a": (second,)}),
        ],
        method="m",
    )
    assert scored.works == (ScoredWork("w_a", PPM, (first, second)),)


@pytest.mark.parametrize(
    ("unattributed_ppm", "works"),
    [
        (PPM - 1, ()),
        (PPM, (ScoredWork("w_a", 0),)),
        (PPM + 5, (ScoredWork("w_a", -5),)),
        (-1, (ScoredWork("w_a", PPM + 1),)),
        (0, (ScoredWork("w_a", 500_000), ScoredWork("w_a", 500_000))),
    ],
)
def test_shares_that_cannot_be_are_refused(unattributed_ppm: int, works: tuple[ScoredWork, ...]):
    with pytest.raises(ValueError, match=r"shares sum|credited twice"):
        Scored(unattributed_ppm=unattributed_ppm, works=works)


def test_results_cross_a_process_border_as_they_are():
    scored = Scored(
        unattributed_ppm=1, works=(ScoredWork("w_a", PPM - 1, (Evidence("verbatim", 0, 0, 4, 1.0, 0, 4),)),)
    )
    for result in (scored, Failed(detail="the scorer died three times")):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=Scored | Failed) == result

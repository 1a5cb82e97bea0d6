from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution import Attributor, SourceWork
from attribution.causal import (
    POSITIONS_MAX,
    WORKS_MAX,
    Influence,
    Message,
    Passage,
    agreement,
    compare,
    grounded,
    influences,
    kendall_tau_b,
    plan,
    positions,
    spearman,
    transcript,
)
from attribution.engine import build_index

LAMP = "Forty paper lanterns drifted under the viaduct while the miller argued with his own echo about rent."
KITE = "Nobody in the valley repaired umbrellas, so the rain was counted among the permanent residents there."
ASKED = Message("user", "Who argued under the viaduct?")
small = st.lists(st.integers(-3, 3), min_size=2, max_size=7)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal") / "index"
    build_index([SourceWork("lamp", LAMP, 1, "c1"), SourceWork("kite", KITE, 2, "c2")], folder)
    attributor = Attributor.open(folder)
    yield attributor.index
    attributor.close()


def test_a_work_in_the_context_is_found_and_left_out_without_touching_the_rest(index):
    messages = [Message("system", f"Sources.\n[1] {LAMP}\n[2] {KITE}"), ASKED]
    passages = grounded(index, messages)
    assert [(one.work_id, one.message) for one in passages] == [("lamp", 0), ("kite", 0)]
    made = plan(messages, passages)
    assert made.full == transcript(messages)
    assert made.without["lamp"] == made.full.replace(LAMP, "")
    assert made.without["kite"] == made.full.replace(KITE, "")
    assert made.not_scored == ()


def test_messages_without_registered_text_ground_nothing(index):
    assert grounded(index, [ASKED, Message("user", ""), Message("user", "...")]) == []


def test_only_the_largest_works_are_scored_and_the_rest_is_named():
    text = "x" * 100
    passages = [Passage(f"w{n:02}", 0, n, n + 1, 10 + n) for n in range(WORKS_MAX + 3)]
    made = plan([Message("user", text)], passages)
    assert list(made.without) == [f"w{n:02}" for n in range(WORKS_MAX + 2, 2, -1)]
    assert made.not_scored == ("w02", "w01", "w00")
    assert set(made.grounded_words) == set(made.without)


@given(
    st.text(max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9), st.sampled_from("ab")), max_size=6),
)
def test_every_prompt_ends_alike_and_only_loses_characters(text, cuts):
    passages = [
        Passage(work, 0, min(start, len(text)), min(start + size, len(text)), size)
        for start, size, work in cuts
    ]
    made = plan([Message("user", text)], passages)
    for prompt in made.without.values():
        assert prompt.endswith("\n\nAssistant:\n")
        rest = iter(made.full)
        assert all(char in rest for char in prompt), "a subsequence of the full prompt"


@given(st.integers(0, 3_000), st.text(max_size=5))
def test_positions_are_some_of_the_tokens_in_order_and_bounded(count, salt):
    chosen = positions(count, salt)
    assert chosen == sorted(set(chosen)) == positions(count, salt)
    assert len(chosen) == min(count, POSITIONS_MAX)
    assert all(0 <= at < count for at in chosen)


def test_an_influence_is_the_drop_scaled_to_the_whole_answer():
    found = influences([-1.0, -2.0], {"w": [-3.0, -4.0], "v": [-1.0, -1.5]}, tokens=10)
    assert found["w"] == Influence(20.0, 2.0)
    assert found["v"] == Influence(-2.5, -0.25)


@pytest.mark.parametrize(
    ("full", "left", "tokens"),
    [([], [], 3), ([-1.0], [-1.0, -2.0], 3), ([-1.0, -1.0], [-1.0, -2.0], 1), ([-1.0], [-math.inf], 1)],
)
def test_log_probabilities_that_do_not_fit_are_refused(full, left, tokens):
    with pytest.raises(ValueError, match=r"."):
        influences(full, {"w": left}, tokens)


@pytest.mark.parametrize(
    ("first", "second", "tau", "rho"),
    [  # the third row's as another implementation gives them
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0, 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0, -1.0),
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -0.471404520791, -0.540738070436),
        ([3, 2, 1], [1, 0, 0], 2 / math.sqrt(6), math.sqrt(3) / 2),
        ([1, 1, 1], [1, 2, 3], None, None),
        ([5], [7], None, None),
    ],
)
def test_rank_correlations_have_their_known_values(first, second, tau, rho):
    assert kendall_tau_b(first, second) == pytest.approx(tau)
    assert spearman(first, second) == pytest.approx(rho)


def mean_rank_correlation(first, second):
    """Pearson's formula on ranks written out the long way."""

    def ranks(values):
        order = sorted(values)
        return [order.index(one) + (order.count(one) + 1) / 2 for one in values]

    a, b = ranks(first), ranks(second)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    over = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    under = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    return over / under if under else None


@given(st.data(), small)
def test_rank_correlations_are_symmetric_bounded_and_blind_to_scale(data, first):
    second = data.draw(st.lists(st.integers(-3, 3), min_size=len(first), max_size=len(first)))
    for measure in (kendall_tau_b, spearman):
        found = measure(first, second)
        assert found == pytest.approx(measure(second, first))
        assert found == pytest.approx(measure([value * 7 + 1 for value in first], second))
        assert (found is None) == (len(set(first)) == 1 or len(set(second)) == 1)
        if found is not None:
            assert -1 - 1e-9 <= found <= 1 + 1e-9
            assert measure([-value for value in first], second) == pytest.approx(-found)
    assert spearman(first, second) == pytest.approx(mean_rank_correlation(first, second))


def test_rows_of_other_lengths_are_refused():
    for measure in (kendall_tau_b, spearman):
        with pytest.raises(ValueError, match=r"."):
            measure([1, 2], [1])


def nats(**totals: float) -> dict[str, Influence]:
    return {work: Influence(total, total / 10) for work, total in totals.items()}


def test_works_are_compared_with_a_missing_share_as_none_and_noise_as_a_tie():
    same = compare(nats(a=9.0, b=1.0, c=0.5), {"a": 600_000, "b": 100_000})
    assert (same.tau_b, same.spearman, same.top_agrees) == (1.0, 1.0, True)
    other = compare(nats(a=9.0, b=1.0), {"b": 1})
    assert (other.tau_b, other.top_agrees) == (-1.0, False)
    assert compare(nats(a=0.001, b=-0.002), {"a": 5}).tau_b is None, (
        "a ten-thousandth of a nat a token is no order"
    )
    assert compare(nats(a=9.0, b=1.0), {}).top_agrees is None
    assert compare(nats(a=-1.0, b=-2.0), {"a": 5}).top_agrees is None
    assert compare({}, {"a": 5}) == compare(nats(a=1.0), {})


def test_agreement_is_a_mean_over_exchanges_with_a_repeatable_interval():
    good = compare(nats(a=9.0, b=1.0), {"a": 1})
    bad = compare(nats(a=9.0, b=1.0), {"b": 1})
    alone = compare(nats(a=9.0), {"a": 1})
    found = agreement([good, good, good, bad, alone])
    assert (found.tau_b.value, found.tau_b.count) == (0.5, 4)
    assert (found.top.value, found.top.count) == (0.75, 4), "one work alone has no order"
    assert found.tau_b.low is not None
    assert found.tau_b.high is not None
    assert -1 <= found.tau_b.low < 0.5 < found.tau_b.high <= 1
    assert found == agreement([good, good, good, bad, alone])
    single = agreement([good])
    assert (single.tau_b.value, single.tau_b.low) == (1.0, None)
    assert agreement([]).top == agreement([alone]).top
    assert agreement([]).spearman.value is None

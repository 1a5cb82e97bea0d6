from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.scored import PPM, ChoiceShares, combine
from proxy.relay.scoring import (
    FRAME_BYTES_MAX,
    SLICE_CHARACTERS,
    TEXT_CHARACTERS_MAX,
    Asked,
    Broken,
    Count,
    Done,
    Finish,
    Forget,
    Frames,
    Grounding,
    Open,
    Scoring,
    Text,
    decode_request,
    frame,
    sized,
    stretches,
)
from tests.proxy.relay.toy_scorer import ToyEngine

_spec = importlib.util.spec_from_file_location("toy_scorer", Path(__file__).with_name("toy_scorer.py"))
assert _spec is not None
assert _spec.loader is not None
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)

REQUESTS = [
    Open(1, None),
    Open(2, "/i"),
    Text("rct_1", 0, "ü"),
    Finish("rct_1"),
    Forget("rct_1"),
    Count(3, "x"),
]


def scoring() -> Scoring:
    made = Scoring()
    made.use(toy.ToyEngine(None))
    return made


def run(made: Scoring) -> list[Done | Broken]:
    replies = []
    while (turn := made.choose()) is not None:
        if (reply := made.work(turn)) is not None:
            replies.append(reply)
    return replies


@given(st.lists(st.integers(1, 40), max_size=20))
def test_messages_do_not_depend_on_where_the_pipe_cuts(cuts: list[int]):
    data, frames, heard = b"".join(map(frame, REQUESTS)), Frames(), []
    for cut in [*cuts, len(data)]:
        heard += [decode_request(payload) for payload in frames.feed(data[:cut])]
        data = data[cut:]
    assert heard == REQUESTS


def test_a_frame_that_nobody_sends_is_refused():
    with pytest.raises(ValueError, match="at most"):
        list(Frames().feed((FRAME_BYTES_MAX + 1).to_bytes(4, "little")))


words = st.lists(st.sampled_from(["w_a", "w_b", "w_c", "and", "of", "ü"]), min_size=1, max_size=400)


@given(words, st.lists(st.integers(1, 300), max_size=10))
def test_shares_do_not_depend_on_how_the_text_arrives(text_words: list[str], cuts: list[int]):
    text = " ".join(text_words)
    whole, pieces = scoring(), scoring()
    whole.receive(Text("rct_1", 0, text))
    for cut in cuts:
        pieces.receive(Text("rct_1", 0, text[:cut]))
        text = text[cut:]
        run(pieces)
    pieces.receive(Text("rct_1", 0, text))
    for each in (whole, pieces):
        each.receive(Finish("rct_1"))
    assert run(whole) == run(pieces)


@given(st.text("ab. \n", max_size=20_000))
def test_word_pieces_are_counted_whole_however_long_the_text_is(text: str):
    assert sum(len(stretch.split()) for stretch in stretches(text)) == len(text.split())


def test_a_long_answer_delays_a_short_one_by_a_slice_or_two():
    made = scoring()
    made.receive(Text("rct_long", 0, "word " * 20_000))
    made.receive(Finish("rct_long"))
    for _ in range(10):
        made.work("rct_long")
    made.receive(Text("rct_short", 0, "w_a"))
    made.receive(Finish("rct_short"))
    turns = []
    while (turn := made.choose()) is not None:
        turns.append(turn)
        if isinstance(made.work(turn), Done):
            break
    assert turns.count("rct_long") <= 1
    assert turns[-1] == "rct_short"
    assert max(len(stream.text) for stream in made.engine.streams) <= 11 * SLICE_CHARACTERS


def test_short_answers_without_end_do_not_stop_a_long_one():
    made = scoring()
    made.receive(Text("rct_long", 0, "word " * 20_000))
    made.receive(Finish("rct_long"))
    turns = []
    for number in range(40):
        made.receive(Text(f"rct_{number}", 0, "w_a"))
        made.receive(Finish(f"rct_{number}"))
        turn = made.choose()
        assert turn is not None
        made.work(turn)
        turns.append(turn)
    assert turns.count("rct_long") == 10


def test_the_end_of_a_long_answer_lets_others_take_their_turn():
    made = scoring()
    made.receive(Text("rct_long", 0, "word " * 2_000))
    made.receive(Finish("rct_long"))
    while made.waiting_characters:
        made.work("rct_long")
    made.work("rct_long")  # the first step of its end
    made.receive(Text("rct_short", 0, "w_a"))
    made.receive(Finish("rct_short"))
    done = [reply for turn in ["rct_long", "rct_short"] * 2 if (reply := made.work(turn)) is not None]
    assert [reply.id for reply in done] == ["rct_short"]
    assert [reply.id for reply in run(made)] == ["rct_long"]


def test_an_awaited_end_goes_before_text_still_flowing_and_that_before_the_background():
    made = scoring()
    for answer_id in ("rct_flowing", "rct_background", "rct_awaited"):
        made.receive(Text(answer_id, 0, "w_a"))
    made.receive(Finish("rct_background", background=True))
    made.receive(Finish("rct_awaited"))
    turns = []
    while (turn := made.choose()) is not None:
        made.work(turn)
        turns.append(turn)
    assert turns == ["rct_awaited"] * 2 + ["rct_flowing"] + ["rct_background"] * 2


def test_nothing_is_chosen_before_an_engine_serves():
    made = Scoring()
    made.receive(Text("rct_1", 0, "w_a"))
    assert made.choose() is None
    made.use(toy.ToyEngine(None))
    assert made.choose() == "rct_1"


def test_an_answer_finishes_on_the_engine_it_began_with_which_then_closes():
    made = scoring()
    first = made.engine
    made.receive(Text("rct_1", 0, "w_a"))
    run(made)
    second = toy.ToyEngine(Path(__file__).parent)
    made.use(second)
    made.receive(Text("rct_2", 0, "w_b"))
    made.receive(Finish("rct_2"))
    (done,) = run(made)
    assert done.scored.method == second.method
    assert not first.is_closed
    made.receive(Finish("rct_1"))
    (done,) = run(made)
    assert done.scored.method == first.method
    assert first.is_closed
    assert not second.is_closed


def test_an_engine_that_nobody_uses_closes_at_once():
    made = scoring()
    first = made.engine
    made.use(toy.ToyEngine(None))
    assert first.is_closed


def test_a_forgotten_answer_leaves_nothing():
    made = scoring()
    made.receive(Text("rct_1", 0, "w_a" * 1000))
    made.work("rct_1")
    made.receive(Forget("rct_1"))
    made.receive(Forget("rct_unknown"))
    assert made.choose() is None
    assert made.waiting_characters == 0


def test_one_answer_that_raises_does_not_stop_the_next():
    made = scoring()
    made.receive(Text("rct_1", 0, "RAISE"))
    made.receive(Text("rct_2", 0, "w_a"))
    for answer_id in ("rct_1", "rct_2"):
        made.receive(Finish(answer_id))
    shares = combine([ChoiceShares(0, 1, 0, {"w_a": PPM}, {})], method="toy/empty")
    second, first = sorted(run(made), key=lambda reply: isinstance(reply, Broken))
    assert first == Broken("rct_1", "LookupError")
    assert isinstance(second, Done)
    assert [(work.work, work.ppm) for work in second.scored.works] == [
        (work.work, work.ppm) for work in shares.works
    ]


def test_an_answer_that_ends_without_text_is_unattributed():
    made = scoring()
    made.receive(Finish("rct_1", truncated=True))
    (done,) = run(made)
    assert (done.scored.unattributed_ppm, done.scored.truncated) == (PPM, True)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_any_text_can_be_sent_and_keeps_its_offsets(text: str):
    clean, size = sized(text)
    assert len(clean) == len(text)
    assert len(clean.encode()) == size
    assert decode_request(next(Frames().feed(frame(Text("rct_1", 0, clean))))) == Text("rct_1", 0, clean)


def test_stretches_are_bounded_even_without_spaces():
    pieces = stretches("x" * (2 * TEXT_CHARACTERS_MAX + 1))
    assert [len(piece) for piece in pieces] == [TEXT_CHARACTERS_MAX, TEXT_CHARACTERS_MAX, 1]


def test_a_work_in_the_request_is_known_before_the_answer_and_is_grounded_evidence():
    scoring = Scoring()
    scoring.use(ToyEngine(None))
    assert scoring.receive(Asked("r", "Use w_a please", is_last=True)) is None
    assert scoring.work("r") == Grounding("r", ("w_a",))
    scoring.receive(Text("r", 0, "As w_a says it."))
    scoring.receive(Finish("r"))
    replies = [scoring.work("r") for _ in range(2)]
    done = replies[-1]
    assert isinstance(done, Done)
    assert [piece.kind for work in done.scored.works for piece in work.evidence] == ["grounded"]

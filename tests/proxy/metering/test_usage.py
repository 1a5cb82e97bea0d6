import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.frames import Frame, encode_record
from proxy.metering.usage import PPM, Attributed, Begun, Line, MeteredEvent, Used


@given(st.lists(st.integers(1, PPM), max_size=12))
def test_shares_exist_only_when_they_sum_to_a_million(parts):
    lines = tuple(Line(f"w_{number}", ppm) for number, ppm in enumerate(parts))
    rest = PPM - sum(parts)
    if rest >= 0:
        assert Attributed(id="rct_1", unattributed_ppm=rest, lines=lines).lines == lines
    else:
        with pytest.raises(ValueError, match="sum"):
            Attributed(id="rct_1", unattributed_ppm=rest, lines=lines)
    with pytest.raises(ValueError, match="sum"):
        Attributed(id="rct_1", unattributed_ppm=rest + 1, lines=lines)


def test_a_share_of_nothing_cannot_exist():
    with pytest.raises(ValueError, match="not positive"):
        Attributed(id="rct_1", unattributed_ppm=PPM, lines=(Line("w_1", 0),))


def test_a_work_credited_twice_cannot_exist():
    with pytest.raises(ValueError, match="twice"):
        Attributed(id="rct_1", unattributed_ppm=PPM - 2, lines=(Line("w_1", 1), Line("w_1", 1)))


@pytest.mark.parametrize("tokens", [-1, 2**63])
def test_counts_the_store_could_not_hold_cannot_exist(made, tokens):
    for make in (
        lambda: made.begun(1, input_tokens=tokens),
        lambda: made.used(1, input_tokens=tokens),
        lambda: made.used(1, output_tokens=tokens),
        lambda: made.used(1, price_grains=tokens),
        lambda: made.used(1, occurred_us=tokens),
        lambda: made.used(1, images=tokens),
        lambda: made.used(1, milliseconds=tokens),
    ):
        with pytest.raises(ValueError, match="64 bits"):
            make()


def test_shares_that_do_not_sum_cannot_be_read_either():
    data = msgspec.msgpack.encode({"type": "attributed", "id": "rct_1", "unattributed_ppm": 5})
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=Begun | Used | Attributed)


def test_records_from_before_images_were_counted_have_none(made):
    said = msgspec.msgpack.decode(encode_record(made.used(1)))
    assert (said.pop("images"), said.pop("milliseconds")) == (0, 0)
    assert Frame(0, msgspec.msgpack.encode(said), 0).record() == made.used(1)


def test_an_event_says_what_was_used(made):
    event = MeteredEvent.of(made.used(1, images=2, milliseconds=8_500), made.attributed(1))
    assert (event.images, event.milliseconds) == (2, 8_500)

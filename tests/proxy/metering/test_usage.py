import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.usage import PPM, Attributed, Begun, Line, Used


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
    ):
        with pytest.raises(ValueError, match="64 bits"):
            make()


def test_shares_that_do_not_sum_cannot_be_read_either():
    data = msgspec.msgpack.encode({"type": "attributed", "id": "rct_1", "unattributed_ppm": 5})
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=Begun | Used | Attributed)

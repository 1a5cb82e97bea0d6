import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.kept import glanced, packed, unpacked
from proxy.billing.statement import StatementLine, canonical

text = st.sampled_from(["", "a", "ä", '"', "w_1"])
number = st.sampled_from([0, 1, 7, 2**63 - 1])
lines = st.lists(
    st.builds(
        StatementLine,
        **dict.fromkeys(("work", "title", "app", "model", "day", "scheme", "verdict"), text),
        **dict.fromkeys(("answers", "ppm_sum", "price_grains", "rate_grains", "gross_grains"), number),
        **dict.fromkeys(("split_version", "split_ppm", "net_grains"), number),
        periods=st.sampled_from([(), ("2026-10", "2026-11")]),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def statement(month, close):
    return close(month.events[:400], month.books).statements[0]


@given(lines)
def test_a_statement_is_read_back_as_it_was_to_the_byte(statement, lines):
    made = msgspec.structs.replace(statement, lines=tuple(lines))
    read = unpacked(packed(made))
    assert (read, type(read)) == (made, type(made))
    assert canonical(read) == canonical(made)
    assert packed(read) == packed(made)


@given(lines, st.integers(0, 8))
def test_a_glance_has_the_lines_that_earned_most_and_says_how_many_there_are(statement, lines, lines_max):
    made = msgspec.structs.replace(statement, lines=tuple(lines))
    for body in (packed(made), canonical(made)):
        seen = glanced(body, lines_max)
        assert seen.statement == msgspec.structs.replace(made, lines=())
        assert seen.count == len(lines)
        assert [made.lines[number - 1] for number, _ in seen.largest] == [line for _, line in seen.largest]
        earned = sorted((line.net_grains for line in lines), reverse=True)
        assert [line.net_grains for _, line in seen.largest] == earned[:lines_max]


def test_what_an_earlier_version_wrote_is_read_as_ever(statement):
    assert unpacked(canonical(statement)) == unpacked(canonical(statement).decode()) == statement


def test_lines_take_a_third_of_the_room_where_there_are_some(month, close):
    most = max(close(month.events, month.books).statements, key=lambda one: len(one.lines))
    assert len(packed(most)) * 3 < len(canonical(most))


@pytest.mark.parametrize("broken", [('"net_grains":[', '"net_grains":[1,'), ('"count":', '"count":1')])
def test_columns_of_different_lengths_are_no_statement(statement, broken):
    said = packed(statement).decode()
    assert broken[0] in said
    with pytest.raises(msgspec.ValidationError, match="columns"):
        unpacked(said.replace(*broken, 1))

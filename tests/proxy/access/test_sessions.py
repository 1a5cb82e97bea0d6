"""Tokens, forms and ways back, as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access.sessions import (
    ADDRESSES_KEPT,
    HOME,
    TOKEN_BYTES,
    Attempts,
    form_token,
    has_token_shape,
    is_form_token,
    token_of,
    way_back,
)

MINUTE_US = 60_000_000


@given(st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES))
def test_a_token_fits_a_cookie_and_an_address(random_bytes):
    token = token_of(random_bytes)
    assert has_token_shape(token)
    assert is_form_token(token, form_token(token))
    assert form_token(token) != token


@given(st.text())
def test_nothing_else_has_a_tokens_shape_or_a_forms(text):
    if has_token_shape(text):
        assert not set(text) & set(";=/+ \r\n\"'<>")
    assert not is_form_token("", text)
    assert not is_form_token("cookie", text)


def test_a_token_is_made_of_enough_chance():
    with pytest.raises(ValueError, match="random bytes"):
        token_of(b"few")


@given(st.text() | st.from_regex(r"/portal/[\x20-\x7e]*", fullmatch=True))
def test_the_way_back_is_a_page_of_ours_and_no_other_place(wanted):
    back = way_back(wanted)
    assert back.startswith(HOME)
    assert back in {wanted, HOME}
    assert "//" not in back
    assert "\\" not in back
    assert back.isascii()
    assert back.isprintable()


def test_an_address_that_tries_too_often_waits_and_others_do_not():
    attempts = Attempts(2)
    assert [attempts.wait_s("a", 0) for _ in range(3)] == [0, 0, 30]
    assert attempts.wait_s("b", 0) == 0
    assert attempts.wait_s("a", MINUTE_US // 2) == 0


def test_what_is_remembered_of_addresses_is_bounded():
    attempts = Attempts(1)
    for number in range(ADDRESSES_KEPT + 10):
        attempts.wait_s(str(number), 0)
    assert len(attempts._buckets) == ADDRESSES_KEPT

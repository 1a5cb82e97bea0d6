import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access.keys import (
    ROLES,
    SECRET_BYTES,
    Action,
    Principal,
    digest_of,
    has_shape,
    may,
    mint,
    presented,
)

random_bytes = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
APP = Principal("app", "key_1", app_id="app_1")
CREATOR = Principal("creator", "key_2", creator_id="c_1")
OPERATOR = Principal("operator", "key_3")


@given(st.sampled_from(ROLES), random_bytes)
def test_a_key_says_its_role_and_carries_every_random_bit(role, drawn):
    minted = mint(role, drawn)
    assert minted.secret.startswith(f"ec_{role}_")
    assert base64.b32decode(minted.secret.rpartition("_")[2].upper()) == drawn
    assert has_shape(minted.secret)


@given(random_bytes)
def test_what_is_stored_is_the_hash_and_four_characters(drawn):
    minted = mint("app", drawn)
    assert minted.digest == hashlib.sha256(minted.secret.encode()).hexdigest() == digest_of(minted.secret)
    assert minted.secret.endswith(minted.last4)
    assert len(minted.last4) == 4


@given(st.text())
def test_any_text_has_a_digest_and_hardly_any_has_the_shape(text):
    assert len(digest_of(text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"))) == 64
    assert not has_shape(text) or text.startswith("ec_")


@pytest.mark.parametrize(
    "wrong", ["", "sk-abc", "ec_app_short", "ec_root_" + "a" * 32, "ec_app_" + "a" * 32 + "\n"]
)
def test_what_could_not_be_a_key_is_known_by_its_shape(wrong):
    assert not has_shape(wrong)


def test_too_few_random_bytes_make_no_key():
    with pytest.raises(ValueError, match="20 random bytes"):
        mint("app", b"short")


def test_an_app_relays_and_nobody_else_does():
    assert [may(who, Action.RELAY) for who in (APP, CREATOR, OPERATOR)] == [True, False, False]


def test_only_an_operator_operates():
    assert [may(who, Action.OPERATE) for who in (APP, CREATOR, OPERATOR)] == [False, False, True]


def test_a_creator_edits_works_and_an_app_does_not():
    assert [may(who, Action.EDIT_OWN_WORKS) for who in (APP, CREATOR, OPERATOR)] == [False, True, True]


def test_a_creator_sees_and_sets_where_they_are_paid_and_an_app_does_not():
    for action in (Action.READ_OWN_PAYOUTS, Action.EDIT_OWN_PAYEE):
        assert [may(who, action) for who in (APP, CREATOR, OPERATOR)] == [False, True, True]


@pytest.mark.parametrize(
    ("role", "whose"),
    [
        ("app", {}),
        ("creator", {}),
        ("operator", {"app_id": "app_1"}),
        ("app", {"app_id": "a", "creator_id": "c"}),
    ],
)
def test_a_principal_without_its_owner_cannot_exist(role, whose):
    with pytest.raises(ValueError, match="names its"):
        Principal(role, "key_1", **whose)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", b"Bearer ec_app_x")], "ec_app_x"),
        ([(b"authorization", b"bearer  ec_app_x ")], "ec_app_x"),
        ([(b"x-api-key", b"ec_app_x")], "ec_app_x"),
        ([(b"api-key", b"ec_app_x")], "ec_app_x"),
        ([(b"authorization", b"Bearer sk-other"), (b"x-api-key", b"ec_app_x")], "ec_app_x"),
        ([(b"authorization", b"Bearer sk-other")], "sk-other"),
        ([(b"authorization", b"Basic ec_app_x")], ""),
        ([(b"cookie", b"ec_app_x")], ""),
        ([], ""),
    ],
)
def test_a_key_is_found_where_each_client_puts_it(headers, key):
    assert presented(headers) == key


def test_the_first_of_two_equal_headers_counts():
    assert presented([(b"api-key", b"ec_app_x"), (b"api-key", b"ec_app_y")]) == "ec_app_x"

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.hooks.signing import TOLERANCE_S, headers, is_ours, secret_text

SECRET = bytes(range(32))


def test_a_signature_is_the_standards_own_of_id_time_and_body():
    # The example by which the standard's own libraries are tested.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    said = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}', secret)
    assert said == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_is_copied_with_its_prefix():
    assert base64.b64decode(secret_text(SECRET).removeprefix("whsec_")) == SECRET


def test_whoever_has_the_secret_knows_that_it_was_us_and_when():
    said = headers("msg_1", 1_000, b"{}", SECRET)
    assert is_ours(said, b"{}", SECRET, 1_000 + TOLERANCE_S)
    assert is_ours(
        said | {"webhook-signature": f"v1,AAAA v2,x {said['webhook-signature']}"}, b"{}", SECRET, 1_000
    )
    assert not is_ours(said, b"{}", SECRET, 1_001 + TOLERANCE_S)
    assert not is_ours(said, b"{ }", SECRET, 1_000)
    assert not is_ours(said, b"{}", bytes(32), 1_000)
    assert not is_ours(said | {"webhook-id": "msg_2"}, b"{}", SECRET, 1_000)
    assert not is_ours(said | {"webhook-timestamp": "1001"}, b"{}", SECRET, 1_000)


@pytest.mark.parametrize(
    "damage", [{"webhook-timestamp": "soon"}, {"webhook-signature": "v1,%%"}, {"webhook-signature": ""}]
)
def test_what_is_no_signature_is_none(damage):
    assert not is_ours(headers("msg_1", 1_000, b"{}", SECRET) | damage, b"{}", SECRET, 1_000)


@given(st.binary(max_size=50), st.integers(0, 7), st.data())
def test_any_flipped_bit_of_a_body_is_seen(body, bit, data):
    said = headers("msg_1", 1_000, body + b"!", SECRET)
    at = data.draw(st.integers(0, len(body)))
    damaged = bytearray(body + b"!")
    damaged[at] ^= 1 << bit
    assert not is_ours(said, bytes(damaged), SECRET, 1_000)

import pytest

from proxy.errors import BadRequest
from proxy.hooks.targets import JITTER_PPM, KINDS, WAITS_S, checked_target, message_id, wait_s


@pytest.mark.parametrize(
    "url", ["https://hooks.example/in", "https://hooks.example:8443/in?a=1", "https://93.184.216.34/in"]
)
def test_a_public_address_over_tls_is_taken(url):
    assert checked_target(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "http://hooks.example/in", "ftp://hooks.example", "https://", "https://user:pass@hooks.example/",
        "https://hooks.example/in#part", "https://hooks.example/a b", "https://hooks.example/\n", "https://[::1/",
        "https://hooks.example:99999/", "https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3/", "https://169.254.169.254/meta",
        "https://h\u00f6oks.example/", "https://hooks.example/" + "a" * 2_000,
    ],
)  # fmt: skip
def test_any_other_is_refused(url):
    with pytest.raises(BadRequest):
        checked_target(url)


def test_a_message_has_one_id_and_every_other_another():
    made = {message_id(hook, kind, of) for hook in "ab" for kind in KINDS for of in ("1", "2")}
    assert len(made) == 4 * len(KINDS)
    assert message_id("a", "period.closed", "1") in made


def test_a_message_is_tried_for_about_a_day_and_then_given_up():
    waits = [wait_s(attempts, "msg_1") for attempts in range(1, len(WAITS_S) + 2)]
    assert waits[-1] is None
    assert all(
        least <= wait <= least * (1 + JITTER_PPM / 1_000_000)
        for least, wait in zip(WAITS_S, waits, strict=False)
    )
    assert 24 * 3_600 < sum(waits[:-1]) < 40 * 3_600
    assert waits[4] != wait_s(5, "msg_2"), "those that failed together are not tried together again"

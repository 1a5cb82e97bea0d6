"""What may be asked by header, and what is answered by header."""

from __future__ import annotations

import pytest

from proxy.wire.errors import WireError
from proxy.wire.headers import (
    CREDITS_BYTES_MAX,
    Wishes,
    credit_headers,
    downward,
    id_header,
    named_by_connection,
    read_wishes,
    status_header,
)


def test_without_headers_the_defaults_hold():
    defaults = Wishes(view="headers", works_top=3)
    assert read_wishes([(b"accept", b"*/*")], defaults) is defaults


def test_each_header_changes_its_wish():
    headers = [
        (b"X-Attribution", b"full"), (b"x-attribution-top", b"50"), (b"x-attribution-mode", b"deferred"),
        (b"x-attribution-deadline-ms", b"0"), (b"x-attribution-subject", b"user 7"),
    ]  # fmt: skip
    assert read_wishes(headers, Wishes()) == Wishes("full", 50, "deferred", 0, "user 7")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (b"x-attribution", b"on", "off, headers, body, full, annotations"),
        (b"x-attribution", b"", "off, headers, body, full, annotations"),
        (b"x-attribution-top", b"0", "1 to 50"),
        (b"x-attribution-top", b"51", "1 to 50"),
        (b"x-attribution-top", "٣".encode(), "1 to 50"),
        (b"x-attribution-top", b"9" * 5000, "1 to 50"),
        (b"x-attribution-mode", b"later", "inline, deferred"),
        (b"x-attribution-deadline-ms", b"-1", "0 to 60000"),
        (b"x-attribution-deadline-ms", b"1.5", "0 to 60000"),
        (b"x-attribution-subject", b"x" * 257, "256"),
        (b"x-attribution-subject", b"a\xff", "visible ASCII"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_the_values(name, value, says):
    with pytest.raises(WireError) as caught:
        read_wishes([(name, value)], Wishes())
    assert name.decode() in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.param == name.decode()
    assert caught.value.status == 400


def test_a_header_given_twice_is_refused():
    with pytest.raises(WireError, match="x-attribution is given twice"):
        read_wishes([(b"x-attribution", b"off"), (b"x-attribution", b"body")], Wishes())


def test_credits_are_a_structured_list_and_what_remains():
    assert credit_headers([("w_a", 5), ("w_b", 3)], 999_992) == [
        (b"x-attribution", b"w_a;ppm=5, w_b;ppm=3"), (b"x-attribution-unattributed", b"999992"),
    ]  # fmt: skip


def test_no_works_is_no_list():
    assert credit_headers([], 1_000_000) == [(b"x-attribution-unattributed", b"1000000")]


def test_the_list_is_cut_between_items_before_it_grows_too_long():
    (_, value), _ = credit_headers([(f"w_{n:04}" + "x" * 200, 1) for n in range(50)], 0)
    assert len(value) <= CREDITS_BYTES_MAX
    assert value.endswith(b";ppm=1")


def test_the_id_and_the_status_have_their_names():
    assert id_header("rct_a") == (b"x-attribution-id", b"rct_a")
    assert status_header("pending") == (b"x-attribution-status", b"pending")


def test_digests_go_down_only_with_a_body_that_stays_as_it_came():
    said = [(b"Content-Digest", b"sha-256=:x:"), (b"ETag", b'"a"'), (b"content-md5", b"x")]
    assert downward(said) == said
    assert downward(said, may_change=True) == [(b"ETag", b'"a"')]


def test_headers_of_one_hop_and_headers_that_are_ours_do_not_go_down():
    headers = [
        (b"Connection", b"close, X-Hop"), (b"X-HOP", b"1"), (b"Transfer-Encoding", b"chunked"),
        (b"X-Attribution-Id", b"rct_theirs"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"),
    ]  # fmt: skip
    assert downward(headers) == [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]
    assert named_by_connection(headers) == {b"close", b"x-hop"}

"""Compressed bytes, cut anywhere and bounded."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.coding import Inflater
from proxy.wire.errors import WireError


@given(
    st.binary(max_size=300),
    st.integers(min_value=1, max_value=40),
    st.sampled_from([gzip.compress, zlib.compress]),
)
def test_pieces_unpack_to_what_was_packed(plain, size, pack):
    packed = pack(plain)
    inflater = Inflater(1000)
    assert b"".join(inflater.feed(packed[i : i + size]) for i in range(0, len(packed), size)) == plain


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(min_value=1, max_value=40))
def test_what_was_packed_in_several_members_unpacks_to_all_of_them(parts, size):
    packed = b"".join(map(gzip.compress, parts))
    inflater = Inflater(1000)
    pieces = [inflater.feed(packed[i : i + size]) for i in range(0, len(packed), size)]
    assert b"".join(pieces) == b"".join(parts)
    assert not inflater.is_cut


def test_many_members_are_bounded_like_one():
    with pytest.raises(WireError, match="too long"):
        Inflater(1000).feed(gzip.compress(b"0" * 400) * 3)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_follows_the_packed_bytes_and_is_none_is_refused_and_not_left_out(pack):
    with pytest.raises(WireError, match=r"cannot be read|goes on"):
        Inflater(1000).feed(pack(b"plain") + b"more")
    inflater = Inflater(1000)
    inflater.feed(pack(b"plain"))
    with pytest.raises(WireError, match=r"cannot be read|goes on"):
        inflater.feed(b"more")


def test_a_bomb_is_refused_before_it_is_unpacked():
    with pytest.raises(WireError, match="too long"):
        Inflater(1000).feed(gzip.compress(b"0" * 10_000_000))


def test_an_answer_that_ends_too_early_is_told_from_a_whole_one_and_from_none():
    packed = gzip.compress(b"plain text")
    inflater = Inflater(1000)
    assert not inflater.is_cut
    inflater.feed(packed[:-3])
    assert inflater.is_cut
    inflater.feed(packed[-3:])
    assert not inflater.is_cut


def test_what_is_not_compressed_is_refused():
    with pytest.raises(WireError, match="cannot be read"):
        Inflater(1000).feed(b"plain text")

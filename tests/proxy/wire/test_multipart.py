"""Fields of a form, without its files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.multipart import FIELD_BYTES_MAX, PARTS_MAX, fields

KIND = b"multipart/form-data; boundary=xx"


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"xx") -> bytes:
    return b"".join(
        b"--" + boundary + b"\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + value + b"\r\n"
        for head, value in parts
    ) + (b"--" + boundary + b"--\r\n")


def test_text_fields_are_read_and_files_are_left_alone():
    body = form(
        (b'name="model"', b"whisper-1"),
        (b'name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg', b"\x00--yy\r\n\r\n" * 100),
        (b'name="stream"', b"true"),
    )
    assert fields(body, KIND) == {"model": "whisper-1", "stream": "true"}


@pytest.mark.parametrize(
    "kind",
    [b'multipart/form-data; boundary="xx"', b"Multipart/Form-Data; charset=utf-8; boundary=xx; a=b", KIND],
)
def test_a_boundary_is_found_however_it_is_written(kind):
    assert fields(form((b'name="model"', b"m")), kind) == {"model": "m"}


@pytest.mark.parametrize(
    "kind", [b"", b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=xx"]
)
def test_what_is_no_form_has_no_fields(kind):
    assert fields(form((b'name="model"', b"m")), kind) == {}


def test_of_a_field_sent_twice_the_first_is_taken():
    assert fields(form((b'name="model"', b"a"), (b'name="model"', b"b")), KIND) == {"model": "a"}


def test_long_fields_and_endless_forms_are_left_out():
    body = form((b'name="prompt"', b"x" * (FIELD_BYTES_MAX + 1)), (b'name="model"', b"m"))
    assert fields(body, KIND) == {"model": "m"}
    many = form(*[(b'name="n%d"' % number, b"1") for number in range(PARTS_MAX + 50)])
    assert len(fields(many, KIND)) == PARTS_MAX


def test_a_form_that_was_cut_off_gives_what_was_whole():
    body = form((b'name="model"', b"m"), (b'name="file"; filename="a"', b"abc"))
    assert fields(body[: len(body) // 2 + 20], KIND) == {"model": "m"}


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(junk):
    fields(junk, KIND)
    fields(form((b'name="model"', junk)), KIND)
    fields(form((junk, b"m")), KIND)

"""Fields of a form, without its files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import WireError
from proxy.wire.multipart import FIELD_BYTES_MAX, PARTS_MAX, fields, renamed, the_one_place

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


# -- the model's one place
# -----------------------------------------------------------------------------------------------

MODEL = b'name="model"'
FILE = b'name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg'


@given(
    files=st.lists(st.binary(max_size=80).filter(lambda data: b"--xx" not in b"\r\n" + data), max_size=3),
    old=st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: "--xx" not in name),
    new=st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: "--xx" not in name),
    place=st.integers(0, 3),
)
def test_an_alias_changes_the_models_value_and_no_other_byte_of_a_form_with_files(files, old, new, place):
    parts = [(FILE, data) for data in files]
    parts.insert(min(place, len(parts)), (MODEL, old.encode()))
    before = form(*parts)
    changed = [(head, new.encode() if head == MODEL else data) for head, data in parts]
    assert renamed(before, KIND, new) == form(*changed)
    assert fields(renamed(before, KIND, new), KIND)["model"] == new


@pytest.mark.parametrize(
    "body",
    [
        form((MODEL, b"a"), (MODEL, b"b")),
        form((MODEL, b"a"), (b'name="Model"', b"b")),
        form((b'name="prompt"', b"x")),
        form((MODEL + b'; filename="m"', b"a")),
        form((MODEL, b"a"), (b"name=model", b"b")),
        form((MODEL, b"a"), (b'filename="f"; name="model"', b"b")),
        form((MODEL, b"a"), (b'name="mod%65l"', b"b")),
        form((MODEL + b"\r\nContent-Transfer-Encoding: base64", b"YQ==")),
        form((MODEL + b'\r\nContent-Disposition: form-data; name="x"', b"a")),
        form((MODEL, b"a"), (b'name="x"', b'\n--xx\nContent-Disposition: form-data; name="model"\n\nb\n')),
        form((MODEL, b"a"), (b'name="x"', b"b\r\n--xxx\r\n")),
        b"before\r\n" + form((MODEL, b"a")),
        form((MODEL, b"a")) + form((MODEL, b"b")),
        form((MODEL, b"a"))[:-6],
        b"",
    ],
)
def test_a_form_that_could_name_two_models_is_refused(body):
    with pytest.raises(WireError):
        the_one_place(body, KIND)


@pytest.mark.parametrize(
    "kind", [KIND + b"; boundary=yy", b"multipart/form-data", b"multipart/mixed; boundary=xx"]
)
def test_a_boundary_that_is_not_told_once_is_refused(kind):
    with pytest.raises(WireError):
        the_one_place(form((MODEL, b"a")), kind)


def test_headers_of_a_part_may_stand_before_its_name():
    body = form((MODEL, b"a")).replace(b"--xx\r\n", b"--xx\r\nContent-Type: text/plain\r\n", 1)
    assert renamed(body, KIND, "b") == body.replace(b"\r\n\r\na\r\n", b"\r\n\r\nb\r\n")


def test_a_name_that_holds_the_boundary_cannot_be_put_in():
    with pytest.raises(WireError):
        renamed(form((MODEL, b"a")), KIND, "b\r\n--xx")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_search_for_the_model_fail_otherwise(junk):
    for body in (junk, form((MODEL, junk)), form((junk, b"m"))):
        try:
            first, last = the_one_place(body, KIND)
        except WireError:
            continue
        assert body[first:last].decode("utf-8", "replace") == fields(body, KIND)["model"]

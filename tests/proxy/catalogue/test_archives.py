import io
import zipfile

import pytest

from proxy.catalogue.archives import ENTRIES_MAX, Unpacking, parsed, xml_parser
from proxy.errors import BadRequest, TooLarge


def archive(**entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as writing:
        for name, content in entries.items():
            writing.writestr(name, content)
    return zipfile.ZipFile(out)


def test_entries_share_one_bound():
    unpack = Unpacking(archive(a="x" * 600, b="y" * 600), 1_000)
    assert unpack.entry("a") == b"x" * 600
    with pytest.raises(TooLarge):
        unpack.entry("b")


def test_what_unpacks_to_far_more_than_text_does_is_refused_before_it_has():
    with pytest.raises(BadRequest, match="far more than text"):
        Unpacking(archive(bomb=bytes(10_000_000)), 100_000_000).entry("bomb")


def test_an_entry_that_is_not_there_is_named():
    unpack = Unpacking(archive(a="x"), 1_000)
    assert (unpack.holds("a"), unpack.holds("b")) == (True, False)
    with pytest.raises(BadRequest, match="no 'b'"):
        unpack.entry("b")


def test_an_archive_of_very_many_entries_is_refused():
    with pytest.raises(BadRequest, match=f"over {ENTRIES_MAX} entries"):
        Unpacking(archive(**{str(number): "" for number in range(ENTRIES_MAX + 1)}), 1_000)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
        (b"<a><b></a>", "is no XML"),
        (b"", "is no XML"),
    ],
)
def test_xml_that_unfolds_or_is_none_is_refused(raw, why):
    with pytest.raises(BadRequest, match=f"letter {why}"):
        parsed(xml_parser("letter"), raw, "letter")

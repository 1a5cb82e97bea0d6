import contextlib
import io
import os
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.reading import (
    DEPTH_MAX,
    Document,
    checked_text,
    decoded,
    html_document,
    read_bounded,
    read_document,
)
from proxy.errors import BadRequest, TooLarge

MAX = 1_000_000
CONTAINER = (
    '<container xmlns="urn:c"><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
)
OPF = """<?xml version="1.0"?><package xmlns="urn:opf" xmlns:dc="urn:dc"><metadata><dc:title>The &amp; Book</dc:title>
<dc:title>Subtitle</dc:title></metadata><manifest><item id="two" href="ch%202.xhtml"/><item id="one" href="ch1.xhtml"/>
<item id="toc" href="toc.xhtml"/><item id="art" href="art.png"/></manifest>
<spine><itemref idref="toc" linear="no"/><itemref idref="one"/><itemref idref="two"/></spine></package>"""


def book(path, **changed):
    entries = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": OPF,
        "OEBPS/ch1.xhtml": '<html xmlns="x"><head><title/></head><body><h1>One</h1><p>First<br/>line.</p></body></html>',
        "OEBPS/ch 2.xhtml": "<html><body><p>Second.</p></body></html>",
        "OEBPS/toc.xhtml": "<html><body>Contents</body></html>",
    }
    entries.update({name.replace("__", "/"): content for name, content in changed.items()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            if content is not None:
                archive.writestr(name, content)
    return path


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path):
    return read_document(path, bytes_max=MAX)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_is_read_in_each_encoding_that_says_what_it_is(write, encoding):
    document = read(write("sea-and_land.txt", "Zwölf Boxkämpfer\r\njagen 漢字\r".encode(encoding)))
    assert document == Document("sea and land", "Zwölf Boxkämpfer\njagen 漢字\n")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no text"),
        (b" \n\t", "no text"),
        (b"\xef\xbb\xbf", "no text"),
        (b"caf\xe9", "byte 3 is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "byte 8 is zero"),
        (b"\xff\xfea\0\x00\xd8", "byte 4 is not UTF-16"),
        ("x".encode("utf-32"), "UTF-32"),
        ("a\0b".encode("utf-16"), "character 1 is zero"),
    ],
)
def test_what_is_no_text_is_refused_where_it_stops_being_one(write, raw, why):
    with pytest.raises(BadRequest, match=why) as refused:
        read(write("a.txt", raw))
    assert refused.value.remedy


def test_a_file_over_its_bound_is_refused_and_one_at_it_is_not(write):
    path = write("a.txt", "x" * 100)
    assert read_document(path, bytes_max=100).text == "x" * 100
    with pytest.raises(TooLarge):
        read_document(path, bytes_max=99)


def test_a_text_that_grows_in_utf8_is_measured_there(write):
    with pytest.raises(TooLarge):
        read_document(write("a.txt", ("漢" * 50).encode("utf-16")), bytes_max=110)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(BadRequest, match="no regular file"):
        read_bounded(tmp_path / "a.txt", MAX)


def test_other_files_are_refused_with_what_would_be_read(write):
    with pytest.raises(BadRequest, match=r"\.doc") as refused:
        read(write("a.doc", "x"))
    assert ".epub" in refused.value.remedy
    with pytest.raises(BadRequest, match="cannot be read"):
        read_bounded(write("b", "").with_name("none.txt"), MAX)


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=1).filter(
        str.strip
    )
)
def test_any_text_comes_back_as_it_was_written(text):
    assert checked_text(decoded(text.encode()), MAX) == text
    assert checked_text(decoded(b"\xff\xfe" + text.encode("utf-16-le")), MAX) == text


@given(st.binary(max_size=60))
def test_any_bytes_are_text_or_refused(raw):
    try:
        assert decoded(raw).encode()
    except BadRequest:
        pass
    except AssertionError:
        assert raw in {b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"}


def test_half_a_character_is_refused():
    with pytest.raises(BadRequest, match="half of a pair"):
        checked_text("a\ud800", MAX)


@pytest.mark.parametrize(
    ("markdown", "title"),
    [
        ("# The *Moon* #\n\ntext", "The *Moon"),
        ("intro\n\n## Second ##\n", "Second"),
        ('---\ntitle: "Front"\nauthor: x\n---\n# Other\n', "Front"),
        ("no heading", "night work"),
        ("#hashtag is no heading", "night work"),
    ],
)
def test_a_markdown_title_comes_from_its_front_its_heading_or_its_name(write, markdown, title):
    assert read(write("night-work.md", markdown)).title == title


def test_front_matter_is_no_part_of_the_work(write):
    assert read(write("a.md", "---\r\ntitle: T\r\n---\r\nwords\r\n")).text == "words\n"


def test_a_page_becomes_its_words_block_by_block():
    page = """<!doctype html><title>The  Page</title><style>x{}</style><body><!-- no --><h1>A <b>bold</b> word</h1>
    <p>one
    two<br>three</p>tail<script>bad()</script><ul><li>i<li>j</ul><table><tr><td>c<td>d</table>&lt;kept&gt;</body>"""
    assert html_document(page).text.split("\n") == [
        "A bold word",
        "one two",
        "three",
        "tail",
        "i",
        "j",
        "c",
        "d",
        "<kept>",
    ]


def test_a_page_is_called_by_its_title_or_its_first_heading(write):
    assert read(write("a.html", "<title>T</title>x")).title == "T"
    assert read(write("b.htm", "<h1>H</h1>x")).title == "H"
    assert read(write("c-d.xhtml", "<p>x</p>")).title == "c d"


def test_elements_closed_at_once_do_not_swallow_the_page():
    assert html_document('<head><title/><script src="a"/></head><body>kept</body>').text == "kept"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "page",
    ["<div>" * 200_000, "<b id=1><p>" * 30_000, '<a "' * 100_000, "<a x='" + "y" * 500_000, "<p>" * 200_000],
)
def test_a_page_made_to_be_slow_is_read_or_refused_soon(page):
    with contextlib.suppress(BadRequest):
        html_document(page + "words")


def test_a_page_nested_deeper_than_people_write_is_refused():
    assert html_document("<div>" * (DEPTH_MAX - 10) + "words").text == "words"
    with pytest.raises(BadRequest, match=str(DEPTH_MAX)):
        html_document("<div>" * (DEPTH_MAX + 1) + "words")


def test_formatting_goes_and_its_words_stay():
    assert (
        html_document('<p>a<i title="x>y">b</i><em\nclass=q>c</em></p><article>d</article>').text == "abc\nd"
    )


def test_a_book_is_read_in_its_own_order(tmp_path):
    assert read(book(tmp_path / "b.epub")) == Document("The & Book", "One\nFirst\nline.\n\nSecond.")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"OEBPS/ch1.xhtml": None}, "ch1.xhtml"),
        ({"META-INF/container.xml": None}, "container"),
        ({"META-INF/container.xml": "<container/>"}, "has no ''"),
        ({"OEBPS/book.opf": "no xml"}, "no XML"),
        ({"OEBPS/book.opf": OPF.replace("ch1.xhtml", "../../etc/passwd")}, "passwd"),
        ({"OEBPS/book.opf": OPF.replace("ch1.xhtml", "ch1.xhtml?")}, "ch1"),
        ({"OEBPS/ch1.xhtml": b"\xe9"}, "not UTF-8"),
        (
            {
                "OEBPS/book.opf": '<!DOCTYPE p [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
                + OPF.partition("?>")[2]
            },
            "entities",
        ),
        ({"OEBPS/ch1.xhtml": "<p>" + " " * 900_000 + "</p>"}, "far more than text"),
    ],
)
def test_a_book_that_is_not_what_it_says_is_refused(tmp_path, changed, why):
    with pytest.raises(BadRequest, match=why.replace("?", r"\?")):
        read(book(tmp_path / "b.epub", **changed))


def test_what_a_book_unpacks_to_is_bounded_in_all(tmp_path):
    letters = "".join(chr(97 + (n * n + n // 7) % 26) for n in range(4000)) * 150
    path = book(tmp_path / "b.epub", **{"OEBPS/ch1.xhtml": letters, "OEBPS/ch 2.xhtml": letters})
    with pytest.raises((TooLarge, BadRequest)):
        read(path)


def test_a_damaged_archive_is_refused(write, tmp_path):
    with pytest.raises(BadRequest, match="damaged"):
        read(write("a.epub", b"PK no"))
    whole = book(tmp_path / "b.epub").read_bytes()
    with pytest.raises(BadRequest):
        read(write("c.epub", whole[: len(whole) // 2]))


def test_no_damage_to_a_book_breaks_the_reader(tmp_path):
    whole = book(tmp_path / "b.epub").read_bytes()
    for place in range(0, len(whole), 3):
        (tmp_path / "c.epub").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert read(tmp_path / "c.epub").text
        except (BadRequest, TooLarge):
            continue


def test_an_archive_of_too_many_entries_is_refused(tmp_path):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for number in range(10_001):
            archive.writestr(str(number), "")
    (tmp_path / "a.epub").write_bytes(raw.getvalue())
    with pytest.raises(BadRequest, match="entries"):
        read_document(tmp_path / "a.epub", bytes_max=10 * MAX)

import pytest
import typst

from proxy.catalogue.pdfs import joined, pdf
from proxy.errors import BadRequest, TooLarge

MAX = 1_000_000
LOCKED = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj
3 0 obj<</Filter/Standard/V 1/R 2/P -4/O(12345678901234567890123456789012)/U(12345678901234567890123456789012)>>endobj
trailer<</Root 1 0 R/Encrypt 3 0 R/ID[(1234567890123456)(1234567890123456)]>>
"""


def printed(body):
    return typst.compile(body.encode())


def test_a_printed_text_is_its_text_with_its_title():
    raw = printed(
        '#set document(title: "The Lamp Room")\n#set page(width: 9cm, height: 6cm, header: [The Lamp Room],'
        ' numbering: "1 of 1")\n' + " ".join(f"The keeper counted gull number {n}." for n in range(60))
    )
    title, text = pdf(raw, MAX)
    assert title == "The Lamp Room"
    assert " ".join(text.split()) == " ".join(f"The keeper counted gull number {n}." for n in range(60))


def test_words_that_were_cut_are_whole():
    raw = printed(
        '#set page(width: 5cm)\n#set text(lang: "en", hyphenate: true)\n#set par(justify: true)\n'
        + "extraordinarily international correspondence " * 10
    )
    assert set(pdf(raw, MAX)[1].split()) == {"extraordinarily", "international", "correspondence"}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no PDF"),
        (b"The keeper counted the gulls.", "no PDF"),
        (LOCKED, "password"),
        (printed("#rect()"), "no text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_why(raw, why):
    with pytest.raises(BadRequest, match=why):
        pdf(raw, MAX)


def test_a_text_over_the_bound_is_refused():
    with pytest.raises(TooLarge):
        pdf(printed("gull " * 100), 100)


def test_a_cut_file_is_refused_or_read_and_never_ends_us():
    raw = printed("The keeper counted the gulls twice.")
    for end in range(0, len(raw), len(raw) // 12):
        try:
            pdf(raw[:end], MAX)
        except BadRequest:
            continue


def test_running_heads_go_and_lines_that_only_look_so_stay():
    inside = "One.\nTwo.\nThree.\nFour."
    pages = [f"THE LAMP ROOM {n}\n{inside}\n{n}" for n in range(1, 9)]
    assert joined(pages) == "\n".join(
        ["Two.\nThree."] * 8
    )  # the same at the edge of every page is no text either
    pages = [
        f"THE LAMP ROOM {n}\nSaid {'abcdefgh'[n - 1]}.\n{inside}\nAnd {'abcdefgh'[n - 1]}.\n{n}"
        for n in range(1, 9)
    ]
    assert joined(pages) == "\n".join(f"Said {c}.\n{inside}\nAnd {c}." for c in "abcdefgh")
    few = joined(["Head\na", "Head\nb"])
    assert few == "Head\na\nHead\nb"


def test_a_hyphen_that_belongs_to_a_name_stays():
    assert joined(["Mary-\nAnne walked to the light-\nhouse."]) == "Mary-\nAnne walked to the lighthouse."

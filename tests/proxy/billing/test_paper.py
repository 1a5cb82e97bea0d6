import json
import re

import msgspec
import pypdfium2
import pytest

from proxy.billing.locales import style_of
from proxy.billing.money import PPM
from proxy.billing.movements import Move
from proxy.billing.page import PLAIN, Dress
from proxy.billing.paper import TITLE_MAX, WORKS_PRINTED_MAX, cut, fitting, lacking, to_pdf, told
from proxy.billing.statements import Books, SplitSet
from proxy.errors import BadRequest
from proxy.metering.usage import Line

HOSTILE = (
    "#set text(red)", '#read("/etc/passwd")', "$ x^2 $", "*bold* _it_ `raw` <label> @ref", "= Heading", "\\ \\u{41} ~",
    '"; panic("x")', '#import "@preview/a:1.0.0"', "[]{}()#", "/* open", "// rest", "\x00\x07 control", "\u202e right to left",
    "🎬 emoji", "北の港", "رسائل من الميناء", "पानी की किताब", "\U0010ffff", "a" * 5_000, "wide " * 500,
)  # fmt: skip


def text_of(pdf: bytes) -> list[str]:
    """What a reader can copy, by page."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [document[number].get_textpage().get_text_bounded() for number in range(len(document))]
    finally:
        document.close()


@pytest.fixture(scope="module")
def pages(statement) -> list[str]:
    return text_of(to_pdf(statement))


def digits(text: str) -> int:
    return int(re.sub(r"\D", "", text))


def test_the_same_statement_is_the_same_bytes(statement):
    assert to_pdf(statement) == to_pdf(statement)
    assert to_pdf(statement).startswith(b"%PDF-")
    assert to_pdf(statement, Dress(style_of(""), "final")) != to_pdf(statement)


def test_what_is_printed_adds_up_as_printed(statement, pages):
    text = "\n".join(pages)
    rows = re.findall(
        r"(Balance before|Earned in this period|Balance now)\s*(?:[^$\n]*\n)?\s*\$([\d,.]+)", text
    )
    read = {name: digits(amount) for name, amount in rows}
    assert read["Balance now"] == statement.closing_grains
    assert read["Balance before"] + read["Earned in this period"] == read["Balance now"]


def test_the_paper_says_what_the_page_says(statement, pages):
    text = " ".join(" ".join(pages).split())
    for said in (
        "STATEMENT OF CREDITS", statement.name, statement.id, "Not traced to a work", "Use against consent",
        "Charged to apps", "For whoever checks this", "November 2026", f"page 1 of {len(pages)}", statement.lines_sha256[:40],
    ):  # fmt: skip
        assert said in text, said


@pytest.mark.parametrize("title", HOSTILE)
def test_what_others_wrote_is_text_on_paper_and_nothing_crashes(close, event, title):
    books = Books({"w_1": SplitSet(1, (("c_a", PPM),), title)}, {"c_a": title}, {"app_a": title}, {})
    made = close([event(1, (Line("w_1", PPM),), model=title, price_grains=10)], books).statements[0]
    pages = text_of(to_pdf(made))
    assert 1 <= len(pages) <= 6
    if title.isascii() and title.isprintable() and len(title) < TITLE_MAX:
        squeezed = "".join("".join(pages).split())
        assert squeezed.count("".join(title.split())) >= 3


@pytest.mark.parametrize(
    "tag", ["de-DE", "ar-EG", "hi-IN", "ja-JP", "he-IL", "sv-SE", "pt-BR", "en-GB", "fr-FR"]
)
def test_every_locale_prints(statement, tag):
    assert len(text_of(to_pdf(statement, Dress(style_of(tag), "draft")))) >= 2


def test_a_long_statement_is_bounded_on_paper_and_says_what_the_rest_sums_to(close, event):
    works = WORKS_PRINTED_MAX + 3
    splits = {f"w_{n:03d}": SplitSet(1, (("c_a", PPM),), f"Work {n}") for n in range(works)}
    events = [event(n, (Line(f"w_{n % works:03d}", PPM),), model=f"demo-{n % 19}") for n in range(works * 20)]
    made = close(events, Books(splits, {}, {}, {})).statements[0]
    facts = json.loads(told(made))
    assert len(facts["works"]) == WORKS_PRINTED_MAX
    assert facts["works_more"] == "3"
    shown = [*(work["net"] for work in facts["works"]), facts["works_more_net"]]
    nets = [digits("".join(net[part] for part in ("whole", "minor", "fine"))) for net in shown]
    assert sum(nets) == made.earned_grains
    assert "3 more works" in "\n".join(text_of(to_pdf(made)))


def test_movements_are_rows_on_paper_too(close):
    move = Move(
        transfer="tr_1", kind="payout", ref="pay_1", at_us=1_796_000_000_000_000, grains=-25_000_000_000
    )
    made = close(
        [], Books({}, {"c_a": "Ada"}, {}, {"c_a": 30_000_000_001}, moves={"c_a": (move,)})
    ).statements[0]
    text = "\n".join(text_of(to_pdf(made)))
    assert "Paid out" in text
    assert "25.000000000" in text
    assert "5.000000001" in text
    assert "None of your works was credited" in text


@pytest.mark.parametrize(
    ("text", "short"), [("a\n b\t", "a b"), ("x" * 300, "x" * (TITLE_MAX - 1) + "…"), ("", "")]
)
def test_a_title_is_cut_to_what_a_page_can_bear(text, short):
    assert cut(text) == short


def test_the_facts_told_to_the_template_hold_no_float(statement):
    assert b"." not in re.sub(rb'"[^"]*"', b"", told(statement, PLAIN))
    assert isinstance(msgspec.json.decode(told(statement)), dict)


def test_without_typst_the_remedy_is_named(statement, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "typst", None)
    with pytest.raises(BadRequest, match="typst") as refused:
        to_pdf(statement)
    assert refused.value.code == "pdf_extra"
    assert "endcredits[pdf]" in refused.value.remedy


SAMPLES = {  # a letter of each script, and whether typst's own fonts have it
    "a": True, "é": True, "Ω": True, "Ж": True, "א": True, "ر": True, "٣": True, "प": True, "の": True, "Ա": True,
    "ა": True, "ệ": True, "²": True, "北": False, "カ": False, "한": False, "ก": False, "ক": False, "க": False,
    "🎬": False, "￥": False,
}  # fmt: skip


def test_what_is_said_of_the_fonts_is_true():
    import typst

    def drawn(letter: str) -> set[str]:
        """Ids of the shapes that are drawn for a letter."""
        source = f'#set text(font: "Libertinus Serif")\n#text("\\u{{{ord(letter):x}}}")'
        svg = typst.compile(source.encode(), format="svg", ignore_system_fonts=True).decode()
        return set(re.findall(r'href="([^"]+)"', svg))

    (nothing,) = drawn("\U0010fffd")
    assert {letter: nothing not in drawn(letter) for letter in SAMPLES} == SAMPLES
    assert {letter: not lacking([letter]) for letter in SAMPLES} == SAMPLES


def test_letters_that_the_fonts_lack_are_told_of_by_name(close, event):
    books = Books({"w_1": SplitSet(1, (("c_a", PPM),), "北の港")}, {"c_a": "한"}, {"app_a": "🎬"}, {})
    made = close([event(1, (Line("w_1", PPM),), price_grains=10)], books).statements[0]
    text = " ".join(" ".join(text_of(to_pdf(made))).split())
    assert "no letters for Chinese characters, Hangul, pictures" in text
    plain = close([], Books({}, {"c_a": "Ada"}, {}, {"c_a": 1})).statements[0]
    assert "no letters" not in " ".join(text_of(to_pdf(plain)))


@pytest.mark.parametrize(
    ("tag", "lang"),
    [("ja-JP", "en"), ("ko-KR", "en"), ("de-DE", "de-DE"), ("ar-EG", "ar-EG"), ("hi-IN", "hi-IN")],
)
def test_dates_that_the_fonts_could_not_print_are_in_english_and_say_so(statement, tag, lang):
    dress, said = fitting(statement, Dress(style_of(tag), "final"))
    assert (dress.style.lang, dress.state) == (lang, "final")
    assert ("in English" in said) == (lang == "en")


def test_whoever_brings_fonts_has_their_own_letters(statement, tmp_path):
    dress = Dress(style_of("ja-JP"), fonts=str(tmp_path))
    assert fitting(statement, dress) == (dress, "")
    assert to_pdf(statement, dress).startswith(b"%PDF-")

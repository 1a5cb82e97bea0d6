import csv
import io
import json
import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access.links import AppLinks
from proxy.billing.documents import to_csv, to_json
from proxy.billing.locales import style_of
from proxy.billing.money import PPM, parse
from proxy.billing.movements import Move
from proxy.billing.page import MOVES_SHOWN_MAX, USES_SHOWN_MAX, WORKS_SHOWN_MAX, Dress, to_html
from proxy.billing.prices import load
from proxy.billing.statements import Books, SplitSet
from proxy.metering.usage import Line
from proxy.settings import Billing
from tests.proxy.billing.test_locales import TAGS, digits_of

EVIL = '<script>alert("x")</script> & "friends"'


class Page(HTMLParser):
    """What a reader gets: tags, attributes and visible text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def test_the_page_loads_nothing_and_runs_nothing(statement):
    page = Page(to_html(statement))
    assert not {"script", "link", "img", "iframe", "object", "form", "a", "base"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not any(name.startswith("on") or name in {"src", "href"} for name in names)
    assert not re.search(rb"url\(|@import|https?://", to_html(statement))
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_what_others_wrote_is_text_on_the_page(close, event):
    books = Books({"w_1": SplitSet(1, (("c_a", PPM),), EVIL)}, {"c_a": EVIL}, {"app_a": EVIL}, {})
    made = close([event(1, (Line("w_1", PPM),), model=EVIL, price_grains=10)], books).statements[0]
    page = Page(to_html(made))
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 4


def amounts(piece: str) -> list[int]:
    """The integers that a person reads, whatever their digits and signs look like."""
    found = re.findall(r'<span class="money">([^<]*)<i>([^<]*)</i>([^<]*)', piece)
    return [digits_of("".join(one)) for one in found]


def moved(kind: str, grains: int, number: int = 1) -> Move:
    return Move(
        transfer=f"tr_{kind}_{number}",
        kind=kind,
        ref=f"pay_{number}",
        at_us=1_796_000_000_000_000,
        grains=grains,
    )


@pytest.mark.parametrize("tag", ["", *TAGS])
def test_the_sums_printed_on_the_page_add_up_as_printed(statement, tag):
    page = to_html(statement, Dress(style_of(tag))).decode()
    opening, earned, closing = amounts(page[page.index('class="account"') : page.index('class="note"')])
    assert opening + earned == closing == statement.closing_grains
    sections = page.split('<section class="work">')[1:]
    heads = [amounts(section[: section.index("</div>")])[0] for section in sections]
    assert sum(heads) == earned
    for section, head in zip(sections, heads, strict=True):
        body = section[section.index("<tbody>") : section.index("</tbody>")]
        assert sum(amounts(body)[1::2]) == head
    places = page[page.index('class="places"') :]
    *parts, charged = amounts(places[: places.index("</table>")])
    assert sum(parts) == charged == statement.totals.charged_grains
    parts = re.findall(r'<b class="[a-z_]+" style="--part: ([0-9.]+)%"></b>', page)
    assert sum(round(float(part) * 10) for part in parts) == 1_000


@pytest.mark.parametrize("tag", ["", *TAGS])
def test_every_row_of_the_balance_is_printed_and_they_add_up(close, tag):
    moves = (
        *(moved("payout", -12_345_678_901, n) for n in range(MOVES_SHOWN_MAX + 2)),
        moved("payout_tax", -1_000_000_000),
        moved("payout_return", 500_000_003),
    )
    books = Books({}, {"c_a": "Ada"}, {}, {"c_a": 999_999_999_999}, moves={"c_a": moves})
    made = close([], books).statements[0]
    page = to_html(made, Dress(style_of(tag))).decode()
    *rows, closing = amounts(page[page.index('class="account"') : page.index('class="note"')])
    assert rows[:2] == [999_999_999_999, 0]
    assert len(rows) == 5
    assert sum(rows) == closing == made.closing_grains
    text = Page(page.encode()).text
    assert "Withheld for a tax authority" in text
    assert "pay_0:" in text
    assert "2 more, in the JSON" in text or tag


@pytest.mark.parametrize(
    ("state", "said"), [("draft", "Draft: open for comments"), ("final", "Final"), ("", "")]
)
def test_the_page_says_whether_its_period_is_final(statement, state, said):
    found = re.findall(
        r'<span class="state">([^<]*)', to_html(statement, Dress(style_of(""), state)).decode()
    )
    assert found == ([said] if said else [])


@pytest.mark.parametrize(
    ("tag", "direction"), [("", "ltr"), ("de-DE", "ltr"), ("ar-EG", "rtl"), ("he-IL", "rtl")]
)
def test_the_page_runs_the_way_its_reader_reads(statement, tag, direction):
    assert f'<html lang="en" dir="{direction}">' in to_html(statement, Dress(style_of(tag))).decode()


def test_the_page_says_what_is_held_unattributed_and_refused(statement):
    text = Page(to_html(statement)).text
    for said in (
        "Not traced to a work", "Never compared, held", "Use against consent", "The balance is what you are owed",
        "for a whole answer, times the share", "30% of what the answers cost", statement.lines_sha256, load().version,
        "November 2026", "Closed on1 December 2026",
    ):  # fmt: skip
        assert said in text, said


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("common", "kept in a common account"),
        ("platform", "stays with the platform"),
        ("not_charged", "Apps are not charged"),
    ],
)
def test_the_page_names_the_rule_for_what_no_work_explains(close, event, mode, says):
    books = Books({"w_1": SplitSet(1, (("c_a", PPM),), "T")}, {}, {}, {})
    made = close([event(1, (Line("w_1", 400_000),))], books, billing=Billing(unattributed=mode)).statements[0]
    assert says in Page(to_html(made)).text


def test_a_creator_with_a_balance_and_no_use_gets_a_page(close):
    made = close([], Books({}, {"c_a": "Ada"}, {}, {"c_a": 1_234_567_890}), label="winter").statements[0]
    text = Page(to_html(made)).text
    assert "None of your works was credited" in text
    assert "$1.234567890" in text
    assert "winter" in text


def test_a_currency_without_a_minor_unit_reads_right(close):
    books = Books({}, {"c_a": "Ada"}, {}, {"c_a": 12_345_678_901})
    made = close([], books, billing=Billing(currency="JPY", rate="1")).statements[0]
    assert "¥1,234.5678901" in Page(to_html(made)).text


def test_a_page_stays_readable_however_much_was_used(close, event):
    works = WORKS_SHOWN_MAX + 40
    splits = {f"w_{n:03d}": SplitSet(1, (("c_a", PPM),), f"Work {n}") for n in range(works)}
    events = [event(n, (Line(f"w_{n:03d}", PPM),)) for n in range(works)]
    events += [event(1_000 + n, (Line("w_000", PPM),), model=f"demo-{n}") for n in range(USES_SHOWN_MAX + 5)]
    made = close(events, Books(splits, {}, {}, {})).statements[0]
    page = to_html(made).decode()
    assert page.count('<section class="work">') == WORKS_SHOWN_MAX + 1
    assert "40 more works" in page
    assert "6 more uses" in page
    heads = re.findall(r'</h3><span class="money">([^<]*)<i>([^<]*)', page)
    assert sum(int(re.sub(r"\D", "", whole + fine)) for whole, fine in heads) == made.earned_grains


def test_a_creators_own_app_is_told_as_such_and_as_earning_nothing(close, event):
    books = Books({"w_1": SplitSet(1, (("c_a", PPM),), "Low Water")}, {"c_a": "Ada"}, {"app_a": "Choir"}, {})
    events = [event(1, (Line("w_1", PPM),), registry_seq=1, price_grains=parse("1", "USD"))]
    closing = close(events, books, links=AppLinks({"app_a": ((1, "c_a"),)}))
    (own,) = closing.statements
    page = Page(to_html(own)).text
    assert "your own app: told, not paid" in page
    assert "Creators' own apps" in page
    (row,) = csv.DictReader(io.StringIO(to_csv(own).decode()))
    assert (row["verdict"], row["net_grains"], row["gross_grains"]) == ("own_app", "0", "300000000")
    assert json.loads(to_json(own))["totals"]["common"]["own_app"] == "0.30"


def test_a_draft_says_until_when(statement):
    dress = Dress(style_of("de-DE"), "draft", until_us=1_797_379_200_000_000)
    assert "Draft: open for comments until 16. Dezember 2026" in Page(to_html(statement, dress)).text


def test_a_correction_says_why(close):
    reason = "<b>counted</b> twice " * 50
    why = Move(transfer="tr_1", kind="adjustment", ref="adj_1", at_us=1, grains=500_000_000, reason=reason)
    made = close([], Books({}, {"c_a": "Ada"}, {}, {}, moves={"c_a": (why,)})).statements[0]
    text = Page(to_html(made)).text
    assert "Corrections of earlier periods" in text
    assert "adj_1: $0.50 (<b>counted</b> twice" in text


@given(title=st.text(max_size=60), name=st.text(max_size=60))
def test_no_title_and_no_name_adds_a_tag_to_the_page(statement, title, name):
    line = msgspec.structs.replace(statement.lines[0], title=title, model=name)
    made = msgspec.structs.replace(statement, name=name, lines=(line,), app_names={line.app: title})
    page = Page(to_html(made))
    assert set(page.tags) <= PLAIN_TAGS
    assert not any(key.startswith("on") or key in {"src", "href", "srcdoc"} for key, _ in page.attributes)


PLAIN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "p", "br", "h1", "h2", "h3", "dl", "dt", "dd", "div",
    "span", "i", "b", "section", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "ul", "li", "footer",
}  # fmt: skip

"""Pages escape what others wrote, and speak of money and time as their reader does."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import get
from litestar.testing import create_test_client

from proxy.billing.locales import English, style_of
from proxy.portal.assets import Assets
from proxy.portal.pages import (
    HEADERS,
    AnyRequest,
    Pages,
    address,
    environment,
    guarded,
    reader_style,
    whole_part,
)

NASTY = "\"'><script>alert(1)</script>"


def made(text, **known):
    known = {"style": reader_style(known.pop("languages", "")), "token": "", **known}
    template = '{% import "parts.html.jinja" as ui with context %}' + text
    return environment(Assets()).from_string(template).render(**known)


@pytest.mark.parametrize(
    "text",
    [
        "{{ it }}",
        "{{ ui.field('a', it, value=it, help=it, error=it) }}",
        "{{ ui.area('a', it, value=it) }}",
        "{{ ui.choice('a', it, [(it, it)]) }}",
        "{{ ui.radios('a', it, [(it, it, it)]) }}",
        "{{ ui.roll([(it, it)]) }}",
        "{{ ui.bar([('paid', it, 400000)]) }}",
        "{{ ui.tag(it, it) }}",
        "{{ ui.typed(it ~ '`' ~ it ~ '`' ~ it) }}",
        "{{ ui.pager(next=it) }}",
        "{% call ui.notice('bad', it) %}{{ it }}{% endcall %}",
        "{% call ui.table(it, [it]) %}{{ it }}{% endcall %}",
        "{% call ui.empty(it, it) %}{{ it }}{% endcall %}",
    ],
)
def test_whatever_is_printed_anywhere_is_text(text):
    page = made(text, it=NASTY)
    assert "<script" not in page
    assert "\"'>" not in page
    assert "alert(1)" in page


def test_money_is_whole_and_written_as_the_reader_writes_it():
    assert "$1,234<" not in made("{{ ui.money(g, 'USD') }}", g=1_234_560_000_000)
    assert made("{{ ui.money(g, 'USD') }}", g=1_234_560_000_000) == (
        '<span class="money">$1,234.56<i class="nil">0000000</i></span>'
    )
    assert "<i>0000001</i>" in made("{{ ui.money(g, 'USD') }}", g=1_234_560_000_001)
    assert "1.234,56" in made("{{ g | spoken('EUR') }}", g=1_234_560_000_000, languages="de-DE")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ 1234567 | count }}", "1,234,567"),
        ("{{ 412345 | share }}", "41.2%"),
        ("{{ '2026-11-03' | day }}", "3 November 2026"),
        ("{{ 0 | moment }}", "1 January 1970, 00:00 UTC"),
        ("{{ '2026-11' | month }}", "November 2026"),
        ("{{ 0 | iso }}", "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_figures_are_for_reading(text, said):
    assert made(text) == said


def test_what_stands_between_backticks_is_typed_somewhere():
    assert made("{{ ui.typed(it) }}", it="run `a & b`, then look") == "run <code>a &amp; b</code>, then look"


@given(st.integers(0, 1_000_000))
def test_a_part_is_never_told_less_than_exactly(ppm):
    assert Decimal(whole_part(English(), ppm).removesuffix("%")) * 10_000 == ppm
    assert whole_part(style_of("de-DE"), 305_000) == "30,5\xa0%"


def test_what_a_browser_asks_for_never_breaks_a_page():
    for languages in ("xx-nonsense", "de;q=x", "\x00", "*", "a" * 5_000):
        assert reader_style(languages).count(1) == "1"


def test_an_address_carries_only_what_says_something():
    assert address("/portal/works", after=3, of="", to=None) == "/portal/works?after=3"
    assert address("/portal/works", of="a&b=c") == "/portal/works?of=a%26b%3Dc"
    assert address("/portal/works") == "/portal/works"


def test_every_reply_is_guarded_and_may_say_otherwise():
    @get("/own", sync_to_thread=False, response_headers={"cache-control": "public"})
    def own() -> str:
        return ""

    pages = Pages(Assets())

    @get("/page", sync_to_thread=False)
    def page(request: AnyRequest) -> object:
        return pages.page(request, "start.html.jinja")

    with create_test_client([own, page], middleware=[guarded]) as client:
        headers = client.get("/page").headers
        said = {name.decode(): value.decode() for name, value in HEADERS.items()}
        assert {name: headers[name] for name in said} == said
        assert "unsafe" not in said["content-security-policy"]
        assert client.get("/own").headers["cache-control"] == "public"

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.addresses import addresses_in, same_address


@pytest.mark.parametrize(
    "url",
    ["HTTP://Works.Example:80/Tale/#top", "https://works.example/Tale", "https://works.example:443/Tale/"],
)
def test_addresses_that_lead_to_one_place_are_one(url: str):
    assert same_address(url) == "https://works.example/Tale"


@pytest.mark.parametrize(
    "url", ["", "tale", "ftp://works.example/Tale", "http://", "http://[", "http://a:b/"]
)
def test_what_is_no_web_address_is_none(url: str):
    assert not same_address(url)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("See https://works.example/Tale.", ["https://works.example/Tale"]),
        ("([the tale](https://works.example/Tale), 1912)", ["https://works.example/Tale"]),
        (
            '<a href="https://works.example/a">https://works.example/b</a>',
            ["https://works.example/a", "https://works.example/b"],
        ),
        ("https://works.example/Tale_(1912)!", ["https://works.example/Tale_(1912)"]),
        ("**https://works.example/Tale**", ["https://works.example/Tale"]),
        ("\u898b\u3088https://works.example/Tale\u3002\u7d42", ["https://works.example/Tale"]),
        ("works.example/Tale and ftp://works.example/Tale", []),
    ],
)
def test_the_addresses_of_a_text_are_found_without_its_punctuation(text: str, found: list[str]):
    assert list(addresses_in(text)) == found


@given(st.text("htps:/.()*[]ab ?#\u3002", max_size=200))
def test_any_text_is_looked_through(text: str):
    assert all(address in text and same_address(address + "/") is not None for address in addresses_in(text))

"""RSL files: several licences on offer, what they ask for, and what is not RSL at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.licences import Condition
from proxy.catalogue.rsl import NAMESPACE, PERMITS, PROHIBITS, read_rsl
from proxy.catalogue.works import Use
from proxy.errors import BadRequest

FILE = Path(__file__).parent / "signals/licence.rsl.xml"


def one(*licences: str):
    body = "".join(f"<license>{licence}</license>" for licence in licences)
    (content,) = read_rsl(f'<rsl xmlns="{NAMESPACE}"><content url="/">{body}</content></rsl>'.encode())
    return {term.use: term for term in content.terms}, content.unread


def test_each_content_of_a_file_is_read_with_its_own_licences():
    essays, letters, posters = read_rsl(FILE.read_bytes())
    assert [essays.url, letters.url] == [
        "https://lamplighters.example/essays/*",
        "https://lamplighters.example/letters/*",
    ]
    terms = {term.use: term for term in essays.terms}
    assert terms[Use.OUTPUT_INFLUENCE].ways == (
        (Condition("payment", "use"), Condition("amount", "0.002 EUR")),
    )
    assert {term.effect for term in letters.terms} == {"deny"}
    assert {term.use for term in letters.terms} == set(Use)
    assert posters.unread == ("permits usage ai-dreaming", "payment barter")


def test_one_of_several_licences_is_enough_and_what_each_asks_for_is_kept():
    terms, _ = one(
        '<prohibits type="usage">ai-train</prohibits><permits type="usage">search</permits>',
        '<permits type="usage">ai-train</permits><payment type="purchase"/><payment type="subscription"/>',
    )
    assert terms[Use.TRAIN_GEN].effect == "constrained"
    assert terms[Use.TRAIN_GEN].ways == (
        (Condition("payment", "purchase"),),
        (Condition("payment", "subscription"),),
    )
    assert terms[Use.SEARCH].ways == ((Condition("payment", "free"),),)


def test_within_a_licence_a_prohibition_wins_over_a_permission():
    terms, _ = one('<permits type="usage">ai-all</permits><prohibits type="usage">ai-input</prohibits>')
    assert terms[Use.GROUND].effect == terms[Use.OUTPUT_INFLUENCE].effect == "deny"
    assert terms[Use.TRAIN_GEN].effect == "constrained"


def test_users_and_places_are_conditions_beside_the_payment():
    terms, _ = one(
        '<permits type="usage">ai-input</permits><permits type="user">education</permits>'
        '<prohibits type="geo">FR, DE</prohibits><payment type="use"/>'
    )
    assert terms[Use.GROUND].ways == (
        (Condition("payment", "use"), Condition("user", "education"), Condition("not-geo", "FR,DE")),
    )


@pytest.mark.parametrize("word", sorted(PERMITS))
def test_nothing_is_permitted_that_the_same_word_would_not_prohibit(word):
    assert set(PERMITS[word]) <= set(PROHIBITS[word])


def test_words_are_compared_with_their_case():
    terms, unread = one('<permits type="usage">AI-Train</permits>')
    assert (terms, unread) == ({}, ("permits usage AI-Train",))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"<rsl", "well-formed"),
        (b"<rsl><content url='/'/></rsl>", "no <content>"),
        (
            b"<!DOCTYPE r [<!ENTITY a 'b'>]><rsl xmlns='https://rslstandard.org/rsl'><content/></rsl>",
            "entities",
        ),
        (b"<rsl xmlns='https://rslstandard.org/rsl'>" + b"<a>" * 40 + b"</a>" * 40 + b"</rsl>", "deeply"),
    ],
)
def test_what_is_no_rsl_says_why(raw, why):
    with pytest.raises(BadRequest, match=why):
        read_rsl(raw)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(raw):
    with pytest.raises(BadRequest):
        read_rsl(raw)

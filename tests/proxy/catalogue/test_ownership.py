import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.ownership import (
    COMMONS_STATEMENT,
    EVIDENCE_MAX,
    OWN_STATEMENT,
    STATEMENTS,
    checked_evidence,
    checked_words,
    statement_sha256,
)
from proxy.errors import BadRequest


def test_a_statement_that_somebody_attested_never_changes_its_words():
    assert {version: statement_sha256(version)[:16] for version in STATEMENTS} == {
        OWN_STATEMENT: "8b685040e98a9a5c",
        COMMONS_STATEMENT: "28bcbeed7c144f00",
    }


@given(st.text(max_size=300))
def test_words_that_are_kept_can_be_printed_anywhere(text):
    try:
        said = checked_words(text, "reason", 300)
    except BadRequest:
        return
    assert said == said.strip()
    assert not any(letter < " " or letter in "\x7f\x9b\u202e\u2066" for letter in said)


def test_words_that_are_missing_or_too_long_are_refused_and_never_cut():
    for text in ("", " \n", "\x1b\x00", "a" * 21):
        with pytest.raises(BadRequest) as refused:
            checked_words(text, "basis", 20)
        assert refused.value.remedy
    assert checked_words(" \x1b[2Jyes\nit is ", "basis", 20) == "[2Jyes it is"
    assert checked_words("", "reason", 20, needed=False) == ""


def test_evidence_is_web_addresses_each_once():
    assert checked_evidence([" https://a.example/1 ", "https://a.example/1", ""]) == ("https://a.example/1",)
    for wrong in (
        ["javascript:alert(1)"],
        ["file:///etc/passwd"],
        ["https://a b"],
        ["https://u:p@a.example"],
    ):
        with pytest.raises(BadRequest):
            checked_evidence(wrong)
    with pytest.raises(BadRequest, match="addresses"):
        checked_evidence(f"https://a.example/{n}" for n in range(EVIDENCE_MAX + 1))

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.works import (
    COMMONS,
    PARTIES_MAX,
    UNCLAIMED,
    WHOLE_PPM,
    CatalogueSnapshot,
    Consent,
    Part,
    Split,
    Use,
    WorkCredit,
    checked_ref,
    checked_url,
    printable,
    ref_of,
    verdict_for,
    whole,
)
from proxy.errors import BadRequest


@given(st.lists(st.integers(1, WHOLE_PPM - 1), unique=True, max_size=20))
def test_any_division_of_the_whole_is_a_split(cuts):
    edges = [0, *sorted(cuts), WHOLE_PPM]
    parts = tuple(Part(f"p{n}", high - low) for n, (low, high) in enumerate(itertools.pairwise(edges)))
    assert sum(part.ppm for part in Split(parts).parts) == WHOLE_PPM


@given(st.lists(st.integers(-10, WHOLE_PPM + 10), max_size=6))
def test_what_is_not_whole_cannot_exist(ppms):
    parts = tuple(Part(f"p{number}", ppm) for number, ppm in enumerate(ppms))
    if sum(ppms) == WHOLE_PPM and min(ppms) > 0:
        assert Split(parts)
    else:
        with pytest.raises(BadRequest):
            Split(parts)


def test_a_share_that_is_missing_is_told_to_go_to_the_unclaimed():
    with pytest.raises(BadRequest, match="600000") as refused:
        Split((Part("ada", 600_000),))
    assert UNCLAIMED in refused.value.remedy
    assert Split((Part("ada", 600_000), Part(UNCLAIMED, 400_000)))


def test_a_party_is_in_a_split_once():
    with pytest.raises(BadRequest, match="twice"):
        Split((Part("ada", 500_000), Part("ada", 500_000)))


def test_a_split_has_a_bound():
    with pytest.raises(BadRequest):
        Split(tuple(Part(f"p{number}", 1) for number in range(PARTIES_MAX + 1)))


def test_the_whole_is_one_party():
    assert whole("ada").parts == (Part("ada", WHOLE_PPM),)


@pytest.mark.parametrize(
    ("status", "given_", "default", "verdict"),
    [
        ("active", "paid", "denied", "paid"),
        ("active", "free", "denied", "free"),
        ("active", "denied", "paid", "prohibited"),
        ("active", None, "paid", "paid"),
        ("active", None, "free", "free"),
        ("active", None, "denied", "prohibited"),
        ("withdrawn", "paid", "paid", "prohibited"),
        ("withdrawn", None, "free", "prohibited"),
    ],
)
def test_a_withdrawn_or_denied_work_is_never_paid(status, given_, default, verdict):
    assert verdict_for(status, given_, default) == verdict


def test_consent_is_said_in_words_that_are_known():
    assert Consent.of("excerpt_display", "free") == Consent(Use.EXCERPT_DISPLAY, "free")
    for words in (("everything", "free"), ("index", "yes"), ("", "")):
        with pytest.raises(BadRequest) as refused:
            Consent.of(*words)
        assert refused.value.remedy


@pytest.mark.parametrize("ref", ["a", "poems/moon.txt", "ISBN 978-3", "漢字", "x" * 200])
def test_names_of_every_script_are_refs(ref):
    assert checked_ref(f" {ref} ") == ref


@pytest.mark.parametrize("ref", ["", " ", "a\nb", "a\0b", "~unclaimed", "x" * 201, "a\u202eb"])
def test_what_could_be_taken_for_something_else_is_no_ref(ref):
    with pytest.raises(BadRequest):
        checked_ref(ref)


@pytest.mark.parametrize("url", ["", "https://a.example/works/1?x=%20#y", "http://localhost:8080"])
def test_web_addresses_pass_as_they_are(url):
    assert checked_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "data:text/html,x", "//a.example", "https://", "https://a.example/ b", "https://[::1",
        "https://user:word@a.example", 'https://a.example/"onload=', "https://a.example/\n", "https://a/" + "x" * 2000,
    ],
)  # fmt: skip
def test_what_a_browser_would_run_or_mistake_is_no_address(url):
    with pytest.raises(BadRequest):
        checked_url(url)


@given(st.text())
def test_printable_text_is_one_line_within_its_bound(text):
    shown = printable(text, 20)
    assert len(shown) <= 20
    assert not set(shown) & set("\n\r\t\0\x1b\u202e\u2066")
    assert printable(shown, 20) == shown


def test_joined_emoji_and_markup_stay_what_they_are():
    assert printable("  A <b>title</b>\n👩\u200d🚀 ", 50) == "A <b>title</b> 👩\u200d🚀"


def test_a_ref_is_made_of_a_name_in_any_script():
    assert ref_of("Ketil Sandvær, Jr.") == "ketil-sandvær-jr"
    assert ref_of("漢字") == "漢字"


def test_a_snapshot_is_not_changed_by_a_newer_one():
    lamp = WorkCredit("w_1", "Lamp", ("Ada",), "", "", "paid")
    older = CatalogueSnapshot().with_changes(1, [lamp])
    newer = older.with_changes(2, [WorkCredit("w_1", "Lamp", ("Ada",), "", "", "prohibited")])
    assert (older.credit("w_1").verdict, newer.credit("w_1").verdict) == ("paid", "prohibited")
    assert older.credit("w_2") is None
    assert (older.seq, newer.seq) == (1, 2)


def test_works_are_found_by_their_address_as_it_is_now():
    first = CatalogueSnapshot().with_changes(
        1, [credit_at("w_2", "http://A.example/x/"), credit_at("w_1", URL_A)]
    )
    assert first.works_at("https://a.example/x#top") == ("w_1", "w_2")
    moved = first.with_changes(2, [credit_at("w_1", "https://b.example"), credit_at("w_3", "")])
    assert (moved.works_at(URL_A), moved.works_at("https://b.example/")) == (("w_2",), ("w_1",))
    gone = moved.with_changes(3, [credit_at("w_2", "")])
    assert gone.works_at(URL_A) == gone.works_at("") == ()
    assert first.works_at(URL_A) == ("w_1", "w_2")
    assert CatalogueSnapshot().works_at(URL_A) == ()


URL_A = "https://a.example/x"


def credit_at(work: str, url: str) -> WorkCredit:
    return WorkCredit(work, "Lamp", ("Ada",), "", url, "paid")


@pytest.mark.parametrize("said", [None, "paid", "free", "denied"])
@pytest.mark.parametrize("status", ["active", "withdrawn"])
def test_what_is_nobodys_is_free_whatever_was_said(said, status):
    assert verdict_for(status, said, "paid", owner=COMMONS) == "free"


@pytest.mark.parametrize("party", [COMMONS, "~", "~somebody"])
def test_a_split_names_people_or_nobody_and_nothing_else(party):
    with pytest.raises(BadRequest, match="cannot have a part"):
        Split((Part(party, 1_000_000),))

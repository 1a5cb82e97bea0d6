from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.normalise import REMEMBERED_CHARS_MAX, fold, word_hash, words

PLAIN = "The orchard bee nests in hollow reeds and seals each cell with mud"


def test_look_alike_letters_are_the_letters_they_look_like():
    assert words("Тhе саt ѕаt").texts == ("the", "cat", "sat")
    assert words("Νο ΟΝΕ").texts == ("no", "one")
    assert words("ᴛʜᴇ ᎢᎻᎬ ꓔꓧꓰ тне 𝐭𝐡𝐞 𝕿𝖍𝖊 ｔｈｅ ⓣⓗⓔ").texts == ("the",) * 8


def test_case_accents_and_compatibility_forms_do_not_matter():
    assert words("NAÏVE ﬁne Straße").texts == words("naive fine strasse").texts


def test_invisible_characters_do_not_cut_a_word():
    assert words("so\u00adft zero\u200bwidth").texts == ("soft", "zerowidth")


@pytest.mark.parametrize(
    "sown",
    [
        "\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff", "\u200f", "\u202e", "\u034f", "\u0301", "\u0336", "\u0489",
        "\u20e3", "\ufe0f", "\U000e0100", "\U000e0041", "\u115f", "\u3164", "\u180e", "\x00", "\x08", "\x7f",
        "&shy;", "&#8203;", "&#x200D;", "**", "\U0001d173",
    ],
)  # fmt: skip
def test_what_is_sown_between_all_letters_changes_no_word_and_keeps_the_places(sown):
    text = " ".join(sown.join(word) for word in PLAIN.split())
    found = words(text)
    assert found.texts == words(PLAIN).texts
    places = [text[start:end] for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)]
    assert places == text.split(" ")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("caf\u00e9 na\u00efve", "cafe\u0301 nai\u0308ve"),
        ("한국어는 아름답다", unicodedata.normalize("NFD", "한국어는 아름답다")),
        ("ガラスの橋が見える", unicodedata.normalize("NFD", "ガラスの橋が見える")),
        ("ガラスパン", "ｶﾞﾗｽﾊﾟﾝ"),
        ("مُحَمَّدٌ كَتَبَ", "محمد كتب"),
        ("أكل آكل إكل", "اكل اكل اكل"),
        ("كتـــاب", "كتاب"),
        ("کتابی", "كتابي"),
        ("שָׁלוֹם", "שלום"),
        ("योगः", unicodedata.normalize("NFD", "योगः")),
        ("İstanbul ılık", "istanbul ilik"),
        ("STRASSE", "straße"),
        ("Tiếng Việt", unicodedata.normalize("NFD", "TIẾNG VIỆT")),
        ("Н О В Ы Й Нет", "н о в ы й нет"),
        ("ΘΑΛΑΣΣΗΣ ΦΩΣ ΚΑΛΗΣ ΖΩΗΣ", "θαλάσσης φῶς καλῆς ζωής"),
        ("Ἡ ἡμέρα", "η ημερα"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("the ﬂuﬀy oﬃce", "the fluffy office"),
        ("٢٠٢٤ २०२४", "2024 2024"),
        ("&quot;Don&#39;t&quot; na&iuml;ve &amp; so", '"Don\'t" naïve & so'),
        ("x² ½", "x2 1 2"),
    ],
)
def test_two_ways_to_write_the_same_are_the_same_words(text, same):
    assert words(text).texts == words(same).texts
    assert len(words(text).texts)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("हिन्दी में लिखना", 3),  # vowel signs and viramas belong to their word
        ("বাংলা ভাষা", 2),
        ("தமிழ் மொழி", 2),
        ("ภาษาไทย", 7),
        ("น้ำ", 2),  # the tone goes, a vowel sign hangs on its letter
        ("东京塔", 3),
        ("サーバー・名", 5),  # the middle dot is no word
        ("𠮷野家", 3),
        ("bookᵗʰ", 1),
        ("។ ៕ ๚ ๛ ။ 。、", 0),
    ],
)
def test_how_many_words_there_are(text, count):
    assert len(words(text).texts) == count


def test_every_dash_cuts_alike():
    assert (
        words("well-known").texts
        == words("well—known").texts
        == words("well‑known").texts
        == ("well", "known")
    )


def test_apostrophes_are_one():
    assert words("don’t").texts == words("don't").texts == ("don't",)


def test_a_script_without_spaces_gives_one_word_a_character():
    """Each known with the one that touches it, so that two texts of a language do not share all their words."""
    found = words("東京です。はい OK東")
    assert found.texts == ("東京", "京て", "てす", "す", "はい", "い", "ok", "東")
    assert (found.ends - found.starts).tolist() == [1, 1, 1, 1, 1, 1, 2, 1]


def test_what_is_not_folded_stays_what_it_is():
    assert words("c0pied c o p y").texts == ("c0pied", "c", "o", "p", "y")
    assert words("exam-\nple &nosuchname; R&D;").texts == ("exam", "ple", "nosuchname", "r", "d")


def test_a_flood_of_endless_words_is_not_remembered():
    before = word_hash.cache_info().currsize
    words("x" * (REMEMBERED_CHARS_MAX + 1) + " an_unheard_of_word_beside_it")
    assert word_hash.cache_info().currsize == before


@given(st.text(max_size=80))
def test_offsets_point_into_the_text_as_given(text):
    found = words(text)
    for word, start, end in zip(found.texts, found.starts.tolist(), found.ends.tolist(), strict=True):
        assert 0 <= start < end <= len(text)
        assert word[0] in fold(text[start:end]).text


@given(st.text(max_size=60))
def test_words_come_in_order_and_hash_the_same_each_time(text):
    found = words(text)
    assert found.starts.tolist() == sorted(found.starts.tolist())
    assert found.hashes.tolist() == [word_hash(word) for word in found.texts]


@given(st.text(max_size=40))
def test_composed_and_decomposed_text_is_the_same_words(text):
    assert words(unicodedata.normalize("NFC", text)).texts == words(unicodedata.normalize("NFD", text)).texts


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(categories=("Ll", "Lu", "Zs")), max_size=40))
def test_folding_what_is_folded_changes_nothing(text):
    once = fold(text).text
    assert words(once).texts == words(text).texts


def test_a_capital_folds_as_its_small_letter_in_every_script_but_for_four_greek_ones():
    cased = [
        chr(code) for code in range(0x20000) if chr(code).isalpha() and chr(code).lower() != chr(code).upper()
    ]
    two = {
        char
        for char in cased
        if len(char.upper()) == 1 and words(char.upper()).texts != words(char.lower()).texts
    }
    assert two == set("ΖΗΝΥζηνυ")


def test_every_letter_of_an_alphabet_is_the_same_word_composed_and_decomposed():
    different = [
        char
        for char in map(chr, range(0x2800))
        if char.isalpha() and words(char).texts != words(unicodedata.normalize("NFD", char)).texts
    ]
    assert different == []

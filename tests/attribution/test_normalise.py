from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from attribution.normalise import fold, word_hash, words


def test_look_alike_letters_are_the_letters_they_look_like():
    assert words("Тhе саt ѕаt").texts == ("the", "cat", "sat")
    assert words("Νο ΟΝΕ").texts == ("no", "one")


def test_case_accents_and_compatibility_forms_do_not_matter():
    assert words("NAÏVE ﬁne Straße").texts == words("naive fine strasse").texts


def test_invisible_characters_do_not_cut_a_word():
    assert words("so\u00adft zero\u200bwidth").texts == ("soft", "zerowidth")


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
    assert words("東京です").texts == ("東", "京", "で", "す")


@given(st.text(max_size=80))
def test_offsets_point_into_the_text_as_given(text):
    found = words(text)
    for word, start, end in zip(found.texts, found.starts.tolist(), found.ends.tolist(), strict=True):
        assert 0 <= start < end <= len(text)
        assert word in fold(text[start:end])[0]


@given(st.text(max_size=60))
def test_words_come_in_order_and_hash_the_same_each_time(text):
    found = words(text)
    assert found.starts.tolist() == sorted(found.starts.tolist())
    assert found.hashes.tolist() == [word_hash(word) for word in found.texts]

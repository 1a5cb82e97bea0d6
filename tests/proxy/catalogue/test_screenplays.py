import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.screenplays import fountain

PLAY = """Title:
    _**THE LAMP ROOM**_
    a play for gulls
Credit: written by
Author: Ines
Draft date: 1/2/2026

# Act one

= The keeper wakes.

INT. LAMP ROOM - NIGHT #12A#

The keeper *counts* the **gulls**, /* cut
me */ twice. [[is it
twice?]] 2 * 3 is six.

KEEPER
(to himself)
One walked through the \\*first\\* count.

GULL ^
_Indeed._

~We may never know how many there were

.BINOCULARS

!SCREECH

@McGULL
Aye.

> FADE TO BLACK.

> THE END <

===
"""
PLAYED = """INT. LAMP ROOM - NIGHT

The keeper counts the gulls,  twice.  2 * 3 is six.

KEEPER
(to himself)
One walked through the *first* count.

GULL
Indeed.

We may never know how many there were

BINOCULARS

SCREECH

McGULL
Aye.

FADE TO BLACK.

THE END"""


def test_what_is_played_stays_and_the_workshop_is_left_out():
    assert fountain(PLAY) == ("THE LAMP ROOM a play for gulls", PLAYED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INT. A ROOM: NIGHT\n\nHe waits.", ("", "INT. A ROOM: NIGHT\n\nHe waits.")),
        ("He waits.\n\nTitle: not one", ("", "He waits.\n\nTitle: not one")),
        ("Title: Gulls", ("Gulls", "")),
        ("\n\nTitle: Gulls\n\nThey wait...\n\n...still.", ("Gulls", "They wait...\n\n...still.")),
        ("", ("", "")),
        ("/* never closed", ("", "")),
        ("[[a note\n\nnever closed", ("", "[[a note\n\nnever closed")),
    ],
)
def test_titles_and_marks_are_told_from_text(text, expected):
    assert fountain(text) == expected


@given(st.text("aB \n*_~>!@.#=[]/:\\^", max_size=300))
def test_any_text_is_read_and_no_letter_is_made_up(text):
    title, played = fountain(text)
    assert len(title) + len(played) <= len(text)

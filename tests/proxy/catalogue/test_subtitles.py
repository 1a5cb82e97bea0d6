import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.subtitles import srt, vtt
from proxy.errors import BadRequest

SRT = """1
00:00:01,000 --> 00:00:03,500
<i>The keeper counted</i>
the gulls {\\an8}twice,

2
00:00:03,600 --> 00:00:06,000
because one had walked.

3
00:00:20,000 --> 00:00:22,000
Nobody asked. 2 < 3, she said.
"""
VTT = """WEBVTT - lamps

STYLE
::cue { color: papayawhip }

NOTE who wrote this
00:00.000 --> 00:01.000 is no cue here

intro
00:01.000 --> 00:03.000 align:start position:0%
<v Ada>The lamp &amp; the keeper</v>

00:03.000 --> 00:05.000
<c.loud>went</c> <00:00:04.000>out.
"""


def test_what_is_said_is_one_text_and_a_silence_is_a_paragraph():
    said = "The keeper counted\nthe gulls twice,\nbecause one had walked.\n\nNobody asked. 2 < 3, she said."
    assert srt(SRT) == said


def test_notes_styles_names_and_marks_of_webvtt_are_not_said():
    assert vtt(VTT) == "The lamp & the keeper\nwent out."


def test_lines_of_rolling_captions_are_said_once():
    rolling = """WEBVTT

00:00.000 --> 00:02.000
we went down

00:02.000 --> 00:02.010
we went down

00:02.010 --> 00:04.000
we went down
to the harbour

00:04.000 --> 00:06.000
to the harbour
at night
"""
    assert vtt(rolling) == "we went down\nto the harbour\nat night"


def test_a_line_that_is_really_said_twice_stays():
    assert srt("1\n00:00:01,000 --> 00:00:02,000\nno\nno\n") == "no\nno"


@pytest.mark.parametrize(
    ("read", "text", "why"),
    [
        (srt, "just\n\na text", "says when it is shown"),
        (srt, "", "says when it is shown"),
        (vtt, "00:01.000 --> 00:02.000\nhello", "does not begin with WEBVTT"),
        (vtt, "WEBVTTX\n", "does not begin with WEBVTT"),
        (vtt, "WEBVTT\n", "says when it is shown"),
    ],
)
def test_what_is_no_subtitles_is_refused_with_why(read, text, why):
    with pytest.raises(BadRequest, match=why):
        read(text)


@given(st.lists(st.text("ab<>{}\\&;:.,-1 \n\t", max_size=40), max_size=12))
def test_any_text_between_times_is_read_or_refused_and_never_longer(parts):
    text = "\n00:01.000 --> 00:02.000\n".join(parts)
    try:
        said = srt(text)
    except BadRequest:
        assert len(parts) < 2 or "-->" in text
    else:
        assert len(said) <= len(text)

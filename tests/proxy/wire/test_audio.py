"""Transcriptions in every format, and speech."""

from __future__ import annotations

import pytest

from proxy.wire.audio import Speech, Transcriptions, spoken_in
from proxy.wire.output import NOTHING, MediaCounts, TextDelta, TokenCounts
from tests.proxy.wire.test_multipart import KIND, form

AUDIO = Transcriptions()
SPEECH = Speech()


def test_a_form_says_model_and_stream():
    asked = AUDIO.read_request(
        form((b'name="model"', b"w"), (b'name="stream"', b"True"), (b'name="prompt"', b"hi")), KIND
    )
    assert (asked.model, asked.is_streaming, AUDIO.prompt_text(asked)) == ("w", True, "hi")
    assert AUDIO.read_request(b"junk", b"").model == ""


@pytest.mark.parametrize(
    "body",
    [
        b'{"text":"The sea is old."}',
        b'{"task":"transcribe","duration":1.5,"text":"The sea is old.","segments":[{"text":"The sea"}],"words":[]}',
        b"The sea is old.\n",
        b"1\n00:00:00,000 --> 00:00:02,000\nThe sea is old.\n\n",
        b"\xef\xbb\xbfWEBVTT\r\n\r\nNOTE by 00\r\n\r\n00:00.000 --> 00:02.000 align:start\r\nThe sea is old.\r\n\r\n",
    ],
)
def test_the_text_is_the_same_in_every_format(body):
    said = AUDIO.read_reply(body)
    assert said is not None
    assert said.texts == (TextDelta(0, "The sea is old."),)


def test_bytes_that_are_no_text_say_nothing():
    assert AUDIO.read_reply(b"\xff\xfe\x00") is None
    assert AUDIO.read_reply(b'{"text":') is None


def test_seconds_are_no_tokens():
    tokens = AUDIO.read_reply(b'{"text":"a","usage":{"type":"tokens","input_tokens":14,"output_tokens":2}}')
    seconds = AUDIO.read_reply(b'{"text":"a","usage":{"type":"duration","seconds":9}}')
    assert tokens is not None
    assert seconds is not None
    assert (tokens.counts, seconds.counts) == (TokenCounts(14, 2), TokenCounts())


def test_a_stream_tells_deltas_and_ends_with_the_whole():
    assert AUDIO.read_chunk(b'{"type":"transcript.text.delta","delta":"The "}').texts == (
        TextDelta(0, "The "),
    )
    assert AUDIO.read_chunk(b'{"type":"transcript.text.segment","text":"The","speaker":"A"}') == NOTHING
    done = AUDIO.read_chunk(
        b'{"type":"transcript.text.done","text":"The sea","usage":{"input_tokens":1,"output_tokens":2}}'
    )
    assert (done.finished, done.whole, done.is_end) == ((0,), (TextDelta(0, "The sea"),), True)
    assert done.counts == TokenCounts(1, 2)


def test_cues_of_several_lines_and_text_with_numbers_are_kept():
    assert (
        spoken_in("1\n00:00:00,000 --> 00:00:02,000\nA\nB\n\n2\n00:00:02,000 --> 00:00:03,000\n1984\n")
        == "A\nB\n1984"
    )
    assert spoken_in("12\nplain --> text\n") == "12\nplain --> text"


def test_what_is_spoken_is_the_requests_own_text():
    asked = SPEECH.read_request(b'{"model":"tts","input":"The sea","voice":"a","response_format":"mp3"}')
    assert (asked.model, asked.spoken, SPEECH.prompt_text(asked)) == ("tts", "The sea", "The sea")


def test_speech_as_events_ends_with_its_usage():
    assert SPEECH.read_chunk(b'{"type":"speech.audio.delta","audio":"AAAA"}') == NOTHING
    done = SPEECH.read_chunk(b'{"type":"speech.audio.done","usage":{"input_tokens":4,"output_tokens":101}}')
    assert (done.finished, done.counts, done.is_end) == ((0,), TokenCounts(4, 101), True)


@pytest.mark.parametrize(
    ("more", "milliseconds"),
    [
        (b'"usage":{"type":"duration","seconds":9}', 9_000),
        (b'"usage":{"type":"duration","seconds":"9.25"}', 9_250),
        (b'"duration":8.470000267028809', 8_471),
        (b'"duration":"8.47"', 8_470),
        (b'"duration":8.4,"usage":{"type":"duration","seconds":9}', 9_000),
        (b'"duration":8.4,"usage":{"type":"duration"}', 8_400),
        (b'"duration":8.4,"usage":{"type":"duration","seconds":-1}', 8_400),
        (b'"duration":8.4,"usage":{"type":"tokens","seconds":9,"input_tokens":14,"output_tokens":2}', 8_400),
        (b'"usage":{"type":"tokens","seconds":9,"input_tokens":14,"output_tokens":2}', None),
        (b'"usage":{"seconds":9}', None),
        (b'"duration":null', None), (b'"duration":0', None), (b'"duration":{}', None), (b'"usage":null', None),
    ],
)  # fmt: skip
def test_sound_is_as_long_as_usage_counts_and_else_as_the_verbose_form_tells(more, milliseconds):
    media = None if milliseconds is None else MediaCounts(milliseconds=milliseconds)
    whole = AUDIO.read_reply(b'{"text":"a",' + more + b"}")
    assert whole is not None
    assert whole.media == media
    assert AUDIO.read_chunk(b'{"type":"transcript.text.done","text":"a",' + more + b"}").media == media
    assert AUDIO.read_chunk(b'{"type":"transcript.text.delta","delta":"a",' + more + b"}").media is None


def test_text_and_subtitles_do_not_say_how_long_the_sound_was():
    for body in (b"The sea is old.", b"1\n00:00:00,000 --> 00:00:02,000\nThe sea\n"):
        said = AUDIO.read_reply(body)
        assert said is not None
        assert said.media is None

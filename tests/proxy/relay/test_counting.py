"""What an answer used, as its backend tells it piece by piece."""

from __future__ import annotations

from proxy.relay.counting import Reported
from proxy.wire.endpoint import Asked
from proxy.wire.output import NOTHING, MediaCounts, Said, TokenCounts


def reported(*told: Said) -> Reported:
    made = Reported()
    for said in told:
        made.take(said)
    return made


def test_the_last_word_on_tokens_counts_and_what_is_not_said_again_stands():
    told = [
        Said(counts=TokenCounts(5, 1)),
        NOTHING,
        Said(counts=TokenCounts(None, 9)),
        Said(counts=TokenCounts()),
    ]
    assert reported(*told).tokens == TokenCounts(5, 9)
    assert reported(NOTHING).tokens == TokenCounts()


def test_each_image_is_counted_and_a_length_is_said_as_a_whole():
    one, length = Said(media=MediaCounts(images=1)), Said(media=MediaCounts(milliseconds=8_000))
    assert reported(one, NOTHING, one, one).media(None) == MediaCounts(images=3)
    assert reported(length, NOTHING, length).media(Asked("v", milliseconds=4_000)) == MediaCounts(
        milliseconds=8_000
    )
    longer = Said(media=MediaCounts(milliseconds=9_000))
    assert reported(length, longer, one).media(None) == MediaCounts(1, 9_000)
    assert reported(NOTHING).media(None) == MediaCounts()


def test_of_a_video_that_goes_on_from_another_only_what_is_new_counts():
    told = reported(Said(media=MediaCounts(milliseconds=20_000)))
    assert told.media(Asked("v", milliseconds=8_000, is_extension=True)) == MediaCounts(milliseconds=8_000)
    assert told.media(Asked("v", milliseconds=30_000, is_extension=True)) == MediaCounts(milliseconds=20_000)

"""How much an answer used: what its backend reported, and what is counted where it reported nothing.

Tokens that a backend does not tell of can be counted from the text, and such events are marked. Images and
seconds cannot: where nobody says how many there were, there were none that anybody has to pay for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy.metering.usage import Outcome
from proxy.relay.told import Told
from proxy.wire.endpoint import Asked, Endpoint
from proxy.wire.output import NO_MEDIA, MediaCounts, Said, TokenCounts


class Reported:
    """What a backend has said so far of what an answer used."""

    def __init__(self) -> None:
        self._tokens = TokenCounts()
        self._media = NO_MEDIA

    def take(self, said: Said) -> None:
        """Take what one event, or a whole reply, says."""
        if said.counts is not None:  # the last word counts: some backends report a running total
            given, told = said.counts.input, said.counts.output
            known = self._tokens
            self._tokens = TokenCounts(
                known.input if given is None else given, known.output if told is None else told
            )
        if said.media is not None:
            images = self._media.images + said.media.images
            self._media = MediaCounts(images, said.media.milliseconds or self._media.milliseconds)

    @property
    def tokens(self) -> TokenCounts:
        """Tokens, None where it has not said."""
        return self._tokens

    def media(self, asked: Asked | None) -> MediaCounts:
        """Return images and milliseconds; of a video that goes on from another only what was asked for."""
        told = self._media
        if asked is None or not asked.is_extension or not asked.milliseconds:
            return told
        return MediaCounts(told.images, min(told.milliseconds, asked.milliseconds))


async def complete(
    counts: TokenCounts,
    outcome: Outcome,
    endpoint: Endpoint,
    asked: Asked | None,
    answer: Told,
    count: Callable[[str], Awaitable[int]],
) -> TokenCounts:
    """Return token counts with nothing missing: what the backend did not report is counted by the scorer."""
    if outcome == "failed" or (counts.input is not None and counts.output is not None):
        return TokenCounts(counts.input or 0, counts.output or 0)
    given, told = counts.input, counts.output
    if given is None and asked is not None:
        given = await count(endpoint.prompt_text(asked))
    if told is None:
        told = 0
        for text in answer.texts().values() if endpoint.tells_text else ():
            told += await count(text) if text else 0
        if answer.kept_characters:  # beyond the bound nothing is kept: go on at the same rate
            told = told * answer.characters // answer.kept_characters
    return TokenCounts(given, told)

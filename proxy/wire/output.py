"""What any endpoint can say was generated, whatever its wire looks like.

Attribution and metering ask three things of an answer: the text a person reads, which choices are over, and
what the backend says it cost. Everything else on the wire is somebody else's and goes by untouched.
"""

from __future__ import annotations

import msgspec


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """Some more text of one choice, as a person will read it."""

    choice: int
    text: str


class TokenCounts(msgspec.Struct, frozen=True, gc=False):
    """What the backend reported; None where it said nothing. An explicit zero is a zero."""

    input: int | None = None
    output: int | None = None


class MediaCounts(msgspec.Struct, frozen=True, gc=False):
    """Finished images, and milliseconds of sound or video, as the backend tells; 0 where it does not."""

    images: int = 0
    milliseconds: int = 0


NO_MEDIA = MediaCounts()


class Said(msgspec.Struct, frozen=True):
    """What one chunk or one whole reply says.

    finished: the choices that end here. usage_only: a chunk that exists to carry usage and has no choice that
    says anything, which is what a client gets only if it asked. model: as the backend names it, or empty.
    whole: text so far said again as a whole, taken only where nothing of it was heard before (a stream taken
    up in its middle).
    is_end: nothing more is said after this. promised: a whole reply that only promises an answer, and the id
    under which to fetch it; else empty. cited: web addresses that the backend names as its sources. media:
    images that are new here, and how long all of the sound or video is; None where nothing of it is said.
    """

    texts: tuple[TextDelta, ...] = ()
    finished: tuple[int, ...] = ()
    counts: TokenCounts | None = None
    usage_only: bool = False
    model: str = ""
    whole: tuple[TextDelta, ...] = ()
    is_end: bool = False
    promised: str = ""
    cited: tuple[str, ...] = ()
    media: MediaCounts | None = None


NOTHING = Said()


class Heard(msgspec.Struct, frozen=True, gc=False):
    """What the first `count` of several events say together: texts in their order, and the model."""

    count: int = 0
    texts: tuple[TextDelta, ...] = ()
    model: str = ""


UNHEARD = Heard()

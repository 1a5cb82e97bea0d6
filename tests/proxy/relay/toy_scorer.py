"""A scorer with a toy engine, started by tests as the real one is: words that begin with w_ are works.

Words that make it misbehave: RAISE raises, DIE kills the process, GATE:path waits at the end, and
PUSHGATE:path at once, until somebody writes there. In a request ASKDIE and ASKGATE:path do so.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from attribution.copying import Copied
from attribution.errors import IndexCorrupt
from attribution.grounding import Context, Grounded
from attribution.terms import PPM, Attribution, Match, Share
from proxy.relay.scorer import main


class ToyStream:
    def __init__(self, method: str) -> None:
        self.method = method
        self.text = ""
        self.context = Context()

    def push(self, text: str) -> None:
        self.text += text
        for word in text.split():
            if word.startswith("PUSHGATE:"):
                Path(word.removeprefix("PUSHGATE:")).read_text(encoding="utf-8")

    def finishing(self) -> Generator[None, None, Attribution]:
        for _ in range(len(self.text) // 1_000):
            yield
        words = self.text.split()
        for word in words:
            if word == "RAISE":
                raise LookupError(self.text)
            if word == "DIE":
                os.kill(os.getpid(), signal.SIGKILL)
            if word.startswith("GATE:"):
                Path(word.removeprefix("GATE:")).read_text(encoding="utf-8")
        shares = []
        for work in sorted({word for word in words if word.startswith("w_")}):
            start = self.text.index(work)
            match = Match(
                work, self.context.kinds.get(work, "verbatim"), start, start + len(work), 0, len(work), 1.0
            )
            shares.append(Share(work, words.count(work) * PPM // len(words), (match,)))
        return Attribution(tuple(shares), PPM - sum(share.ppm for share in shares), len(words), self.method)


class ToyGrounder:
    def __init__(self) -> None:
        self.text = ""

    def push(self, text: str) -> None:
        self.text += text
        for word in text.split():
            if word == "ASKDIE":
                os.kill(os.getpid(), signal.SIGKILL)
            if word.startswith("ASKGATE:"):
                Path(word.removeprefix("ASKGATE:")).read_text(encoding="utf-8")

    def finish(self, cited: Iterable[str] = (), grounded: Iterable[str] = ()) -> Context:
        works = sorted({word for word in self.text.split() if word.startswith("w_")} | set(grounded))
        return Context(tuple(Grounded(work) for work in works), frozenset(cited))


class ToyCopying:
    """Every w_ word is a copied word of that work."""

    def __init__(self) -> None:
        self.text = ""
        self.count = 0

    def push(self, text: str) -> bool:
        self.text += text
        before, self.count = self.count, self.text.count("w_")
        return self.count > before

    def finish(self) -> bool:
        return False

    def found(self, limits: Sequence[int]) -> tuple[Copied, ...]:
        result: list[Copied] = []
        for work in sorted(set(re.findall(r"w_\w+(?=\s)", self.text))):
            ends = [match.end() for match in re.finditer(rf"{work}(?=\s)", self.text)]
            if len(ends) > min(limits):
                crossed = tuple(ends[max(limit, 1) - 1] if len(ends) > limit else -1 for limit in limits)
                result.append(Copied(work, len(ends), self.text.index(work), ends[-1], crossed))
        return tuple(result)


class ToyEngine:
    def __init__(self, path: Path | None) -> None:
        if path is not None and not path.is_dir():
            raise IndexCorrupt(f"{path.name} is broken", remedy="build it again")
        self.method = f"toy/{path.name if path else 'empty'}"
        # Without an index the toy's works are all there, because its texts name them.
        self.is_empty = path is not None and path.name == "nobody"
        self.is_closed = False
        self.streams: list[ToyStream] = []

    def stream(self) -> ToyStream:
        assert not self.is_closed
        self.streams.append(ToyStream(self.method))
        return self.streams[-1]

    def grounder(self) -> ToyGrounder:
        return ToyGrounder()

    def copying(self) -> ToyCopying:
        return ToyCopying()

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        self.is_closed = True


if __name__ == "__main__":
    main(ToyEngine)

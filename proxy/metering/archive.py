"""Answers outside the store: the lines of an archive, and the digest that stands for them inside.

When a period is long over its answers may leave the store. What stays is a digest: how many there were, what
they sum to, and a hash over their lines in the order of the log. An archive holds these lines, one JSON
object an answer with everything that the store held of it, so an archive that has the digest's hash is the
period's usage, wherever it was kept meanwhile. Sums are integers; nothing here knows a store.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from proxy.errors import Unavailable
from proxy.metering.usage import MeteredEvent

SUFFIX: Final = ".jsonl.gz"
LINE_BYTES_MAX: Final = 1 << 20  # an answer with ten thousand lines has half of it
LEVEL: Final = 6  # of compression: 9 takes three times as long for a fiftieth less
_line = msgspec.json.Encoder(order="sorted")
# Left out of a line, as in archives from before they were counted, whose bytes must come out again. Within a
# text a quotation mark has a backslash before it, so no name of a model or an app can be taken for these.
_UNCOUNTED: Final = (b'"images":0,', b'"milliseconds":0,')


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """One answer as the store held it. shard, idx: where its shares stand in the log; used: (shard, idx) of
    its usage; sha256: of the two records' bytes in the journal, usage first.
    """

    shard: str
    idx: int
    used: tuple[str, int]
    sha256: tuple[str, str]
    answer: MeteredEvent


class Digest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a period's answers sum to. shards: {shard: (first, end)}; sha256: over the archive's lines, hex.

    lines: shares of works in all; line_ppm: their sum by verdict; unscored: answers by reason.
    """

    period: str
    shards: dict[str, tuple[int, int]]
    answers: int
    lines: int
    estimated: int
    outcomes: dict[str, int]
    unscored: dict[str, int]
    unattributed_ppm: int
    line_ppm: dict[str, int]
    input_tokens: int
    output_tokens: int
    first_us: int
    last_us: int
    sha256: str
    images: int = 0
    milliseconds: int = 0
    v: int = 1

    def canonical(self) -> bytes:
        """Return the bytes that are kept and signed: keys sorted, no spaces."""
        return _line.encode(self)


class Digesting:
    """Sums answers and hashes their lines as they stream by."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._answers = self._lines = self._estimated = self._unattributed = 0
        self._tokens_in = self._tokens_out = self._images = self._milliseconds = 0
        self._first_us = self._last_us = 0
        self._outcomes: dict[str, int] = {}
        self._unscored: dict[str, int] = {}
        self._line_ppm: dict[str, int] = {}

    def line(self, one: Archived) -> bytes:
        """Take one answer, in the order of the log; return its line, which ends in a newline."""
        said = _line.encode(one) + b"\n"
        for member in _UNCOUNTED:
            said = said.replace(member, b"")
        self._hash.update(said)
        answer = one.answer
        self._answers += 1
        self._lines += len(answer.lines)
        self._estimated += answer.estimated
        self._unattributed += answer.unattributed_ppm
        self._tokens_in += answer.input_tokens
        self._tokens_out += answer.output_tokens
        self._images += answer.images
        self._milliseconds += answer.milliseconds
        self._first_us = min(self._first_us or answer.occurred_us, answer.occurred_us)
        self._last_us = max(self._last_us, answer.occurred_us)
        _add(self._outcomes, answer.outcome, 1)
        if answer.reason:
            _add(self._unscored, answer.reason, 1)
        for line in answer.lines:
            _add(self._line_ppm, line.verdict, line.ppm)
        return said

    def digest(self, period: str, shards: Mapping[str, tuple[int, int]]) -> Digest:
        """Return what was taken, as that of a period."""
        return Digest(
            period=period,
            shards=dict(shards),
            answers=self._answers,
            lines=self._lines,
            estimated=self._estimated,
            outcomes=self._outcomes,
            unscored=self._unscored,
            unattributed_ppm=self._unattributed,
            line_ppm=self._line_ppm,
            input_tokens=self._tokens_in,
            output_tokens=self._tokens_out,
            images=self._images,
            milliseconds=self._milliseconds,
            first_us=self._first_us,
            last_us=self._last_us,
            sha256=self._hash.hexdigest(),
        )


class Writing:
    """An archive while it is written: aside, and under its own name only when it is whole and on the disk."""

    def __init__(self, path: Path) -> None:
        """Begin. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path, self._aside = path, path.with_name(f"{path.name}.{os.getpid()}.new")
        descriptor = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._raw = os.fdopen(descriptor, "wb")
        # No name and no time in it: the same answers are the same bytes.
        self._file = gzip.GzipFile("", "wb", LEVEL, self._raw, mtime=0)

    def __enter__(self) -> Self:
        return self

    def write(self, line: bytes) -> None:
        """Write a line."""
        self._file.write(line)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End it: whole under its name, or gone where something failed. Raises OSError."""
        try:
            self._file.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())
        finally:
            self._raw.close()
            if kind is not None:
                self._aside.unlink(missing_ok=True)
        if kind is None:
            self._aside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def read(path: Path, digest: Digest) -> Generator[Archived]:
    """Yield an archive's answers in the order of the log, one in memory at a time.

    Raises Unavailable (code "archive_missing" or "archive_damaged") where it is not there, or not what the
    digest says: what was yielded before is then of no use.
    """
    made = Digesting()
    try:
        with gzip.open(path, "rb") as file:
            for said in _bounded(file, path):
                one = _decoder.decode(said)
                if made.line(one) != said:
                    raise _damaged(path)
                yield one
    except FileNotFoundError as error:
        raise Unavailable(
            f"the answers of {digest.period} are no longer in the store, and {path} is not there",
            remedy="put the archive back in its place; its digest is in the store",
            code="archive_missing",
        ) from error
    except (OSError, EOFError, zlib.error, ValueError, msgspec.DecodeError) as error:
        raise _damaged(path) from error
    if made.digest(digest.period, digest.shards) != digest:
        raise _damaged(path)


_decoder = msgspec.json.Decoder(Archived)


def _bounded(file: Iterable[bytes], path: Path) -> Iterator[bytes]:
    reading = getattr(file, "readline")  # noqa: B009  gzip's own type does not tell
    while said := reading(LINE_BYTES_MAX + 1):
        if len(said) > LINE_BYTES_MAX:
            raise _damaged(path)
        yield bytes(said)


def _damaged(path: Path) -> Unavailable:
    return Unavailable(
        f"{path} is not the archive that the store's digest was made of",
        remedy="restore it from a backup",
        code="archive_damaged",
    )


def _add(sums: dict[str, int], key: str, by: int) -> None:
    sums[key] = sums.get(key, 0) + by

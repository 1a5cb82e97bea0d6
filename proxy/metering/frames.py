"""How a record lies in a journal file, without a file in sight.

A segment is one header and then frames. A frame is length, CRC-32, index and a msgpack record; the CRC
covers the index too, so a frame that moved is a damaged frame. `scan` answers the question a restart asks:
how far is this file whole, and is what follows a write that a crash cut short (nobody was told it was
recorded), or damage in the middle of what was recorded? The two differ by what comes after: behind a cut
write there is nothing valid.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from proxy.errors import Unavailable
from proxy.metering.usage import Record

MAGIC = b"ECJOURNL"
VERSION = 1
HEADER = struct.Struct(">8sHxx32sQI")  # magic, version, shard id (ASCII, zero-padded), first index, CRC-32
FRAME = struct.Struct(">IIQ")  # payload bytes, CRC-32 of index and payload, index
INDEX = struct.Struct(">Q")
PAYLOAD_BYTES_MAX = 1 << 20  # a record of an answer that credits 10,000 works fits; a runaway record does not
SHARD_ID_BYTES_MAX = 32

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class HeaderDamaged(ValueError):
    """The first bytes of a segment are not a header this version wrote."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame: its index, its record's bytes, and where in the file it ends."""

    index: int
    payload: bytes
    end: int

    def record(self) -> Record:
        """Return the record. Raises Unavailable(code "journal_record_unknown") for bytes not ours."""
        try:
            return _decoder.decode(self.payload)
        except msgspec.DecodeError as error:
            raise Unavailable(
                f"the journal's record {self.index} is not known to this version ({error})",
                remedy="run the version that wrote it, or a newer one; nothing is skipped",
                code="journal_record_unknown",
            ) from error


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a segment is whole. `damaged`: valid frames follow the first bad one: no cut write."""

    end: int
    next_index: int
    bytes_after: int
    damaged: bool


def encode_record(record: Record) -> bytes:
    """Return a record's bytes, the ones its sha256 is taken of.

    Raises ValueError over PAYLOAD_BYTES_MAX, or for what could not be read back: it would hold up everything
    that comes after it.
    """
    payload = _encode(record)
    try:
        _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"record {record.id} cannot be read back: {error}") from error
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"record of {len(payload)} bytes, more than {PAYLOAD_BYTES_MAX}")
    return payload


def encode_frame(index: int, payload: bytes) -> bytes:
    """Return the frame of one record's bytes."""
    return FRAME.pack(len(payload), _checksum(index, payload), index) + payload


def encode_header(shard_id: str, first_index: int) -> bytes:
    """Return a segment's header."""
    shard = shard_id.encode("ascii")
    if not 1 <= len(shard) <= SHARD_ID_BYTES_MAX:
        raise ValueError(f"shard id of {len(shard)} bytes")
    body = HEADER.pack(MAGIC, VERSION, shard, first_index, 0)[:-4]
    return body + struct.pack(">I", zlib.crc32(body))


def decode_header(data: bytes) -> tuple[str, int]:
    """Return (shard id, first index). Raises HeaderDamaged."""
    if len(data) < HEADER.size:
        raise HeaderDamaged(f"{len(data)} bytes, a header has {HEADER.size}")
    magic, version, shard, first_index, checksum = HEADER.unpack_from(data)
    if magic != MAGIC or checksum != zlib.crc32(data[: HEADER.size - 4]):
        raise HeaderDamaged("magic or checksum differs")
    if version != VERSION:
        raise HeaderDamaged(f"journal version {version}, this program reads {VERSION}")
    return shard.rstrip(b"\0").decode("ascii"), first_index


def frames(data: bytes, offset: int, index: int) -> Iterator[Frame]:
    """Yield whole frames from `offset` on, the first of which has `index`; stop at the first bad one."""
    while (frame := _frame_at(data, offset)) is not None and frame.index == index:
        yield frame
        offset, index = frame.end, index + 1


def frames_after_damage(data: bytes, offset: int, index: int) -> Iterator[Frame]:
    """Yield every valid frame after a bad one at `offset`, wherever it lies, with an index above `index`."""
    while offset < len(data):
        frame = _frame_at(data, offset)
        # A frame has a least length, which bounds how far indexes can have come: a second proof.
        if frame is not None and index <= frame.index <= index + (frame.end // FRAME.size):
            yield frame
            offset, index = frame.end, frame.index + 1
        else:
            offset += 1


def extent(data: bytes, offset: int, index: int) -> Extent:
    """Return how far `data` is whole from `offset` on, and whether something valid lies behind the end."""
    for frame in frames(data, offset, index):
        offset, index = frame.end, frame.index + 1
    after = len(data) - offset
    damaged = after > 0 and next(frames_after_damage(data, offset + 1, index), None) is not None
    return Extent(offset, index, after, damaged)


def _frame_at(data: bytes, offset: int) -> Frame | None:
    if offset + FRAME.size > len(data):
        return None
    length, checksum, index = FRAME.unpack_from(data, offset)
    end = offset + FRAME.size + length
    if length > PAYLOAD_BYTES_MAX or end > len(data):
        return None
    payload = data[offset + FRAME.size : end]
    return Frame(index, payload, end) if _checksum(index, payload) == checksum else None


def _checksum(index: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(INDEX.pack(index)))

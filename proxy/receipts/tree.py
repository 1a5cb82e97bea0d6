"""The log's Merkle tree (RFC 6962) over hashes that somebody else keeps: roots, paths, tiles.

Pure: nodes come from a function, so that the same code proves from memory and from a store of tiles. A tile
is a subtree eight levels high, 256 hashes wide, as C2SP's tlog-tiles serves them; the hashes between its rows
are computed, never kept. Checking is in verify.py, which others keep and which knows nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.receipts.verify import EMPTY_ROOT, HASH_BYTES, SIZE_MAX, node_hash

TILE_LEVELS: Final = 8
TILE_WIDTH: Final = 1 << TILE_LEVELS
INDEX_MAX: Final = (SIZE_MAX >> TILE_LEVELS) - 1  # of a tile: a store's 64 bits hold its last hash's place
Node = Callable[[int, int], bytes]  # (level, index) of a complete subtree -> its hash
ReadTile = Callable[["Tile"], bytes]


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Where a tile stands: its level (0 holds leaves), its index there, and how many hashes it has."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Return the tile's path below the log's prefix, like "tile/0/x001/067.p/12"."""
        return f"tile/{self.level}/{_numbered(self.index, self.width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a bundle of entries, like "tile/entries/067.p/12"."""
    return f"tile/entries/{_numbered(index, width)}"


def _numbered(index: int, width: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return "/".join(reversed(groups)) + partial


def parse_path(path: str) -> Tile | None:
    """Return the tile that a path names, with level -1 for a bundle of entries; None if it names none.

    A path has one spelling: what would be written otherwise is None.
    """
    head, _, rest = path.removeprefix("tile/").partition("/")
    numbers, partial, width = rest.partition(".p/")
    groups = numbers.removeprefix("x").split("/x") if "/" in numbers else [numbers]
    if "/" in numbers:
        *first, last = numbers.split("/")
        groups = [*(group.removeprefix("x") for group in first), last]
    wide = width if partial else str(TILE_WIDTH)
    values = [head if head != "entries" else "0", wide, *groups]
    if len(groups) > 7 or not all(one.isascii() and one.isdigit() and len(one) <= 3 for one in values):
        return None
    tile = Tile(-1 if head == "entries" else int(head), int("".join(groups)), int(wide))
    again = entries_path(tile.index, tile.width) if tile.level < 0 else tile.path()
    in_range = 0 < tile.width <= TILE_WIDTH and tile.level < 64 and tile.index <= INDEX_MAX
    return tile if again == path and in_range else None


def tiles_of(old_size: int, new_size: int) -> Iterator[Tile]:
    """Yield the tiles that a log of `new_size` has and one of `old_size` had not, partial ones last seen."""
    level = 0
    while new_size:
        begin, end = old_size >> TILE_LEVELS, new_size >> TILE_LEVELS
        for index in range(begin, end):
            yield Tile(level, index)
        if (width := new_size % TILE_WIDTH) and new_size != old_size:
            yield Tile(level, end, width)
        old_size, new_size, level = begin, end, level + 1


def covering(tile: Tile, size: int) -> Tile:
    """Return the tile of the same place in a log of `size`, as wide as it is there."""
    row = size >> (TILE_LEVELS * tile.level)
    return Tile(tile.level, tile.index, min(TILE_WIDTH, row - tile.index * TILE_WIDTH))


class Subtrees:
    """The complete subtrees whose hashes make a log's root: what is kept to append. At most 62 hashes."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Take up a log of `size`; hashes: one for each bit of it that is set, the largest first."""
        if size.bit_count() != len(hashes):
            raise ValueError(f"a log of {size} has {size.bit_count()} subtrees, not {len(hashes)}")
        self.size = size
        self._hashes = list(hashes)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """One hash for each complete subtree, the largest first."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add a leaf's hash. Yield (level, index, hash) of each subtree it completes, itself first."""
        level, index, at = 0, self.size, leaf
        yield level, index, at
        while index & 1:
            at = node_hash(self._hashes.pop(), at)
            level, index = level + 1, index >> 1
            yield level, index, at
        self._hashes.append(at)
        self.size += 1

    def root(self) -> bytes:
        """Return the log's root."""
        if not self._hashes:
            return EMPTY_ROOT
        at = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            at = node_hash(left, at)
        return at


def inclusion_path(index: int, size: int, node: Node) -> list[bytes]:
    """Return the hashes that lead from a leaf to the root (RFC 6962, 2.1.1). Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a log of {size}")
    return [_range_hash(begin, end, node) for begin, end in _siblings(index, 0, size)]


def consistency_path(old_size: int, new_size: int, node: Node) -> list[bytes]:
    """Return the hashes that show one log in the other (RFC 6962, 2.1.2). Raises ValueError."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a log of {new_size} cannot grow out of one of {old_size}")
    if old_size in {0, new_size}:
        return []
    path: list[bytes] = []
    begin, end = 0, new_size
    rest: list[tuple[int, int]] = []
    while old_size != end:
        split = begin + _split(end - begin)
        if old_size <= split:
            rest.append((split, end))
            end = split
        else:
            rest.append((begin, split))
            begin = split
    if begin:  # the old log's last subtree, unless it is the whole of it
        path.append(_range_hash(begin, end, node))
    path.extend(_range_hash(low, high, node) for low, high in reversed(rest))
    return path


def _siblings(index: int, begin: int, end: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while end - begin > 1:
        split = begin + _split(end - begin)
        if index < split:
            found.append((split, end))
            end = split
        else:
            found.append((begin, split))
            begin = split
    return found[::-1]


def _split(count: int) -> int:
    """Return the largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _range_hash(begin: int, end: int, node: Node) -> bytes:
    """Return the hash over leaves `begin` to `end`, a subtree of the log's shape."""
    pieces: list[bytes] = []
    while begin < end:
        level = min((begin & -begin).bit_length() - 1 if begin else 63, (end - begin).bit_length() - 1)
        pieces.append(node(level, begin >> level))
        begin += 1 << level
    at = pieces.pop()
    while pieces:
        at = node_hash(pieces.pop(), at)
    return at


def from_tiles(size: int, read: ReadTile) -> Node:
    """Return a Node over the tiles of a log of `size`. A tile is read once for each Node made here.

    read(tile) returns the tile's hashes, concatenated: as wide as it is in a log of this size.
    """
    rows: dict[tuple[int, int], list[list[bytes]]] = {}

    def node(level: int, index: int) -> bytes:
        high, low = divmod(level, TILE_LEVELS)
        # The row `low` of a tile has 256 >> low hashes.
        place = index >> (TILE_LEVELS - low)
        inside = index - (place << (TILE_LEVELS - low))
        key = (high, place)
        if key not in rows:
            tile = covering(Tile(high, place), size)
            raw = read(tile)
            if len(raw) != tile.width * HASH_BYTES:
                raise ValueError(f"{tile.path()} has {len(raw)} bytes")
            rows[key] = [[raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]]
        tower = rows[key]
        while len(tower) <= low:
            tower.append(list(_paired(tower[-1])))
        return tower[low][inside]

    return node


def _paired(row: Iterable[bytes]) -> Iterator[bytes]:
    pairs = iter(row)
    return (node_hash(left, right) for left, right in zip(pairs, pairs, strict=False))

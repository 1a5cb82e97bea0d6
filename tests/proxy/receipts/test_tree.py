import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.receipts.tree import (
    Subtrees,
    Tile,
    consistency_path,
    covering,
    entries_path,
    from_tiles,
    inclusion_path,
    parse_path,
    tiles_of,
)
from proxy.receipts.verify import EMPTY_ROOT, leaf_hash, node_hash

# The entries and roots that logs of this kind have published since RFC 6962.
ENTRIES = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count):
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


def root_of(hashes):
    """As RFC 6962 defines it, 2.1."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(root_of(hashes[:split]), root_of(hashes[split:]))


def path_of(index, hashes):
    """As RFC 6962 defines it, 2.1.1."""
    if len(hashes) == 1:
        return []
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if index < split:
        return [*path_of(index, hashes[:split]), root_of(hashes[split:])]
    return [*path_of(index - split, hashes[split:]), root_of(hashes[:split])]


def proof_of(old, hashes, *, whole=True):
    """As RFC 6962 defines it, 2.1.2."""
    if old == len(hashes):
        return [] if whole else [root_of(hashes)]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if old <= split:
        return [*proof_of(old, hashes[:split], whole=whole), root_of(hashes[split:])]
    return [*proof_of(old - split, hashes[split:], whole=False), root_of(hashes[:split])]


def node_of(hashes):
    return lambda level, index: root_of(hashes[index << level : (index + 1) << level])


def test_roots_are_those_that_others_published():
    tree = Subtrees()
    assert tree.root() == EMPTY_ROOT
    for entry, root in zip(ENTRIES, ROOTS, strict=True):
        list(tree.append(leaf_hash(bytes.fromhex(entry))))
        assert tree.root().hex() == root


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 64, 65, 130])
def test_appending_gives_the_definitions_root_and_each_subtree_once(count):
    tree, made = Subtrees(), {}
    for leaf in leaves(count):
        for level, index, digest in tree.append(leaf):
            assert (level, index) not in made
            made[level, index] = digest
        tree = Subtrees(tree.size, tree.hashes)  # taken up again where it was left
    assert tree.root() == root_of(leaves(count))
    assert made == {
        (level, index): node_of(leaves(count))(level, index)
        for level in range(count.bit_length())
        for index in range(count >> level)
    }


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 21, 64, 100])
def test_paths_are_those_of_the_definition(count):
    hashes = leaves(count)
    node = node_of(hashes)
    for index in range(count):
        assert inclusion_path(index, count, node) == path_of(index, hashes)
    for old in range(1, count + 1):
        assert consistency_path(old, count, node) == proof_of(old, hashes)
    assert consistency_path(0, count, node) == []


def test_what_is_not_in_the_log_has_no_path():
    with pytest.raises(ValueError, match="no leaf 3"):
        inclusion_path(3, 3, node_of(leaves(3)))
    with pytest.raises(ValueError, match="grow out of one of 4"):
        consistency_path(4, 3, node_of(leaves(3)))
    with pytest.raises(ValueError, match="2 subtrees"):
        Subtrees(3, [bytes(32)])


@given(st.integers(1, 600), st.integers(0, 599), st.integers(0, 600))
def test_nodes_read_from_tiles_are_those_of_the_leaves(size, index, old):
    index, old = index % size, old % (size + 1)
    hashes, read = leaves(size), []

    def tile(one):
        read.append(one)
        first, step = one.index << 8 * (one.level + 1), 8 * one.level
        return b"".join(node_of(hashes)(step, (first >> step) + at) for at in range(one.width))

    node = from_tiles(size, tile)
    assert inclusion_path(index, size, node) == path_of(index, hashes)
    if old:
        assert consistency_path(old, size, node) == proof_of(old, hashes)
    assert len(read) == len(set(read)) <= 6


def test_a_tile_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"tile/0/000.p/3 has 32 bytes"):
        inclusion_path(0, 3, from_tiles(3, lambda _: bytes(32)))


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        (1, ["tile/0/000.p/1"]),
        (256, ["tile/0/000", "tile/1/000.p/1"]),
        (70_000, ["tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]),
    ],
)
def test_a_log_has_the_tiles_that_the_specification_says(size, tiles):
    assert set(tiles) <= {tile.path() for tile in tiles_of(0, size)}
    assert len(list(tiles_of(0, 70_000))) == 273 + 1 + 1 + 1 + 1


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=6).map(sorted))
def test_growing_in_steps_leaves_no_tile_out(sizes):
    last = sizes[-1]
    stepwise = {tile for old, new in zip([0, *sizes], sizes, strict=False) for tile in tiles_of(old, new)}
    needed = set(tiles_of(0, last))
    assert needed <= stepwise
    assert {covering(tile, last) for tile in stepwise} == needed


@given(st.integers(0, 5), st.integers(0, 10**9), st.integers(1, 256))
def test_a_path_has_one_spelling(level, index, width):
    tile = Tile(level, index, width)
    assert parse_path(tile.path()) == tile
    assert parse_path(entries_path(index, width)) == Tile(-1, index, width)


def test_the_specifications_example_of_a_path():
    assert Tile(0, 1_234_067).path() == "tile/0/x001/x234/067"


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/67", "tile/0/0067", "tile/00/067", "tile/0/067.p/256", "tile/0/067.p/0", "tile/0/067.p/01",
        "tile/0/x000/067", "tile/0/001/067", "tile/64/000", "tile/-1/000", "tile/0/067/", "tile/0/٠٦٧",
        "tile/0/../067", "tile/entries/67", "checkpoint", "tile/", "", "tile/0/x001/x234/067.p/", "tile/0/x/067",
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_no_tile(path):
    assert parse_path(path) is None


@given(st.text("0123456789x/.petilnrs", max_size=40))
def test_any_text_is_a_path_or_none(text):
    tile = parse_path(text)
    assert tile is None or text in {tile.path(), entries_path(tile.index, tile.width)}

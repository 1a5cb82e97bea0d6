import pytest

from proxy.metering.repair import damaged_folders, finish_rescue, is_damaged, rescue
from proxy.metering.segments import list_segments, read_all, shard_id_of
from tests.proxy.metering.conftest import FrozenClock


class Ids:
    def new(self, prefix):
        return prefix + "_new"


@pytest.fixture
async def shard(open_journal, made):
    journal = open_journal()
    for number in range(4):
        await journal.append(made.used(number))
    await journal.close()
    return journal.directory


pytestmark = pytest.mark.anyio


def flip(shard, byte):
    path = list_segments(shard)[0].path
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


async def test_a_whole_or_cut_shard_is_not_damaged(shard):
    assert not is_damaged(shard)
    path = list_segments(shard)[0].path
    path.write_bytes(path.read_bytes()[:-3])
    assert not is_damaged(shard)


async def test_a_damaged_header_or_record_retires_the_shard_with_what_is_whole(shard):
    for byte, saved in ((0, 4), (90, 3)):
        flip(shard, byte)
        assert is_damaged(shard)
        before = {path.name: path.read_bytes() for path in shard.iterdir()}
        damage = rescue(shard, ids=Ids(), clock=FrozenClock(byte))
        assert damage.saved == saved
        assert {path.name: path.read_bytes() for path in damage.folder.iterdir()} == before
        assert (len(list(read_all(shard))), shard_id_of(shard)) == (saved, "shd_new")
        assert not is_damaged(shard)
    assert len(damaged_folders(shard.parent)) == 2


async def test_a_rescue_cut_before_the_swap_is_forgotten_and_one_cut_inside_it_completed(shard):
    (shard.parent / "rescue-shard-00").mkdir()
    finish_rescue(shard)
    assert sorted(path.name for path in shard.parent.glob("*shard-00")) == ["shard-00"]
    shard.rename(shard.parent / "rescue-shard-00")
    finish_rescue(shard)
    assert len(list(read_all(shard))) == 4

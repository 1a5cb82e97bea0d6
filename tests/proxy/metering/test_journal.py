import asyncio
import errno
import time

import pytest

from proxy.errors import Unavailable
from proxy.metering.journal import Journal
from proxy.metering.segments import Disk, list_segments, read_all
from proxy.metering.usage import PPM, Attributed
from proxy.settings import Metering

SOON_S = 30  # a bound for a slow machine

pytestmark = pytest.mark.anyio


class FailingDisk(Disk):
    """A disk that fills up, loses its sync or writes half, when told to."""

    def __init__(self):
        self.full = False
        self.lost_sync = False
        self.half = False
        self.syncs = 0
        self.writes = 0

    def write(self, descriptor, data, offset):
        self.writes += 1
        if self.full:
            super().write(descriptor, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, data[: max(len(data) // 2, 1)] if self.half else data, offset)

    def sync(self, descriptor):
        self.syncs += 1
        if self.lost_sync:
            raise OSError(errno.EIO, "Input/output error")
        super().sync(descriptor)


async def until(true):
    async with asyncio.timeout(SOON_S):
        while not true():  # noqa: ASYNC110  the writer has no event for trying in vain
            await asyncio.sleep(0.001)


def recorded(folder, shard="shard-00"):
    return [frame.record() for frame in read_all(folder / shard)]


async def test_what_is_acknowledged_is_on_disk_in_order(open_journal, folder, made):
    journal = open_journal()
    assert [await journal.append(record) for record in made.answer(1) + made.answer(2)] == list(range(6))
    assert recorded(folder) == made.answer(1) + made.answer(2)
    assert journal.next_index == 6
    await journal.close()


async def test_records_that_wait_together_share_one_sync(open_journal, made):
    disk = FailingDisk()
    journal = open_journal(disk=disk)
    before = disk.syncs
    indexes = await asyncio.gather(*(journal.append(made.used(n)) for n in range(500)))
    assert sorted(indexes) == list(range(500))
    assert disk.syncs - before < 100
    await journal.close()


async def test_a_record_not_waited_for_is_written_when_the_journal_closes(open_journal, folder, made):
    journal = open_journal()
    journal.begin(made.begun(1))
    await journal.close()
    assert recorded(folder) == [made.begun(1)]


async def test_records_that_belong_together_share_a_sync_and_are_acknowledged_together(
    open_journal, folder, made
):
    disk = FailingDisk()
    journal = open_journal(disk=disk)
    before = disk.syncs
    assert await journal.append(made.used(1), made.attributed(1)) == 1
    assert disk.syncs == before + 1
    assert recorded(folder) == [made.used(1), made.attributed(1)]
    disk.full = True
    with pytest.raises(Unavailable):
        await journal.append(made.used(2), made.attributed(2))
    disk.full = False
    await journal.close()
    assert recorded(folder) == [made.used(1), made.attributed(1)]
    with pytest.raises(Unavailable):
        await journal.append(made.used(3))


async def test_records_that_belong_together_wait_for_room_too(open_journal, folder, made):
    journal = open_journal(settings=Metering(queue_events=1))
    await asyncio.gather(*(journal.append(made.used(n), made.attributed(n)) for n in range(50)))
    await journal.close()
    assert len(recorded(folder)) == 100


async def test_an_answer_that_is_over_at_once_says_in_one_record_that_it_began_and_what_it_used(
    open_journal, folder, made
):
    journal = open_journal()
    journal.begin(made.begun(1))
    journal.begin(made.begun(2))
    await journal.append(made.used(1))
    await journal.close()
    assert recorded(folder) == [made.used(1), made.begun(2)]


async def test_a_record_nobody_waits_for_is_written_soon_by_itself(open_journal, folder, made):
    journal = open_journal()
    is_written = asyncio.Event()
    journal.on_group = is_written.set
    journal.begin(made.begun(1))
    await is_written.wait()
    assert recorded(folder) == [made.begun(1)]
    await journal.close()


async def test_a_write_in_pieces_is_whole_in_the_end(open_journal, folder, made):
    disk = FailingDisk()
    disk.half = True
    journal = open_journal(disk=disk)
    for record in made.answer(1):
        await journal.append(record)
    assert recorded(folder) == made.answer(1)
    await journal.close()


@pytest.mark.parametrize("fault", ["full", "lost_sync"])
async def test_a_refused_record_is_an_error_and_later_ones_work_again(open_journal, folder, made, fault):
    disk = FailingDisk()
    journal = open_journal(disk=disk)
    await journal.append(made.used(1))
    setattr(disk, fault, True)
    with pytest.raises(Unavailable) as refused:
        await journal.append(made.used(2))
    assert refused.value.code == "journal_unavailable"
    assert recorded(folder) == [made.used(1)]
    setattr(disk, fault, False)
    assert await journal.append(made.used(3)) == 1
    assert recorded(folder) == [made.used(1), made.used(3)]
    await journal.close()


async def test_a_record_nobody_waits_for_outlives_a_full_disk(open_journal, folder, made):
    disk = FailingDisk()
    journal = open_journal(disk=disk)
    disk.full = True
    journal.offer(made.begun(1))
    with pytest.raises(Unavailable):
        await journal.append(made.used(2))
    disk.full = False
    await journal.append(made.used(3))
    await journal.close()
    assert {record.id for record in recorded(folder)} == {"rct_1", "rct_3"}


async def test_a_disk_that_refused_is_a_problem_until_it_takes_records_again_asked_or_not(
    open_journal, folder, made, monkeypatch
):
    monkeypatch.setattr("proxy.metering.journal.RETRY_S", 0.001)
    disk = FailingDisk()
    journal = open_journal(disk=disk)
    assert journal.problem is None
    disk.full = True
    with pytest.raises(Unavailable):
        await journal.append(made.used(1))
    tries = disk.writes
    await until(lambda: disk.writes > tries + 3)
    assert journal.problem is not None
    assert journal.problem.code == "journal_unavailable"
    disk.full = False
    await until(lambda: journal.problem is None)
    tries = disk.writes
    await asyncio.sleep(0.02)
    assert disk.writes == tries, "a disk that takes records is tried with records alone"
    assert await journal.append(made.used(2)) == 0
    await journal.close()
    assert recorded(folder) == [made.used(2)]


async def test_a_full_disk_keeps_nobody_from_starting_and_cut_answers_are_booked_when_there_is_room(
    open_journal, folder, made
):
    journal = open_journal()
    for number in (1, 2):
        journal.begin(made.begun(number))
    await journal.close()
    disk = FailingDisk()
    disk.full = True
    journal = open_journal(disk=disk)
    with pytest.raises(Unavailable):
        await journal.append(made.used(3))
    disk.full = False
    await journal.append(made.used(4))
    await journal.close()
    cut = [record.id for record in recorded(folder) if getattr(record, "outcome", "") == "cut"]
    assert cut == ["rct_1", "rct_2"]
    again = open_journal()
    await again.close()
    assert [record.id for record in recorded(folder) if getattr(record, "outcome", "") == "cut"] == cut


async def test_a_disk_that_stays_full_leaves_cut_answers_for_the_next_start(open_journal, folder, made):
    journal = open_journal()
    journal.begin(made.begun(1))
    await journal.close()
    disk = FailingDisk()
    disk.full = True
    await open_journal(disk=disk).close()
    assert recorded(folder) == [made.begun(1)]
    await open_journal().close()
    assert [type(record).__name__ for record in recorded(folder)] == ["Begun", "Used", "Attributed"]


async def test_after_a_full_disk_an_answer_s_records_are_still_in_their_order(open_journal, folder, made):
    disk = FailingDisk()
    journal = open_journal(disk=disk)
    disk.full = True
    journal.offer(made.begun(1))
    journal.offer(made.used(1))
    with pytest.raises(Unavailable):
        await journal.append(made.used(2))
    disk.full = False
    await journal.append(made.attributed(1))
    await journal.close()
    assert recorded(folder) == made.answer(1)


async def test_records_kept_for_a_full_disk_are_bounded(open_journal, folder, made):
    disk = FailingDisk()
    journal = open_journal(disk=disk, settings=Metering(queue_events=10))
    disk.full = True
    for number in range(100):
        journal.offer(made.used(number))
    with pytest.raises(Unavailable):
        await journal.append(made.used(1000))
    disk.full = False
    await journal.append(made.used(1001))
    await journal.close()
    assert len(recorded(folder)) <= 21


async def test_a_cancelled_caller_loses_no_record(open_journal, folder, made):
    journal = open_journal(settings=Metering(queue_events=1))
    loop = asyncio.get_running_loop()
    callers = [loop.create_task(journal.append(made.used(n), made.attributed(n))) for n in range(50)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await journal.close()
    kept = [(type(record).__name__, record.id) for record in recorded(folder)]
    assert sorted(kept) == sorted((kind, f"rct_{n}") for kind in ("Attributed", "Used") for n in range(50))


async def test_a_record_refused_in_the_moment_its_caller_leaves_is_tried_again(open_journal, folder, made):
    disk = FailingDisk()
    journal = open_journal(disk=disk)
    disk.full = True
    caller = asyncio.get_running_loop().create_task(journal.append(made.used(1), made.attributed(1)))
    await asyncio.sleep(0)
    while journal.problem is None:  # and its word waits for the loop, which is kept from taking it
        time.sleep(0.001)  # noqa: ASYNC251
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    disk.full = False
    await journal.append(made.used(2))
    await journal.close()
    assert {(type(record).__name__, record.id) for record in recorded(folder)} == {
        ("Used", "rct_1"),
        ("Attributed", "rct_1"),
        ("Used", "rct_2"),
    }


async def test_a_full_queue_makes_callers_wait_and_loses_nothing(open_journal, folder, made):
    journal = open_journal(settings=Metering(queue_events=3))
    await asyncio.gather(*(journal.append(made.used(n)) for n in range(200)))
    await journal.close()
    assert len(recorded(folder)) == 200


async def test_a_closed_journal_refuses(open_journal, made):
    journal = open_journal()
    await journal.close()
    with pytest.raises(Unavailable):
        await journal.append(made.used(1))


async def test_two_processes_take_two_shards_and_a_restart_takes_the_first_again(open_journal):
    first, second = open_journal(), open_journal()
    assert (first.directory.name, second.directory.name) == ("shard-00", "shard-01")
    assert first.shard_id != second.shard_id
    await first.close()
    again = open_journal()
    assert (again.directory.name, again.shard_id) == ("shard-00", first.shard_id)
    await again.close()
    await second.close()


async def test_two_data_folders_never_share_a_shard_id(open_journal, tmp_path):
    one, two = open_journal(folder=tmp_path / "a"), open_journal(folder=tmp_path / "b")
    assert one.shard_id != two.shard_id
    await one.close()
    await two.close()


async def test_segments_roll_and_indexes_run_on(open_journal, folder, made):
    journal = open_journal(settings=Metering(segment_bytes=500))
    for number in range(20):
        await journal.append(made.used(number))
    await journal.close()
    assert len(list_segments(folder / "shard-00")) > 3
    again = open_journal()
    assert await again.append(made.used(20)) == 20
    await again.close()
    assert recorded(folder) == [made.used(n) for n in range(21)]


async def test_a_tail_cut_at_any_byte_is_dropped_and_writing_goes_on(open_journal, folder, made, tmp_path):
    journal = open_journal()
    for record in [made.used(1), made.attributed(1), made.used(2), made.attributed(2)]:
        await journal.append(record)
    await journal.close()
    path = list_segments(folder / "shard-00")[0].path
    whole = path.read_bytes()
    for cut in range(56, len(whole), 7):
        path.write_bytes(whole[:cut])
        again = open_journal()
        kept = again.next_index
        assert again.damage is None
        assert await again.append(made.attributed(9)) == kept
        await again.close()
        assert recorded(folder)[kept] == made.attributed(9)


async def test_damage_in_the_middle_retires_the_shard_and_keeps_every_whole_record(
    open_journal, folder, made
):
    journal = open_journal()
    for record in made.answer(1) + made.answer(2):
        await journal.append(record)
    await journal.close()
    path = list_segments(folder / "shard-00")[0].path
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"default")] ^= 1
    path.write_bytes(damaged)
    again = open_journal()
    assert again.shard_id != journal.shard_id
    assert (again.damage.saved, again.damage.lost) == (5, 1)
    assert (again.damage.folder / path.name).read_bytes() == bytes(damaged)
    assert recorded(folder)[:5] == [made.begun(1), made.attributed(1), *made.answer(2)]
    assert (
        recorded(folder)[5].outcome == "cut"
    )  # its usage was the damaged record: booked as what Begun knows
    await again.close()


async def test_a_segment_missing_in_the_middle_is_damage_too(open_journal, folder, made):
    journal = open_journal(settings=Metering(segment_bytes=300))
    for number in range(9):
        await journal.append(made.used(number))
    await journal.close()
    list_segments(folder / "shard-00")[1].path.unlink()
    again = open_journal()
    assert again.damage.lost >= 1
    assert again.damage.saved + again.damage.lost == 9
    await again.close()


async def test_a_swap_of_a_damaged_shard_that_a_crash_cut_is_completed(open_journal, folder, made):
    journal = open_journal()
    await journal.append(made.used(1))
    await journal.close()
    (folder / "shard-00").rename(folder / "rescue-shard-00")
    again = open_journal()
    assert (again.shard_id, again.next_index) == (journal.shard_id, 1)
    await again.close()


async def test_an_answer_in_flight_at_a_crash_becomes_one_cut_event(open_journal, folder, made):
    journal = open_journal()
    await journal.append(made.begun(1))
    await journal.append(made.begun(2))
    await journal.append(made.used(2))
    await journal.close()
    for _ in range(2):  # a second restart books nothing more
        again = open_journal()
        await again.close()
        used, attributed = recorded(folder)[3:]
        assert (used.id, used.outcome, used.estimated, used.input_tokens, used.output_tokens) == (
            "rct_1",
            "cut",
            True,
            11,
            0,
        )
        assert attributed == Attributed(id="rct_1", unattributed_ppm=PPM, reason="cut_by_crash")


async def test_an_answer_without_shares_is_unsettled_after_a_restart(open_journal, made):
    journal = open_journal()
    for record in made.answer(1) + made.answer(2)[:2]:
        await journal.append(record)
    await journal.close()
    again = open_journal()
    await again.append(made.used(3))
    assert again.left_over == (made.used(2),)
    assert again.unsettled() == (made.used(2), made.used(3))
    await again.append(made.attributed(2))
    assert again.unsettled() == (made.used(3),)
    assert again.left_over == (made.used(2),)
    await again.close()


async def test_an_answer_unsettled_too_long_settles_as_not_attributed(open_journal, folder, made, clock):
    journal = open_journal()
    await journal.append(made.used(2))
    clock.us += 1
    await journal.append(made.used(1, occurred_us=clock.us - 40 * 86_400_000_000))  # of a batch made long ago
    clock.us += 24 * 3_600_000_000 - 1
    assert await journal.settle_overdue(24) == ()
    clock.us += 1
    assert await journal.settle_overdue(24) == ("rct_2",)
    assert recorded(folder)[-1].reason == "not_attributed"
    await journal.close()


async def test_carried_segments_go_and_what_an_open_answer_needs_stays(open_journal, folder, made):
    journal = open_journal(settings=Metering(segment_bytes=400))
    await journal.append(made.begun(0))
    for number in range(1, 30):
        for record in made.answer(number):
            await journal.append(record)
    journal.release(journal.next_index)  # asks that the open record be written again
    await journal.append(made.used(99))
    journal.release(journal.next_index)
    left = recorded(folder)
    await journal.close()
    assert len(left) < 20
    assert made.begun(0) in left
    again = open_journal()
    assert any(
        record.id == "rct_0" and record.reason == "cut_by_crash"
        for record in recorded(folder)
        if isinstance(record, Attributed)
    )
    await again.close()


async def test_nothing_is_deleted_before_it_is_carried(open_journal, folder, made):
    journal = open_journal(settings=Metering(segment_bytes=400))
    for number in range(10):
        for record in made.answer(number):
            await journal.append(record)
    journal.release(0)
    assert len(recorded(folder)) == 30
    second = list_segments(folder / "shard-00")[1].first_index
    journal.release(second - 1)
    assert len(recorded(folder)) == 30
    journal.release(second)
    assert len(recorded(folder)) == 30 - second
    await journal.close()


async def test_shards_of_workers_that_are_gone_are_found(open_journal, folder, made, clock):
    one, two, three = open_journal(), open_journal(), open_journal()
    await two.append(made.used(1))
    await three.append(made.used(2))
    await two.close()
    await three.close()
    three.directory.rename(folder / f"rescue-{three.directory.name}")  # as a crash inside a swap leaves it
    orphans = Journal.open_orphans(folder, settings=Metering(), clock=clock)
    assert [journal.directory.name for journal in orphans] == ["shard-01", "shard-02"]
    for journal in [*orphans, one]:
        await journal.close()


async def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(open_journal, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="owner"):
        open_journal(folder=tmp_path / "file" / "journal")

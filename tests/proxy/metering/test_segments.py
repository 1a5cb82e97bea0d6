import errno
import stat

import pytest

from proxy.errors import Unavailable
from proxy.metering import segments
from proxy.metering.frames import encode_frame, encode_record
from proxy.metering.segments import Disk, Reader, create_segment, list_segments, read_all, shard_id_of


class FullDisk(Disk):
    def write(self, descriptor, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")


def write(folder, made, *runs):
    """One segment per run of answer numbers, indexes running on."""
    index = 0
    for run in runs:
        segment, descriptor = create_segment(folder, "shd_a", index, Disk())
        size = segment.path.stat().st_size
        for number in run:
            frame = encode_frame(index, encode_record(made.used(number)))
            Disk().write_whole(descriptor, frame, size)
            size, index = size + len(frame), index + 1
        segments.os.close(descriptor)
    return index


def ids(frames):
    return [int(frame.record().id.removeprefix("rct_")) for frame in frames]


def test_a_segment_is_born_with_its_header_and_for_its_owner_alone(tmp_path):
    segment, descriptor = create_segment(tmp_path, "shd_a", 0, Disk())
    segments.os.close(descriptor)
    assert shard_id_of(tmp_path) == "shd_a"
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600
    assert list_segments(tmp_path) == [segment]


def test_a_segment_that_could_not_be_written_was_never_born(tmp_path):
    with pytest.raises(OSError, match="space"):
        create_segment(tmp_path, "shd_a", 0, FullDisk())
    assert list(tmp_path.iterdir()) == []
    assert shard_id_of(tmp_path) is None


def test_a_disk_that_takes_nothing_is_an_error_and_no_endless_loop(tmp_path):
    class Idle(Disk):
        def write(self, descriptor, data, offset):
            return 0

    with pytest.raises(OSError, match="no bytes"):
        create_segment(tmp_path, "shd_a", 0, Idle())


@pytest.mark.parametrize("at_once", [1, 2, 100])
@pytest.mark.parametrize("start", [0, 2, 3, 5])
def test_a_reader_goes_through_segments_in_order_from_any_index(tmp_path, made, at_once, start):
    end = write(tmp_path, made, range(3), range(3, 4), range(4, 9))
    reader = Reader(tmp_path, start)
    found = []
    while some := reader.read(below=end, records_max=at_once):
        found += ids(some)
    assert found == list(range(start, 9))


def test_a_reader_gives_nothing_beyond_what_is_durable_and_goes_on_later(tmp_path, made):
    end = write(tmp_path, made, range(5))
    reader = Reader(tmp_path, 0)
    assert ids(reader.read(below=2, records_max=100)) == [0, 1]
    assert reader.read(below=2, records_max=100) == []
    assert ids(reader.read(below=end, records_max=100)) == [2, 3, 4]


def test_records_larger_than_one_read_are_read(tmp_path, made, monkeypatch):
    end = write(tmp_path, made, range(5))
    monkeypatch.setattr(segments, "READ_BYTES", 64)
    assert ids(Reader(tmp_path, 0).read(below=end, records_max=100)) == [0, 1, 2, 3, 4]


def test_a_reader_whose_segment_was_deleted_behind_it_goes_on(tmp_path, made):
    end = write(tmp_path, made, range(3), range(3, 6))
    reader = Reader(tmp_path, 0)
    reader.read(below=3, records_max=100)
    list_segments(tmp_path)[0].path.unlink()
    assert ids(reader.read(below=end, records_max=100)) == [3, 4, 5]


@pytest.mark.parametrize("gone", [0, 1])
def test_a_missing_record_is_an_error_and_never_skipped(tmp_path, made, gone):
    end = write(tmp_path, made, range(3), range(3, 6), range(6, 9))
    list_segments(tmp_path)[gone].path.unlink()
    reader = Reader(tmp_path, 0)
    for _ in range(2):
        with pytest.raises(Unavailable) as gap:
            reader.read(below=end, records_max=100)
        assert gap.value.code == "journal_gap"


def test_reading_beside_a_writer_stops_at_the_first_bad_frame(tmp_path, made):
    write(tmp_path, made, range(3))
    path = list_segments(tmp_path)[0].path
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "notes.log").write_text("not ours")
    assert ids(read_all(tmp_path)) == [0, 1]

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import frames as f
from proxy.metering.usage import PPM, Attributed, Begun, Line, Used

texts = st.text(max_size=30)
counts = st.integers(0, 2**40)
begun = st.builds(
    Begun,
    id=texts,
    occurred_us=counts,
    app=texts,
    model=texts,
    endpoint=texts,
    input_tokens=counts,
    price_version=texts,
)
used = st.builds(
    Used, id=texts, occurred_us=counts, app=texts, backend=texts, model=texts, endpoint=texts,
    outcome=st.sampled_from(["complete", "cut", "failed"]), input_tokens=counts, output_tokens=counts,
    estimated=st.booleans(), price_grains=st.none() | counts,
)  # fmt: skip
attributed = st.builds(
    lambda name, ppm: Attributed(id=name, unattributed_ppm=PPM - ppm, lines=(Line("w_" + name, ppm),)),
    texts,
    st.integers(1, PPM),
)
records = begun | used | attributed


def segment(some, first=7):
    frames = [
        f.encode_frame(index, f.encode_record(record)) for index, record in enumerate(some, start=first)
    ]
    return f.encode_header("shd_a", first), frames


@given(st.lists(records, max_size=8))
def test_what_goes_into_frames_comes_out_again(some):
    header, frames = segment(some)
    data = header + b"".join(frames)
    assert f.decode_header(data) == ("shd_a", 7)
    assert [frame.record() for frame in f.frames(data, f.HEADER.size, 7)] == some


@given(st.lists(records, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_cut_at_any_byte_exactly_the_whole_frames_before_remain(some):
    header, frames = segment(some)
    data = header + b"".join(frames)
    ends = [len(header)]
    for frame in frames:
        ends.append(ends[-1] + len(frame))
    for cut in range(len(header), len(data) + 1):
        found = f.extent(data[:cut], f.HEADER.size, 7)
        whole = sum(end <= cut for end in ends[1:])
        assert (found.next_index, found.end, found.damaged) == (7 + whole, ends[whole], False)


@given(st.lists(records, min_size=2, max_size=3), st.data())
@settings(max_examples=10, deadline=None)
def test_every_flipped_bit_is_detected_and_told_from_a_cut_write(some, data):
    header, frames = segment(some)
    whole = header + b"".join(frames)
    last = len(whole) - len(frames[-1])
    for bit in range(len(header) * 8, len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        found = f.extent(bytes(flipped), f.HEADER.size, 7)
        assert found.next_index < 7 + len(some)
        assert found.damaged == (bit // 8 < last)


def test_a_flipped_bit_of_the_header_is_detected():
    header = f.encode_header("shd_a", 7)
    for bit in range(len(header) * 8):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(f.HeaderDamaged):
            f.decode_header(bytes(flipped))


def test_frames_behind_damage_are_all_found_again():
    header, frames = segment(
        [Begun(id=str(n), occurred_us=n, app="", model="", endpoint="", input_tokens=0) for n in range(9)]
    )
    data = bytearray(header + b"".join(frames))
    data[len(header) + len(frames[0]) + 5] ^= 0xFF
    assert [frame.record().id for frame in f.frames_after_damage(bytes(data), 0, 7)] == list("02345678")


def test_a_header_too_short_or_of_another_version_is_refused():
    with pytest.raises(f.HeaderDamaged, match="bytes"):
        f.decode_header(b"ECJOURNL")


def test_a_record_too_large_for_a_frame_is_refused():
    with pytest.raises(ValueError, match="more than"):
        f.encode_record(
            Begun(id="x" * f.PAYLOAD_BYTES_MAX, occurred_us=0, app="", model="", endpoint="", input_tokens=0)
        )


def test_a_shard_id_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="shard id"):
        f.encode_header("x" * 33, 0)

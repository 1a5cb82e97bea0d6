import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Unavailable
from proxy.metering import archive
from proxy.metering.archive import Archived, Digesting, Writing
from proxy.metering.usage import PPM, Line, MeteredEvent


def answer(number=1, **facts):
    lines = facts.pop("lines", (Line("w_1", 250_000), Line("w_2", 1, "free")))
    made = {
        "id": f"rct_{number}", "occurred_us": number, "app_id": "app_1", "model": "m\u2028", "endpoint": "chat",
        "outcome": "complete", "input_tokens": 3, "output_tokens": 5, "estimated": number % 2 == 0,
        "price_version": "p", "price_grains": None, "currency": "USD", "reason": "", "lines": lines,
        "unattributed_ppm": PPM - sum(line.ppm for line in lines),
    }  # fmt: skip
    one = MeteredEvent(**(made | facts))
    return Archived(
        shard="shd_a", idx=10 * number, used=("shd_b", 10 * number - 1), sha256=("u", "a"), answer=one
    )


def written(path, answers):
    made = Digesting()
    with Writing(path) as file:
        for one in answers:
            file.write(made.line(one))
    return made.digest("2026-11", {"shd_a": (0, 1_000)})


def test_what_is_archived_comes_back_whole(tmp_path):
    answers = [answer(1), answer(2, reason="no_text", lines=()), answer(3, outcome="cut", price_grains=7)]
    digest = written(tmp_path / "archive" / "2026-11.jsonl.gz", answers)
    assert list(archive.read(tmp_path / "archive" / "2026-11.jsonl.gz", digest)) == answers
    assert (digest.answers, digest.lines, digest.estimated) == (3, 4, 1)
    assert (digest.outcomes, digest.unscored) == ({"complete": 2, "cut": 1}, {"no_text": 1})
    assert digest.unattributed_ppm + sum(digest.line_ppm.values()) == 3 * PPM
    assert (digest.first_us, digest.last_us, digest.input_tokens, digest.output_tokens) == (1, 3, 9, 15)


def test_the_same_answers_are_the_same_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        written(tmp_path / name, [answer(1), answer(2)])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.gz").stat().st_mode & 0o777 == 0o600


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_file_with_any_other_byte_is_refused(tmp_path_factory, place, change):
    path = tmp_path_factory.mktemp("archive") / "a.gz"
    digest = written(path, [answer(1), answer(2)])
    data = bytearray(path.read_bytes())
    # Of the head of the file only how it was made may differ: its lines are then still the same.
    place = 10 + place % (len(data) - 10)
    data[place] ^= change
    path.write_bytes(data)
    with pytest.raises(Unavailable) as refused:
        list(archive.read(path, digest))
    assert refused.value.code == "archive_damaged"


def test_other_answers_are_refused_and_so_is_no_file(tmp_path):
    digest = written(tmp_path / "a.gz", [answer(1), answer(2)])
    written(tmp_path / "b.gz", [answer(1)])
    with pytest.raises(Unavailable, match="not the archive"):
        list(archive.read(tmp_path / "b.gz", digest))
    with pytest.raises(Unavailable) as missing:
        list(archive.read(tmp_path / "c.gz", digest))
    assert missing.value.code == "archive_missing"


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path):
    digest = written(tmp_path / "a.gz", [answer(1)])
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"[" * (archive.LINE_BYTES_MAX + 2)))
    with pytest.raises(Unavailable, match="not the archive"):
        list(archive.read(tmp_path / "b.gz", digest))


def test_an_archive_that_failed_half_way_leaves_nothing(tmp_path):
    def fails():
        with Writing(tmp_path / "a.gz") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_answers_without_images_or_time_are_the_bytes_that_they_were_before_those_were_counted():
    made = Digesting()
    names = {"model": '"images":0,"milliseconds":0,', "app_id": '\\"images":0,'}
    lines = [made.line(answer(1)), made.line(answer(2, **names))]
    assert b'"images":' not in lines[0]
    assert lines[1].count(b"images") == 2
    digest = made.digest("2026-11", {"shd_a": (0, 1_000)})
    assert digest.sha256 == "bee7c9b6cf9394b2a06bd6476ab42fc2b534129ec267efe94a3bb4a592f0e059"
    signed = hashlib.sha256(digest.canonical()).hexdigest()
    assert signed == "c19e9a4c0a7ff0d85ee5050aedf891886954684a3d7794a8878e9e62bb29babd"


def test_images_and_time_are_archived_and_summed(tmp_path):
    answers = [
        answer(1, images=2),
        answer(2, milliseconds=8_500),
        answer(3, images=1, milliseconds=1),
        answer(4),
    ]
    digest = written(tmp_path / "a.gz", answers)
    assert list(archive.read(tmp_path / "a.gz", digest)) == answers
    assert (digest.images, digest.milliseconds) == (3, 8_501)

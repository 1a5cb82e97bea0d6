from __future__ import annotations

import dataclasses
import gzip
import json

from attribution.engine import build_index
from attribution.index import Manifest
from attribution.scale import answers, catalogue, main, movement, passages_of, reworded, spread
from attribution.terms import PPM, Attribution, Share, SourceWork


def test_passages_are_counted_as_an_index_makes_them(own_works, own_index):
    assert sum(passages_of(work.text) for work in own_works) == Manifest.read(own_index).passages


def test_distractors_are_added_up_to_so_many_passages(own_works):
    stretch = [SourceWork(f"s{number}", own_works[0].text) for number in range(50)]
    wanted = sum(passages_of(work.text) for work in own_works) + 3 * passages_of(own_works[0].text)
    assert [work.work_id for work in catalogue(own_works, stretch, wanted)][len(own_works) :] == [
        "s0", "s1", "s2",
    ]  # fmt: skip
    assert catalogue(own_works, stretch, 0) == list(own_works)


def test_a_reworded_copy_keeps_most_words_and_is_the_same_every_time(own_works):
    once, again = list(reworded(own_works, 1)), list(reworded(own_works, 1))
    assert once == again != list(reworded(own_works, 2))
    before, after = own_works[0].text.split(), once[0].text.split()
    same = sum(one == other for one, other in zip(before, after, strict=True)) / len(before)
    assert 0.55 < same < 0.9


def test_answers_have_the_length_asked_for(own_outputs):
    made = answers([output["text"] for output in own_outputs], count=3, length=40)
    assert [len(text.split(" ")) for text in made] == [40] * len(made)
    assert made == answers([output["text"] for output in own_outputs], count=3, length=40)


def test_a_share_that_moves_is_counted_in_points():
    here = Attribution((Share("a", 400_000, ()),), 600_000, 10, "m")
    there = Attribution((Share("a", 380_000, ()), Share("b", 1, ())), 619_999, 10, "m")
    assert round(movement([{"truth": [{"work_id": "a"}]}], [here], [there]), 6) == 2
    assert movement([{"truth": []}], [here], [Attribution((), PPM, 10, "m")]) == 0


def test_a_spread_is_a_median_and_a_high_one():
    assert spread([float(number) for number in range(1, 101)]).startswith("p50 50.5 ms, p95 96.0 ms")


def test_the_table_has_every_line(own_works, own_outputs, tmp_path, capsys):
    dev = tmp_path / "bench" / "dev"
    dev.mkdir(parents=True)

    def write(name, rows):
        with gzip.open(dev / name, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    works = [
        {
            "work_id": work.work_id,
            "creator_id": work.creator_id,
            "text": work.text,
            "registered_at": f"2024-01-01T00:00:{place:02}Z",
        }
        for place, work in enumerate(own_works)
    ]
    write("works.jsonl.gz", works)
    write("works_stretch.jsonl.gz", [])
    outputs = [
        {"output_id": str(place), "text": output["text"] * 9, "truth": [{"work_id": "bees", "share": 1}]}
        for place, output in enumerate(own_outputs[:3])
    ]
    write("outputs.jsonl.gz", outputs)
    kept = build_index(own_works[:2], tmp_path / "work" / "index-base")
    dataclasses.replace(kept, format=1).write(tmp_path / "work" / "index-base")
    main([str(tmp_path / "bench"), "100k", "--work", str(tmp_path / "work")])
    printed = capsys.readouterr().out
    for line in (
        "passages",
        "all at once: p50",
        "last word of a stream: p50",
        "resident",
        "moved 0.00 points",
    ):
        assert line in printed
    main([str(tmp_path / "bench"), "copies", "--work", str(tmp_path / "work")])
    assert f"{len(own_works) + 9} works" in capsys.readouterr().out
    lines = (tmp_path / "work" / "predictions-100k.jsonl").read_text().splitlines()
    assert [json.loads(line)["output_id"] for line in lines] == ["0", "1", "2"]

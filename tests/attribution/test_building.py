from __future__ import annotations

import json

import numpy as np
import pytest

from attribution.background import Background
from attribution.building import build
from attribution.index import Index, Manifest
from attribution.terms import SourceWork

BACKGROUND = Background.open()


class Interrupted(Exception):
    pass


def same_files(one, other):
    names = {path.name for path in one.iterdir()} - {"manifest.json"}
    assert names == {path.name for path in other.iterdir()} - {"manifest.json"}
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_the_same_works_give_the_same_bytes(own_works, word_encoder, tmp_path):
    build(own_works, tmp_path / "a", [word_encoder], BACKGROUND)
    build(reversed(own_works), tmp_path / "b", [word_encoder, word_encoder], BACKGROUND)
    assert same_files(tmp_path / "a", tmp_path / "b")


def test_a_build_that_was_cut_goes_on_where_it_stopped(own_works, word_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("attribution.building.CHUNK", 8)
    build(own_works, tmp_path / "whole", [word_encoder], BACKGROUND)
    total, word_encoder.encoded = word_encoder.encoded, 0

    def stop(done, of):
        if done >= 24:
            raise Interrupted

    with pytest.raises(Interrupted):
        build(own_works, tmp_path / "cut", [word_encoder], BACKGROUND, progress=stop)
    assert not (tmp_path / "cut" / "manifest.json").exists()
    word_encoder.encoded = 0
    build(own_works, tmp_path / "cut", [word_encoder], BACKGROUND)
    assert word_encoder.encoded == total - 24
    assert same_files(tmp_path / "whole", tmp_path / "cut")


def test_vectors_of_unchanged_texts_come_from_the_previous_index(own_works, word_encoder, tmp_path):
    build(own_works, tmp_path / "old", [word_encoder], BACKGROUND)
    word_encoder.encoded = 0
    seen: list[tuple[int, int]] = []
    more = [*own_works[2:], SourceWork("new", "One new sentence about nothing. And a second one.", 99)]
    build(
        more,
        tmp_path / "new",
        [word_encoder],
        BACKGROUND,
        previous=tmp_path / "old",
        progress=lambda *at: seen.append(at),
    )
    assert word_encoder.encoded == 2
    assert seen[-1][0] == seen[-1][1]
    build(more, tmp_path / "fresh", [word_encoder], BACKGROUND)
    assert same_files(tmp_path / "new", tmp_path / "fresh")


def test_vectors_of_an_older_format_are_still_good(own_works, word_encoder, tmp_path):
    build(own_works, tmp_path / "old", [word_encoder], BACKGROUND)
    path = tmp_path / "old" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    word_encoder.encoded = 0
    build(own_works, tmp_path / "new", [word_encoder], BACKGROUND, previous=tmp_path / "old")
    assert word_encoder.encoded == 0
    assert same_files(tmp_path / "new", tmp_path / "old")


def test_sentences_cut_by_other_rules_are_encoded_anew(own_works, word_encoder, tmp_path):
    build(own_works[:3], tmp_path / "old", [word_encoder], BACKGROUND)
    listed = tmp_path / "old" / "works.jsonl"
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    rows[0]["cut"] = "by the rules of last year"
    listed.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    whole, word_encoder.encoded = word_encoder.encoded, 0
    build(own_works[:3], tmp_path / "new", [word_encoder], BACKGROUND, previous=tmp_path / "old")
    assert 0 < word_encoder.encoded < whole


def test_a_previous_index_that_cannot_be_read_is_slower_and_not_wrong(own_works, word_encoder, tmp_path):
    build(own_works[:2], tmp_path / "a", [word_encoder], BACKGROUND, previous=tmp_path / "nowhere")
    assert Manifest.read(tmp_path / "a").works == 2


def test_a_finished_index_is_never_written_over(own_works, word_encoder, tmp_path):
    build(own_works[:1], tmp_path / "a", [word_encoder], BACKGROUND)
    with pytest.raises(FileExistsError, match="another directory"):
        build(own_works[:1], tmp_path / "a", [word_encoder], BACKGROUND)


def test_two_works_of_one_id_are_refused(word_encoder, tmp_path):
    with pytest.raises(ValueError, match="same id"):
        build([SourceWork("a", "x"), SourceWork("a", "y")], tmp_path / "a", [word_encoder], BACKGROUND)


@pytest.mark.parametrize("texts", [[], [""], ["  \n"], ["one"], ["..."], ["東京は大きい。", "x"]])
def test_works_with_hardly_any_text_are_no_trouble(texts, word_encoder, tmp_path):
    works = [SourceWork(str(number), text) for number, text in enumerate(texts)]
    build(works, tmp_path / "a", [word_encoder], BACKGROUND)
    index = Index(tmp_path / "a", BACKGROUND, model_sha256="words")
    assert index.work_ids == [work.work_id for work in works]


def test_a_later_copy_is_kept_out_of_the_word_index(own_works, word_encoder, tmp_path):
    build(own_works, tmp_path / "a", [word_encoder], BACKGROUND)
    index = Index(tmp_path / "a", BACKGROUND, model_sha256="words")
    copy = index.work_ids.index("lighthouse-copy")
    copied = range(int(index.work_passage[copy]), int(index.work_passage[copy + 1]))
    assert not set(copied) & set(np.unique(index.posting_passage).tolist())

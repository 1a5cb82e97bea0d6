from __future__ import annotations

import shutil

import numpy as np
import pytest

from attribution.background import Background
from attribution.encoder import Encoder
from attribution.errors import IndexCorrupt, IndexMissing, ModelMismatch
from attribution.index import FORMAT, Index, Manifest, verify_index
from attribution.normalise import words


@pytest.fixture
def index(own_index) -> Index:
    manifest = Manifest.read(own_index)
    return Index(own_index, Background.open(), model_sha256=manifest.model_sha256)


@pytest.fixture
def copy(own_index, tmp_path):
    return shutil.copytree(own_index, tmp_path / "index")


def test_a_whole_index_verifies(own_index, own_works):
    assert verify_index(own_index).works == len(own_works)


def test_no_index_says_how_to_build_one(tmp_path):
    with pytest.raises(IndexMissing, match="endcredits index build"):
        verify_index(tmp_path)


def test_one_changed_byte_is_found(copy):
    path = copy / "vectors.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexCorrupt, match=r"vectors\.npy.*endcredits index build"):
        verify_index(copy)


@pytest.mark.parametrize("name", ["gram_hash.npy", "works.jsonl", "scales.npy"])
def test_a_cut_or_missing_file_is_found_on_opening(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(IndexCorrupt, match="bytes"):
        Index(copy, Background.open(), model_sha256=Manifest.read(copy).model_sha256)
    (copy / name).unlink()
    with pytest.raises(IndexCorrupt, match="missing"):
        Index(copy, Background.open(), model_sha256=Manifest.read(copy).model_sha256)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "\0"])
def test_a_damaged_manifest_is_a_corrupt_index(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(IndexCorrupt):
        Manifest.read(copy)


def test_an_index_of_another_format_or_model_is_refused(copy):
    with pytest.raises(ModelMismatch, match="endcredits index build"):
        Index(copy, Background.open(), model_sha256="another")
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', '"format": 1'))
    with pytest.raises(IndexCorrupt, match=r"format 1, this version reads 2; .*endcredits index build"):
        Manifest.read(copy)
    assert Manifest.read(copy, any_format=True).format == 1


def test_words_are_known_by_their_hash_and_unknown_ones_are_each_their_own(index):
    ids, idf = index.word_ids(words("the bee qqzzx bee zzqqy qqzzx").hashes)
    assert ids[1] == ids[3] >= 0
    assert ids[2] == ids[5] < 0
    assert ids[4] not in {ids[2], -1 + ids[1]}
    assert idf[0] < idf[1] < idf[2]


def test_fingerprints_lead_to_the_places_that_hold_them(index, own_works):
    from attribution.lexical import grams

    positions, places = index.holders(grams(words("nests in hollow reeds and closes").hashes))
    assert positions.tolist() == [0, 1]
    assert {index.work_ids[work] for work in index.work_at(places)} == {"bees"}
    assert len(set(index.sentence_at(places).tolist())) == 1


def terms_of(index, text):
    ids, idf = index.word_ids(words(text).hashes)
    terms, first = np.unique(ids, return_index=True)
    return terms[np.argsort(-idf[first], kind="stable")][: int((terms >= 0).sum())]


def test_the_best_passage_is_the_one_about_it(index):
    terms = terms_of(index, "dampers hidden beneath the handrails of the footbridge")
    ((passages, sums),) = index.best_passages([terms], 3)
    assert index.work_ids[index.passage_work[passages[0]]] == "bridge"
    assert (np.diff(sums) <= 0).all()
    known = np.sort(terms)
    assert np.array_equal(index.passage_sums(known, np.ones((1, len(known)), np.float32), passages)[0], sums)


def test_a_query_finds_the_same_whatever_is_asked_beside_it(index, own_outputs):
    queries = [terms_of(index, output["text"])[:20] for output in own_outputs]
    queries = [terms[terms >= 0] for terms in queries]
    together = index.best_passages(queries, 5)
    for terms, (passages, sums) in zip(queries, together, strict=True):
        ((alone, own),) = index.best_passages([terms], 5)
        assert np.array_equal(alone, passages)
        assert np.array_equal(own, sums)


def test_a_query_adds_a_bounded_number_of_postings(index, monkeypatch):
    terms = terms_of(index, "the dampers of the footbridge and the handrails")
    whole = index.shortlist(terms)
    monkeypatch.setattr("attribution.index.POSTINGS_MAX", 2)
    few = index.shortlist(terms)
    assert 1 <= len(few) <= 2
    assert set(few.tolist()) <= set(whole.tolist())
    assert not index._sums.any()


def test_no_word_leads_to_a_later_copy(index):
    work = index.work_ids.index("lighthouse-copy")
    passages = np.arange(index.work_passage[work], index.work_passage[work + 1])
    assert not index.passage_listed[passages].any()
    first = index.work_ids.index("lighthouse")
    assert index.passage_listed[index.work_passage[first] : index.work_passage[first + 1]].all()


def test_an_index_is_opened_by_the_encoder_that_made_it(own_index):
    assert Manifest.read(own_index).model_sha256 == Encoder.open().model_sha256


def test_works_are_found_by_their_ids_in_order_and_strangers_left_out(index):
    last, first = index.work_ids[-1], index.work_ids[0]
    assert index.numbers_of([last, "nobody", first]) == [0, len(index.work_ids) - 1]
    assert index.numbers_of([]) == []

from __future__ import annotations

import shutil

import numpy as np
import pytest

from attribution.background import Background
from attribution.encoder import Encoder
from attribution.errors import IndexCorrupt, IndexMissing, ModelMismatch
from attribution.index import Index, Manifest, verify_index
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
    path.write_text(path.read_text().replace('"format": 1', '"format": 999'))
    with pytest.raises(IndexCorrupt, match="format 999"):
        Manifest.read(copy)


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


def test_the_best_passage_is_the_one_about_it(index):
    ids, idf = index.word_ids(words("dampers hidden beneath the handrails of the footbridge").hashes)
    terms, first = np.unique(ids, return_index=True)
    passages, sums = index.best_passages(terms, idf[first], 3)
    assert index.work_ids[index.passage_work[passages[0]]] == "bridge"
    assert (np.diff(sums) <= 0).all()
    assert np.allclose(index.passage_sums(terms, passages), sums, rtol=1e-2)


def test_an_index_is_opened_by_the_encoder_that_made_it(own_index):
    assert Manifest.read(own_index).model_sha256 == Encoder.open().model_sha256

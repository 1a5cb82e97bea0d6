from __future__ import annotations

import pickle

from attribution.errors import AttributionError, IndexCorrupt, IndexMissing, ModelMismatch, ModelMissing


def test_an_error_reads_as_cause_and_remedy():
    error = IndexCorrupt("index/7/vectors.npy: sha256 differs", remedy="run `endcredits index build`")
    assert str(error) == "index/7/vectors.npy: sha256 differs; run `endcredits index build`"
    assert (error.cause, error.remedy) == (
        "index/7/vectors.npy: sha256 differs",
        "run `endcredits index build`",
    )


def test_an_error_without_a_remedy_reads_as_its_cause():
    assert str(ModelMissing("no model")) == "no model"


def test_every_kind_is_an_attribution_error_and_survives_a_process_border():
    for kind in (ModelMissing, ModelMismatch, IndexMissing, IndexCorrupt):
        error = pickle.loads(pickle.dumps(kind("cause", "remedy")))  # noqa: S301  # our own bytes
        assert isinstance(error, AttributionError)
        assert (error.cause, error.remedy) == ("cause", "remedy")

"""Everything about the export that needs no extra package; the full export is marked `train`."""

from __future__ import annotations

import hashlib
import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from attribution.encoder import MODEL_DIR, Encoder

SENTENCES = [
    "The lift inspector counted every stop twice.",
    "Rice keeps warm for three hours under two blankets.",
    "In 1961 the cable ship left Porthcurno with 400 miles of wire on board.",
    "Nobody had asked the moth whether it wanted to be vended.",
    "Take the umbrella by its crook, never by the ribs.",
    "Snow.",
    "A deposit of twelve pounds is kept until the bicycle comes back with both wheels.",
    "“You can't record ice,” she said, “only the people who wait for it.”",
    "def settle(answer): return sum(share.ppm for share in answer.shares)",
    "Die Gezeiten stehen in der Tabelle auf Seite neun.",
    "What would the tenant above do with a second piano?",
    "Low water at Leith is at 04:12 and again at 16:40, British summer time.",
    "The recipe calls for dried apricots, but fresh ones work if you halve the water and double the patience.",
    "It was, all things considered, an ordinary Tuesday for the ministry of smells.",
    "Lichens on the lamp post: three species, one of them new to the street, none of them in a hurry.",
    "Please return lost gloves in pairs.",
]


@pytest.mark.train
def test_the_export_gives_the_shipped_bytes_each_time(tmp_path: Path):
    from attribution.training import export_encoder

    weights, tokenizer = export_encoder.published_files()
    first = export_encoder.export(tmp_path / "first", weights, tokenizer)
    second = export_encoder.export(tmp_path / "second", weights, tokenizer)
    assert first == second
    for name in (*first, "manifest.json"):
        assert (tmp_path / "first" / name).read_bytes() == (MODEL_DIR / name).read_bytes()


@pytest.mark.train
def test_int8_vectors_point_where_the_float32_graph_does(tmp_path: Path):
    import safetensors.numpy

    from attribution.training import export_encoder

    weights, tokenizer = export_encoder.published_files()
    export_encoder.export(tmp_path, weights, tokenizer)
    whole = export_encoder.build(safetensors.numpy.load(weights), quantized=False).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(whole)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["sha256"]["model.onnx"] = hashlib.sha256(whole).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    exact, shipped = Encoder.open(tmp_path).encode(SENTENCES), Encoder.open().encode(SENTENCES)
    cosines = (exact * shipped).sum(axis=1)
    shift = np.abs(exact @ exact.T - shipped @ shipped.T).max()
    print(  # the figures that the card gives
        f"cosine to float32: mean {statistics.fmean(cosines):.4f}, min {cosines.min():.4f}, pair {shift:.4f}"
    )
    assert cosines.mean() > 0.993
    assert cosines.min() > 0.985
    assert shift < 0.05


@pytest.mark.train
def test_other_weights_are_refused(tmp_path: Path):
    from attribution.training import export_encoder

    with pytest.raises(SystemExit, match="sha256"):
        export_encoder.export(tmp_path, b"not the weights", b"{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.train
def test_a_quantized_matrix_is_within_half_a_step_of_the_real_one():
    from attribution.training.export_encoder import quantize_columns, quantize_rows

    matrix = np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32)
    matrix[:, 3] = 0
    for quantize, levels_max in ((quantize_columns, 63), (quantize_rows, 127)):
        levels, scale = quantize(matrix)
        assert levels.dtype == np.int8
        assert np.abs(levels.astype(int)).max() == levels_max
        assert (np.abs(levels * scale - matrix) <= scale / 2 + 1e-6).all()


def test_the_manifest_names_the_published_files_it_was_made_from():
    made_from = json.loads((MODEL_DIR / "manifest.json").read_text())["made_from"]
    assert made_from == {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    }


def test_the_shipped_graph_keeps_activations_unsigned_and_was_made_here():
    # Read as bytes, because the default environment has no onnx: the operators' names stand in the file as text.
    graph = (MODEL_DIR / "model.onnx").read_bytes()
    assert b"MatMulInteger" in graph
    assert b"QuantizeLinear" in graph
    assert b"DynamicQuantizeLinear" not in graph
    assert b"endcredits" in graph[:64]

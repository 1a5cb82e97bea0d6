from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.encoder import DIM, MODEL_DIR, PIECES_MAX, Encoder
from attribution.errors import ModelMismatch, ModelMissing

# (a sentence, the same said otherwise, something else about the same kind of thing)
RESTATED = [
    (
        "The ferry was late because of fog in the harbour.",
        "Fog in the port delayed the boat.",
        "The ferry has a small café on the upper deck.",
    ),
    (
        "She learned to mend umbrellas from her grandfather.",
        "Her granddad taught her how to repair umbrellas.",
        "She bought two umbrellas at the station.",
    ),
    (
        "Bread rises more slowly in a cold kitchen.",
        "In a chilly room dough takes longer to rise.",
        "Bread should be kept in a linen bag.",
    ),
    (
        "The council voted to close the swimming pool.",
        "The town's representatives decided to shut the public baths.",
        "The council meets on the first Monday of the month.",
    ),
    (
        "Only four of the forty lamps still work.",
        "Thirty-six out of forty lights are broken.",
        "The lamps were designed by an engineer from Turin.",
    ),
    (
        "Bees do not fly when it rains.",
        "During rain, bees stay in the hive.",
        "Bees were kept on the roof of the opera.",
    ),
    (
        "He sold the piano to pay the rent.",
        "To cover his rent he parted with the piano.",
        "The piano had not been tuned for years.",
    ),
    (
        "The glacier has lost a third of its length since 1950.",
        "Since 1950 the ice tongue became shorter by about 33 percent.",
        "The glacier can be reached on foot in summer.",
    ),
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.open()


def test_rows_are_unit_vectors_in_the_order_given(encoder: Encoder):
    texts = ["One.", "A much longer sentence about a lighthouse and its keeper, at dusk.", "Two."]
    rows = encoder.encode(texts)
    assert rows.shape == (3, DIM)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    for text, row in zip(texts, rows, strict=True):
        assert encoder.encode([text])[0] == pytest.approx(row, abs=1e-6)


def test_no_texts_give_no_rows(encoder: Encoder):
    assert encoder.encode([]).shape == (0, DIM)


WORDS = ["the", "a", "fog", "harbour", "mends", "quietly", "umbrella", "of", "1950", "glacier"]
sentences = st.lists(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=25, deadline=None)
@given(sentences)
def test_a_text_has_the_same_vector_in_any_batch_as_alone(encoder: Encoder, texts: list[str]):
    together = encoder.encode(texts)
    for text, row in zip(texts, together, strict=True):
        assert np.abs(encoder.encode([text])[0] - row).max() <= 1e-6


def test_a_restated_sentence_is_nearer_than_another_about_the_same_thing(encoder: Encoder):
    for sentence, restated, other in RESTATED:
        of_sentence, of_restated, of_other = encoder.encode([sentence, restated, other])
        assert of_sentence @ of_restated > of_sentence @ of_other, sentence


def test_a_text_longer_than_the_window_is_cut_there(encoder: Encoder):
    words = ["harbour"] * 600
    whole, cut = encoder.encode([" ".join(words), " ".join(words[: PIECES_MAX - 2])])
    assert whole == pytest.approx(cut, abs=1e-6)


def test_tokens_are_counted_without_marks_and_without_a_cut(encoder: Encoder):
    assert encoder.count_tokens("") == 0
    assert encoder.count_tokens("the harbour") == 2
    assert encoder.count_tokens("the harbour " * 500) == 1000


def test_half_a_surrogate_pair_is_encoded_as_a_replacement(encoder: Encoder):
    assert encoder.encode(["fog \ud83d"])[0] == pytest.approx(encoder.encode(["fog ?"])[0], abs=1e-6)
    assert encoder.count_tokens("fog \ud83d") == 2


def test_the_shipped_files_are_what_their_manifest_says(encoder: Encoder):
    manifest = json.loads((MODEL_DIR / "manifest.json").read_text())
    assert set(manifest["sha256"]) == {"model.onnx", "tokenizer.json"}
    for name, sha256 in manifest["sha256"].items():
        assert hashlib.sha256((MODEL_DIR / name).read_bytes()).hexdigest() == sha256
    assert encoder.model_sha256 == manifest["sha256"]["model.onnx"]
    assert (manifest["dim"], manifest["pieces_max"]) == (DIM, PIECES_MAX)


def test_the_shipped_tokenizer_neither_pads_nor_cuts():
    tokenizer = json.loads((MODEL_DIR / "tokenizer.json").read_text())
    assert tokenizer["padding"] is None
    assert tokenizer["truncation"] is None


def test_the_card_names_the_files_it_speaks_of():
    card = (MODEL_DIR / "CARD.md").read_text()
    for sha256 in json.loads((MODEL_DIR / "manifest.json").read_text())["sha256"].values():
        assert sha256 in card


def folder_with(tmp_path: Path, **files: str) -> Path:
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    return tmp_path


def test_a_missing_model_says_what_is_missing(tmp_path: Path):
    with pytest.raises(ModelMissing, match=r"manifest\.json"):
        Encoder.open(tmp_path)
    folder_with(tmp_path, manifest_json='{"sha256": {"model.onnx": "00"}}')
    with pytest.raises(ModelMissing, match=r"model\.onnx"):
        Encoder.open(tmp_path)


@pytest.mark.parametrize(
    "manifest", ["{", "[]", "{}", '{"sha256": []}', '{"sha256": {"tokenizer.json": "00"}}']
)
def test_a_model_that_its_manifest_does_not_vouch_for_is_refused(tmp_path: Path, manifest: str):
    folder_with(tmp_path, manifest_json=manifest, model_onnx="not this one")
    with pytest.raises(ModelMismatch):
        Encoder.open(tmp_path)


def test_importing_the_encoder_does_not_import_the_runtime():
    check = "import sys, attribution.encoder; assert not {'onnxruntime', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(__file__).parents[2])

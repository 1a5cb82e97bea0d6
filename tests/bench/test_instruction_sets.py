"""How far apart the shares of one answer are on processors with other instruction sets.

onnxruntime and numpy choose their kernels by what the processor says it can, and offer no way to choose
otherwise (numpy does). So a copy of the runtime is altered in one place: where it asks the system which registers
are kept (xgetbv), the copy is told "none beyond AVX", or "none beyond SSE", and takes the kernels of such a
processor. The three runs read one index, as the servers of one place do.

Texts: the tests' own, or those of a labelled set: BENCH=FOLDER BENCH_INDEX=ITS_INDEX.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from attribution import SourceWork, build_index

CORPUS = Path(__file__).parents[1] / "attribution" / "corpus"
ASKS = b"\x31\xc9\x0f\x01\xd0"  # xor ecx, ecx; xgetbv
TOLD = {"avx2": b"\x31\xc9\x6a\x07\x58", "sse": b"\x31\xc9\x6a\x00\x58"}  # push 7 (or 0); pop rax
CHILD = """
import json, sys
from pathlib import Path
import onnxruntime
from attribution import Attributor
attributor = Attributor.open(Path(sys.argv[1]))
for line in sys.stdin:
    found = attributor.attribute(json.loads(line))
    print(json.dumps([onnxruntime.__file__, {share.work_id: share.ppm for share in found.shares}]), flush=True)
"""


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_text(encoding="utf-8").splitlines()]


def shares(index: Path, texts: list[str], runtime: Path | None, disabled: list[str]) -> list[dict[str, int]]:
    env = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(disabled)}
    if runtime:
        env["PYTHONPATH"] = str(runtime)
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(index)],
        input="".join(f"{json.dumps(text)}\n" for text in texts),
        capture_output=True, text=True, check=True, env=env, timeout=1_800,
    )  # fmt: skip
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert all(runtime is None or path.startswith(str(runtime)) for path, _ in rows)
    return [found for _, found in rows]


@pytest.mark.bench
@pytest.mark.timeout(3_600)
def test_how_far_apart_shares_are_between_instruction_sets(own_index_and_texts, tmp_path):
    assert platform.machine() == "x86_64", "other processors have other kernels: run it on both and compare"
    index, texts = own_index_and_texts
    package = Path(onnxruntime.__file__).parent
    features: list[str] = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # type: ignore[index, call-overload]
    here = shares(index, texts, None, [])
    print(
        f"\n{platform.processor() or platform.machine()}, numpy with {' '.join(features)}, {len(texts)} texts"
    )
    apart: dict[str, list[int]] = {}
    for name, told in TOLD.items():
        copy = tmp_path / name
        shutil.copytree(package, copy / "onnxruntime", ignore=shutil.ignore_patterns("libonnxruntime.so*"))
        (library,) = (copy / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so")
        code = library.read_bytes()
        assert ASKS in code, "this build of the runtime asks in another way"
        library.write_bytes(code.replace(ASKS, told))
        off = features if name == "sse" else [one for one in features if "V4" in one or "AVX512" in one]
        there = shares(index, texts, copy, off)
        apart[name] = sorted(
            max([abs(a.get(work, 0) - b.get(work, 0)) for work in a | b], default=0)
            for a, b in zip(here, there, strict=True)
        )
        many = sum(ppm > 5_000 for ppm in apart[name])
        same = sum(ppm == 0 for ppm in apart[name])
        print(f"{name:5} {same} the same, {many} more than 5,000 ppm apart, the most {apart[name][-1]} ppm")
    assert apart["avx2"][-1] <= 5_000


@pytest.fixture(scope="module")
def own_index_and_texts(tmp_path_factory) -> tuple[Path, list[str]]:
    if bench := os.environ.get("BENCH"):
        with gzip.open(Path(bench) / "dev" / "outputs.jsonl.gz", "rt") as file:
            return Path(os.environ["BENCH_INDEX"]), [json.loads(line)["text"] for line in file]
    index = tmp_path_factory.mktemp("sets") / "index"
    works = [SourceWork(row["work_id"], row["text"], row["registered_us"]) for row in lines("works.jsonl")]
    works += [SourceWork(row["language"], row["text"], 9) for row in lines("languages.jsonl")]
    build_index(works, index, threads=1)
    texts = [row["text"] for name in ("outputs.jsonl", "languages.jsonl") for row in lines(name)]
    return index, [*texts, *(f"{one} {other}" for one, other in zip(texts, texts[5:], strict=False))]

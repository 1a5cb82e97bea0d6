from __future__ import annotations

import doctest
import subprocess
import sys

import attribution


def test_the_example_of_the_package_runs():
    assert doctest.testmod(attribution) == doctest.TestResults(failed=0, attempted=8)


def test_importing_the_package_loads_no_model_runtime():
    code = "import attribution, sys; print([name for name in ('onnxruntime', 'tokenizers', 'onnx', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The wheel carries everything: it is built from the sdist, so what either leaves out is missing here."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from tests.repository import ROOT, tracked


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    into = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [str(ROOT / ".ci" / "wheel"), sys.executable, str(into)], check=True, capture_output=True, timeout=100
    )
    (wheel,) = into.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_tracked_file_of_both_packages_is_in_the_wheel(wheel_names):
    ours = {
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.relative_to(ROOT).parts[0] in {"attribution", "proxy"}
    }
    assert ours - wheel_names == set()


@pytest.mark.parametrize(
    "what",
    [
        "attribution/models/*.onnx",
        "attribution/models/*/tokenizer.json",
        "proxy/migrations/script.py.mako",
        "proxy/migrations/versions/0001_registry.py",
        "proxy/defaults/endcredits.toml",
        "proxy/demo/*",
        "attribution/py.typed",
        "proxy/py.typed",
        "*.dist-info/entry_points.txt",
        "*.dist-info/licenses/LICENSE",
    ],
)
def test_the_wheel_can_run_the_demo_alone(wheel_names, what):
    from fnmatch import fnmatch

    assert any(fnmatch(name, what) for name in wheel_names), what


def test_the_wheel_installs_two_packages_and_nothing_else(wheel_names):
    assert {name.split("/")[0].split("-")[0] for name in wheel_names} == {
        "attribution",
        "proxy",
        "endcredits",
    }

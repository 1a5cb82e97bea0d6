"""config/endcredits.toml is the operator's page on settings: every key, its default, its unit, and it is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from proxy.settings import Backend, Settings, load_settings
from tests.repository import ROOT

FILE = ROOT / "config" / "endcredits.toml"
UNIT_WORDS = {
    "_bytes": "bytes",
    "_bytes_max": "bytes",
    "_ms": "milliseconds",
    "_bytes_per_s": "bytes a second",
    "_s": "seconds",
    "_hours_max": "hours",
    "_ppm": "parts per million",
    "_events": "records",
}


def key_lines() -> list[str]:
    return [line for line in FILE.read_text(encoding="utf-8").splitlines() if re.match(r"[a-z_]+ = ", line)]


def test_the_file_says_what_the_code_does_without_it():
    assert load_settings(FILE, data_dir=Path("var")) == Settings()


def test_every_setting_is_written_out():
    written = tomllib.loads(FILE.read_text(encoding="utf-8"))
    expected = msgspec.to_builtins(Settings(), enc_hook=str)
    del expected["data_dir"]
    assert {name: set(table) for name, table in written.items() if name != "backends"} == {
        name: set(table) for name, table in expected.items() if name != "backends"
    }
    assert set(written["backends"][0]) == set(Backend.__struct_fields__)


@pytest.mark.parametrize("line", key_lines(), ids=lambda line: line.split()[0])
def test_every_setting_says_what_it_is_and_in_which_unit(line):
    key, _, comment = line.partition("#")
    assert len(comment.split()) >= 3, "a comment says what the key does"
    for ending, word in UNIT_WORDS.items():
        if key.split()[0].endswith(ending):
            assert word in comment
            break


def test_the_copy_that_travels_in_the_wheel_is_the_same_file():
    assert (ROOT / "proxy" / "defaults" / "endcredits.toml").read_bytes() == FILE.read_bytes()


@pytest.mark.parametrize("path", sorted((ROOT / "docker").glob("*.toml")), ids=lambda path: path.name)
def test_the_containers_settings_are_understood(path):
    load_settings(path)

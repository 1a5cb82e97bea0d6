"""A module says why it exists, is small enough to read, and has its test beside it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.repository import ROOT, modules, parsed, shown, texts

LINES_MAX = 500
# Whoever checks what was signed saves one file and needs no other of ours.
MORE_LINES = {"proxy/receipts/verify.py": 850}
WORDS_MIN = 8  # fewer only repeat the file's name
# Package markers, entry points and schema history: the house's own tests and every store test run them.
WITHOUT_A_TEST_FILE = re.compile(
    r"(__init__|__main__|migrations/(env|versions/\w+)|attribution/training/\w+)\.py$"
)


@pytest.mark.parametrize("path", modules(), ids=shown)
def test_a_module_says_why_it_exists(path):
    says = ast.get_docstring(parsed(path)) or ""
    assert len(says.split()) >= WORDS_MIN, f"{shown(path)} begins: {says!r}"


@pytest.mark.parametrize("path", modules(), ids=shown)
def test_a_module_is_short_enough_to_read(path):
    lines_max = MORE_LINES.get(path.relative_to(ROOT).as_posix(), LINES_MAX)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= lines_max


@pytest.mark.parametrize(
    "path", [p for p in modules() if not WITHOUT_A_TEST_FILE.search(shown(p))], ids=shown
)
def test_a_module_has_its_test_file(path):
    place = path.relative_to(ROOT)
    mirror = ROOT / "tests" / place.parent / f"test_{place.name}"
    assert mirror.is_file(), f"{place} has no {mirror.relative_to(ROOT)}"


def test_tests_are_no_packages():
    assert [shown(path) for path in modules("tests") if path.name == "__init__.py"] == []


# Joined here, so that this file does not hold what it looks for.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
ELSEWHERE = re.compile("/wo" + "rk/(main|shared|plan)|" + r"\b(issue|ticket|PR)\s+#\d+", re.IGNORECASE)


@pytest.mark.parametrize("path", [p for p in texts() if p.name != "LICENSE"], ids=shown)
def test_no_file_is_left_unfinished_or_speaks_of_how_it_was_made(path):
    found = [
        f"{number}: {line.strip()[:100]}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line) or ELSEWHERE.search(line)
    ]
    assert found == []

"""docs/privacy.md names every table and every file, and each table says whether it is about creators."""

from __future__ import annotations

import re

import pytest

from proxy.billing.held_store import OF, OF_NOBODY
from tests.house.test_schema import metadata
from tests.repository import ROOT

PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
TABLES = sorted(set(metadata().tables))


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_named_with_what_it_holds_of_a_person(table):
    assert f"`{table}`" in section(PAGE, "Tables")


def test_every_table_says_whether_it_is_about_creators():
    assert set(TABLES) - (set(OF) | OF_NOBODY) == set()
    assert set(OF) & OF_NOBODY == set()


def test_every_file_of_the_data_folder_is_named():
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = [line for line in section(operations, "The data folder").splitlines() if line.startswith("| `")]
    files = {name.split("/")[0] for line in rows for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
    files -= {"current", "-wal", "-shm"}
    assert len(files) >= 10
    named = {name.split("/")[0] for name in re.findall(r"`([^`]+)`", section(PAGE, "Files"))}
    assert files - named == set()

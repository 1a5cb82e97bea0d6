"""The sample catalogue's own rules: it is shipped, shown to everybody, and paid out in the demo."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from typing import Any

import pytest

from proxy.demo.answers import CATALOGUE_DIR

FORMS = {
    "short story": {
        "the-lodger-in-the-jar",
        "understudy-for-the-moon",
        "counterfeit-snow",
        "the-smell-cartographer",
    },
    "article": {"the-airport-keeps-bees", "chess-in-the-laundry"},
    "poem": {"low-water", "closing-inventory-of-a-hat-shop", "piano-on-the-stairs"},
    "song lyric": {"paper-umbrella-weather", "the-night-bus-has-my-number"},
    "screenplay scene": {"the-lift-inspector", "two-clockmakers"},
    "recipe": {"rice-for-a-power-cut", "apricot-broth"},
    "essay": {
        "tide-tables-for-the-undecided",
        "recording-ice",
        "on-repairing-umbrellas",
        "the-standing-queue",
    },
    "documentation": {"operating-a-starter", "lamp-rotation-service"},
    "transcript": {"the-cable-ship", "lost-property-counter"},
    "letter": {"letter-about-the-roof-hives", "to-the-tenant-above", "to-the-next-owner-of-this-bicycle"},
    "field guide entry": {"lamp-post-lichen", "the-vending-machine-moth"},
}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CATALOGUE_DIR / name).read_text(encoding="utf-8").splitlines()]


WORKS = rows("catalogue.jsonl")
CREATORS = {row["ref"]: row for row in rows("creators.jsonl")}


def text_of(work: dict[str, Any]) -> str:
    return (CATALOGUE_DIR / work["path"]).read_text(encoding="utf-8")


def test_there_are_at_least_26_works_by_11_creators_in_8_forms() -> None:
    assert len(WORKS) >= 26
    assert len({work["creator_id"] for work in WORKS}) >= 11
    assert len(FORMS) >= 8
    assert sorted(ref for refs in FORMS.values() for ref in refs) == sorted(work["work_id"] for work in WORKS)


def test_every_row_has_the_fields_that_works_add_reads() -> None:
    fields = {
        "work_id",
        "creator_id",
        "title",
        "path",
        "registered_at",
        "url",
        "licence",
        "consent",
        "splits",
    }
    for work in WORKS:
        assert set(work) == fields, work["work_id"]
        assert all(work.values()), work["work_id"]


def test_ids_titles_and_urls_are_each_used_once() -> None:
    for field in ("work_id", "title", "path", "url"):
        counts = Counter(work[field] for work in WORKS)
        assert max(counts.values()) == 1, field
    assert len(CREATORS) == len(rows("creators.jsonl"))


def test_every_creator_named_anywhere_is_registered_and_has_a_country() -> None:
    parties = {split["creator_id"] for work in WORKS for split in work["splits"]} - {"~unclaimed"}
    assert parties | {work["creator_id"] for work in WORKS} == set(CREATORS)
    assert all(re.fullmatch("[A-Z]{2}", row["country"]) for row in CREATORS.values())


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work["work_id"])
def test_splits_sum_to_the_whole_and_name_each_party_once(work: dict[str, Any]) -> None:
    splits = work["splits"]
    assert sum(split["ppm"] for split in splits) == 1_000_000
    assert all(split["ppm"] > 0 and split["role"] for split in splits)
    assert len({split["creator_id"] for split in splits}) == len(splits)
    assert work["creator_id"] in {split["creator_id"] for split in splits}


def test_shares_consents_and_licences_differ_enough_to_show_the_rules() -> None:
    consents = Counter(work["consent"] for work in WORKS)
    assert consents["denied"] == 1
    assert consents["free"] == 2
    assert consents["paid"] == len(WORKS) - 3
    assert len({work["licence"] for work in WORKS}) >= 4
    assert any("Excerpts" in work["licence"] for work in WORKS)
    assert sum(len(work["splits"]) > 1 for work in WORKS) >= 5
    assert any(split["creator_id"] == "~unclaimed" for work in WORKS for split in work["splits"])


def test_registration_dates_are_days_that_have_passed_and_no_two_are_the_same() -> None:
    dates = [dt.date.fromisoformat(work["registered_at"]) for work in WORKS]
    assert len(set(dates)) == len(dates)
    assert max(dates) < dt.date(2026, 11, 1)
    assert len({date.year for date in dates}) >= 5


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work["work_id"])
def test_a_text_is_short_and_stays_inside_the_catalogue(work: dict[str, Any]) -> None:
    assert re.fullmatch(r"texts/[a-z0-9-]+\.(txt|md)", work["path"])
    assert 150 <= len(text_of(work).split()) <= 600


def test_every_file_of_texts_is_a_work() -> None:
    assert {f"texts/{path.name}" for path in (CATALOGUE_DIR / "texts").iterdir()} == {
        w["path"] for w in WORKS
    }


def test_no_two_texts_share_a_run_of_seven_words() -> None:
    owner: dict[tuple[str, ...], str] = {}
    for work in WORKS:
        words = re.findall(r"[^\W_]+", text_of(work).lower())
        for start in range(len(words) - 6):
            run = tuple(words[start : start + 7])
            assert owner.setdefault(run, work["work_id"]) == work["work_id"], run


def test_two_works_by_different_creators_share_a_subject() -> None:
    for subject in ("sourdough", "bees", "tide", "umbrella"):
        authors = {work["creator_id"] for work in WORKS if subject in text_of(work).lower()}
        assert len(authors) >= 2, subject


def test_the_texts_are_dedicated_to_the_public_domain() -> None:
    assert (CATALOGUE_DIR / "LICENSE").read_text().startswith("SPDX-License-Identifier: CC0-1.0")

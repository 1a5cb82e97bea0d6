from __future__ import annotations

import gzip
import json

import pytest

from tests.commands import Commands

POEM = (
    "Eleven copper bells hung in the harbour office, one for every boat that had come home late. "
    "On the night of the herring strike somebody rang all of them at once, and nobody would say who."
)
ESSAY = (
    "A sourdough starter is a small town with two industries, and the baker is its only customer. "
    "Feed it at noon and it works in the afternoon; feed it at midnight and it keeps you awake."
)


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path / "data")


@pytest.fixture
def catalogue(tmp_path):
    path = tmp_path / "works.jsonl.gz"
    rows = [
        {
            "work_id": "poem",
            "creator_id": "c1",
            "title": "Bells",
            "text": POEM,
            "registered_at": "2024-01-01",
        },
        {
            "work_id": "essay",
            "creator_id": "c2",
            "title": "Starter",
            "text": ESSAY,
            "registered_at": "2024-02-01",
        },
        {
            "work_id": "copy",
            "creator_id": "c3",
            "title": "Copied",
            "text": POEM,
            "registered_at": "2025-02-01",
        },
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def outputs(*texts: str) -> str:
    return "".join(json.dumps({"output_id": f"o{n}", "text": text}) + "\n" for n, text in enumerate(texts))


def test_texts_are_attributed_to_given_ids_and_shares_sum_to_one(ec, catalogue, tmp_path):
    out = tmp_path / "out.jsonl"
    source = tmp_path / "in.jsonl"
    source.write_text(outputs(POEM, ESSAY, "Please restart the router and try the printer again."))
    ran = ec("attribute", source, "--catalogue", catalogue, "--out", out)
    assert ran.status == 0, ran.err
    found = [json.loads(line) for line in out.read_text().splitlines()]
    tops = [row["credits"][0]["work_id"] if row["credits"] else None for row in found]
    assert tops == ["poem", "essay", None], "the earliest registrant is credited, not the copy"
    for row in found:
        assert row["unattributed_share"] + sum(credit["share"] for credit in row["credits"]) == pytest.approx(
            1
        )
    start, end = found[0]["evidence"][0]["output"]
    work_start, work_end = found[0]["evidence"][0]["work"]
    assert POEM[start:end] == POEM[work_start:work_end]


def test_standard_input_is_read_line_by_line_and_the_index_is_kept(ec, catalogue):
    first = ec("attribute", "--catalogue", catalogue, fed=outputs(POEM))
    kept = list((ec.data / "offline").iterdir())
    again = ec("attribute", "--catalogue", catalogue, fed=outputs(POEM))
    assert first.out == again.out
    assert list((ec.data / "offline").iterdir()) == kept


def test_an_index_kept_by_another_version_is_built_anew(ec, catalogue):
    first = ec("attribute", "--catalogue", catalogue, fed=outputs(POEM))
    (manifest,) = (ec.data / "offline").glob("*/manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 1}))
    again = ec("attribute", "--catalogue", catalogue, fed=outputs(POEM))
    assert again.out == first.out
    assert "building anew" in again.err


def test_without_a_catalogue_the_registered_works_are_held_against(ec, catalogue):
    assert ec("works", "add", catalogue).status == 0
    row = json.loads(ec("attribute", fed=outputs(POEM)).out)
    assert row["credits"][0]["work_id"] == "poem"


def test_with_nothing_registered_everything_is_unattributed_and_it_says_so(ec):
    ran = ec("attribute", fed=outputs(POEM))
    assert json.loads(ran.out)["unattributed_share"] == 1
    assert "no index yet" in ran.err


@pytest.mark.parametrize(
    ("fed", "said"),
    [("not json\n", ":1:"), ('{"output_id": "x"}\n', "text"), ('{"output_id": 3, "text": "t"}\n', ":1:")],
)
def test_a_bad_line_is_named(ec, catalogue, fed, said):
    ran = ec("attribute", "--catalogue", catalogue, fed=fed)
    assert ran.status == 1
    assert said in ran.err
    assert "remedy:" in ran.err


@pytest.mark.parametrize("context", [f"Read this: {POEM}", ["Be brief.", f"Read this: {POEM}"]])
def test_works_in_the_context_are_grounded_evidence(ec, catalogue, context):
    line = {"output_id": "o", "text": POEM, "context": context}
    answer = json.loads(ec("attribute", "--catalogue", catalogue, fed=json.dumps(line) + "\n").out)
    assert {piece["kind"] for piece in answer["evidence"]} == {"grounded"}
    assert {piece["work_id"] for piece in answer["evidence"]} == {"poem"}


@pytest.mark.parametrize("context", [None, "", [], "Something else entirely was asked about lighthouses."])
def test_a_context_without_registered_works_grounds_nothing(ec, catalogue, context):
    line = {"output_id": "o", "text": POEM, "context": context}
    answer = json.loads(ec("attribute", "--catalogue", catalogue, fed=json.dumps(line) + "\n").out)
    assert {piece["kind"] for piece in answer["evidence"]} == {"verbatim"}


@pytest.mark.parametrize("context", [3, True, {"text": "a"}, ["a", 3], [["a"]]])
def test_a_context_that_is_no_text_is_refused_with_what_it_may_be(ec, catalogue, context):
    line = {"output_id": "o", "text": POEM, "context": context}
    ran = ec("attribute", "--catalogue", catalogue, fed=json.dumps(line) + "\n")
    assert ran.status == 1
    assert ":1:" in ran.err
    assert '"context" may be a text or a list of texts' in " ".join(ran.err.split())


def test_compressed_texts_are_read_and_damaged_ones_refused(ec, catalogue, tmp_path):
    source = tmp_path / "in.jsonl.gz"
    source.write_bytes(gzip.compress(outputs(POEM).encode()))
    assert json.loads(ec("attribute", source, "--catalogue", catalogue).out)["credits"]
    source.write_bytes(source.read_bytes()[:-9])
    ran = ec("attribute", source, "--catalogue", catalogue)
    assert ran.status == 1
    assert "damaged" in ran.err


def test_a_catalogue_that_is_not_there_is_refused(ec, tmp_path):
    ran = ec("attribute", "--catalogue", tmp_path / "none.jsonl", fed="")
    assert ran.status == 1
    assert "none.jsonl" in ran.err

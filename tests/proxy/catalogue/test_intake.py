import csv
import gzip
import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalogue.intake import Defaults, commons_licence, read
from proxy.catalogue.works import COMMONS, UNCLAIMED, NewWork, Part, Refusal, Split
from proxy.errors import BadRequest, NotFound

DEFAULTS = Defaults(creator="ada", bytes_max=10_000)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def rows(path, defaults=DEFAULTS):
    return list(read(path, defaults))


def one(path, defaults=DEFAULTS):
    (row,) = rows(path, defaults)
    return row


def jsonl(*objects):
    return "".join(json.dumps(thing) + "\n" for thing in objects)


def test_a_file_is_a_work_of_the_creator_named_beside_it(write):
    path = write("sea.md", "# The Sea\nwaves")
    assert one(path) == NewWork("sea.md", "ada", "The Sea", "# The Sea\nwaves", str(path))


def test_what_is_said_beside_holds_for_every_file(write):
    work = one(write("sea.txt", "waves"), Defaults("ada", "CC0-1.0", "free"))
    assert (work.licence, work.consent) == ("CC0-1.0", "free")


def test_a_folder_is_read_in_order_each_bad_file_by_itself(write, tmp_path):
    write("works/b.txt", "b")
    write("works/a/c.html", "<p>c")
    write("works/.git/x.txt", "hidden")
    write("works/.hidden.txt", "hidden")
    write("works/photo.jpg", b"\xff\xd8")
    write("works/list.jsonl", "{}")
    write("works/empty.txt", "")
    (tmp_path / "works/link.txt").symlink_to("/etc/hostname")
    (tmp_path / "works/etc").symlink_to("/etc")
    found = rows(tmp_path / "works")
    assert [row.ref for row in found if isinstance(row, NewWork)] == ["b.txt", "a/c.html"]
    refused = {row.work_id: row for row in found if isinstance(row, Refusal)}
    assert set(refused) == {"photo.jpg", "list.jsonl", "empty.txt", "link.txt"}
    assert all(row.remedy and row.why and row.work_id in row.place for row in refused.values())


def test_files_need_a_creator_and_a_path_must_exist(write, tmp_path):
    with pytest.raises(BadRequest, match="whose"):
        read(write("a.txt", "a"), Defaults())
    with pytest.raises(NotFound):
        read(tmp_path / "none", DEFAULTS)


ROW = {
    "work_id": "sea",
    "creator_id": "bo",
    "creator_name": "Bo Lind",
    "title": "The Sea",
    "text": 'waves\r\nand "wind", 漢字',
    "registered_at": "2024-09-19",
    "url": "https://a.example/sea",
    "licence": "CC-BY-4.0",
    "consent": "free",
    "splits": [{"creator_id": "bo", "ppm": 600_000, "role": "author"}, {"ref": UNCLAIMED, "ppm": 400_000}],
}
WORK = {
    "ref": "sea",
    "creator": "bo",
    "creator_name": "Bo Lind",
    "title": "The Sea",
    "text": 'waves\nand "wind", 漢字',
    "registered_us": 1_726_704_000_000_000,
    "url": "https://a.example/sea",
    "licence": "CC-BY-4.0",
    "consent": "free",
    "split": Split((Part("bo", 600_000), Part(UNCLAIMED, 400_000))),
}


def as_csv(*objects, delimiter=","):
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(objects[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(objects)
    return out.getvalue()


CELLS = {**ROW, "splits": f"bo:600000;{UNCLAIMED}:400000:author"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.jsonl", jsonl(ROW)),
        ("w.jsonl.gz", jsonl(ROW)),
        ("W.JSONL", "\ufeff" + jsonl(ROW).rstrip()),
        ("w.csv", as_csv(CELLS)),
        ("w.csv.gz", as_csv(CELLS)),
        ("excel.csv", "\ufeff" + as_csv(CELLS, delimiter=";")),
        ("tabs.csv", as_csv(CELLS, delimiter="\t")),
        ("utf16.csv", as_csv(CELLS).encode("utf-16")),
        ("json-cell.csv", as_csv({**ROW, "splits": json.dumps(ROW["splits"])})),
        (
            "licence.jsonl",
            jsonl({**{k: v for k, v in ROW.items() if k != "licence"}, "license": "CC-BY-4.0"}),
        ),
    ],
)
def test_a_row_says_the_same_in_every_form(write, name, content):
    path = write(name, content)
    line = 2 if "csv" in name else 1
    assert one(path) == NewWork(place=f"{path}:{line}", **WORK)


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=1, max_size=40
)
works = st.fixed_dictionaries(
    {
        "work_id": texts.filter(lambda ref: ref.strip() == ref and ref.isprintable() and ref[0] != "~"),
        "creator_id": st.sampled_from(["ada", "c:d", "e;f"]),
        "title": st.sampled_from(["Sea", "=1+1", '"quoted"', "a,b;c\td"]),
        "text": texts.filter(str.strip),
        "consent": st.sampled_from(["", "paid", "free", "denied"]),
        "splits": st.lists(st.integers(1, 999_999), max_size=3, unique=True).map(
            lambda cuts: [
                {"creator_id": f"p:{n};", "ppm": high - low, "role": "editor"}
                for n, (low, high) in enumerate(
                    zip([0, *sorted(cuts)], [*sorted(cuts), 1_000_000], strict=True)
                )
            ]
        ),
    }
)


@given(st.lists(works, min_size=1, max_size=5))
def test_json_lines_and_csv_carry_the_same_works(tmp_path_factory, given_rows):
    folder = tmp_path_factory.mktemp("round")
    (folder / "w.jsonl").write_text(jsonl(*given_rows))
    cells = [{**row, "splits": json.dumps(row["splits"])} for row in given_rows]
    (folder / "w.csv").write_bytes(as_csv(*cells).encode())

    def read_back(name):
        return [{field: getattr(row, field) for field in WORK} for row in rows(folder / name)]

    assert read_back("w.jsonl") == read_back("w.csv")
    assert [row["text"] for row in read_back("w.csv")] == [row["text"] for row in given_rows]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"work_id": ""}, "id"),
        ({"work_id": None}, "id"),
        ({"work_id": ["x"]}, "no text"),
        ({"work_id": "~x"}, "id"),
        ({"text": ""}, "no text"),
        ({"text": 5}, "no text"),
        ({"text": "a\0b"}, "zero"),
        ({"text": "x" * 10_001}, "larger"),
        ({"path": "a.txt"}, "text and path"),
        ({"registered_at": "yesterday"}, "no date"),
        ({"registered_at": 20240919}, "no text"),
        ({"url": "javascript:alert(1)"}, "address"),
        ({"consent": "maybe"}, "consent"),
        ({"licence": "x" * 201}, "licence"),
        ({"splits": "everyone"}, "ppm"),
        ({"adapts": "everything"}, "original"),
        ({"splits": {"bo": 1}}, "no list"),
        ({"splits": ["bo"]}, "no object"),
        ({"splits": [{"creator_id": "bo", "ppm": "1000000"}]}, "ppm"),
        ({"splits": [{"creator_id": "bo", "ppm": True}]}, "ppm"),
        ({"splits": [{"creator_id": "bo", "ppm": 1e6}]}, "ppm"),
        ({"splits": [{"creator_id": "bo", "ppm": 999_999}]}, "sums to"),
        ({"splits": "bo:99999999999999999999"}, "ppm"),
        ({"splits": "[1"}, "no JSON"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_goes_in(write, changed, why):
    path = write(
        "w.jsonl", jsonl({**ROW, "work_id": "first"}, {**ROW, **changed}, {**ROW, "work_id": "last"})
    )
    first, refusal, last = rows(path)
    assert (first.ref, last.ref) == ("first", "last")
    assert refusal.place == f"{path}:2"
    assert why in refusal.why
    assert refusal.remedy


@pytest.mark.parametrize(
    "line", ["{", "[]", "null", '"x"', "\x00", '{"text": "\\ud800"}', "[" * 5000, "\xff"]
)
def test_a_line_that_is_no_object_is_named_and_the_rest_goes_in(write, line):
    path = write("w.jsonl", line.encode("latin-1") + b"\n\n" + jsonl(ROW).encode())
    refusal, work = rows(path)
    assert (refusal.place, work.place) == (f"{path}:1", f"{path}:3")


def test_an_endless_line_is_skipped_not_held(write):
    path = write("w.jsonl", b"x" * 300_000 + b"\n" + jsonl(ROW).encode())
    refusal, work = rows(path)
    assert "longer" in refusal.why
    assert work.place.endswith(":2")


def test_a_row_without_a_creator_takes_the_one_beside_or_is_refused(write):
    path = write("w.jsonl", jsonl({"work_id": 7, "text": "x"}))
    assert (one(path).creator, one(path).ref, one(path).title) == ("ada", "7", "7")
    assert "creator" in one(path, Defaults()).why


def test_texts_are_found_beside_the_list(write):
    write("texts/sea.md", "# Sea\nwaves")
    path = write(
        "w.jsonl",
        jsonl(
            {"work_id": "a", "path": "texts/sea.md"}, {"work_id": "b", "path": "./texts/sea.md", "title": "T"}
        ),
    )
    assert [(row.title, row.text) for row in rows(path)] == [("Sea", "# Sea\nwaves"), ("T", "# Sea\nwaves")]


@pytest.mark.parametrize(
    "named",
    [
        "/etc/hostname",
        "../outside.txt",
        "texts/../../outside.txt",
        "link.txt",
        "out/outside.txt",
        "none.txt",
        "texts",
        "a\0b",
        "..\\outside.txt",
    ],
)
def test_a_list_reaches_nothing_outside_its_folder(write, tmp_path, named):
    write("outside.txt", "secret")
    write("in/texts/x.txt", "x")
    path = write("in/w.jsonl", jsonl({"work_id": "a", "path": named}))
    (tmp_path / "in/link.txt").symlink_to(tmp_path / "outside.txt")
    (tmp_path / "in/out").symlink_to(tmp_path)
    refusal = one(path)
    assert isinstance(refusal, Refusal)
    assert refusal.work_id == "a"
    assert "secret" not in str(refusal)


def test_a_list_in_a_folder_reached_by_a_link_still_finds_its_texts(write, tmp_path):
    write("real/texts/x.txt", "x")
    write("real/w.jsonl", jsonl({"work_id": "a", "path": "texts/x.txt"}))
    (tmp_path / "short").symlink_to(tmp_path / "real")
    assert one(tmp_path / "short/w.jsonl").text == "x"


@pytest.mark.parametrize(
    ("content", "place", "why"),
    [
        ("title,text\na,b\n", 1, "work_id"),
        ("", 1, "work_id"),
        ("work_id,text\na,x\nb,y,z\n", 3, "3 cells"),
        ('work_id,text\na,x\nb,"never closed\n', 3, "no CSV"),
        ('work_id,text\na,"two\nlines"\nb,"x"y\n', 4, "no CSV"),
        (b"work_id,text\na,x\nb,\xff\n", 3, "not UTF-8"),
        ("work_id,text\na,x\n".encode("utf-16") + b"\x00\xd8", 3, "no CSV"),
        ("work_id,text\na," + "x" * 80_000 + "\n", 2, "no CSV"),
    ],
)
def test_a_csv_is_refused_at_the_row_where_it_breaks(write, content, place, why):
    path = write("w.csv", content)
    refusal = rows(path)[-1]
    assert refusal.place == f"{path}:{place}"
    assert why in refusal.why


def test_a_csv_row_in_another_encoding_is_refused_and_the_rest_goes_in(write):
    path = write("w.csv", "work_id,text\na,x\nb,café\nc,y\n".encode("latin-1"))
    first, refusal, last = rows(path)
    assert (first.ref, last.ref) == ("a", "c")
    assert "UTF-8" in refusal.why


def test_a_quoted_text_may_have_lines_and_the_next_row_keeps_its_number(write):
    path = write("w.csv", 'work_id,text\na,"1\n2\n3"\n\nb,x\n')
    assert [(row.ref, row.place.rpartition(":")[2]) for row in rows(path)] == [("a", "2"), ("b", "6")]


def test_a_broken_archive_keeps_the_rows_before_the_break(write):
    path = write(
        "w.jsonl.gz", jsonl(*({"work_id": f"n{n}", "text": os.urandom(40).hex()} for n in range(500)))
    )
    path.write_bytes(path.read_bytes()[:-2000])
    found = rows(path)
    assert isinstance(found[0], NewWork)
    assert isinstance(found[-1], Refusal)
    assert "archive" in found[-1].why


def test_what_only_says_that_it_is_an_archive_is_refused(write):
    path = write("w.jsonl", "x").rename(write("w.jsonl", "x").with_name("w.csv.gz"))
    assert "archive" in one(path).why


def test_titles_are_data(write):
    path = write("w.jsonl", jsonl({"work_id": "a", "text": "x", "title": "<script>\n\u202e" + "t" * 600}))
    title = one(path).title
    assert title.startswith("<script> tt")
    assert len(title) == 500


# The commons


def test_only_the_operator_can_hand_something_to_the_commons(write):
    row = one(write("a.jsonl", jsonl({"work_id": "a", "creator_id": COMMONS, "text": "Once."})))
    assert isinstance(row, Refusal)
    parts = [{"creator_id": COMMONS, "ppm": 1_000_000}]
    row = one(write("b.jsonl", jsonl({"work_id": "b", "text": "Once.", "splits": parts})))
    assert isinstance(row, Refusal)


def test_what_is_nobodys_has_no_creator_consent_or_split_whatever_its_row_says(write):
    said = {"work_id": "a", "creator_id": "bo", "text": "Once.", "consent": "denied", "splits": "bo:1000000"}
    work = one(write("a.jsonl", jsonl(said)), Defaults(COMMONS, "public-domain"))
    assert (work.creator, work.consent, work.split, work.licence) == (COMMONS, None, None, "public-domain")


def test_a_licence_of_somebody_keeps_a_text_out_of_the_commons(write):
    assert [commons_licence(given) for given in ("cc0-1.0", "Public-Domain", "PDM-1.0", "boilerplate")] == [
        "CC0-1.0", "public-domain", "PDM-1.0", "boilerplate",
    ]  # fmt: skip
    for licence in ("CC-BY-4.0", "MIT", "", "\x1b[2J"):
        with pytest.raises(BadRequest) as refused:
            commons_licence(licence)
        assert refused.value.cause.isprintable()
    row = one(
        write("a.jsonl", jsonl({"work_id": "a", "text": "Once.", "licence": "CC-BY-4.0"})),
        Defaults(COMMONS, "public-domain"),
    )
    assert "somebody" in row.why

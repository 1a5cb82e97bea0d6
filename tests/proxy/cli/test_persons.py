import json
import stat
import zipfile

import pytest

from proxy.access.store import app_names
from proxy.access.subjects import SubjectKeys
from proxy.billing.users import subject_digest
from proxy.database import open_engine
from proxy.metering.frames import Frame, encode_record
from proxy.metering.store import carry, watermark
from proxy.metering.usage import Attributed, Used
from tests.commands import Commands

TEXT = "The ferryman of Lower Quill kept a ledger of everyone who had ever crossed on credit."


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path / "data")


@pytest.fixture
def registered(ec, tmp_path):
    works = tmp_path / "works.jsonl"
    works.write_text(
        json.dumps({"work_id": "r1", "creator_id": "ada", "title": "The Ledger", "text": TEXT}) + "\n"
    )
    assert ec("works", "add", works, "--no-index").status == 0
    return ec


def test_a_creator_is_shown_by_another_name(registered):
    told = registered.json("creators", "name", "ada", "--as", "A. S.").row
    assert told["shown"] == "A. S."
    assert registered.json("creators", "name", "ada", "--as", "").row["shown"] == "ada"


def test_what_is_held_on_a_creator_is_a_file_of_theirs_only(registered, tmp_path):
    out = tmp_path / "ada.zip"
    assert registered.json("creators", "export", "ada", "--out", out).row["rows"]["work"] == 1
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with zipfile.ZipFile(out) as archive:
        (text,) = [name for name in archive.namelist() if name.startswith("texts/")]
        assert archive.read(text).decode() == TEXT
    plain = tmp_path / "ada.json"
    assert registered("creators", "export", "ada", "--out", plain).status == 0
    assert json.loads(plain.read_bytes())["tables"]["work"][0]["title"] == "The Ledger"


def test_nothing_is_erased_unasked(registered):
    ran = registered.json("creators", "erase", "ada")
    assert (ran.status, ran.row["error"]) == (1, "not_agreed")
    assert registered("creators", "show", "ada").status == 0


def test_a_creator_and_their_texts_are_erased(registered):
    told = registered.json("creators", "erase", "ada", "--yes", "--no-index", "--by", "Ines").row
    assert (told["changed"], len(told["works"]), told["kept"], told["owed"]) == (True, 1, [], {})
    assert registered("creators", "show", "ada").status == 1
    assert registered.json("creators", "show", told["creator"]).row["name"] == "(erased)"
    found = b"".join(path.read_bytes() for path in registered.data.glob("endcredits.db*"))
    assert b"The Ledger" not in found


def test_a_works_text_is_erased(registered):
    told = registered.json("works", "erase", "r1", "--yes", "--no-index").row
    assert told["changed"]
    assert registered.json("works", "show", told["work"]).row["status"] == "erased"


def test_an_end_users_answers_are_told_and_made_nobodys(ec):
    assert ec("keys", "create", "--role", "app", "--name", "shop").status == 0
    engine = open_engine(f"sqlite:///{ec.data / 'endcredits.db'}")
    (app_id,) = app_names(engine)
    digest = subject_digest(SubjectKeys(ec.data).key(app_id, 0), "user-7")
    used = Used(
        id="rct_1", occurred_us=5, app=app_id, backend="b", model="m", endpoint="chat", outcome="complete",
        input_tokens=1, output_tokens=2, estimated=False, subject_digest=digest,
    )  # fmt: skip
    records = [used, Attributed(id="rct_1", unattributed_ppm=1_000_000)]
    assert watermark(engine, "shd_1") == 0
    assert carry(engine, "shd_1", [Frame(place, encode_record(one), 0) for place, one in enumerate(records)])
    engine.dispose()
    assert ec.json("users", "export", "-", "--app", "shop", fed="user-7\n").row["id"] == "rct_1"
    assert ec.json("users", "erase", "user-7", "--app", "shop", "--yes").row["answers"] == 1
    assert ec.json("users", "export", "user-7", "--app", "shop").rows == []


def test_months_of_receipts_are_listed_and_destroyed_but_never_the_running_one(ec):
    assert ec("creators", "list").status == 0
    folder = ec.data / "receipt-secrets"
    folder.mkdir()
    for name in ("2025-11.key", "2025-12.key", "2026-01.key", ".2026-01.key.x", "notes.key"):
        (folder / name).write_bytes(bytes(32))
    assert [row["month"] for row in ec.json("secrets", "list").rows] == ["2025-11", "2025-12", "2026-01"]
    assert ec.json("secrets", "destroy", "--before", "2026-01").row["error"] == "not_agreed"
    assert ec.json("secrets", "destroy", "--before", "2026-01", "--yes").row["destroyed"] == [
        "2025-11",
        "2025-12",
    ]
    assert ec.json("secrets", "destroy", "--before", "2026-01", "--yes").row["destroyed"] == []
    for wrong in ("2026-13", "soon", "9999-01"):
        assert ec("secrets", "destroy", "--before", wrong, "--yes").status == 1
    assert (folder / "notes.key").exists()


def test_a_tax_number_is_entered_shown_by_its_end_and_sealed_under_another_key(ec):
    assert ec("creators", "add", "Ada").status == 0
    told = ec.json("payees", "tax-number", "ada", "--country", "DE", "--number", "-", fed="DE 123 456\n").row
    assert (told["last4"], told["changed"]) == (" 456", True)
    assert "DE ... 456" in ec("payees", "show", "ada").out
    assert ec.json("payees", "new-key").row["error"] == "not_agreed"
    assert ec.json("payees", "new-key", "--yes").row == {"sealed": 1}
    assert ec.json("payees", "show", "ada", "--reveal").row["tax_number"]["number"] == "DE 123 456"

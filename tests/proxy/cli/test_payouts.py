"""A person's week with payouts: create, a second person approves, export, hand over, settle, take back."""

from __future__ import annotations

import csv
import io

import pytest

from proxy.billing import store
from proxy.database import open_engine
from proxy.metering.usage import Line
from tests.commands import Commands
from tests.proxy.billing.conftest import make_event, meter
from tests.stores import lay

ACCOUNT = {"ada": "DE89370400440532013000", "bo": "GB82WEST12345698765432"}
PRICE = 200 * 10**9  # 200 euros: of 30 % of it 40 % each is theirs


class Firm(Commands):
    """Two creators with a work each, in a store of the test's own; answers are metered straight into it."""

    answers = 0

    def use(self, works, price=PRICE):
        Firm.answers += 1
        lines = tuple(Line(work, 400_000) for work in works)
        engine = open_engine(self.url)
        meter(engine, [make_event(Firm.answers, lines, price_grains=price, currency="EUR")])
        engine.dispose()

    def of(self, batch, creator):
        who = self.json("creators", "show", creator).row["id"]
        return next(
            row for row in self.json("payouts", "show", batch).row["payment_rows"] if row["creator"] == who
        )


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ec(request, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    url = f"sqlite:///{folder / 'endcredits.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    (tmp_path / "firm.toml").write_text(
        f'[store]\nurl = "{url}"\n[billing]\ncurrency = "EUR"\ncomment_days = 0\n[payouts]\nminimum = "5"\n'
        'debtor_name = "Choir of Machines"\ndebtor_iban = "NO9386011117947"\n'
    )
    monkeypatch.setenv("ENDCREDITS_CONFIG", str(tmp_path / "firm.toml"))
    ec = Firm(folder)
    object.__setattr__(ec, "url", url)
    works = []
    for name in ACCOUNT:
        ec("creators", "add", name.title(), "--ref", name)
        (tmp_path / f"{name}.txt").write_text(
            f"The ferryman of {name} kept a ledger of everyone who crossed on credit."
        )
        added = ec.json("works", "add", tmp_path / f"{name}.txt", "--creator", name, "--no-index")
        assert added.status == 0, added.err
        works.append(ec.json("works", "show", f"{name}.txt").row["id"])
    object.__setattr__(ec, "works", works)
    return ec


def enter(ec, *names):
    for name in names or ACCOUNT:
        ran = ec(
            "payees", "set", name, "--rail", "sepa", "--account", "-", "--holder", f"{name} holder", "--country", "DE",
            fed=ACCOUNT[name],
        )  # fmt: skip
        assert ran.status == 0, ran.err


def statement(ec, period, creator):
    row = ec.json("statements", "list", "--period", period, "--creator", creator).row
    engine = open_engine(ec.url)
    found = store.statement(engine, row["id"])
    engine.dispose()
    return found


@pytest.fixture
def owed(ec):
    """What ada is owed by a closed period; bo is owed the same."""
    enter(ec)
    ec.use(ec.works)
    assert ec("periods", "close", "2026-11").status == 0
    return statement(ec, "2026-11", "ada").closing_grains


def approved(ec):
    batch = ec.json("payouts", "create", "--by", "Ada").row["id"]
    assert ec.json("payouts", "approve", batch, "--by", "Bob").row["changed"]
    return batch


def test_a_proposal_is_approved_by_another_person_before_there_is_a_file(ec, owed, tmp_path):
    assert "would pay 2 payments" in ec("payouts", "create", "--dry-run").out
    created = ec.json("payouts", "create", "--by", "Ada").row
    assert (created["state"], created["payments"], created["new"]) == ("created", 2, True)
    batch = created["id"]
    assert ec.json("payouts", "create", "--by", "Eve").row | {"new": True} == created, "the same, once"
    own = ec.json("payouts", "approve", batch, "--by", "ada")
    assert (own.status, own.row["error"]) == (1, "payouts_second_person")
    early = ec.json("payouts", "export", batch, "--out", tmp_path / "early.xml")
    assert (early.status, early.row["error"]) == (1, "payouts_not_approved")
    assert not (tmp_path / "early.xml").exists()
    assert ec.json("payouts", "approve", batch, "--by", "Bob").row["changed"]
    assert "approved already" in ec("payouts", "approve", batch, "--by", "Bob").out


def test_a_file_for_the_bank_is_its_owners_and_the_same_bytes_again(ec, owed, tmp_path):
    batch, file = approved(ec), tmp_path / "bank" / "payouts.xml"
    exported = ec.json("payouts", "export", batch, "--out", file, "--by", "Bob").row
    assert file.stat().st_mode & 0o777 == 0o600
    content = file.read_bytes()
    assert all(account.encode() in content for account in ACCOUNT.values())
    assert ec.json("payouts", "export", batch).row["content"].encode() == content
    assert ec("payouts", "export", batch).out.encode() == content
    assert exported["bytes"] == len(content)
    assert [path.name for path in file.parent.iterdir()] == ["payouts.xml"]
    late = ec.json("payouts", "cancel", batch, "--reason", "Too late.")
    assert (late.status, late.row["error"]) == (1, "payouts_exported")


def test_what_the_bank_answered_is_booked_once_and_told_by_the_next_statements(ec, owed):
    batch = approved(ec)
    ec("payouts", "export", batch)
    adas, bos = ec.of(batch, "ada"), ec.of(batch, "bo")
    assert (adas["account"], adas["state"]) == ("···· 3000", "pending")
    assert "paid" in ec("payouts", "return", bos["payment"], "--code", "AC01", "--amount", "0.01").err
    assert "says why" in ec("payouts", "return", bos["payment"]).err
    back = ("payouts", "return", bos["payment"], "--code", "AC01", "--amount", bos["net"])
    assert ec.json(*back).row["changed"]
    assert "already" in ec(*back).out
    assert ec.json("payouts", "settle", batch, "--ref", "B-77").row["settled"] == [adas["payment"]]
    assert "nothing new" in ec("payouts", "settle", batch).out
    shown = ec("payouts", "show", batch).out
    for word in ("1 returned, 1 settled", "AC01: there is no such account", "B-77", adas["payment"]):
        assert word in shown

    assert ec("periods", "close", "2026-12").status == 0
    ada, bo = (statement(ec, "2026-12", name) for name in ("ada", "bo"))
    assert (ada.opening_grains, ada.paid_grains) == (owed, adas["net_minor"] * 10**7)
    assert ada.closing_grains == owed - ada.paid_grains
    assert bo.paid_grains == bo.returned_grains == bos["gross_minor"] * 10**7
    assert bo.closing_grains == bo.opening_grains

    again = ec.json("payouts", "create", "--by", "Bob").row
    assert again["payments"] == 1
    assert ec.of(again["id"], "bo")["payment"] != bos["payment"]
    assert ec.json("payouts", "cancel", again["id"], "--reason", "Ask for the account first.").row["changed"]
    assert "already" in ec("payouts", "cancel", again["id"], "--reason", "x").out
    assert [row["state"] for row in ec.json("payouts", "list").rows] == ["cancelled", "exported"]
    assert batch in ec("payouts", "list").out


def test_a_banks_report_or_a_persons_table_is_booked_in_one_go(ec, owed, tmp_path):
    batch = approved(ec)
    ec("payouts", "export", batch)
    adas, bos = ec.of(batch, "ada")["payment"], ec.of(batch, "bo")["payment"]
    table, report = tmp_path / "answers.csv", tmp_path / "report.xml"
    table.write_text(f"payment,answer,detail\n{bos},returned,AC04: closed\n")
    first = ec.json("payouts", "settle", batch, "--answers", table).row
    assert (first["settled"], first["returned"]) == ([], [bos])
    report.write_text(
        f"<Document><OrgnlMsgId>{batch.replace('_', '-')}</OrgnlMsgId><GrpSts>ACSC</GrpSts></Document>"
    )
    assert ec.json("payouts", "settle", batch, "--answers", report).row["settled"] == [adas]
    assert "nothing new" in ec("payouts", "settle", batch, "--answers", report).out
    assert "1 returned, 1 settled" in ec("payouts", "show", batch).out
    report.write_text("<Document><OrgnlMsgId>pob-other</OrgnlMsgId><GrpSts>ACSC</GrpSts></Document>")
    assert ec.json("payouts", "settle", batch, "--answers", report).row["error"] == "payouts_answer"
    assert ec("payouts", "settle", batch, "--answers", report, "--payment", adas).status == 2


def test_what_the_table_says_is_withheld_and_told(ec, owed, tmp_path):
    with (tmp_path / "firm.toml").open("a") as file:
        file.write(
            '[[payouts.withholding]]\nregime = "xx"\nform = "W8BEN"\nppm = 300000\ntreaty = true\n'
            "effective_from = 2026-01-01\n"
            '[[payouts.withholding]]\nregime = "xx"\nform = "W8BEN"\ncountry = "JP"\nppm = 0\n'
            "effective_from = 2999-01-01\n"
        )
    assert (
        "2: the withholding table has no row for the tax form given, or for none"
        in ec("payouts", "create").err
    )
    form = ("payees", "tax", "ada", "--form", "W8BEN", "--country", "JP", "--from", "2026-01-01")
    assert ec(*form, "--treaty-ppm", "100000").status == 0
    assert "withholding 2.40" in ec("payees", "show", "ada").out
    batch = approved(ec)
    adas = ec.of(batch, "ada")
    assert (adas["gross"], adas["withheld"], adas["net"], adas["regime"]) == ("24.00", "2.40", "21.60", "xx")
    assert ec.json("payouts", "show", batch).row["withheld"] == "2.40"
    ec("payouts", "export", batch)
    ec("payouts", "settle", batch)
    ec("periods", "close", "2026-12")
    december = statement(ec, "2026-12", "ada")
    assert (december.paid_grains, december.withheld_grains) == (2_160 * 10**7, 240 * 10**7)
    assert december.closing_grains == owed - 2_400 * 10**7


def test_who_is_not_paid_is_told_with_why(ec):
    ec.use(ec.works)
    ec("periods", "close", "2026-11")
    nobody = ec("payouts", "create")
    assert "nobody is paid" in nobody.err
    assert "2: no account is entered" in nobody.err
    enter(ec, "ada")
    ec(
        "payees", "set", "bo", "--rail", "manual", "--account", "+49 cheque", "--holder", "=Bo", "--country", "DE",
        "--minimum", "5000",
    )  # fmt: skip
    ran = ec("payouts", "create", "--by", "Ada")
    assert "1: below the minimum" in ran.err
    assert "another way" not in ran.err
    (row,) = ec.json("payouts", "list").rows
    assert [one["reason"] for one in ec.json("payouts", "show", row["id"]).row["unpaid_rows"]] == [
        "other_rail"
    ]
    assert ec("payouts", "list").out.count("sepa") == 1


def test_a_batch_for_each_rail_is_a_file_each(ec):
    enter(ec, "ada")
    ec(
        "payees",
        "set",
        "bo",
        "--rail",
        "manual",
        "--account",
        "+49 cheque",
        "--holder",
        "=Bo",
        "--country",
        "DE",
    )
    ec.use(ec.works)
    ec("periods", "close", "2026-11")
    made = {row["rail"]: row["id"] for row in ec.json("payouts", "create", "--by", "Ada").rows}
    assert set(made) == {"sepa", "manual"}
    ec("payouts", "approve", made["manual"], "--by", "Bob")
    (row,) = csv.DictReader(io.StringIO(ec("payouts", "export", made["manual"]).out))
    assert (row["holder"], row["account"], row["amount"]) == ("'=Bo", "'+49 cheque", "24.00")


def test_a_file_that_cannot_be_written_leaves_nothing_half_written(ec, tmp_path):
    enter(ec)
    ec.use(ec.works)
    ec("periods", "close", "2026-11")
    batch = ec.json("payouts", "create", "--by", "Ada").row["id"]
    ec("payouts", "approve", batch, "--by", "Bob")
    (tmp_path / "taken").write_text("a file")
    for target in (tmp_path / "taken" / "x.xml", tmp_path / "taken.d"):
        (tmp_path / "taken.d").mkdir(exist_ok=True)
        refused = ec.json("payouts", "export", batch, "--out", target)
        assert refused.status in {1, 2}
    assert ec("payouts", "export", batch, "--out", tmp_path / "y.xml").status == 0
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_without_batches_the_list_says_what_to_do(ec):
    assert "payouts create" in ec("payouts", "list").out
    missing = ec.json("payouts", "show", "pob_nowhere")
    assert (missing.status, missing.row["error"]) == (1, "not_found")

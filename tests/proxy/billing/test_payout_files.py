"""Files for banks: valid, the same bytes every time, and nothing in them that runs."""

import csv
import datetime as dt
import io
import sys
import xml.etree.ElementTree as ET

import pytest

from proxy.billing import payees, payout_files, payouts
from proxy.billing.money import GRAINS_PER_MINOR
from proxy.billing.payouts import Batch, Debtor, Payee, Rules
from proxy.errors import BadRequest, Problem

NAMES = {"c_a": "Ada Sandmärk & Söhne", "c_b": "Юлия Ким", "c_c": "=HYPERLINK(1)"}
IBANS = {"c_a": "DE89370400440532013000", "c_b": "GB82WEST12345698765432", "c_c": "NO9386011117947"}
DEBTOR = Debtor(name="Choir of Machines GmbH", iban="DE89370400440532013000", bic="COBADEFFXXX")
APPROVED_US = 1_780_000_000_000_000
SPACE = {"p": "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"}


def accounts(rail):
    made = {}
    for creator, name in NAMES.items():
        reference = {"sepa": IBANS[creator], "stripe": f"acct_1Kabcdef{creator[-1]}"}.get(rail, "+49 cheque")
        made[creator] = payees.account(rail, reference, holder=name, country_code="DE")
    return made


def batch(rail="sepa", debtor=DEBTOR, creators=NAMES):
    currency = "EUR" if rail == "sepa" else "USD"
    owed = {
        (who, currency): (place + 1) * 123_456 * GRAINS_PER_MINOR + 9 for place, who in enumerate(creators)
    }
    known = {who: Payee(account_version=1, rail=rail) for who in creators}
    day = dt.date(2026, 12, 1)
    payments, unpaid = payouts.plan("pob_" + "b" * 26, Rules(rail, currency, day, 0), owed, known)
    return Batch(
        id="pob_" + "b" * 26, rail=rail, currency=currency, day=day.isoformat(), created_by="ada", created_us=1,
        debtor=debtor, payments=payments, unpaid=unpaid,
    )  # fmt: skip


def pain001(made=None):
    return payout_files.render(made or batch(), accounts("sepa"), APPROVED_US)


def test_a_sepa_file_is_valid_by_its_schema_and_says_what_the_batch_says():
    import xmlschema
    from sepaxml import validation

    folder = validation.__file__.rpartition("/")[0]
    content = pain001()
    xmlschema.XMLSchema(f"{folder}/schemas/pain.001.001.09.xsd").validate(content.decode())
    root = ET.fromstring(content)  # noqa: S314  our own bytes
    made = batch()
    assert root.findtext(".//p:GrpHdr/p:MsgId", namespaces=SPACE) == "pob-" + "b" * 26
    assert root.findtext(".//p:PmtInfId", namespaces=SPACE) == "pob-" + "b" * 26
    assert root.findtext(".//p:GrpHdr/p:CreDtTm", namespaces=SPACE) == "2026-05-28T20:26:40"
    assert root.findtext(".//p:ReqdExctnDt/p:Dt", namespaces=SPACE) == "2026-12-01"
    assert root.findtext(".//p:GrpHdr/p:NbOfTxs", namespaces=SPACE) == "3"
    assert root.findtext(".//p:GrpHdr/p:CtrlSum", namespaces=SPACE) == "7407.36"
    told = [
        (
            one.findtext("p:PmtId/p:EndToEndId", namespaces=SPACE),
            one.findtext("p:Amt/p:InstdAmt", namespaces=SPACE),
            one.findtext("p:CdtrAcct/p:Id/p:IBAN", namespaces=SPACE),
        )
        for one in root.iterfind(".//p:CdtTrfTxInf", SPACE)
    ]
    assert told == [
        (one.id, f"{one.net_minor // 100}.{one.net_minor % 100:02}", IBANS[one.creator])
        for one in made.payments
    ]


def test_a_file_is_the_same_bytes_every_time():
    assert pain001() == pain001()
    for rail in ("stripe", "manual"):
        twice = {payout_files.render(batch(rail), accounts(rail), at) for at in (1, 2)}
        assert len(twice) == 1


def test_a_bank_is_never_asked_for_a_day_that_was_over_at_the_approval():
    a_week_later = 1_000_000 * int(dt.datetime(2026, 12, 8, 9, tzinfo=dt.UTC).timestamp())
    root = ET.fromstring(payout_files.render(batch(), accounts("sepa"), a_week_later))  # noqa: S314
    assert root.findtext(".//p:ReqdExctnDt/p:Dt", namespaces=SPACE) == "2026-12-08"


def test_names_are_written_in_letters_that_every_bank_takes():
    root = ET.fromstring(pain001())  # noqa: S314
    names = [one.text for one in root.iterfind(".//p:Cdtr/p:Nm", SPACE)]
    assert names == ["Ada Sandmark Sohne", "Iuliia Kim", "HYPERLINK(1)"]


def test_ids_fit_what_a_bank_takes():
    made = batch()
    assert len(payout_files.message_id(made)) <= 35
    assert all(len(one.id) <= 35 for one in made.payments)


def test_without_an_account_to_pay_from_there_is_no_sepa_file():
    with pytest.raises(BadRequest) as refused:
        pain001(batch(debtor=Debtor()))
    assert refused.value.code == "payouts_debtor"


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sepaxml", None)
    with pytest.raises(Problem, match=r"endcredits\[payouts\]"):
        pain001()


def test_a_file_that_the_schema_refuses_is_never_given_out():
    with pytest.raises(Problem) as refused:
        pain001(batch(debtor=Debtor(name="Choir", iban="NOT AN IBAN")))
    assert refused.value.code == "payouts_invalid"


def test_stripe_transfers_carry_minor_units_and_a_key_that_makes_a_retry_no_second_transfer():
    made = batch("stripe")
    rows = list(csv.DictReader(io.StringIO(payout_files.render(made, accounts("stripe"), 1).decode())))
    assert [row["amount"] for row in rows] == ["123456", "246912", "370368"]
    assert {row["currency"] for row in rows} == {"usd"}
    assert [row["idempotency_key"] for row in rows] == [one.id for one in made.payments]
    assert rows[0]["destination"] == "acct_1Kabcdefa"


def test_a_list_for_people_runs_nothing_in_a_spreadsheet():
    content = payout_files.render(batch("manual"), accounts("manual"), 1)
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert rows[2]["holder"] == "'=HYPERLINK(1)"
    assert rows[0]["account"] == "'+49 cheque"
    assert rows[0]["amount"] == "1234.56"

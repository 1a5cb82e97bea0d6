import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing import payout_answers, payouts
from proxy.billing.payout_answers import Answers, read
from proxy.billing.payouts import Batch, Debtor, Event, Payee, Rules
from proxy.errors import BadRequest, Conflict, Problem, TooLarge

DAY = dt.date(2026, 12, 1)


def payment(name, status, code="", said=""):
    why = f"<StsRsnInf><Rsn><Cd>{code}</Cd></Rsn><AddtlInf>{said}</AddtlInf></StsRsnInf>" if code else ""
    return f"<TxInfAndSts><OrgnlEndToEndId>{name}</OrgnlEndToEndId><TxSts>{status}</TxSts>{why}</TxInfAndSts>"


def report(*payments, message="pob-1", group="PART", reason=""):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>'
        "<GrpHdr><MsgId>BANK-1</MsgId></GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{message}</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>"
        f"<GrpSts>{group}</GrpSts>{reason}</OrgnlGrpInfAndSts>"
        f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{message}</OrgnlPmtInfId>{''.join(payments)}</OrgnlPmtInfAndSts>"
        "</CstmrPmtStsRpt></Document>"
    ).encode()


def batch():
    owed = {("c_a", "USD"): 10**12, ("c_b", "USD"): 10**12}
    known = {who: Payee(account_version=1, rail="manual") for who, _ in owed}
    payments, unpaid = payouts.plan("pob_1", Rules("manual", "USD", DAY, 0), owed, known)
    return Batch(
        id="pob_1", rail="manual", currency="USD", day=DAY.isoformat(), created_by="ada", created_us=1,
        debtor=Debtor(), payments=payments, unpaid=unpaid,
    )  # fmt: skip


SENT = [
    Event(seq=n, kind=kind, payment="", detail="", by="b", at_us=n)
    for n, kind in enumerate(("created", "approved", "exported"), 1)
]


def test_a_banks_report_says_which_payments_were_made_and_why_others_were_not():
    found = read(
        report(
            payment("ecp-1", "ACSC"),
            payment("ecp-2", "RJCT", "AC04", "seit 2025"),
            payment("ecp-3", "RJCT", "ZZ99", "own words"),
            payment("ecp-4", "PDNG"),
            payment("ecp-5", "RJCT"),
        )
    )
    assert found == Answers(
        ("ecp-1",),
        {
            "ecp-2": "AC04: the account is closed (seit 2025)",
            "ecp-3": "ZZ99 (own words)",
            "ecp-5": "the bank gives no reason",
        },
        1,
        "pob-1",
    )


@pytest.mark.parametrize(
    ("group", "whole"), [("ACSC", "paid"), ("RJCT", "returned"), ("ACCP", ""), ("PDNG", "")]
)
def test_a_report_on_the_whole_file_holds_for_what_is_on_its_way(group, whole):
    reason = "<StsRsnInf><Rsn><Prtry>FF01</Prtry></Rsn><AddtlInf>no such day</AddtlInf></StsRsnInf>"
    found = read(report(group=group, reason=reason))
    made = batch()
    one, two = made.payments
    assert found.whole == whole
    settled = [*SENT, Event(seq=4, kind="settled", payment=one.id, detail="", by="b", at_us=4)]
    assert (
        found.of(made, settled)
        == {
            "paid": ((two.id,), {}),
            "returned": ((), {two.id: "FF01 (no such day)"}),
            "": ((), {}),
        }[whole]
    )


def test_the_answer_to_another_file_is_refused():
    with pytest.raises(Conflict) as refused:
        read(report(message="pob-2", group="ACSC")).of(batch(), SENT)
    assert refused.value.code == "payouts_answer"


def test_a_persons_table_says_the_same():
    table = (
        "\ufeffpayment,answer,detail\r\necp-1,Paid,\r\necp-2, returned ,AC04: closed\r\necp-3,returned,\r\n"
    )
    assert read(table.encode()) == Answers(
        ("ecp-1",), {"ecp-2": "AC04: closed", "ecp-3": "the bank gives no reason"}
    )
    assert read(b"payment,answer\necp-1,paid\n").of(batch(), SENT) == (("ecp-1",), {})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"payment,answer,detail\n",
        b"ecp-1,paid\n",
        b"payment,answer\necp-1,perhaps\n",
        b"payment,answer\n,paid\n",
        b"payment,answer\necp-1,paid\necp-1,returned\n",
        b"payment,answer\n\xff,paid\n",
        b"<Document/>",
        report(payment("ecp-1", "ACSC"), payment("ecp-1", "RJCT")),
        b"<Document><OrgnlMsgId>x</OrgnlMsgId><TxInfAndSts><TxSts>ACSC</TxSts></TxInfAndSts></Document>",
        b"<Document>",
        b'<!DOCTYPE d [<!ENTITY a "b">]><Document><OrgnlMsgId>&a;</OrgnlMsgId></Document>',
    ],
)
def test_what_is_no_answer_is_refused_with_what_one_looks_like(raw):
    with pytest.raises(BadRequest):
        read(raw)


def test_an_answer_is_bounded(monkeypatch):
    monkeypatch.setattr(payout_answers, "ANSWERS_BYTES_MAX", 10)
    with pytest.raises(TooLarge):
        read(b"payment,answer")


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_read_or_refused(raw):
    for given_bytes in (raw, b"<" + raw, b"payment,answer,detail\n" + raw):
        try:
            found = read(given_bytes)
        except Problem:
            continue
        assert not set(found.paid) & found.returned.keys()


@given(st.text(max_size=900))
def test_what_a_bank_says_cannot_command_a_terminal(said):
    cell = said.replace('"', "").encode("utf-8", "replace")
    (why,) = read(b'payment,answer,detail\necp-1,returned,"%b"\n' % cell).returned.values()
    assert why.isprintable()
    assert 0 < len(why) <= 1_000

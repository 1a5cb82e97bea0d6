"""From an answer to money in a bank and back, on both engines, by the settings that an operator writes."""

import contextlib
import datetime as dt
import sqlite3
import sys
import xml.etree.ElementTree as ET

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing import payees, store
from proxy.billing.money import GRAINS_PER_MINOR, PPM
from proxy.billing.payees import TaxProfile
from proxy.billing.paying import KEY_FILE, Paying, looked_at
from proxy.billing.run import close_period
from proxy.billing.statements import Books, SplitSet
from proxy.errors import BadRequest, Conflict, Problem, SettingsError
from proxy.metering.usage import Line
from proxy.settings import Billing, Payouts, Settings, WithholdingRow
from tests.fakes import CountingIds, FrozenClock
from tests.proxy.billing.conftest import CLOSED_US, make_event, meter, register

IBANS = {"c_a": "DE89370400440532013000", "c_b": "GB82WEST12345698765432"}
DAY = dt.date(2026, 12, 1)
DEBTOR = {"debtor_name": "Choir of Machines", "debtor_iban": "NO93 8601 1117 947"}
KEPT = WithholdingRow(regime="xx", form="W8BEN", ppm=150_000, effective_from=dt.date(2026, 1, 1))
BOOKS = Books(
    {"w_1": SplitSet(1, (("c_a", PPM),), "Low Water"), "w_2": SplitSet(1, (("c_b", PPM),), "High Water")},
    {"c_a": "Ada", "c_b": "Bo", "c_z": "Zoe"},
    {"app_a": "Choir"},
    {},
)
SPACE = {"p": "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"}


class Scene:
    """Books in euros (or others), with two creators who have been used."""

    def __init__(self, engine, prices, folder, *, currency="EUR", comment_days=0, **said):
        self.engine, self.prices, self.folder, self.number = engine, prices, folder, 0
        self.settings = Settings(
            data_dir=folder,
            billing=Billing(currency=currency, comment_days=comment_days),
            payouts=Payouts(**(DEBTOR | said)),
        )
        self.clock = FrozenClock(CLOSED_US)
        self.paying = Paying(engine, self.settings, clock=self.clock, ids=CountingIds())

    def use(self, price_minor=10_000):
        self.number += 1
        lines = (Line("w_1", 500_000), Line("w_2", 300_000))
        price = price_minor * GRAINS_PER_MINOR + 7
        currency = self.settings.billing.currency
        meter(self.engine, [make_event(self.number, lines, price_grains=price, currency=currency)])

    def close(self, label):
        made = close_period(
            self.engine, label, self.settings.billing, self.prices, dry_run=False, now_us=self.clock.now_us()
        )
        for one in made.statements:
            assert one.closing_grains == (
                one.opening_grains + one.earned_grains + one.adjustments_grains - one.held_grains
                + one.released_grains - one.paid_grains - one.withheld_grains + one.returned_grains
            )  # fmt: skip
            assert store.balances(self.engine, f"liab:payee:{one.creator}") == {
                (f"liab:payee:{one.creator}", one.currency): one.closing_grains
            }
        self.balanced()
        return {one.creator: one for one in made.statements}

    def balanced(self):
        found = store.balances(self.engine)
        signs = {"asset": 1, "expense": 1, "liab": -1, "income": -1}
        assert sum(signs[code.partition(":")[0]] * grains for (code, _), grains in found.items()) == 0

    def enter(self, creator, rail="sepa", reference="", minimum="", *, verified=True):
        account = payees.account(
            rail, reference or IBANS[creator], holder=f"Holder of {creator}", country_code="DE"
        )
        return self.paying.enter(creator, account, minimum=minimum, by="op", verified=verified)

    def stands(self, creator):
        (one,) = self.paying.standing(creator)
        return one.reason


@pytest.fixture
def scene(engine, prices, tmp_path):
    register(engine, BOOKS)
    return Scene(engine, prices, tmp_path, withholding=(KEPT,))


def test_an_answer_is_paid_to_the_bank_and_told_and_what_comes_back_is_owed_again(scene):
    for creator in ("c_a", "c_b"):
        scene.enter(creator)
        scene.paying.payees("op").declare(creator, TaxProfile("W8BEN", "DE", None, dt.date(2026, 1, 1)))
    scene.use(20_000)
    first = scene.close("1")
    owed = first["c_a"].closing_grains

    batch, is_new = scene.paying.propose("sepa", by="ada")
    assert is_new
    assert scene.paying.propose("sepa", by="eve") == (batch, False)
    scene.paying.payouts("bob").approve(batch.id)
    one = next(payment for payment in batch.payments if payment.creator == "c_a")
    assert one.gross_minor == owed // GRAINS_PER_MINOR
    assert one.withheld_minor == one.gross_minor * 15 // 100
    scene.clock.advance(86_400)
    taken, content = scene.paying.export(batch.id, by="bob")
    assert taken == batch
    assert scene.paying.export(batch.id, by="eve")[1] == content
    root = ET.fromstring(content)  # noqa: S314  our own bytes
    told = {
        row.findtext("p:PmtId/p:EndToEndId", namespaces=SPACE): row.findtext(
            "p:CdtrAcct/p:Id/p:IBAN", "", SPACE
        )
        for row in root.iterfind(".//p:CdtTrfTxInf", SPACE)
    }
    assert told == {payment.id: IBANS[payment.creator] for payment in batch.payments}

    scene.use()
    second = scene.close("2")["c_a"]
    assert (second.opening_grains, second.paid_grains, second.withheld_grains) == (
        owed, one.net_minor * GRAINS_PER_MINOR, one.withheld_minor * GRAINS_PER_MINOR,
    )  # fmt: skip
    paying = scene.paying.payouts("bob")
    assert len(paying.settle(batch.id, ref="B-77")) == 2
    assert paying.give_back(one.id, "AC04: the account is closed.")
    assert not paying.give_back(one.id, "AC04: the account is closed.")
    scene.balanced()
    third = scene.close("3")["c_a"]
    assert third.returned_grains == one.gross_minor * GRAINS_PER_MINOR
    assert third.closing_grains == owed + second.earned_grains

    scene.enter("c_a", reference="FR1420041010050500013M02606")
    again, _ = scene.paying.propose("sepa", by="ada")
    assert next(p for p in again.payments if p.creator == "c_a").gross_minor == (
        third.closing_grains // GRAINS_PER_MINOR
    )
    assert scene.close("4") == {} or scene.close("4")["c_a"].returned_grains == 0, "told once"


def test_the_plain_account_is_in_the_file_for_the_bank_and_nowhere_else(scene, tmp_path, caplog, capfd):
    for creator in ("c_a", "c_b"):
        scene.enter(creator)
    scene.paying.payees("op").declare("c_a", TaxProfile("W8BEN", "DE", None, dt.date(2026, 1, 1)))
    scene.use()
    scene.close("1")
    batch, _ = scene.paying.propose("sepa", by="ada")
    scene.paying.payouts("bob").approve(batch.id)
    content = scene.paying.export(batch.id, by="bob")[1]
    assert IBANS["c_a"].encode() in content
    if scene.engine.dialect.name == "sqlite":
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            written = "\n".join(connection.iterdump()).encode()
        written += b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
    else:
        tables = SQLModel.metadata.sorted_tables
        with scene.engine.connect() as connection:
            written = b"".join(repr(list(connection.execute(sa.select(table)))).encode() for table in tables)
    assert batch.id.encode() in written
    said = caplog.text + "".join(capfd.readouterr())
    for creator, iban in IBANS.items():
        for plain in (iban, iban[4:], f"Holder of {creator}"):
            assert plain.encode() not in written
            assert plain not in said
            assert plain not in repr(scene.paying.payees("op").known(creator))
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / KEY_FILE).read_bytes() not in written


def test_a_creator_is_told_what_keeps_them_from_being_paid(scene):
    assert scene.stands("c_z") == "nothing_owed"
    scene.use()
    scene.close("1")
    assert scene.stands("c_a") == "no_details"
    scene.enter("c_a", verified=False)
    assert scene.stands("c_a") == "unverified"
    scene.paying.payees("op").verify("c_a", 1)
    assert scene.stands("c_a") == "no_tax_form"
    scene.paying.payees("op").declare("c_a", TaxProfile("W8BEN", "DE", None, dt.date(2026, 1, 1)))
    scene.enter("c_a", minimum="4000")
    assert scene.stands("c_a") == "below_minimum"
    scene.enter("c_a", minimum="0")
    scene.paying.payees("op").hold("c_a", "A letter came back.", held=True)
    assert scene.stands("c_a") == "held"
    scene.paying.payees("op").hold("c_a", "She wrote.", held=False)
    (stands,) = scene.paying.standing("c_a")
    assert (stands.reason, stands.why, stands.net_minor + stands.withheld_minor) == (
        "", "", stands.owed_grains // GRAINS_PER_MINOR,
    )  # fmt: skip
    batch, _ = scene.paying.propose("sepa", by="ada", dry_run=True)
    assert [(one.net_minor, one.withheld_minor) for one in batch.payments] == [
        (stands.net_minor, stands.withheld_minor)
    ]


def test_what_is_below_the_minimum_stays_and_is_paid_when_it_is_reached(engine, prices, tmp_path):
    register(engine, BOOKS)
    scene = Scene(engine, prices, tmp_path, minimum="20")
    scene.enter("c_a", rail="manual", reference="a cheque")
    scene.use()  # 30 % of 100 euros, half of it hers
    scene.close("1")
    assert scene.stands("c_a") == "below_minimum"
    batch, is_new = scene.paying.propose("manual", by="ada")
    assert (batch.payments, is_new) == ((), False)
    scene.use()
    owed = scene.close("2")["c_a"]
    assert owed.opening_grains > 0
    batch, _ = scene.paying.propose("manual", by="ada")
    assert [one.gross_minor for one in batch.payments] == [owed.closing_grains // GRAINS_PER_MINOR]


def test_what_may_still_be_commented_on_is_paid_when_it_is_final(engine, prices, tmp_path):
    register(engine, BOOKS)
    scene = Scene(engine, prices, tmp_path, comment_days=14)
    scene.enter("c_a", rail="manual", reference="a cheque")
    scene.use()
    owed = scene.close("1")["c_a"].closing_grains
    (stands,) = scene.paying.standing("c_a")
    assert (stands.reason, stands.draft_grains, stands.net_minor) == ("draft", owed, 0)
    batch, is_new = scene.paying.propose("manual", by="ada")
    assert (is_new, batch.payments) == (False, ())
    scene.clock.advance(14 * 86_400)
    scene.use()
    second = scene.close("2")["c_a"]
    (stands,) = scene.paying.standing("c_a")
    assert (stands.reason, stands.draft_grains) == ("", second.earned_grains)
    batch, _ = scene.paying.propose("manual", by="ada")
    assert [one.gross_minor for one in batch.payments] == [owed // GRAINS_PER_MINOR]
    assert scene.paying.payouts("bob").approve(batch.id)[1]
    assert scene.stands("c_a") == "draft"
    scene.clock.advance(14 * 86_400)
    assert scene.stands("c_a") == ""


def test_a_rail_that_cannot_pay_is_refused_and_the_creator_sees_it(engine, prices, tmp_path):
    register(engine, BOOKS)
    dollars = Scene(engine, prices, tmp_path, currency="USD")
    dollars.enter("c_a")
    dollars.use()
    dollars.close("1")
    assert dollars.paying.rails() == ("stripe", "manual")
    assert dollars.stands("c_a") == "rail_currency"
    with pytest.raises(BadRequest) as refused:
        dollars.paying.propose("sepa", by="ada")
    assert refused.value.code == "payouts_currency"


def test_without_an_account_to_pay_from_there_is_only_a_dry_run(engine, prices, tmp_path):
    register(engine, BOOKS)
    scene = Scene(engine, prices, tmp_path, debtor_iban="")
    scene.enter("c_a")
    with pytest.raises(BadRequest) as refused:
        scene.paying.propose("sepa", by="ada")
    assert refused.value.code == "payouts_debtor"
    assert scene.paying.propose("sepa", by="ada", dry_run=True)[1] is False
    assert scene.paying.rails() == ("sepa", "stripe", "manual")


@pytest.mark.parametrize(
    "said", [{"debtor_iban": "DE00370400440532013000"}, {"minimum": "-1"}, {"minimum": "lots"}, {"withholding": (KEPT, KEPT)}]
)  # fmt: skip
def test_settings_that_cannot_be_followed_are_named(engine, prices, tmp_path, said):
    with pytest.raises(SettingsError, match="payouts"):
        Scene(engine, prices, tmp_path, **said).paying.propose("sepa", by="ada")


def test_whether_payouts_could_be_made_is_looked_at_without_a_store(tmp_path, monkeypatch):
    def told(**said):
        return looked_at(
            Settings(data_dir=tmp_path, billing=Billing(currency="EUR"), payouts=Payouts(**said)), DAY
        )

    assert told() == "from 10 EUR, no account for SEPA, 0 withholding rows in force"
    assert told(**DEBTOR, withholding=(KEPT,)) == (
        "from 10 EUR, SEPA from an account that is set, 1 withholding rows in force"
    )
    with pytest.raises(SettingsError):
        told(debtor_iban="DE00370400440532013000")
    (tmp_path / KEY_FILE).write_bytes(bytes(32))
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(Problem, match="chmod 600"):
        told()
    (tmp_path / KEY_FILE).chmod(0o600)
    monkeypatch.setitem(sys.modules, "sepaxml", None)
    assert "no account" in told()
    with pytest.raises(Problem, match=r"endcredits\[payouts\]"):
        told(**DEBTOR)


@pytest.mark.parametrize("minimum", ["-1", "1.001", "much"])
def test_a_minimum_that_is_none_is_refused(scene, minimum):
    with pytest.raises(BadRequest) as refused:
        scene.enter("c_a", minimum=minimum)
    assert refused.value.code == "payouts_minimum"


def test_a_file_is_never_made_of_an_account_that_was_changed_after_the_approval(scene):
    scene.enter("c_a")
    scene.paying.payees("op").declare("c_a", TaxProfile("W8BEN", "DE", None, dt.date(2026, 1, 1)))
    scene.use()
    scene.close("1")
    batch, _ = scene.paying.propose("sepa", by="ada")
    scene.paying.payouts("bob").approve(batch.id)
    scene.enter("c_a", reference="FR1420041010050500013M02606")
    content = scene.paying.export(batch.id, by="bob")[1]
    assert IBANS["c_a"].encode() in content, "what the second person approved is what is paid"
    with pytest.raises(Conflict):
        scene.paying.payouts("eve").cancel(batch.id, "Too late.")

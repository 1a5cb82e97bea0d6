"""A payout batch as the file that a person gives to a bank or to Stripe; nothing here sends anything.

The same batch is the same bytes, however often and wherever it is made: message, payment and end-to-end ids
come from the batch, and times from its approval, so a bank that is given a file twice sees one message. SEPA
files are ISO 20022 pain.001.001.09, made by sepaxml (the extra `payouts`) and checked against its schema
before anybody has them; sepaxml draws ids and reads the clock itself, and what it drew is replaced.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from proxy.billing.cells import to_csv
from proxy.billing.money import GRAINS_PER_MINOR, decimal_text
from proxy.billing.payees import HOLDER_CHARACTERS_MAX, Account, Rail
from proxy.billing.payouts import Batch
from proxy.clock import iso_utc
from proxy.errors import BadRequest, Problem

SCHEMA: Final = "pain.001.001.09"
SUFFIXES: Final[dict[Rail, str]] = {"sepa": "xml", "stripe": "csv", "manual": "csv"}
STRIPE_COLUMNS: Final = (
    "amount", "currency", "destination", "transfer_group", "description", "idempotency_key",
)  # fmt: skip
MANUAL_COLUMNS: Final = (
    "payment",
    "holder",
    "account",
    "country",
    "amount",
    "currency",
    "reference",
    "batch",
)
# What the rulebooks let a bank refuse nothing of: everything else becomes a space.
_NOT_BASIC: Final = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]", re.ASCII)
Accounts = Mapping[str, Account]


def render(batch: Batch, accounts: Accounts, approved_us: int) -> bytes:
    """Return the file of a batch. accounts: {creator: account}, as they were when it was proposed.

    Raises BadRequest where SEPA needs an account to pay from, and Problem without the extra that writes it.
    """
    writers: dict[Rail, Callable[[Batch, Accounts, int], bytes]] = {
        "sepa": _pain001,
        "stripe": _stripe,
        "manual": _manual,
    }
    return writers[batch.rail](batch, accounts, approved_us)


def message_id(batch: Batch) -> str:
    """Return the id by which a bank knows that it has seen this file: at most 35 plain characters."""
    return batch.id.replace("_", "-")


def _pain001(batch: Batch, accounts: Accounts, approved_us: int) -> bytes:
    if not batch.debtor.iban or not batch.debtor.name:
        raise BadRequest(
            f"{batch.id} does not say from which account it is paid",
            remedy="set [payouts] debtor_name and debtor_iban, cancel the batch and create another",
            code="payouts_debtor",
        )
    writer, validation = sepaxml()
    config = {
        "name": _basic(batch.debtor.name),
        "IBAN": batch.debtor.iban,
        "batch": True,
        "currency": batch.currency,
    }
    if batch.debtor.bic:
        config["BIC"] = batch.debtor.bic
    # A bank may refuse a day that was over when the batch was approved.
    approved = dt.datetime.fromtimestamp(approved_us // 1_000_000, dt.UTC).date()
    day = max(dt.date.fromisoformat(batch.day), approved)
    made = writer(config, schema=SCHEMA, clean=False)
    for one in batch.payments:
        account = accounts[one.creator]
        payment = {
            "name": _basic(account.holder),
            "IBAN": account.account,
            "amount": one.net_minor,
            "execution_date": day,
            "description": f"Payout {batch.day} {one.id}",
            "endtoend_id": one.id,
        }
        if account.bic:
            payment["BIC"] = account.bic
        made.add_payment(payment)
    content = cast("bytes", made.export(validate=False))
    said = {
        "MsgId": message_id(batch),
        "PmtInfId": message_id(batch),
        "CreDtTm": iso_utc(approved_us)[:19],
    }
    for name, text in said.items():
        tag = name.encode()
        content, count = re.subn(
            rb"<%b>[^<]*</%b>" % (tag, tag), b"<%b>%b</%b>" % (tag, text.encode(), tag), content
        )
        assert count == 1, f"{name} occurs {count} times"  # one day is one block of payments
    try:
        validation.try_valid_xml(content, SCHEMA)
    except validation.ValidationError as error:
        raise Problem(
            f"the file of {batch.id} is not valid {SCHEMA}",
            remedy="a holder, IBAN or BIC is not what the schema allows: cancel, correct, create again",
            code="payouts_invalid",
        ) from error
    return content


def sepaxml() -> tuple[Any, Any]:
    """Return what writes SEPA files and what checks them. Raises Problem where the extra is not installed."""
    try:
        from sepaxml import SepaTransfer, validation  # noqa: PLC0415  # the extra `payouts`
    except ImportError as error:
        raise Problem(
            "SEPA files are written by sepaxml, which is not installed",
            remedy="pip install 'endcredits[payouts]'",
            code="payouts_extra",
        ) from error
    return SepaTransfer, validation


def _basic(name: str) -> str:
    """A name in the letters that every bank takes: transliterated, and cut where the message cuts it."""
    import text_unidecode  # noqa: PLC0415  # comes with sepaxml

    plain = str(cast("Any", text_unidecode).unidecode(name))
    return " ".join(_NOT_BASIC.sub(" ", plain).split())[:HOLDER_CHARACTERS_MAX] or "-"


def _stripe(batch: Batch, accounts: Accounts, _approved_us: int) -> bytes:
    """Transfers to connected accounts: amount in minor units, a key that makes a retry no second transfer."""
    return to_csv(
        STRIPE_COLUMNS,
        (
            (
                str(one.net_minor), batch.currency.lower(), accounts[one.creator].account, message_id(batch),
                f"Payout {batch.day}", one.id,
            )
            for one in batch.payments
        ),
    )  # fmt: skip


def _manual(batch: Batch, accounts: Accounts, _approved_us: int) -> bytes:
    def row(creator: str, name: str, net_minor: int) -> tuple[str, ...]:
        account = accounts[creator]
        amount = decimal_text(net_minor * GRAINS_PER_MINOR, batch.currency)
        return (
            name, account.holder, account.account, account.country, amount, batch.currency,
            f"Payout {batch.day} {name}", message_id(batch),
        )  # fmt: skip

    return to_csv(MANUAL_COLUMNS, (row(one.creator, one.id, one.net_minor) for one in batch.payments))

"""Erasing people: what goes is found nowhere any more, and every amount and every hash stays what it was."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from proxy.billing import ledger, payouts_store, store
from proxy.billing.audit_store import audit
from proxy.billing.erasing_store import FORGETFUL, HOLD, erase_creator
from proxy.billing.held_store import held_of
from proxy.billing.payees import account
from proxy.billing.payees_store import Payees
from proxy.billing.statement import canonical
from proxy.billing.tax_numbers_store import TaxNumbers
from proxy.catalogue.erasing_store import ERASED
from proxy.errors import Conflict
from tests.books import Bookkeeping, a_year_of_everything

NAME, REF = "Perpetua Quillfeather", "perpetua-q"
WORDS, ANSWER = "I wrote that in Trondheim", "So you told us"
TEXT = "The lighthouse of the erased kept its lamp."
STAYS_THE_SAME = FORGETFUL | {"erasure", "registry_event"}


def run(engine, statement, **values):
    with engine.begin() as connection:
        return connection.execute(sa.text(statement), values)


def rows(engine, tables):
    with engine.connect() as connection:
        every = {
            name: connection.execute(sa.select(sa.text("*")).select_from(sa.table(name))) for name in tables
        }
        return {name: sorted(repr(tuple(row)) for row in found) for name, found in every.items()}


@pytest.fixture
def books(engine):
    """A year's books, in which the first creator has a name, a text, an account and something to say."""
    kept = Bookkeeping(engine)
    run(engine, "UPDATE creator SET name = :name, ref = :ref WHERE id = 'c_0'", name=NAME, ref=REF)
    run(engine, "INSERT INTO work_text VALUES ('w_4', :text)", text=TEXT.encode())
    TaxNumbers(engine, clock=kept.clock, key=lambda: bytes(32)).enter("c_0", "12 345/6XY8", "DE")
    a_year_of_everything(kept)
    kept.ownership.decide_claim(kept.claim("w_2", "c_0"), "rejected", ANSWER)
    (said, *_) = store.list_statements(engine, creator="c_0")
    for seq, side, text in ((1, "creator", WORDS), (2, "operator", ANSWER)):
        values = {"id": said.id, "seq": seq, "side": side, "text": text}
        run(engine, "INSERT INTO statement_comment VALUES (:id, :seq, :side, :text, 'c_0', 5)", **values)
    return kept


def settle_everything(books):
    for told in payouts_store.of_creator(books.engine, "c_0"):
        if told.state == "pending":
            books.export(told.batch)
            books.bob.settle(told.batch, ref="bank-2")


def test_erasing_a_creator_changes_no_amount_and_no_hash_and_leaves_no_word_of_them(books, tmp_path):
    engine = books.engine
    settle_everything(books)
    others = set(sa.inspect(engine).get_table_names()) - STAYS_THE_SAME
    before, owed = rows(engine, others), store.balances(engine)
    statements = {one.id: store.statement(engine, one.id) for one in store.list_statements(engine)}
    assert NAME in {one.name for one in statements.values()}

    erased = erase_creator(engine, REF, clock=books.clock, by="Ines")

    assert (erased.creator, erased.changed) == ("c_0", True)
    assert (erased.works, erased.kept) == (("w_4",), ("w_0",)), "others have a part in w_0"
    mine = {currency: grains for (code, currency), grains in owed.items() if code == ledger.payee("c_0")}
    assert erased.owed == {currency: grains for currency, grains in mine.items() if grains}
    assert (rows(engine, others), store.balances(engine)) == (before, owed)
    for one in store.list_statements(engine):
        was, now = statements[one.id], store.statement(engine, one.id)
        assert now.name == (ERASED if was.creator == "c_0" else was.name)
        assert now == type(was)(
            **{name: getattr(was, name) for name in was.__struct_fields__} | {"name": now.name}
        )
    assert {one.id: one.named for one in audit(engine) if one.state == "broken"} == {}
    words = (NAME, REF, TEXT, WORDS, ANSWER, "6XY8")
    found = repr(rows(engine, sa.inspect(engine).get_table_names()))
    assert [word for word in words if word in found] == []
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [word for word in words[:-1] if word.encode() in files] == [], "nor in the database's own files"


def test_what_is_owed_stays_owed_says_why_it_waits_and_is_paid_when_an_account_is_entered_again(books):
    settle_everything(books)
    erase_creator(books.engine, "c_0", clock=books.clock)
    payees = Payees(books.engine, clock=books.clock, key=lambda: bytes(32))
    assert payees.held("c_0") == HOLD
    assert payees.known("c_0") == []
    assert "c_0" not in {one.creator for one in payees.newest()}
    back = account("manual", "cheque to somebody", holder="Somebody", country_code="DE")
    assert payees.enter("c_0", back, minimum_grains=0, currency="USD").version == 2
    assert [one.version for one in payees.known("c_0")] == [2]
    again = erase_creator(books.engine, "c_0", clock=books.clock)
    assert not again.changed


def test_what_is_under_way_is_finished_first(books):
    waits = next(
        one
        for one in books.creators
        if any(told.state == "pending" for told in payouts_store.of_creator(books.engine, one))
    )
    with pytest.raises(Conflict, match=f"a payment to {waits} is under way"):
        erase_creator(books.engine, waits, clock=books.clock)
    settle_everything(books)
    claim = books.claim("w_5", "c_0")
    with pytest.raises(Conflict, match="waits for a decision"):
        erase_creator(books.engine, "c_0", clock=books.clock)
    books.ownership.decide_claim(claim, "withdrawn", "thought better of it")
    assert erase_creator(books.engine, "c_0", clock=books.clock).changed


def test_a_payment_under_way_counts_however_many_came_after_it(books):
    creator, waits = next(
        (one, told)
        for one in books.creators
        for told in payouts_store.of_creator(books.engine, one)
        if told.state == "pending"
    )
    first, _ = payouts_store.batch(books.engine, waits.batch)
    for number in range(payouts_store.LISTED_MAX):
        later = msgspec.structs.replace(first, id=f"pob_{number}", created_us=first.created_us + 1 + number)
        values = {"id": later.id, "at": later.created_us, "body": canonical(later).decode()}
        run(books.engine, "INSERT INTO payout_batch VALUES (:id, 'manual', 'USD', :at, :body)", **values)
        run(books.engine, "INSERT INTO payout VALUES (:id, :id, :creator)", id=later.id, creator=creator)
        run(
            books.engine,
            "INSERT INTO payout_event VALUES (:id, 1, 'cancelled', '', '', 'bob', 5)",
            id=later.id,
        )
    held = held_of(books.engine, creator, key=lambda: bytes(32)).tables["payout"]
    assert len(held) == len({row["batch"] for row in held}) > payouts_store.LISTED_MAX
    with pytest.raises(Conflict, match=f"a payment to {creator} is under way in {waits.batch}"):
        erase_creator(books.engine, creator, clock=books.clock)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payee_account SET sealed = '', last4 = '' WHERE creator_id = 'c_1'",
        "UPDATE payee_account SET minimum = 7 WHERE creator_id = 'c_0'",
        "UPDATE statement SET body = replace(body, 'c_1', 'c_2') WHERE creator_id = 'c_1'",
        "UPDATE statement SET closing = closing + 1 WHERE creator_id = 'c_0'",
        "UPDATE statement_comment SET text = 'I never said that'",
        "UPDATE event SET price_grains = 1",
        "UPDATE event SET subject_digest = 'x'",
        "DELETE FROM payee_account",
        "DELETE FROM erasure",
    ],
)
def test_history_may_forget_only_what_is_said_of_whom_was_erased(books, statement):
    settle_everything(books)
    erase_creator(books.engine, "c_0", clock=books.clock)
    with pytest.raises(DatabaseError, match="append-only"):
        run(books.engine, statement)

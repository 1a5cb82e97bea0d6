import json
import zlib

import sqlalchemy as sa

from proxy.billing.held import document
from proxy.billing.held_store import held_of
from proxy.billing.tax_numbers_store import TaxNumbers
from tests.books import Bookkeeping, a_year_of_everything


def test_a_creator_is_told_everything_of_theirs_and_nothing_of_others(engine):
    books = Bookkeeping(engine)
    with engine.begin() as connection:
        text = {"text": zlib.compress(b"A lamp.")}
        connection.execute(sa.text("INSERT INTO work_text VALUES ('w_0', :text), ('w_1', :text)"), text)
    TaxNumbers(engine, clock=books.clock, key=lambda: bytes(32)).enter("c_0", "DE 123", "DE")
    a_year_of_everything(books)
    held = held_of(engine, "c_0", key=lambda: bytes(32))
    tables = held.tables
    assert held.texts == {"w_0": "A lamp."}
    assert [row["name"] for row in tables["creator"]] == ["c_0"]
    assert tables["payee_account"][0]["account"] == "cheque to c_0"
    assert tables["tax_number"][0]["number"] == "DE 123"
    assert {row["creator_id"] for row in tables["statement"]} == {"c_0"}
    assert tables["statement"][0]["body"]["name"] == "c_0"
    assert tables["payout"]
    assert [row["code"] for row in tables["account"]] == ["liab:payee:c_0"]
    said = document(held, zipped=False)
    assert json.loads(said)["creator"] == "c_0"
    assert b"cheque to c_1" not in said
    assert b'"sealed"' not in said

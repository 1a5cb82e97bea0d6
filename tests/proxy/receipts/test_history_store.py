"""The registry's changes go into the log in their order, once, and before any answer that quotes them."""

from __future__ import annotations

from proxy.catalogue.works import Consent
from proxy.metering.usage import Line
from proxy.receipts import history_store, store
from proxy.receipts.appending import append_some, drain
from proxy.receipts.history import Batch
from proxy.receipts.verify import canonical, changes_entry
from tests.books import Bookkeeping
from tests.proxy.receipts.making import SECRETS


def secrets_of(_us):
    return SECRETS


def kinds(engine):
    size = store.read_state(engine).size
    return [entry[0] for entry in store.read_entries(engine, 0, size)]


def test_changes_are_logged_in_their_order_before_the_answers_that_quote_them(any_engine):
    books = Bookkeeping(any_engine)
    for work in ("w_0", "w_1"):
        books.catalogue.set_consent(work, Consent.of("output_influence", "denied"))
    books.answer([Line("w_0", 5)])
    assert history_store.logged_upto(any_engine) == 0
    drain(any_engine, secrets_of)
    books.catalogue.withdraw("w_2")
    books.answer([Line("w_0", 5)])
    drain(any_engine, secrets_of)
    assert append_some(any_engine, secrets_of) == 0
    seq = books.seq()
    assert kinds(any_engine) == [3, 1, 3, 1]
    assert history_store.logged_upto(any_engine) == seq
    assert [one.seq for one in history_store.batch_with(any_engine, seq)] == [seq]
    assert [one.seq for one in history_store.batch_with(any_engine, 1)] == list(range(1, seq))
    assert history_store.batch_with(any_engine, seq + 1) == history_store.batch_with(any_engine, 0) == []
    assert history_store.batches_between(any_engine, 0, 4) == [seq - 1, seq]
    (change,) = history_store.changes_of(any_engine, "w_2")
    assert (change.seq, change.kind) == (seq, "work_withdrawn")
    assert history_store.change_at(any_engine, seq) == change
    assert history_store.said_of(any_engine, change) == {"work": "w_2"}
    consent = history_store.changes_of(any_engine, "w_0")[-1]
    assert history_store.said_of(any_engine, consent) == {"use": "output_influence", "verdict": "denied"}


def test_a_long_history_goes_in_by_the_batch_and_each_is_what_it_is_made_of(engine, monkeypatch):
    books = Bookkeeping(engine)
    for turn in range(10):
        books.catalogue.set_consent("w_0", Consent.of("output_influence", ("paid", "free")[turn % 2]))
    monkeypatch.setattr("proxy.receipts.history_store.CHANGES_AT_ONCE", 4)
    drain(engine, secrets_of)
    seq = books.seq()
    ends = history_store.batches_between(engine, 0, store.read_state(engine).size)
    assert ends == sorted({*range(4, seq, 4), seq})
    made = [Batch.of(history_store.batch_with(engine, end), secrets_of) for end in ends]
    entries = list(store.read_entries(engine, 0, len(ends)))
    assert entries == [changes_entry(canonical(one.to_object())) for one in made]


def test_a_change_made_while_answers_are_looked_for_is_logged_before_who_quotes_it(engine, monkeypatch):
    books = Bookkeeping(engine)
    drain(engine, secrets_of)
    marks = history_store.unlogged

    def meanwhile(some):
        monkeypatch.undo()
        books.catalogue.withdraw("w_3")
        books.answer([Line("w_0", 5)])
        return marks(some)

    monkeypatch.setattr("proxy.receipts.history_store.unlogged", meanwhile)
    before = len(kinds(engine))
    drain(engine, secrets_of)
    assert kinds(engine)[before:] == [3, 1]


def test_names_of_batches_sort_as_their_numbers_do():
    numbers = [1, 9, 10, 99, 100, 10**18]
    assert sorted(map(history_store.ref_of, numbers)) == [history_store.ref_of(one) for one in numbers]

import msgspec

from proxy.billing import export_store
from proxy.billing.export_store import PAGE
from proxy.billing.statements import Books
from proxy.billing.store import list_statements, write

CREATORS = 2 * PAGE + 3


def test_every_statement_is_read_once_over_many_pages_and_filters_hold(engine, close):
    names = {f"c_{n:04d}": f"Creator {n}" for n in range(CREATORS)}
    for seq, label in enumerate(("2026-11", "2026-12")):
        closing = close([], Books({}, names, {}, dict.fromkeys(names, 7 + seq)), label=label)
        write(engine, closing, after_seq=seq)
    of_one = list(export_store.each(engine, label="2026-12"))
    assert [one.id for one in of_one] == sorted({one.id for one in of_one})
    assert {one.creator for one in of_one} == names.keys()
    assert {one.opening_grains for one in of_one} == {8}
    assert len(export_store.ids_of(engine)) == 2 * CREATORS == len(list(export_store.each(engine)))
    (hers,) = export_store.each(engine, label="2026-11", creator="c_0001")
    assert hers.name == "Creator 1"
    assert export_store.ids_of(engine, label="2026-11", creator="c_0001") == [hers.id]
    assert export_store.ids_of(engine, label="1999-01") == []
    assert list(export_store.each(engine, creator="nobody")) == []
    assert msgspec.structs.asdict(hers)["period"] == "2026-11"
    listed, last = [], ""
    while page := export_store.listed(engine, after=last, limit=PAGE):
        listed, last = listed + page, page[-1].id
    assert listed == list_statements(engine)
    of_one_period = export_store.listed(engine, label="2026-11", after=hers.id, limit=1)
    assert [(one.period, one.creator) for one in of_one_period] == [("2026-11", "c_0002")]

import pytest

from proxy.access.subjects import SubjectKeys
from proxy.billing import store
from proxy.billing.audit_store import audit
from proxy.billing.subjects_store import answers_of, app_named, erase_subject
from proxy.billing.users import subject_digest
from proxy.database import registry_seq
from proxy.errors import NotFound
from proxy.metering.store import find_event
from proxy.metering.usage import Line
from tests.books import Bookkeeping


@pytest.fixture
def keys(tmp_path):
    return SubjectKeys(tmp_path)


@pytest.fixture
def books(engine, keys):
    """Two users of one app over two periods, and one of them in another app too."""
    kept = Bookkeeping(engine)
    for period, label in enumerate(("2026-11", "2026-12")):
        for app, user in (("app_0", "user-7"), ("app_0", "user-8"), ("app_1", "user-7")):
            digest = subject_digest(keys.key(app, period), user)
            used, shares = kept.records([Line("w_0", 500_000)], price_grains=1_000, app=app)
            kept.carry(
                [
                    type(used)(
                        **{f: getattr(used, f) for f in used.__struct_fields__}
                        | {"subject_digest": digest, "images": 2, "milliseconds": 500}
                    ),
                    shares,
                ]
            )
        kept.close(label)
    return kept


def digests(books):
    found = [find_event(books.engine, f"rct_{number:026d}") for number in range(1, books.number + 1)]
    return [event.subject_digest for event in found]


def test_a_users_answers_are_found_by_app_and_id_while_the_keys_are_kept(books, keys):
    found = answers_of(books.engine, keys, "app_0", "user-7")
    assert [(one.id[-1], one.period) for one in found] == [("1", 0), ("4", 1)]
    assert {(one.images, one.milliseconds) for one in found} == {(2, 500)}
    keys.destroy(1)
    assert [one.period for one in answers_of(books.engine, keys, "app_0", "user-7")] == [1]
    assert answers_of(books.engine, keys, "app_0", "user-9") == []


def test_erasing_a_user_makes_their_answers_one_unknown_persons_and_changes_no_amount_and_no_hash(
    books, keys
):
    engine = books.engine
    before, balances, statements = (
        digests(books),
        store.balances(engine),
        list(store.statements(engine, "2026-11")),
    )
    with engine.connect() as connection:
        seq = registry_seq(connection)
    erased = erase_subject(engine, keys, "app_0", "user-7", clock=books.clock, by="Ines")
    assert [one[-1] for one in erased] == ["1", "4"]
    after = digests(books)
    assert [was != now for was, now in zip(before, after, strict=True)] == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert len(set(after)) == len(after), "an unknown person is another in another period, as everybody is"
    assert store.balances(engine) == balances
    assert list(store.statements(engine, "2026-11")) == statements
    assert {one.id for one in audit(engine) if one.state == "broken"} == set()
    assert answers_of(engine, keys, "app_0", "user-7") == []
    assert len(answers_of(engine, keys, "app_1", "user-7")) == 2
    assert erase_subject(engine, keys, "app_0", "user-7", clock=books.clock) == []
    with engine.connect() as connection:
        assert registry_seq(connection) == seq + 1


def test_an_app_is_named_by_id_or_name(books):
    assert app_named(books.engine, "app_1") == "app_1"
    with pytest.raises(NotFound):
        app_named(books.engine, "nobody")

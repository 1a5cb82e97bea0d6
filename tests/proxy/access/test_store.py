import threading

import anyio
import pytest
import sqlalchemy as sa

from proxy.access.store import (
    LOOKUPS_PER_S,
    UNKNOWN_KEPT,
    KeyRing,
    app_names,
    count_living,
    create_key,
    list_keys,
    revoke,
)
from proxy.clock import RandomIds, SystemClock
from proxy.database import registry_seq
from proxy.errors import BadRequest, NotFound, Unavailable

pytestmark = pytest.mark.anyio


def add_creator(engine, creator_id="c_1", ref="ada"):
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO creator (id, ref, name, country, created_us) VALUES (:id, :ref, 'Ada', '', 0)"
            ),
            {"id": creator_id, "ref": ref},
        )


@pytest.fixture
def app_key(engine, clock, ids):
    return create_key(engine, "app", clock=clock, ids=ids, name="reader")


@pytest.fixture
def ring(engine, clock):
    return KeyRing(engine, clock=clock)


def unknown_key(number: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return "ec_app_" + "".join(letters[number >> (5 * place) & 31] for place in range(32))


def test_the_secret_is_nowhere_in_the_store(engine, app_key, store_url, tmp_path):
    engine.dispose()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("registry.db*"))
    assert b"reader" in stored
    assert app_key.secret.encode() not in stored
    assert app_key.secret[7:-4].encode() not in stored


def test_lists_show_whose_a_key_is_and_four_characters(engine, app_key):
    (shown,) = list_keys(engine)
    assert (shown.id, shown.app, shown.shown) == (app_key.id, "reader", f"ec_app_...{app_key.secret[-4:]}")


def test_two_keys_of_one_name_belong_to_one_app(engine, clock, ids, app_key):
    second = create_key(engine, "app", clock=clock, ids=ids, name="reader")
    assert second.principal.app_id == app_key.principal.app_id
    assert app_names(engine) == {app_key.principal.app_id: "reader"}


def test_an_app_without_a_name_is_the_default_one(engine, clock, ids):
    assert create_key(engine, "app", clock=clock, ids=ids).principal.name == "default"


@pytest.mark.parametrize("handle", ["c_1", "ada"])
def test_a_creator_key_is_made_by_id_or_ref(engine, clock, ids, handle):
    add_creator(engine)
    assert create_key(engine, "creator", clock=clock, ids=ids, creator=handle).principal.creator_id == "c_1"


def test_an_id_wins_over_another_creators_ref_that_looks_like_it(engine, clock, ids):
    add_creator(engine, "c_2", "c_1")
    add_creator(engine, "c_1", "ada")
    assert create_key(engine, "creator", clock=clock, ids=ids, creator="c_1").principal.creator_id == "c_1"


@pytest.mark.parametrize(
    ("role", "wish", "error"),
    [
        ("creator", {}, BadRequest),
        ("creator", {"creator": "nobody"}, NotFound),
        ("app", {"creator": "ada"}, BadRequest),
        ("root", {}, BadRequest),
        ("app", {"name": "x" * 201}, BadRequest),
        ("app", {"name": "a\nb"}, BadRequest),
    ],
)
def test_a_contradictory_wish_makes_no_key(engine, clock, ids, role, wish, error):
    with pytest.raises(error):
        create_key(engine, role, clock=clock, ids=ids, **wish)
    assert list_keys(engine) == []


def test_revoking_twice_is_told_apart_and_harmless(engine, clock, app_key):
    assert [revoke(engine, app_key.id, clock=clock), revoke(engine, app_key.id, clock=clock)] == [True, False]
    assert count_living(engine, "app") == 0
    with pytest.raises(NotFound):
        revoke(engine, "key_none", clock=clock)


def test_every_change_of_keys_takes_the_next_number(engine, clock, app_key):
    revoke(engine, app_key.id, clock=clock)
    with engine.connect() as connection:
        kinds = connection.execute(sa.text("SELECT seq, kind FROM registry_event ORDER BY seq")).all()
    assert [tuple(row) for row in kinds] == [(1, "key_created"), (2, "key_revoked")]


async def test_a_new_key_works_before_the_next_poll(ring, app_key):
    assert await ring.find(app_key.secret) == app_key.principal


async def test_requests_that_arrive_together_with_a_new_key_ask_the_store_once(ring, app_key):
    found = []

    async def find():
        found.append(await ring.find(app_key.secret))

    async with anyio.create_task_group() as tasks:
        for _ in range(5 * LOOKUPS_PER_S):
            tasks.start_soon(find)
    assert found == [app_key.principal] * (5 * LOOKUPS_PER_S)


async def test_after_a_poll_a_known_key_asks_the_store_nothing(engine, ring, app_key):
    await ring.refresh()
    asked = []
    sa.event.listen(engine, "before_cursor_execute", lambda *_: asked.append(1))
    assert await ring.find(app_key.secret) == app_key.principal
    assert asked == []


async def test_a_revocation_by_another_process_acts_within_a_second(engine, second_engine, app_key):
    ring = KeyRing(engine, clock=SystemClock(), refresh_ms=50)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring.run)
        assert await ring.find(app_key.secret) is not None
        revoke(second_engine, app_key.id, clock=SystemClock())
        with anyio.fail_after(1):
            while await ring.find(app_key.secret) is not None:  # noqa: ASYNC110  another process sends no event
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_an_error_nobody_expected_does_not_end_the_polling(engine, app_key):
    class Stumbling(KeyRing):
        stumbles = 2

        def _load_if_newer(self, known_seq):
            self.stumbles -= 1
            if self.stumbles >= 0:
                raise RuntimeError("a bug of ours")
            found.set()
            return super()._load_if_newer(known_seq)

    found = threading.Event()
    ring = Stumbling(engine, clock=SystemClock(), refresh_ms=10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring.run)
        assert await anyio.to_thread.run_sync(found.wait, 5)
        tasks.cancel_scope.cancel()


async def test_a_key_made_by_another_process_works_at_once(ring, second_engine, clock):
    await ring.refresh()
    made = create_key(second_engine, "app", clock=clock, ids=RandomIds(), name="late")
    assert await ring.find(made.secret) == made.principal


async def test_without_a_store_known_keys_work_and_unknown_ones_cannot_be_told(
    engine, ring, app_key, tmp_path
):
    await ring.refresh()
    engine.dispose()
    for path in tmp_path.glob("registry.db*"):
        path.unlink()
    (tmp_path / "registry.db").mkdir()
    assert not await ring.refresh()
    assert ring.away
    assert await ring.find(app_key.secret) == app_key.principal
    with pytest.raises(Unavailable):
        await ring.find(unknown_key(1))


async def test_the_ring_finds_the_store_again(engine, ring, app_key, tmp_path):
    engine.dispose()
    (tmp_path / "registry.db").rename(tmp_path / "gone.db")
    (tmp_path / "registry.db").mkdir()
    await ring.refresh()
    assert ring.away
    (tmp_path / "registry.db").rmdir()
    (tmp_path / "gone.db").rename(tmp_path / "registry.db")
    assert await ring.refresh()
    assert not ring.away


async def test_guessing_does_not_keep_the_store_busy(engine, ring):
    for number in range(LOOKUPS_PER_S):
        assert await ring.find(unknown_key(number)) is None
    with pytest.raises(Unavailable) as refused:
        await ring.find(unknown_key(LOOKUPS_PER_S))
    assert refused.value.code == "key_lookups_busy"


async def test_a_second_later_unknown_keys_are_looked_up_again(ring, clock):
    for number in range(LOOKUPS_PER_S):
        await ring.find(unknown_key(number))
    clock.advance(1)
    assert await ring.find(unknown_key(99)) is None


async def test_a_key_known_to_be_unknown_is_not_asked_for_again(engine, ring):
    await ring.find(unknown_key(1))
    asked = []
    sa.event.listen(engine, "before_cursor_execute", lambda *_: asked.append(1))
    assert await ring.find(unknown_key(1)) is None
    assert await ring.find("no key at all") is None
    assert asked == []


async def test_what_is_remembered_of_guesses_is_bounded(ring, clock):
    ring._unknown.update(dict.fromkeys(map(str, range(UNKNOWN_KEPT))))
    await ring.find(unknown_key(1))
    assert len(ring._unknown) == UNKNOWN_KEPT


async def test_a_look_up_overtaken_by_a_revocation_lets_nobody_in(engine, clock, app_key):
    class Overtaken(KeyRing):
        def _look_up(self, digest):
            seen = super()._look_up(digest)
            revoke(engine, app_key.id, clock=clock)
            self._seq, self._known = self._load_if_newer(self._seq)
            return seen

    ring = Overtaken(engine, clock=clock)
    assert await ring.find(app_key.secret) is None
    assert await ring.find(app_key.secret) is None


async def test_a_change_of_works_does_not_load_the_keys_again(engine, ring, app_key):
    await ring.refresh()
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO registry_event VALUES (2, 'work_registered', 'w_1', '', '', 0)")
        )
    assert not await ring.refresh()
    assert await ring.find(app_key.secret) == app_key.principal


@pytest.mark.postgres
async def test_postgresql_keeps_the_same_promises(postgres_engine, clock, ids):
    ring = KeyRing(postgres_engine, clock=clock)
    made = create_key(postgres_engine, "app", clock=clock, ids=ids, name="reader")
    assert await ring.find(made.secret) == made.principal
    assert await ring.refresh()
    assert revoke(postgres_engine, made.id, clock=clock)
    assert await ring.refresh()
    assert await ring.find(made.secret) is None
    with postgres_engine.connect() as connection:
        assert registry_seq(connection) == 2


async def test_whoever_signed_in_by_a_key_holds_it_until_it_is_revoked(engine, clock, app_key, ring):
    await ring.refresh()
    found = ring.holder(app_key.id)
    assert (found.role, found.key_id) == ("app", app_key.id)
    assert ring.holder("key_unknown") is None
    revoke(engine, app_key.id, clock=clock)
    await ring.refresh()
    assert ring.holder(app_key.id) is None

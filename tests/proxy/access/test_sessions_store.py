"""Sessions and links in the store: once, for a time, and no longer than the key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from proxy.access.keys import Principal
from proxy.access.limits_store import limit_key
from proxy.access.sessions_store import HOUR_US, Sessions
from proxy.access.store import create_key, revoke
from proxy.catalogue.store import Catalogue
from proxy.errors import BadRequest, NotFound, Unauthenticated, Unavailable


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request):
    return request.getfixturevalue("engine" if request.param == "sqlite" else "postgres_engine")


@pytest.fixture
def sessions(store, clock):
    return Sessions(store, clock=clock, session_hours=2, link_hours=3)


def test_a_session_ends_with_its_time_its_key_or_its_sign_out(sessions, store, clock, ids):
    keys = [create_key(store, "operator", clock=clock, ids=ids, name="Ines") for _ in range(3)]
    tokens = [sessions.begin(key.principal)[0] for key in keys]
    assert [sessions.find(token).principal for token in tokens] == [key.principal for key in keys]
    revoke(store, keys[0].id, clock=clock)
    limit_key(store, keys[1].id, clock=clock, models=None, expires_us=clock.now_us() + HOUR_US)
    sessions.end(tokens[2])
    assert [sessions.find(token) is None for token in tokens] == [True, False, True]
    clock.advance(3_600)
    assert sessions.find(tokens[1]) is None


def test_a_session_lasts_as_long_as_was_said(sessions, store, clock, ids):
    token, until_us = sessions.begin(
        create_key(store, "operator", clock=clock, ids=ids, name="Ines").principal
    )
    clock.advance(2 * 3_600 - 1)
    assert until_us == clock.now_us() + 1_000_000
    assert sessions.find(token) is not None
    clock.advance(1)
    assert sessions.find(token) is None


def test_only_hashes_are_kept(sessions, store, clock, ids):
    catalogue = Catalogue(store, clock=clock, ids=ids)
    catalogue.add_creator("Ada", ref="ada")
    link = sessions.link("creator", creator="ada", by="ines")
    token, _ = sessions.enter(link.secret)
    with store.connect() as connection:
        rows = [
            str(tuple(row))
            for table in ("SELECT * FROM portal_session", "SELECT * FROM portal_link")
            for row in connection.execute(sa.text(table))
        ]
    assert len(rows) == 2
    assert not [row for row in rows if token in row or link.secret in row]


def test_a_link_is_used_once_however_many_click_at_once(sessions, store, clock, ids):
    Catalogue(store, clock=clock, ids=ids).add_creator("Ada", ref="ada")
    secret = sessions.link("creator", creator="ada", by="ines").secret

    def enter(_: int) -> str:
        try:
            return sessions.enter(secret)[0]
        except Unauthenticated:
            return ""

    with ThreadPoolExecutor(4) as threads:
        tokens = [token for token in threads.map(enter, range(4)) if token]
    assert len(tokens) == 1
    who = sessions.find(tokens[0]).principal
    assert (who.role, who.name) == ("creator", "Ada")
    assert who.key_id.startswith("session_")


def test_a_link_ends_with_its_time(sessions, store, clock):
    link = sessions.link("operator", name="Ines", by="omar")
    clock.advance(3 * 3_600)
    assert clock.now_us() == link.until_us
    with pytest.raises(Unauthenticated, match="time is over"):
        sessions.enter(link.secret)


def test_a_creator_who_is_signed_out_everywhere_has_no_open_link_left(sessions, store, clock, ids):
    Catalogue(store, clock=clock, ids=ids).add_creator("Ada", ref="ada")
    used, unused = (sessions.link("creator", creator="ada", by="ines") for _ in range(2))
    token, _ = sessions.enter(used.secret)
    assert sessions.end_all(used.creator_id) == 1
    assert sessions.find(token) is None
    with pytest.raises(Unauthenticated):
        sessions.enter(unused.secret)


@pytest.mark.parametrize(
    ("role", "who", "error"),
    [
        ("app", {}, BadRequest), ("creator", {}, BadRequest), ("operator", {}, BadRequest),
        ("operator", {"creator": "ada", "name": "x"}, BadRequest), ("creator", {"creator": "nobody"}, NotFound),
        ("operator", {"name": "a\nb"}, BadRequest), ("operator", {"name": "a" * 300}, BadRequest),
    ],
)  # fmt: skip
def test_a_link_is_for_one_person_who_is_known(sessions, role, who, error):
    with pytest.raises(error):
        sessions.link(role, by="ines", **who)


def test_what_ended_long_ago_is_forgotten(sessions, store, clock, ids):
    key = create_key(store, "operator", clock=clock, ids=ids, name="Ines")
    sessions.begin(key.principal)
    clock.advance(100 * 3_600)
    sessions.begin(key.principal)
    with store.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM portal_session")).scalar_one() == 1


def test_what_is_no_token_never_reaches_the_store(clock):
    nowhere = Sessions(
        sa.create_engine("sqlite:////nowhere/at/all"), clock=clock, session_hours=1, link_hours=1
    )
    assert nowhere.find("short") is None
    with pytest.raises(Unauthenticated):
        nowhere.enter("short")
    with pytest.raises(Unavailable):
        nowhere.find("a" * 43)
    with pytest.raises(Unavailable):
        nowhere.begin(Principal("operator", "key_1"))


def test_an_apps_link_stands_for_its_oldest_living_key(sessions, store, clock, ids):
    keys = [create_key(store, "app", clock=clock, ids=ids, name="shop") for _ in range(2)]
    create_key(store, "app", clock=clock, ids=ids, name="rival")
    links = [sessions.link("app", name="shop", by="ines") for _ in range(3)]
    revoke(store, keys[0].id, clock=clock)
    found = sessions.find(sessions.enter(links[0].secret)[0])
    assert found.principal == keys[1].principal
    with pytest.raises(Unauthenticated):
        sessions.enter(links[0].secret)
    revoke(store, keys[1].id, clock=clock)
    with pytest.raises(NotFound, match="no app 'shop' has a living key"):
        sessions.enter(links[1].secret)
    for name in ("shop", "nobody"):
        with pytest.raises(NotFound):
            sessions.link("app", name=name, by="ines")
    with pytest.raises(BadRequest):
        sessions.link("app", by="ines")

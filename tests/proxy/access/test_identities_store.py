"""Linked accounts in the store: whose they are, what they open, and what ends them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from proxy.access.identities_store import FLOW_US, LINKS_MAX, Flow, Identities, session_hash
from proxy.access.keys import Principal
from proxy.access.limits_store import limit_key
from proxy.access.sessions_store import Sessions
from proxy.access.store import create_key, revoke
from proxy.catalogue.store import Catalogue
from proxy.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthenticated, Unavailable

ISSUER = "https://id.example"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request):
    return request.getfixturevalue("engine" if request.param == "sqlite" else "postgres_engine")


@pytest.fixture
def identities(store, clock, ids):
    return Identities(store, clock=clock, ids=ids)


@pytest.fixture
def sessions(store, clock):
    return Sessions(store, clock=clock, session_hours=2, link_hours=3)


@pytest.fixture
def ada(store, clock, ids):
    """A creator who came by a link."""
    Catalogue(store, clock=clock, ids=ids).add_creator("Ada", ref="ada")
    return Principal("creator", "session_0123456789abcdef", "", _id(store, "ada"), "Ada")


def _id(store, ref):
    with store.connect() as connection:
        return connection.execute(
            sa.text("SELECT id FROM creator WHERE ref = :ref"), {"ref": ref}
        ).scalar_one()


def kinds(store):
    with store.connect() as connection:
        rows = connection.execute(sa.text("SELECT kind, actor FROM registry_event ORDER BY seq")).all()
    return [tuple(row) for row in rows if row.kind.startswith("identity")]


def test_an_account_that_nobody_linked_opens_nothing(identities, ada):
    with pytest.raises(Forbidden, match="nobody here is linked") as refused:
        identities.who(ISSUER, "sub-1")
    assert refused.value.code == "oidc_unknown"
    identities.link(ISSUER, "sub-1", ada)
    for issuer, subject in (("https://evil.example", "sub-1"), (ISSUER, "sub-2"), (ISSUER + "/", "sub-1")):
        with pytest.raises(Forbidden):
            identities.who(issuer, subject)


def test_a_linked_account_opens_what_linked_it_until_it_is_removed(identities, sessions, store, ada):
    made, is_new = identities.link(ISSUER, "sub-1", ada)
    assert (is_new, made.is_open, made.creator_id, made.linked_by) == (True, True, ada.creator_id, "Ada")
    assert identities.link(ISSUER, "sub-1", ada) == (made, False)
    who, identity = identities.who(ISSUER, "sub-1")
    assert (who.role, who.creator_id, who.name, who.key_id) == ("creator", ada.creator_id, "Ada", "")
    token, _ = sessions.begin(who, identity)
    assert sessions.find(token).principal.creator_id == ada.creator_id
    (seen,) = identities.of(ada)
    assert seen.used_us is not None
    assert identities.remove(identity, by="Ines")
    assert sessions.find(token) is None
    assert identities.of(ada) == []
    assert not identities.remove(identity, by="Ines")
    with pytest.raises(Unauthenticated, match="linked no more"):
        sessions.begin(who, identity)
    assert kinds(store) == [("identity_linked", "Ada"), ("identity_unlinked", "Ines")]


def test_what_was_linked_by_a_key_ends_with_the_key(identities, sessions, store, clock, ids):
    for subject, ending in (("sub-1", "revoked"), ("sub-2", "expired")):
        key = create_key(store, "operator", clock=clock, ids=ids, name="Ines")
        token, _ = sessions.begin(key.principal)
        identities.link(ISSUER, subject, sessions.find(token).principal)
        who, identity = identities.who(ISSUER, subject)
        assert who == key.principal
        by_account, _ = sessions.begin(who, identity)
        if ending == "revoked":
            revoke(store, key.id, clock=clock)
        else:
            limit_key(store, key.id, clock=clock, expires_us=clock.now_us())
        assert sessions.find(by_account) is None
        with pytest.raises(Unauthenticated, match="has ended") as refused:
            identities.who(ISSUER, subject)
        assert refused.value.code == "oidc_ended"
    assert [one.is_open for one in identities.of()] == [False, False]


def test_who_has_a_new_key_links_the_same_account_anew(identities, store, clock, ids):
    old, new = (create_key(store, "operator", clock=clock, ids=ids, name="Ines") for _ in range(2))
    first, _ = identities.link(ISSUER, "sub-1", old.principal)
    revoke(store, old.id, clock=clock)
    second, is_new = identities.link(ISSUER, "sub-1", new.principal)
    assert is_new
    assert second.id != first.id
    assert identities.who(ISSUER, "sub-1")[0].key_id == new.id


def test_an_account_is_one_persons_and_nobody_takes_it_over(identities, store, clock, ids, ada):
    identities.link(ISSUER, "sub-1", ada)
    Catalogue(store, clock=clock, ids=ids).add_creator("Eve", ref="eve")
    eve = Principal("creator", "session_1", "", _id(store, "eve"), "Eve")
    operator = create_key(store, "operator", clock=clock, ids=ids, name="Ada").principal
    for other in (eve, operator):
        with pytest.raises(Conflict, match="somebody else"):
            identities.link(ISSUER, "sub-1", other)
        assert not identities.remove(identities.of(ada)[0].id, by="x", of=other)
    assert identities.who(ISSUER, "sub-1")[0].creator_id == ada.creator_id


def test_one_person_has_a_bounded_number_of_them(identities, ada):
    for number in range(LINKS_MAX):
        identities.link(ISSUER, f"sub-{number}", ada)
    with pytest.raises(Conflict, match=f"{LINKS_MAX} accounts"):
        identities.link(ISSUER, "one-more", ada)
    for subject in ("", "a" * 256, "a\nb"):
        with pytest.raises(BadRequest):
            identities.link(ISSUER, subject, ada)


def test_an_operator_links_for_others(identities, store, clock, ids, ada):
    made, _ = identities.link_for(ISSUER, "sub-1", "creator", creator="ada", by="Ines")
    assert (made.creator_id, made.linked_by) == (ada.creator_id, "Ines")
    key = create_key(store, "app", clock=clock, ids=ids, name="shop")
    identities.link_for(ISSUER, "sub-2", "app", name="shop", by="Ines")
    assert identities.who(ISSUER, "sub-2")[0] == key.principal
    identities.link_for(ISSUER, "sub-3", "operator", name="Ben", by="Ines")
    assert identities.who(ISSUER, "sub-3")[0] == Principal("operator", "", "", "", "Ben")
    assert [one.subject for one in identities.of(key.principal)] == ["sub-2"]
    for role, who, kind in (
        ("creator", {"name": "ada"}, BadRequest),
        ("operator", {}, BadRequest),
        ("operator", {"creator": "ada"}, BadRequest),
        ("operator", {"name": "a" * 300}, BadRequest),
        ("creator", {"creator": "nobody"}, NotFound),
        ("app", {"name": "nothing"}, NotFound),
    ):
        with pytest.raises(kind):
            identities.link_for(ISSUER, "sub-9", role, **who, by="Ines")
    revoke(store, key.id, clock=clock)
    with pytest.raises(NotFound, match="living key"):
        identities.who(ISSUER, "sub-2")


def test_a_sign_in_under_way_is_ended_by_the_first_way_back(identities, clock):
    identities.begin("c" * 43, provider="acme", back="/portal/works", session="s" * 43)
    assert identities.take("d" * 43, provider="acme") is None
    assert identities.take("c" * 43, provider="other") is None
    assert identities.take("c" * 43, provider="acme") == Flow("acme", session_hash("s" * 43), "/portal/works")
    assert identities.take("c" * 43, provider="acme") is None
    identities.begin("e" * 43, provider="acme", back="/portal/")
    clock.advance(FLOW_US // 1_000_000)
    assert identities.take("e" * 43, provider="acme") is None


def test_of_two_who_come_back_at_once_one_is_let_in(identities):
    identities.begin("c" * 43, provider="acme", back="/portal/")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: identities.take("c" * 43, provider="acme"), range(4)))
    assert sum(one is not None for one in found) == 1


def test_sign_ins_that_were_left_do_not_pile_up_and_hold_no_secret(identities, store, clock):
    for number in range(5):
        identities.begin(str(number) * 43, provider="acme", back="/portal/")
    clock.advance(FLOW_US // 1_000_000 + 1)
    identities.begin("c" * 43, provider="acme", back="/portal/")
    with store.connect() as connection:
        (row,) = connection.execute(sa.text("SELECT * FROM oidc_flow")).all()
    assert "c" * 43 not in str(tuple(row))


def test_a_store_that_is_away_is_said_so(store, clock, ids):
    away = sa.create_engine("sqlite:////nowhere/at/all.db")
    with pytest.raises(Unavailable):
        Identities(away, clock=clock, ids=ids).of()
    away.dispose()

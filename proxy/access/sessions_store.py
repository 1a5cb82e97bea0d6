"""Sessions and links in the store: what a cookie stands for, asked anew for each page.

A page costs one look-up by a hash, so that a key which is revoked, a session which is ended or a creator who
is signed out is out at the next click in every process, with nothing to be told to anybody. Sessions are
state and not history: they are deleted some time after their end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.access.keys import Principal, Role
from proxy.access.sessions import TOKEN_BYTES, Visitor, form_token, has_token_shape, token_of
from proxy.access.store import NAME_CHARACTERS_MAX
from proxy.clock import Clock
from proxy.errors import BadRequest, NotFound, Unauthenticated, Unavailable

HOUR_US = 3_600_000_000
KEPT_US = 24 * HOUR_US  # after its end, so that "this link was used" can still be said
PRUNED_AT_ONCE = 500


class PortalSessionRow(SQLModel, table=True):
    """Somebody's stay. key_id: the key that stands behind it; empty where it was a link.

    identity_id: the linked account that they signed in with, whose removal ends it.
    """

    __tablename__: ClassVar[Any] = "portal_session"
    hash: str = Field(primary_key=True, sa_type=sa.String)
    role: str = Field(sa_type=sa.String)
    key_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="key.id")
    app_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="app.id")
    creator_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="creator.id", index=True)
    name: str = Field(sa_type=sa.String)
    begun_us: int = Field(sa_type=sa.BigInteger)
    until_us: int = Field(sa_type=sa.BigInteger, index=True)
    identity_id: str | None = Field(default=None, sa_type=sa.String)


class PortalLinkRow(SQLModel, table=True):
    """A link that signs one person in, once."""

    __tablename__: ClassVar[Any] = "portal_link"
    hash: str = Field(primary_key=True, sa_type=sa.String)
    role: str = Field(sa_type=sa.String)
    creator_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="creator.id", index=True)
    name: str = Field(sa_type=sa.String)
    made_by: str = Field(sa_type=sa.String)
    made_us: int = Field(sa_type=sa.BigInteger)
    until_us: int = Field(sa_type=sa.BigInteger, index=True)
    used_us: int | None = Field(default=None, sa_type=sa.BigInteger)


_session = SQLModel.metadata.tables["portal_session"]
_link = SQLModel.metadata.tables["portal_link"]
_key = SQLModel.metadata.tables["key"]
_key_limit = SQLModel.metadata.tables["key_limit"]
_identity = sa.table("oidc_identity", sa.column("id", sa.String), sa.column("used_us", sa.BigInteger))
_app = sa.table("app", sa.column("id", sa.String), sa.column("name", sa.String))
_creator = sa.table(
    "creator", sa.column("id", sa.String), sa.column("ref", sa.String), sa.column("name", sa.String)
)


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is for. secret: exists here and nowhere else."""

    secret: str
    role: Role
    creator_id: str
    name: str
    until_us: int


class Sessions:
    """Sessions and links. Calls block on the store; they raise Unavailable when it is away."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        clock: Clock,
        session_hours: int,
        link_hours: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._session_us = session_hours * HOUR_US
        self._link_us = link_hours * HOUR_US
        self._random_bytes = random_bytes

    def begin(self, principal: Principal, identity: str = "") -> tuple[str, int]:
        """Sign in whoever holds a key, or a linked account; return the cookie's token and when it ends.

        Raises Unauthenticated for an account whose link was removed meanwhile.
        """
        with _asking(), self._engine.begin() as connection:
            if identity:  # first, so that a removal comes before this or ends what begins here
                used = sa.update(_identity).where(_identity.c.id == identity)
                if connection.execute(used.values(used_us=self._clock.now_us())).rowcount != 1:
                    raise Unauthenticated("this account is linked no more", remedy="sign in by key or link")
            self._prune(connection)
            return self._begin(connection, principal, principal.key_id, identity)

    def find(self, token: str) -> Visitor | None:
        """Return who holds this token now; None for a session that ended, or whose key did."""
        if not has_token_shape(token):
            return None
        now_us, digest = self._clock.now_us(), _digest(token)
        query = (
            sa.select(_session, _key.c.revoked_us, _key_limit.c.expires_us)
            .outerjoin(_key, _key.c.id == _session.c.key_id)
            .outerjoin(_key_limit, _key_limit.c.key_id == _session.c.key_id)
            .where(_session.c.hash == digest, _session.c.until_us > now_us)
        )
        with _asking(), self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.revoked_us is not None or (row.expires_us or now_us + 1) <= now_us:
            return None
        # Who came by a link acts under the beginning of their session's hash, which opens nothing.
        key_id = row.key_id or f"session_{digest[:16]}"
        who = Principal(row.role, key_id, row.app_id or "", row.creator_id or "", row.name)
        return Visitor(who, form_token(token), row.until_us)

    def end(self, token: str) -> None:
        """Sign out; ending what has ended is no error."""
        with _asking(), self._engine.begin() as connection:
            connection.execute(sa.delete(_session).where(_session.c.hash == _digest(token)))

    def end_all(self, creator_id: str) -> int:
        """Sign a creator out everywhere and spoil their open links; return how many sessions ended."""
        spoilt = sa.delete(_link).where(_link.c.creator_id == creator_id, _link.c.used_us.is_(None))
        with _asking(), self._engine.begin() as connection:
            connection.execute(spoilt)
            return connection.execute(sa.delete(_session).where(_session.c.creator_id == creator_id)).rowcount

    def link(self, role: Role, *, creator: str = "", name: str = "", by: str) -> Link:
        """Make a link that signs in a creator (id or ref), an operator of this name, or this app, once.

        An app's link stands for its oldest living key. Raises NotFound for a creator nobody knows, or an app
        without one; BadRequest for what no link is made for.
        """
        if (role == "creator") != bool(creator):
            raise BadRequest(
                "a link is for one creator, one operator or one app", remedy="name a creator, or nobody"
            )
        if role != "creator" and not name:
            raise BadRequest(
                f"the link of an {role} says whose it is", remedy="give the person's or the app's name"
            )
        if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise BadRequest("the name is too long or not printable", remedy="give a short name")
        secret, now_us = token_of(self._random_bytes(TOKEN_BYTES)), self._clock.now_us()
        with _asking(), self._engine.begin() as connection:
            self._prune(connection)
            creator_id, known = creator_named(connection, creator) if creator else ("", "")
            if role == "app":
                key_of_app(connection, name, now_us)
            row = {
                "hash": _digest(secret),
                "role": role,
                "creator_id": creator_id or None,
                "name": name or known,
                "made_by": by,
                "made_us": now_us,
                "until_us": now_us + self._link_us,
                "used_us": None,
            }
            connection.execute(sa.insert(_link), [row])
        return Link(secret, role, creator_id, name or known, now_us + self._link_us)

    def enter(self, secret: str) -> tuple[str, int]:
        """Use a link: return the cookie's token and when it ends. Raises Unauthenticated, twice for twice."""
        now_us = self._clock.now_us()
        if not has_token_shape(secret):
            raise Unauthenticated(
                "this link is not whole", remedy="open it as it was sent, to its last letter"
            )
        with _asking(), self._engine.begin() as connection:
            # The update decides, so that of two clicks at once only one is let in.
            is_open = sa.and_(
                _link.c.hash == _digest(secret), _link.c.used_us.is_(None), _link.c.until_us > now_us
            )
            used = connection.execute(sa.update(_link).where(is_open).values(used_us=now_us)).rowcount
            if used != 1:
                raise Unauthenticated(
                    "this link was used already, or its time is over",
                    remedy="ask whoever sent it for another one",
                )
            row = connection.execute(sa.select(_link).where(_link.c.hash == _digest(secret))).one()
            if row.role == "app":
                key_id, app_id = key_of_app(connection, row.name, now_us)
                return self._begin(connection, Principal("app", key_id, app_id, "", row.name), key_id)
            who = Principal(row.role, "link", "", row.creator_id or "", row.name)
            return self._begin(connection, who, "")

    def _begin(
        self, connection: sa.Connection, who: Principal, key_id: str, identity: str = ""
    ) -> tuple[str, int]:
        token, now_us = token_of(self._random_bytes(TOKEN_BYTES)), self._clock.now_us()
        row = {
            "hash": _digest(token),
            "role": who.role,
            "key_id": key_id or None,
            "app_id": who.app_id or None,
            "creator_id": who.creator_id or None,
            "name": who.name,
            "begun_us": now_us,
            "until_us": now_us + self._session_us,
            "identity_id": identity or None,
        }
        connection.execute(sa.insert(_session), [row])
        return token, now_us + self._session_us

    def _prune(self, connection: sa.Connection) -> None:
        until_us = self._clock.now_us() - KEPT_US
        for table in (_session, _link):
            old = sa.select(table.c.hash).where(table.c.until_us < until_us).limit(PRUNED_AT_ONCE)
            connection.execute(sa.delete(table).where(table.c.hash.in_(old.scalar_subquery())))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def creator_named(connection: sa.Connection, creator: str) -> tuple[str, str]:
    """Return (id, name) of the creator of this id or ref. Raises NotFound."""
    # An id wins over another creator's ref that looks like it.
    named = sa.or_(_creator.c.id == creator, _creator.c.ref == creator)
    query = sa.select(_creator.c.id, _creator.c.name).where(named)
    found = connection.execute(query.order_by(sa.case((_creator.c.id == creator, 0), else_=1))).first()
    if found is None:
        raise NotFound(f"there is no creator '{creator}'", remedy="`endcredits creators list` shows them")
    return str(found.id), str(found.name)


def key_of_app(connection: sa.Connection, app: str, now_us: int) -> tuple[str, str]:
    """Return (key, app) of the oldest living key of the app of this name. Raises NotFound."""
    query = (
        sa.select(_key.c.id, _key.c.app_id)
        .join(_app, _app.c.id == _key.c.app_id)
        .outerjoin(_key_limit, _key_limit.c.key_id == _key.c.id)
        .where(_app.c.name == app, _key.c.role == "app", _key.c.revoked_us.is_(None))
        .where(sa.or_(_key_limit.c.expires_us.is_(None), _key_limit.c.expires_us > now_us))
    )
    found = connection.execute(query.order_by(_key.c.created_us, _key.c.id)).first()
    if found is None:
        raise NotFound(f"no app '{app}' has a living key", remedy="`endcredits keys list` shows them")
    return str(found.id), str(found.app_id)


@contextlib.contextmanager
def _asking() -> Generator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise Unavailable(
            "who you are cannot be asked of the store", remedy="try again shortly", code="store_unavailable"
        ) from error

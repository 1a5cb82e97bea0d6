"""Who an identity provider's people are here: linked before they sign in, by themselves or by an operator.

An account is known by its issuer and the subject that the issuer gave it, and by nothing that somebody could
have chosen or claimed. What it opens is decided when it is linked: the role and the owner of the session that
linked it. If that session was begun with a key, the link ends with the key, so that whoever revokes a stolen
key has locked out what its thief linked. Nobody is registered by signing in.

A sign-in under way is a row for ten minutes, by the hash of a browser's cookie, and is taken out by the first
way back: a second one finds nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.access.keys import Principal, Role
from proxy.access.oidc import SUBJECT_CHARACTERS_MAX
from proxy.access.sessions_store import creator_named, key_of_app
from proxy.access.store import NAME_CHARACTERS_MAX
from proxy.clock import Clock, Ids
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import BadRequest, Conflict, Forbidden, Unauthenticated, Unavailable

FLOW_US: Final = 600_000_000  # from leaving for the provider to coming back; some ask for a second factor
LINKS_MAX: Final = 10  # of one person: a provider or two, and some they have left
PRUNED_AT_ONCE: Final = 500
SHOWN_MAX: Final = 1_000  # on an operator's list, the newest


class OidcIdentityRow(SQLModel, table=True):
    """An account at a provider, and what it opens. key_id: with whose end it ends."""

    __tablename__: ClassVar[Any] = "oidc_identity"
    __table_args__ = (sa.UniqueConstraint("issuer", "subject"),)
    id: str = Field(primary_key=True, sa_type=sa.String)
    issuer: str = Field(sa_type=sa.String)
    subject: str = Field(sa_type=sa.String)
    role: str = Field(sa_type=sa.String)
    creator_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="creator.id", index=True)
    app_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="app.id")
    key_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="key.id")
    name: str = Field(sa_type=sa.String)
    linked_by: str = Field(sa_type=sa.String)
    linked_us: int = Field(sa_type=sa.BigInteger)
    used_us: int | None = Field(default=None, sa_type=sa.BigInteger)


class OidcFlowRow(SQLModel, table=True):
    """Somebody on their way to a provider and back. session: of who links, "" for who signs in."""

    __tablename__: ClassVar[Any] = "oidc_flow"
    hash: str = Field(primary_key=True, sa_type=sa.String)
    provider: str = Field(sa_type=sa.String)
    session: str = Field(sa_type=sa.String)
    back: str = Field(sa_type=sa.String)
    until_us: int = Field(sa_type=sa.BigInteger, index=True)


_identity = SQLModel.metadata.tables["oidc_identity"]
_flow = SQLModel.metadata.tables["oidc_flow"]
_session = SQLModel.metadata.tables["portal_session"]
_key = SQLModel.metadata.tables["key"]
_key_limit = SQLModel.metadata.tables["key_limit"]


@dataclass(frozen=True, slots=True)
class Identity:
    """An account at a provider that opens something here. is_open: False when its key has ended."""

    id: str
    issuer: str
    subject: str
    role: Role
    creator_id: str
    app_id: str
    name: str
    linked_by: str
    linked_us: int
    used_us: int | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in that was under way. session: the hash of the session that links, "" for none."""

    provider: str
    session: str
    back: str


class Identities:
    """Links and sign-ins under way. Calls block on the store; they raise Unavailable when it is away."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, ids: Ids) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids

    # -- sign-ins under way

    def begin(self, cookie: str, *, provider: str, back: str, session: str = "") -> None:
        """Note that whoever holds this cookie leaves for a provider. session: the cookie of who links."""
        now_us = self._clock.now_us()
        row = {
            "hash": _digest(cookie),
            "provider": provider,
            "session": _digest(session) if session else "",
            "back": back,
            "until_us": now_us + FLOW_US,
        }
        old = sa.select(_flow.c.hash).where(_flow.c.until_us < now_us).limit(PRUNED_AT_ONCE)
        with _asking(), self._engine.begin() as connection:
            connection.execute(sa.delete(_flow).where(_flow.c.hash.in_(old.scalar_subquery())))
            connection.execute(sa.insert(_flow), [row])

    def take(self, cookie: str, *, provider: str) -> Flow | None:
        """Return the sign-in that this cookie began there and end it; None when there is none (any more)."""
        mine = sa.delete(_flow).where(_flow.c.hash == _digest(cookie), _flow.c.provider == provider)
        with _asking(), self._engine.begin() as connection:
            row = connection.execute(
                mine.returning(_flow.c.provider, _flow.c.session, _flow.c.back, _flow.c.until_us)
            ).one_or_none()
        if row is None or row.until_us <= self._clock.now_us():
            return None
        return Flow(row.provider, row.session, row.back)

    # -- links

    def who(self, issuer: str, subject: str) -> tuple[Principal, str]:
        """Return (whom a session is begun for, the link's id). key_id is empty where no key stands behind it.

        Raises Forbidden for an account that nobody linked, Unauthenticated for one whose key has ended.
        """
        query = _known(self._clock.now_us()).where(
            _identity.c.issuer == issuer, _identity.c.subject == subject
        )
        with _asking(), self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                raise Forbidden(
                    f"nobody here is linked with this account ({subject})",
                    remedy="sign in by your key or link, and link it under 'Signing in'",
                    code="oidc_unknown",
                )
            if not row.is_open:
                raise Unauthenticated(
                    "the key that this account was linked with has ended",
                    remedy="sign in by another key or a link, and link it again",
                    code="oidc_ended",
                )
            key_id, app_id = row.key_id or "", row.app_id or ""
            if row.role == "app" and not key_id:
                key_id, app_id = key_of_app(connection, row.name, self._clock.now_us())
        return Principal(row.role, key_id, app_id, row.creator_id or "", row.name), str(row.id)

    def link(self, issuer: str, subject: str, who: Principal) -> tuple[Identity, bool]:
        """Link an account to whoever is signed in; (the link, False when it was there already).

        Raises Conflict when it is somebody else's, or they have LINKS_MAX.
        """
        if who.creator_id:  # a creator's key has no name of its own
            with _asking(), self._engine.connect() as connection:
                who = replace(who, name=creator_named(connection, who.creator_id)[1])
        return self._link(issuer, subject, who, by=who.name or who.key_id)

    def link_for(
        self, issuer: str, subject: str, role: Role, *, creator: str = "", name: str = "", by: str
    ) -> tuple[Identity, bool]:
        """Link an account for a creator (id or ref), an operator of this name, or this app.

        An app's stands for its oldest living key. Raises BadRequest, NotFound, and Conflict as `link`.
        """
        if (role == "creator") != bool(creator) or (role != "creator") != bool(name):
            raise BadRequest(
                "an account is linked to one creator, one operator or one app",
                remedy="name a creator, or the operator's or app's name",
            )
        if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise BadRequest("the name is too long or not printable", remedy="give a short name")
        with _asking(), self._engine.connect() as connection:
            creator_id, named = creator_named(connection, creator) if creator else ("", name)
            app_id = key_of_app(connection, name, self._clock.now_us())[1] if role == "app" else ""
        return self._link(issuer, subject, Principal(role, "", app_id, creator_id, named), by=by)

    def of(self, who: Principal | None = None) -> list[Identity]:
        """Return the links of somebody, or the SHOWN_MAX newest of everybody, newest first."""
        query = _known(self._clock.now_us())
        if who is not None:
            query = query.where(_theirs(who))
        newest = query.order_by(_identity.c.linked_us.desc(), _identity.c.id).limit(SHOWN_MAX)
        with _asking(), self._engine.connect() as connection:
            return [_told(row) for row in connection.execute(newest)]

    def remove(self, identity: str, *, by: str, of: Principal | None = None) -> bool:
        """Take a link away, and end what is signed in by it; False when there is none such.

        of: whose it must be, None for an operator who may remove everybody's.
        """
        mine = _identity.c.id == identity
        if of is not None:
            mine = sa.and_(mine, _theirs(of))
        with _asking(), registry_turn(self._engine) as connection:
            row = connection.execute(sa.select(_identity).where(mine)).one_or_none()
            if row is None:
                return False
            connection.execute(sa.delete(_session).where(_session.c.identity_id == identity))
            connection.execute(sa.delete(_identity).where(_identity.c.id == identity))
            self._write(connection, "identity_unlinked", row, by)
        return True

    def _link(self, issuer: str, subject: str, who: Principal, *, by: str) -> tuple[Identity, bool]:
        if not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX or not subject.isprintable():
            raise BadRequest("this is no subject", remedy="take it as the provider writes it: `sub`")
        with _asking(), registry_turn(self._engine) as connection:
            same = (_identity.c.issuer == issuer, _identity.c.subject == subject)
            known = _known(self._clock.now_us()).where(*same)
            there = connection.execute(known).one_or_none()
            if there is not None:
                if not _is_theirs(there, who):
                    raise Conflict(
                        "this account is linked with somebody else here",
                        remedy="they or an operator can remove that link first",
                        code="oidc_linked",
                    )
                if there.is_open:
                    return _told(there), False
                # The same person again, whose key of then has ended: linked anew, with what they hold now.
                connection.execute(sa.delete(_identity).where(*same))
            counted = sa.select(sa.func.count()).select_from(_identity).where(_theirs(who))
            if connection.execute(counted).scalar_one() >= LINKS_MAX:
                raise Conflict(
                    f"{LINKS_MAX} accounts are linked already", remedy="remove one first", code="oidc_linked"
                )
            living = sa.select(_key.c.id).where(_key.c.id == who.key_id)
            row = {
                "id": self._ids.new("idn"),
                "issuer": issuer,
                "subject": subject,
                "role": who.role,
                "creator_id": who.creator_id or None,
                "app_id": who.app_id or None,
                # Who came by a link acts under a name that is no key's.
                "key_id": connection.execute(living).scalar_one_or_none(),
                "name": who.name,
                "linked_by": by,
                "linked_us": self._clock.now_us(),
                "used_us": None,
            }
            connection.execute(sa.insert(_identity), [row])
            made = connection.execute(known).one()
            self._write(connection, "identity_linked", made, by)
            return _told(made), True

    def _write(self, connection: sa.Connection, kind: str, row: Any, by: str) -> None:
        # The subject is the provider's name for a person: it stands in the row, and goes with it.
        said = {"id": row.id, "issuer": row.issuer, "role": row.role, "creator": row.creator_id}
        append_registry(connection, [RegistryChange(kind, said)], actor=by, at_us=self._clock.now_us())


def session_hash(cookie: str) -> str:
    """Return by what a flow knows the session that began it."""
    return _digest(cookie)


def _known(now_us: int) -> sa.Select[Any]:
    lives = sa.and_(
        _key.c.revoked_us.is_(None),
        sa.or_(_key_limit.c.expires_us.is_(None), _key_limit.c.expires_us > now_us),
    )
    is_open = sa.or_(_identity.c.key_id.is_(None), lives)
    return (
        sa.select(_identity, is_open.label("is_open"))
        .outerjoin(_key, _key.c.id == _identity.c.key_id)
        .outerjoin(_key_limit, _key_limit.c.key_id == _identity.c.key_id)
    )


def _theirs(who: Principal) -> Any:
    if who.role == "creator":
        return _identity.c.creator_id == who.creator_id
    if who.role == "app":
        return _identity.c.app_id == who.app_id
    return sa.and_(_identity.c.role == "operator", _identity.c.name == who.name)


def _is_theirs(row: Any, who: Principal) -> bool:
    theirs = {"creator": row.creator_id == who.creator_id, "app": row.app_id == who.app_id}
    return row.role == who.role and theirs.get(who.role, row.name == who.name)


def _told(row: Any) -> Identity:
    return Identity(
        row.id,
        row.issuer,
        row.subject,
        row.role,
        row.creator_id or "",
        row.app_id or "",
        row.name,
        row.linked_by,
        row.linked_us,
        row.used_us,
        bool(row.is_open),
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


@contextlib.contextmanager
def _asking() -> Generator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise Unavailable(
            "who you are cannot be asked of the store", remedy="try again shortly", code="store_unavailable"
        ) from error

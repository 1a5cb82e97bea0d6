"""Apps and keys in the store, and the ring that answers for them from memory.

Only a key's hash and its last four characters are kept. KeyRing holds every living key (some 300 bytes each),
so that a request costs one dictionary look-up and the store may be away; it polls the registry's last number,
so that a key made or revoked by another process acts here within one poll.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from proxy.access.keys import ROLES, SECRET_BYTES, Minted, Principal, Role, digest_of, has_shape, mint
from proxy.access.limits_store import limits_in, living_keys, set_key_limits
from proxy.asking import of_store
from proxy.clock import Clock, Ids
from proxy.database import RegistryChange, append_registry, registry_seq, registry_turn
from proxy.errors import BadRequest, NotFound, Unauthenticated, Unavailable
from proxy.observability import get_log

NAME_CHARACTERS_MAX = 200  # shown in lists and on statements
UNKNOWN_KEPT = 4_096  # digests of keys the store said it does not know; 0.5 MB
LOOKUPS_PER_S = 20  # unknown keys asked of the store; whoever guesses keys must not keep it busy
_KEY_KINDS = ("key_created", "key_revoked", "key_limited", "app_limited")


class AppRow(SQLModel, table=True):
    """A program that sends requests; it appears with its first key."""

    __tablename__: ClassVar[Any] = "app"
    id: str = Field(primary_key=True, sa_type=sa.String)
    name: str = Field(sa_type=sa.String, unique=True)
    owner_creator: str | None = Field(default=None, sa_type=sa.String, foreign_key="creator.id")
    created_us: int = Field(sa_type=sa.BigInteger)


class AppLinkRow(SQLModel, table=True):
    """Whose app it is from the registry's number `seq` on; nobody's when there is no creator. Append-only."""

    __tablename__: ClassVar[Any] = "app_link"
    app_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="app.id")
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    creator_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="creator.id")
    decided_by: str = Field(sa_type=sa.String)
    at_us: int = Field(sa_type=sa.BigInteger)


class KeyRow(SQLModel, table=True):
    """A key's hash and whose it is."""

    __tablename__: ClassVar[Any] = "key"
    id: str = Field(primary_key=True, sa_type=sa.String)
    role: str = Field(sa_type=sa.String)
    app_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="app.id")
    creator_id: str | None = Field(default=None, sa_type=sa.String, foreign_key="creator.id")
    name: str = Field(sa_type=sa.String)
    hash: str = Field(sa_type=sa.String, unique=True)
    last4: str = Field(sa_type=sa.String)
    created_us: int = Field(sa_type=sa.BigInteger)
    revoked_us: int | None = Field(default=None, sa_type=sa.BigInteger)


_app = SQLModel.metadata.tables["app"]
_key = SQLModel.metadata.tables["key"]
_key_limit = SQLModel.metadata.tables["key_limit"]
_creator = sa.table("creator", sa.column("id", sa.String), sa.column("ref", sa.String))
_event = SQLModel.metadata.tables["registry_event"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: `secret` exists here and nowhere else."""

    id: str
    secret: str
    principal: Principal


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as lists show it: no secret, no hash."""

    id: str
    role: str
    name: str
    shown: str  # "ec_app_...x7qa"
    app: str
    creator_id: str
    created_us: int
    revoked_us: int | None
    expires_us: int | None = None
    models: tuple[str, ...] = ()


def create_key(
    engine: sa.Engine,
    role: Role,
    *,
    clock: Clock,
    ids: Ids,
    creator: str = "",
    name: str = "",
    models: Sequence[str] = (),
    expires_us: int | None = None,
    actor: str = "operator",
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> NewKey:
    """Make a key and return it with its secret, the only time it can be seen.

    For an app, `name` is the app's (made when there is none by that name; "default" when empty); for a
    creator, `creator` is their id or ref. models, expires_us: as in Limits. Raises BadRequest for
    contradictions, NotFound for who is unknown.
    """
    _check_wish(role, creator, name)
    minted, now_us, key_id = mint(role, random_bytes(SECRET_BYTES)), clock.now_us(), ids.new("key")
    with registry_turn(engine) as connection:
        app_id = _app_named(connection, name or "default", ids, now_us) if role == "app" else ""
        creator_id = _creator_named(connection, creator) if role == "creator" else ""
        named = name or ("default" if role == "app" else role)
        principal = Principal(role, key_id, app_id, creator_id, named)
        _insert_key(connection, principal, minted, actor=actor, now_us=now_us)
        if models or expires_us is not None:
            set_key_limits(connection, key_id, models=models, expires_us=expires_us, actor=actor, clock=clock)
    return NewKey(key_id, minted.secret, principal)


def rotate(
    engine: sa.Engine,
    key_id: str,
    *,
    clock: Clock,
    ids: Ids,
    overlap_s: int,
    actor: str = "operator",
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> NewKey:
    """Make a key for the same holder and models; the old one ends in `overlap_s`, or sooner by its own end.

    The new key has no end. Raises NotFound for an id that is unknown or revoked, BadRequest for an ended key.
    """
    now_us, new_id = clock.now_us(), ids.new("key")
    with registry_turn(engine) as connection:
        row = connection.execute(living_keys(key_id=key_id)).one_or_none()
        if row is None:
            raise NotFound(
                f"there is no living key '{key_id}'", remedy="`endcredits keys list` shows their ids"
            )
        old = _principal(row)
        if old.limits.has_expired(now_us):
            raise BadRequest(f"the key '{key_id}' has ended", remedy="make one: `endcredits keys create`")
        minted = mint(old.role, random_bytes(SECRET_BYTES))
        principal = Principal(old.role, new_id, old.app_id, old.creator_id, old.name)
        _insert_key(connection, principal, minted, actor=actor, now_us=now_us)
        if old.limits.models:
            set_key_limits(
                connection, new_id, models=old.limits.models, expires_us=None, actor=actor, clock=clock
            )
        ends_us = min(now_us + overlap_s * 1_000_000, old.limits.expires_us or 2**63 - 1)
        set_key_limits(connection, key_id, models=None, expires_us=ends_us, actor=actor, clock=clock)
    return NewKey(new_id, minted.secret, principal)


def _insert_key(
    connection: sa.Connection, principal: Principal, minted: Minted, *, actor: str, now_us: int
) -> None:
    row = {
        "id": principal.key_id,
        "role": principal.role,
        "app_id": principal.app_id or None,
        "creator_id": principal.creator_id or None,
        "name": principal.name,
    }
    stored = {
        **row,
        "hash": minted.digest,
        "last4": minted.last4,
        "created_us": now_us,
        "revoked_us": None,
    }
    connection.execute(sa.insert(_key), [stored])
    append_registry(connection, [RegistryChange("key_created", row)], actor=actor, at_us=now_us)


def _check_wish(role: str, creator: str, name: str) -> None:
    if role not in ROLES:
        raise BadRequest(f"there is no role '{role}'", remedy=f"use one of {', '.join(ROLES)}")
    if (role == "creator") != bool(creator):
        cause = "a creator key needs its creator" if role == "creator" else f"a {role} key has no creator"
        raise BadRequest(cause, remedy="pass --creator with --role creator, and only then")
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        remedy = f"use up to {NAME_CHARACTERS_MAX} printable characters"
        raise BadRequest("the name is too long or not printable", remedy=remedy)


def _app_named(connection: sa.Connection, name: str, ids: Ids, now_us: int) -> str:
    found = connection.execute(sa.select(_app.c.id).where(_app.c.name == name)).scalar_one_or_none()
    if found is not None:
        return str(found)
    app_id = ids.new("app")
    connection.execute(
        sa.insert(_app), [{"id": app_id, "name": name, "owner_creator": None, "created_us": now_us}]
    )
    return app_id


def _creator_named(connection: sa.Connection, creator: str) -> str:
    # An id wins over another creator's ref that looks like it.
    wanted = sa.select(_creator.c.id).where(sa.or_(_creator.c.id == creator, _creator.c.ref == creator))
    found = (
        connection.execute(wanted.order_by(sa.case((_creator.c.id == creator, 0), else_=1))).scalars().first()
    )
    if found is None:
        raise NotFound(f"there is no creator '{creator}'", remedy="`endcredits creators list` shows them")
    return str(found)


def list_keys(engine: sa.Engine, app: str = "") -> list[KnownKey]:
    """Return every key, revoked ones too, oldest first; those of the app of this id, where one is named."""
    statement = (
        sa.select(_key, _app.c.name.label("app"), _key_limit.c.models, _key_limit.c.expires_us)
        .outerjoin(_app, _app.c.id == _key.c.app_id)
        .outerjoin(_key_limit, _key_limit.c.key_id == _key.c.id)
        .where(_key.c.app_id == app if app else sa.true())
    )
    with engine.connect() as connection:
        rows = connection.execute(statement.order_by(_key.c.created_us, _key.c.id)).all()
    return [
        KnownKey(
            row.id,
            row.role,
            row.name,
            f"ec_{row.role}_...{row.last4}",
            row.app or "",
            row.creator_id or "",
            row.created_us,
            row.revoked_us,
            row.expires_us,
            tuple(msgspec.json.decode(row.models, type=list[str])) if row.models else (),
        )
        for row in rows
    ]


def count_living(engine: sa.Engine, role: Role) -> int:
    """Return how many keys of `role` are not revoked."""
    living = (
        sa.select(sa.func.count()).select_from(_key).where(_key.c.role == role, _key.c.revoked_us.is_(None))
    )
    with engine.connect() as connection:
        return int(connection.execute(living).scalar_one())


def revoke(engine: sa.Engine, key_id: str, *, clock: Clock, actor: str = "operator") -> bool:
    """Revoke a key; False when it already was. Raises NotFound for an id that was never given out."""
    now_us = clock.now_us()
    with registry_turn(engine) as connection:
        row = connection.execute(sa.select(_key.c.revoked_us).where(_key.c.id == key_id)).one_or_none()
        if row is None:
            raise NotFound(f"there is no key '{key_id}'", remedy="`endcredits keys list` shows their ids")
        if row.revoked_us is not None:
            return False
        connection.execute(sa.update(_key).where(_key.c.id == key_id).values(revoked_us=now_us))
        change = RegistryChange("key_revoked", {"id": key_id})
        append_registry(connection, [change], actor=actor, at_us=now_us)
        return True


def app_names(engine: sa.Engine) -> dict[str, str]:
    """Return {app id: name}, for statements and usage lines."""
    with engine.connect() as connection:
        return {row.id: row.name for row in connection.execute(sa.select(_app.c.id, _app.c.name))}


def _principal(row: Any) -> Principal:
    return Principal(
        row.role, row.id, row.app_id or "", row.creator_id or "", row.name, limits=limits_in(row)
    )


class KeyRing:
    """Every living key in memory; ask it with `find`, keep `run` going beside the server."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, refresh_ms: int = 250) -> None:
        self._engine = engine
        self._clock = clock
        self._refresh_s = refresh_ms / 1000
        self._known: dict[str, Principal] = {}
        self._origins: frozenset[str] = frozenset()
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._asking: dict[
            str, asyncio.Task[Principal | None]
        ] = {}  # at most LOOKUPS_PER_S new ones a second
        self._seq = -1  # of the registry, as of `_known`; -1: never loaded
        self._tokens = float(LOOKUPS_PER_S)
        self._tokens_at_s = clock.monotonic_s()
        self.away = False  # whether the last poll found the store away

    async def find(self, secret: str) -> Principal | None:
        """Return who holds `secret`, None when nobody does.

        A key not in memory is asked of the store at once, so that a new one works immediately. Raises
        Unavailable when that is needed and the store is away, or more than LOOKUPS_PER_S a second need it;
        Unauthenticated for a key whose time is over.
        """
        principal = await self._find(secret) if has_shape(secret) else None
        if principal is not None and principal.limits.has_expired(self._clock.now_us()):
            raise Unauthenticated("this key has ended", remedy="ask the operator for a new one")
        return principal

    def lists(self, origin: str) -> bool:
        """Tell whether an app of a key in memory lists this origin."""
        return origin in self._origins

    def holder(self, key_id: str) -> Principal | None:
        """Return who holds the key of this id now, of those in memory; None when it has ended.

        For a page whose session stands for a key: who signed in by it, here or in another worker, has put it
        into memory, or a refresh has.
        """
        held = next((who for who in self._known.values() if who.key_id == key_id), None)
        return None if held is None or held.limits.has_expired(self._clock.now_us()) else held

    async def _find(self, secret: str) -> Principal | None:
        digest = digest_of(secret)
        principal = self._known.get(digest)
        if principal is not None or digest in self._unknown:
            return principal
        # Requests that arrive together with a new key ask the store once, and all wait for its answer.
        asked = self._asking.get(digest)
        if asked is None:
            self._spend_token()
            asked = asyncio.get_running_loop().create_task(self._ask(digest))
            self._asking[digest] = asked
            asked.add_done_callback(lambda task: self._answered(digest, task))
        return await asyncio.shield(asked)

    def _answered(self, digest: str, task: asyncio.Task[Principal | None]) -> None:
        self._asking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # seen here, should nobody be waiting any more

    async def _ask(self, digest: str) -> Principal | None:
        try:
            seq, principal = await of_store(self._look_up, digest)
        except (SQLAlchemyError, Unavailable) as error:
            cause = "this key is not in memory and the store is away"
            raise Unavailable(cause, remedy="try again shortly", code="store_unavailable") from error
        if seq < self._seq:
            # A refresh overtook us: what it loaded is newer, a revocation perhaps, and must not be undone.
            return self._known.get(digest)
        if principal is None:
            self._unknown[digest] = None
            if len(self._unknown) > UNKNOWN_KEPT:
                self._unknown.popitem(last=False)
        else:
            self._known[digest] = principal
        return principal

    async def refresh(self) -> bool:
        """Poll once and load the keys if one was made or revoked; True when anything was loaded.

        The store being away is remembered in `away` and changes nothing else: known keys go on working.
        """
        try:
            loaded = await of_store(self._load_if_newer, self._seq)
        except (SQLAlchemyError, Unavailable) as error:
            if not self.away:
                get_log().warning("key_ring_lost_store", keys=len(self._known), error=type(error).__name__)
            self.away = True
            return False
        if self.away:
            get_log().info("key_ring_found_store", keys=len(self._known))
        self.away = False
        seq, keys = loaded
        self._seq = seq
        if keys is None:
            return False
        self._known = keys
        self._origins = frozenset(origin for holder in keys.values() for origin in holder.limits.origins)
        self._unknown.clear()
        return True

    async def run(self) -> None:
        """Refresh for ever; cancel it to stop."""
        while True:
            try:
                await self.refresh()
            except Exception:  # noqa: BLE001  were this loop to end, revoked keys would go on working
                get_log().exception("key_ring_refresh_failed")
            await asyncio.sleep(self._refresh_s)

    def _spend_token(self) -> None:
        now_s = self._clock.monotonic_s()
        refilled = self._tokens + (now_s - self._tokens_at_s) * LOOKUPS_PER_S
        self._tokens, self._tokens_at_s = min(refilled, float(LOOKUPS_PER_S)), now_s
        if self._tokens < 1:
            cause = "too many unknown keys are being tried"
            raise Unavailable(cause, remedy="try again in a second", code="key_lookups_busy")
        self._tokens -= 1

    def _look_up(self, digest: str) -> tuple[int, Principal | None]:
        with self._engine.connect() as connection:
            seq = registry_seq(connection)  # before the key, so that the key is at least as new
            row = connection.execute(living_keys(digest=digest)).one_or_none()
        return seq, None if row is None else _principal(row)

    def _load_if_newer(self, known_seq: int) -> tuple[int, dict[str, Principal] | None]:
        with self._engine.connect() as connection:
            seq = registry_seq(connection)
            if seq == known_seq:
                return seq, None
            changed = sa.select(_event.c.seq).where(_event.c.seq > known_seq, _event.c.kind.in_(_KEY_KINDS))
            if known_seq >= 0 and connection.execute(changed.limit(1)).first() is None:
                return seq, None
            rows = connection.execute(living_keys())
            return seq, {row.hash: _principal(row) for row in rows}

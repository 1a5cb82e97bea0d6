"""Erasing a creator: what the books forget of them, and what they cannot.

Names, accounts, tax numbers and words go, in one transaction with what the registry forgets. Amounts, ids,
times, splits and hashes stay, and so does what is owed: it stands on the creator's account under their id, is
paid to nobody while no account is entered, and a hold says why. Statements that were closed keep their lines,
which are covered by hashes, and lose the creator's name, which is in none.

What is under way is finished first: a payment that a bank may have, a dispute or a claim that waits.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.access.identities_store import OidcIdentityRow
from proxy.access.sessions_store import PortalLinkRow, PortalSessionRow
from proxy.access.store import KeyRow
from proxy.billing import ledger, payouts_store, store
from proxy.billing.disputes_store import DisputeEventRow, DisputeRow, Disputes
from proxy.billing.kept import packed, unpacked
from proxy.billing.payees_store import PayeeAccountRow, PayeeHoldRow, Payees
from proxy.billing.periods_store import StatementCommentRow
from proxy.billing.tables import StatementRow
from proxy.billing.tax_numbers_store import TaxNumberRow
from proxy.catalogue.erasing_store import (
    ERASED,
    erase_creator_rows,
    erase_works,
    is_erased,
    known_creator,
    overwriting,
    works_of,
)
from proxy.catalogue.ownership import NAME_OF_DECIDER_MAX, checked_words
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn, take_money_turn
from proxy.errors import Conflict

HOLD: Final = "erased: what is owed stays owed, and is paid when an account is entered again"

_tables = SQLModel.metadata.tables
_key, _claim, _decision = _tables[str(KeyRow.__tablename__)], _tables["claim"], _tables["claim_decision"]
_statement, _comment = (
    _tables[str(StatementRow.__tablename__)],
    _tables[str(StatementCommentRow.__tablename__)],
)
_case, _event = _tables[str(DisputeRow.__tablename__)], _tables[str(DisputeEventRow.__tablename__)]
_STAYS: Final = tuple(
    _tables[str(row.__tablename__)] for row in (PortalSessionRow, PortalLinkRow, OidcIdentityRow)
)
_SEALED: Final = tuple(_tables[str(row.__tablename__)] for row in (PayeeAccountRow, TaxNumberRow))
_hold = _tables[str(PayeeHoldRow.__tablename__)]


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a creator. works: those that were erased; kept: those in which others have a part.

    owed: {currency: grains} that stay theirs. changed: False where they were erased before.
    """

    creator: str
    changed: bool
    works: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    owed: dict[str, int] = {}


def erase_creator(engine: sa.Engine, handle: str, *, clock: Clock, by: str = "operator") -> Erased:
    """Erase a creator (id or ref): see above. Raises NotFound, Conflict while something is under way."""
    who = checked_words(by, "name of who erases", NAME_OF_DECIDER_MAX)
    with engine.connect() as connection:
        creator = known_creator(connection, handle)
        was_erased = is_erased(connection, creator.id)
    owed = _owed(engine, creator.id)
    if was_erased:
        return Erased(creator=creator.id, changed=False, owed=owed)
    _refuse_under_way(engine, creator.id, clock)
    with registry_turn(engine) as connection, overwriting(connection):
        take_money_turn(connection)
        now_us = clock.now_us()
        alone, shared = works_of(connection, creator.id)
        erase_creator_rows(connection, creator, by=who, now_us=now_us)
        erase_works(connection, alone, by=who, now_us=now_us)
        _lock_out(connection, creator.id, by=who, now_us=now_us)
        _forget_payee(connection, creator.id)
        _forget_words(connection, creator.id)
        _forget_name(connection, creator.id)
    Payees(engine, clock=clock, key=bytes, by=who).hold(creator.id, HOLD, held=True)
    scrub(engine)
    return Erased(creator=creator.id, changed=True, works=tuple(alone), kept=tuple(shared), owed=owed)


def scrub(engine: sa.Engine) -> None:
    """Take what was erased out of the database's own files, as far as it can be told to.

    SQLite has written zeros over what went (`overwriting`); what its log still holds is written out and cut
    off. PostgreSQL keeps old rows until it cleans up, which it is asked to do now.
    """
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in sorted(FORGETFUL):
            connection.exec_driver_sql(f"VACUUM {table}")


# What rows are emptied in: PostgreSQL is asked to clean these.
FORGETFUL: Final = frozenset(
    {
        "creator", "work", "work_text", "work_identifier", "review", "asked_term", "licence", "licence_file",
        "claim", "claim_decision", "shown_name", "key", "portal_session", "portal_link", "payee_account",
        "oidc_identity", "tax_number", "payee_hold", "statement", "statement_comment", "dispute",
        "dispute_event", "event",
    }
)  # fmt: skip


def _owed(engine: sa.Engine, creator_id: str) -> dict[str, int]:
    mine = ledger.payee(creator_id)
    found = store.balances(engine, mine).items()
    return {currency: grains for (code, currency), grains in found if code == mine and grains}


def _refuse_under_way(engine: sa.Engine, creator_id: str, clock: Clock) -> None:
    told = payouts_store.all_of_creator(engine, creator_id)
    waits = [one.batch for one in told if one.state not in {"settled", "returned", "cancelled"}]
    if waits:
        raise Conflict(
            f"a payment to {creator_id} is under way in {waits[0]}",
            remedy="settle or cancel it first: its account is needed until then",
            code="erasing_paid",
        )
    cases = Disputes(engine, clock=clock, creator=creator_id).cases(open_only=True)
    if cases:
        raise Conflict(
            f"{cases[0][0].id} about {creator_id}'s money is open",
            remedy="settle or withdraw it first",
            code="erasing_disputed",
        )
    query = sa.select(_claim.c.id).outerjoin(_decision, _decision.c.claim_id == _claim.c.id)
    query = query.where(_claim.c.claimant == creator_id, _decision.c.claim_id.is_(None))
    with engine.connect() as connection:
        found = connection.execute(query.limit(1)).scalar()
    if found:
        raise Conflict(
            f"{creator_id}'s claim {found} waits for a decision",
            remedy="decide or withdraw it first",
            code="erasing_claims",
        )


def _lock_out(connection: sa.Connection, creator_id: str, *, by: str, now_us: int) -> None:
    """End their keys and their stay on the pages."""
    living = sa.select(_key.c.id).where(_key.c.creator_id == creator_id, _key.c.revoked_us.is_(None))
    ended = [RegistryChange("key_revoked", {"id": one}) for one in connection.execute(living).scalars()]
    append_registry(connection, ended, actor=by, at_us=now_us)
    mine = sa.update(_key).where(_key.c.creator_id == creator_id)
    connection.execute(mine.values(name="", revoked_us=sa.func.coalesce(_key.c.revoked_us, now_us)))
    for table in _STAYS:
        connection.execute(sa.delete(table).where(table.c.creator_id == creator_id))


def _forget_payee(connection: sa.Connection, creator_id: str) -> None:
    for table in _SEALED:
        mine = sa.update(table).where(table.c.creator_id == creator_id)
        connection.execute(mine.values(sealed=b"", last4=""))
    connection.execute(sa.update(_hold).where(_hold.c.creator_id == creator_id).values(reason=""))


def _forget_words(connection: sa.Connection, creator_id: str) -> None:
    """Empty what was said about their statements, by whichever side, and what they said of others'."""
    theirs = sa.select(_statement.c.id).where(_statement.c.creator_id == creator_id)
    connection.execute(sa.update(_comment).where(_comment.c.statement_id.in_(theirs)).values(text=""))
    cases = sa.select(_case.c.id).where(_case.c.statement_id.in_(theirs))
    about = sa.or_(_event.c.dispute_id.in_(cases), _event.c.by == creator_id)
    connection.execute(sa.update(_event).where(about).values(said=""))
    for row in connection.execute(sa.select(_case.c.id, _case.c.body).where(_case.c.id.in_(cases))).all():
        body: dict[str, Any] = msgspec.json.decode(row.body) | {"basis": ""}
        kept = msgspec.json.encode(body, order="sorted").decode()
        connection.execute(sa.update(_case).where(_case.c.id == row.id).values(body=kept))


def _forget_name(connection: sa.Connection, creator_id: str) -> None:
    query = sa.select(_statement.c.id, _statement.c.body).where(_statement.c.creator_id == creator_id)
    for row in connection.execute(query).all():
        body = packed(msgspec.structs.replace(unpacked(row.body), name=ERASED)).decode()
        connection.execute(sa.update(_statement).where(_statement.c.id == row.id).values(body=body))

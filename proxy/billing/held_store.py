"""Where a creator is in the store: by which column each table knows them, and all of those rows, readable.

`OF` is the one list of it. A table that is in neither `OF` nor `OF_NOBODY` fails a test, so that nobody adds
one without saying whether it is about people.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlmodel import SQLModel

from proxy.billing import payees, payouts_store
from proxy.billing.held import Held, Row
from proxy.billing.kept import unpacked
from proxy.billing.payees_store import PayeeAccountRow
from proxy.billing.payout_rows import told_row
from proxy.billing.tax_numbers_store import TaxNumbers
from proxy.catalogue.erasing_store import works_of
from proxy.catalogue.tables import WorkTextRow
from proxy.clock import SystemClock

_WORKS: Final = (
    "(SELECT id FROM work WHERE creator_id = :creator UNION SELECT c.work_id FROM claim c "
    "JOIN claim_decision d ON d.claim_id = c.id WHERE c.claimant = :creator AND d.outcome = 'upheld')"
)
_STATEMENTS: Final = "(SELECT id FROM statement WHERE creator_id = :creator)"
_CASES: Final = (
    "(SELECT dispute_id FROM dispute_party WHERE creator_id = :creator "  # noqa: S608  our own words
    f"UNION SELECT id FROM dispute WHERE statement_id IN {_STATEMENTS})"
)
_OWN: Final = "creator_id = :creator"
_OF_WORKS: Final = f"work_id IN {_WORKS}"
_OF_SCOPE: Final = f"(scope_id = :creator OR scope_id IN {_WORKS})"
# {table: SQL over it and `:creator`}
OF: Final[dict[str, str]] = {
    "creator": "id = :creator",
    "shown_name": _OWN,
    "erasure": f"(id = :creator OR id IN {_WORKS})",
    "work": f"id IN {_WORKS}",
    "work_text": _OF_WORKS,
    "split": "party = :creator",
    "appeal": _OWN,
    "split_proposal": "(proposed_by = :creator OR asked LIKE '%\"' || :creator || '\"%')",
    "split_answer": "party = :creator",
    "adaptation": _OF_WORKS,
    "work_link": _OF_WORKS,
    "consent": _OF_WORKS,
    "attestation": "(attested_by = :creator OR on_behalf_of = :creator)",
    "work_identifier": _OF_WORKS,
    "claim": "claimant = :creator",
    "claim_decision": "claim_id IN (SELECT id FROM claim WHERE claimant = :creator)",
    "review": _OF_WORKS,
    "asked_term": _OF_SCOPE,
    "licence": _OF_SCOPE,
    "licence_end": f"licence_id IN (SELECT id FROM licence WHERE {_OF_SCOPE})",  # noqa: S608  likewise
    "app": "owner_creator = :creator",
    "app_link": _OWN,
    "key": _OWN,
    "portal_session": _OWN,
    "portal_link": _OWN,
    "oidc_identity": _OWN,
    "payee_account": _OWN,
    "tax_profile": _OWN,
    "tax_declaration": _OWN,
    "tax_number": _OWN,
    "payee_hold": _OWN,
    "payee_verified": _OWN,
    "statement": _OWN,
    "statement_comment": f"statement_id IN {_STATEMENTS}",
    "dispute": f"id IN {_CASES}",
    "dispute_party": _OWN,
    "dispute_event": f"dispute_id IN {_CASES}",
    "adjustment": _OWN,
    "adjustment_event": "adjustment_id IN (SELECT id FROM adjustment WHERE creator_id = :creator)",
    "payout": _OWN,
    "account": "code = 'liab:payee:' || :creator",
    "registry_event": f"(actor = :creator OR {_OF_WORKS})",
    "daily_use": _OWN,
    "work_use": _OWN,
    "passage_use": _OF_WORKS,
}
# What is about apps, answers and money as such; of a creator they hold an id at most, in what `OF` tells.
OF_NOBODY: Final = frozenset(
    {
        "app_limit", "app_use", "attributed", "budget_hold", "budget_month", "dispute_line", "distribution",
        "distribution_decision", "entry", "event", "event_line", "key_limit", "licence_file",
        "log_entry", "log_node", "log_state", "made", "oidc_flow", "payout_batch", "payout_event", "period",
        "period_window", "policy", "policy_activation", "pool_revenue", "pool_revenue_decision",
        "reported_transfer", "shard", "transfer", "transfer_note", "trimmed_period", "trimmed_range",
        "use_mark", "manifest", "sum_chunk", "webhook", "webhook_message",
    }
)  # fmt: skip
_text = SQLModel.metadata.tables[str(WorkTextRow.__tablename__)]
_SECRET: Final = frozenset(
    {"hash", "sealed", "text_zlib"}
)  # what opens things is told to nobody, or unsealed


def held_of(engine: sa.Engine, creator_id: str, *, key: Callable[[], bytes]) -> Held:
    """Return everything that is held on a creator. key: gives the one under which accounts are sealed."""
    tables: dict[str, list[Row]] = {}
    with engine.connect() as connection:
        there = set(sa.inspect(connection).get_table_names())
        for name, where in OF.items():
            if name not in there:  # a store of before
                continue
            said = sa.select(sa.text("*")).select_from(sa.table(name)).where(sa.text(where))
            rows = connection.execute(said.order_by(sa.text("1, 2")), {"creator": creator_id}).mappings()
            tables[name] = [_told(name, dict(row), creator_id, key) for row in rows]
        works = [work for some in works_of(connection, creator_id) for work in some]
        packed = connection.execute(sa.select(_text).where(_text.c.work_id.in_(works)))
        texts = {row.work_id: zlib.decompress(row.text_zlib).decode() for row in packed}
    tables["payout"] = [told_row(one) for one in payouts_store.all_of_creator(engine, creator_id)]
    number = TaxNumbers(engine, clock=SystemClock(), key=key).revealed(creator_id)
    if number:
        tables["tax_number"][-1]["number"] = number
    return Held(creator_id, tables, texts)


def _told(table: str, row: dict[str, Any], creator_id: str, key: Callable[[], bytes]) -> Row:
    """Return a row as its person may read it: accounts opened, JSON as such, secrets left out."""
    shown: Row = {name: value for name, value in row.items() if name not in _SECRET}
    if table == str(PayeeAccountRow.__tablename__) and row["sealed"]:
        opened = payees.unseal(bytes(row["sealed"]), key(), creator=row["creator_id"], version=row["version"])
        shown |= msgspec.to_builtins(opened)
    elif table == "statement":
        shown["body"] = msgspec.to_builtins(unpacked(row["body"]))
    elif "body" in row:
        said = msgspec.json.decode(row["body"], type=dict[str, Any])
        if table == "dispute":  # what it holds of others is theirs to know
            said["holds"] = [one for one in said["holds"] if one["creator"] == creator_id]
        shown["body"] = said
    return shown

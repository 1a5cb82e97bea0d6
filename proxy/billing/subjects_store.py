"""One end user's answers: found by their app and the id that it sends, told, and made nobody's.

Only while the keys of a period are kept (access/subjects.py) does an id find its answers. Erasing puts
another digest in the place of the user's, one that no key makes: their answers stay one unknown person's, so
a pool is divided among as many, and nobody can say any more whose they are. No amount and no hash changes; a
period that was divided already is never divided again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from proxy.access.store import AppRow
from proxy.access.subjects import KEY_BYTES, SubjectKeys
from proxy.billing.users import subject_digest
from proxy.catalogue.erasing_store import overwriting
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import NotFound
from proxy.metering.store import EventRow

_app = AppRow.metadata.tables[str(AppRow.__tablename__)]
_event = EventRow.metadata.tables[str(EventRow.__tablename__)]


@dataclass(frozen=True, slots=True)
class Answered:
    """All that is held of one end user's answer. period: how many periods were closed when it was given."""

    id: str
    period: int
    occurred_us: int
    model: str
    endpoint: str
    outcome: str
    input_tokens: int
    output_tokens: int
    images: int
    milliseconds: int


def app_named(engine: sa.Engine, app: str) -> str:
    """Return the id of an app by id or name. Raises NotFound."""
    named = sa.select(_app.c.id).where(sa.or_(_app.c.id == app, _app.c.name == app))
    with engine.connect() as connection:
        found = connection.execute(named.order_by(sa.case((_app.c.id == app, 0), else_=1))).scalar()
    if found is None:
        raise NotFound(f"there is no app '{app[:100]}'", remedy="`endcredits keys list` shows them by name")
    return str(found)


def answers_of(engine: sa.Engine, keys: SubjectKeys, app_id: str, subject: str) -> list[Answered]:
    """Return an end user's answers, oldest first, of the periods whose keys are kept."""
    periods = {digest: period for period, digest in _digests(keys, app_id, subject)}
    query = sa.select(_event).where(_event.c.app_id == app_id, _event.c.subject_digest.in_(periods))
    with engine.connect() as connection:
        return [
            Answered(
                row.id, periods[row.subject_digest], row.occurred_us, row.model, row.endpoint,
                row.outcome, row.input_tokens, row.output_tokens, row.images, row.milliseconds,
            )
            for row in connection.execute(query.order_by(_event.c.occurred_us, _event.c.id))
        ]  # fmt: skip


def erase_subject(
    engine: sa.Engine, keys: SubjectKeys, app_id: str, subject: str, *, clock: Clock, by: str = "operator"
) -> list[str]:
    """Make an end user's answers nobody's; return their ids. Those that wait in the journal are not among."""
    erased: list[str] = []
    with registry_turn(engine) as connection, overwriting(connection):
        for _, digest in _digests(keys, app_id, subject):
            mine = sa.and_(_event.c.app_id == app_id, _event.c.subject_digest == digest)
            erased += map(str, connection.execute(sa.select(_event.c.id).where(mine)).scalars())
            nobody = secrets.token_hex(KEY_BYTES)
            connection.execute(sa.update(_event).where(mine).values(subject_digest=nobody))
        if erased:
            change = RegistryChange("subject_erased", {"app": app_id, "answers": len(erased)})
            append_registry(connection, [change], actor=by, at_us=clock.now_us())
    return sorted(erased)


def _digests(keys: SubjectKeys, app_id: str, subject: str) -> list[tuple[int, str]]:
    found = ((period, keys.find(app_id, period)) for period in keys.periods())
    return [(period, subject_digest(key, subject)) for period, key in found if key is not None]

"""Appeals: a creator says why a work of hers should not be held up, and somebody has to answer in time.

What an index holds up earns nothing until a person has looked. Whoever that hurts may say so once, in her own
words; the next decision of the review queue answers it, and its reason is what she reads. Calls block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from proxy.catalogue.lookup_store import chunks, owner_of
from proxy.catalogue.ownership import checked_words
from proxy.catalogue.shelf_store import held_among
from proxy.catalogue.works import printable
from proxy.clock import Clock
from proxy.database import RegistryChange, append_registry, registry_turn
from proxy.errors import Conflict, NotFound

DAY_US: Final = 86_400_000_000
WORDS_CHARACTERS_MAX: Final = 2_000  # a page, as of a claim
APPEALED: Final = "hold_appealed"  # how the registry's history calls it; the review queue looks for it


class AppealRow(SQLModel, table=True):
    """What a creator says against the hold of a work, and until when she is answered."""

    __tablename__: ClassVar[Any] = "appeal"
    work_id: str = Field(primary_key=True, sa_type=sa.String, foreign_key="work.id")
    seq: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    creator_id: str = Field(sa_type=sa.String, foreign_key="creator.id")
    words: str = Field(sa_type=sa.Text)
    at_us: int = Field(sa_type=sa.BigInteger)
    due_us: int = Field(sa_type=sa.BigInteger)


_tables = SQLModel.metadata.tables
_appeal, _review = _tables["appeal"], _tables["review"]


@dataclass(frozen=True, slots=True)
class Appeal:
    """The last appeal of a work. outcome: "", "released" or "upheld"; said: the reason of who decided."""

    work_id: str
    words: str
    at_us: int
    due_us: int
    outcome: str = ""
    said: str = ""

    def is_overdue(self, now_us: int) -> bool:
        """Whether an answer was due and has not come."""
        return not self.outcome and now_us >= self.due_us


def appeals_among(engine: sa.Engine, work_ids: Sequence[str]) -> dict[str, Appeal]:
    """Return {work: its last appeal} of those that have one."""
    with engine.connect() as connection:
        return _appeals(connection, work_ids)


def appeal(
    engine: sa.Engine, work_id: str, words: str, *, clock: Clock, creator: str, answer_days: int
) -> Appeal:
    """Appeal against the hold of one's own work. Raises NotFound for another's, Conflict where nothing holds
    it up or an appeal waits, BadRequest for words that are missing or too many.
    """
    said = checked_words(words, "appeal", WORDS_CHARACTERS_MAX)
    if work_id not in held_among(engine, [work_id]):
        with engine.connect() as connection:
            _refuse_others(connection, work_id, creator)
        raise Conflict(
            "nothing holds this work up", remedy="there is nothing to appeal against", code="not_held"
        )
    with registry_turn(engine) as connection:
        _refuse_others(connection, work_id, creator)
        last = _appeals(connection, [work_id]).get(work_id)
        if last is not None and not last.outcome:
            raise Conflict(
                "an appeal of this work waits already", remedy="wait for its answer", code="appeal_open"
            )
        now_us = clock.now_us()
        seq = append_registry(
            connection, [RegistryChange(APPEALED, {"words": said}, work_id)], actor=creator, at_us=now_us
        )
        row = {"work_id": work_id, "seq": seq, "creator_id": creator, "words": said, "at_us": now_us}
        connection.execute(sa.insert(_appeal), [row | {"due_us": now_us + answer_days * DAY_US}])
        return _appeals(connection, [work_id])[work_id]


def _refuse_others(connection: sa.Connection, work_id: str, creator: str) -> None:
    if owner_of(connection, work_id) != creator:
        raise NotFound(f"there is no work '{printable(work_id, 60)}'", remedy="take its id from the list")


def _appeals(connection: sa.Connection, work_ids: Sequence[str]) -> dict[str, Appeal]:
    found: dict[str, Appeal] = {}
    for some in chunks(work_ids):
        decided = sa.select(_review).where(
            _review.c.work_id.in_(some), _review.c.decision.in_(("released", "upheld"))
        )
        decisions = {str(row.work_id): row for row in connection.execute(decided.order_by(_review.c.seq))}
        for row in connection.execute(
            sa.select(_appeal).where(_appeal.c.work_id.in_(some)).order_by(_appeal.c.seq)
        ):
            last = decisions.get(row.work_id)
            answer = (last.decision, last.reason) if last is not None and last.seq > row.seq else ("", "")
            found[row.work_id] = Appeal(row.work_id, row.words, int(row.at_us), int(row.due_us), *answer)
    return found

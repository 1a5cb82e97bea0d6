"""What one worker process runs.

It is opened in the order in which each part leans on the last, and closed in the opposite one: requests end,
the journal is written out, what is written is carried to the store. Meanwhile `Running` looks after what has
to happen again and again, and says for /readyz how each part fares. It knows no route: `app.py` puts those
over it. Fakes (a transport, a clock, ids, a scorer) come in here as arguments and are never patched in.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from proxy import __version__
from proxy.access.limits_store import Budgets
from proxy.access.made_store import MadeThings
from proxy.access.store import KeyRing
from proxy.access.subjects import SubjectKeys
from proxy.asking import of_store, on_disk
from proxy.billing import prices
from proxy.billing.daily_store import DailyUses
from proxy.billing.passages_store import PassageUses
from proxy.billing.retaining import Retainer
from proxy.billing.retention_store import SEAL_TYPE
from proxy.billing.users_store import UsersRefresher
from proxy.catalogue import indexing
from proxy.catalogue.store import Catalogue
from proxy.catalogue.watching import IndexWatcher, SnapshotRefresher
from proxy.catalogue.works import WorkCredit
from proxy.clock import Clock, Ids, RandomIds, SystemClock
from proxy.crew import Crew
from proxy.database import close_engine, open_engine, ping, upgrade
from proxy.errors import Problem, Unavailable
from proxy.hooks.dispatching import tell
from proxy.metering import store as metering
from proxy.metering.audited import AuditedExchanges
from proxy.metering.journal import Journal
from proxy.metering.pending import PendingTexts
from proxy.metering.sink import Sink, carry_orphans
from proxy.observability import Metrics, get_log
from proxy.receipts.apart import Apart
from proxy.receipts.appending import Appender
from proxy.receipts.issuing import Issuer
from proxy.relay.attributing import Attributing
from proxy.relay.auditing import Auditing
from proxy.relay.credits import Credited
from proxy.relay.handler import Relay
from proxy.relay.recovery import WaitingTexts, settle_left_over
from proxy.relay.scored import Failed, Scored
from proxy.settings import Settings
from proxy.telemetry import Telemetry, opened

if TYPE_CHECKING:
    import httpx

READY_CHECK_S = 2.0  # a store that takes longer to answer SELECT 1 is not ready for traffic
SIBLINGS_S = 30.0  # every worker has its journal shard long before
OVERDUE_EVERY_S = 60.0  # how often texts that have waited too long are looked for
SWEEP_EVERY_S = 300.0  # reservations of answers long metered hold back their app's budget until then
DRAIN_S = 10.0  # what the last carrying may take at shutdown; the rest is carried at the next start


class Running:
    """What one worker process runs. `start` before the first request, `stop` after the last."""

    def __init__(
        self,
        settings: Settings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        scorer: Sequence[str] = (),
        crew: Crew | None = None,
        telemetry: Telemetry | None = None,
        has_schema: bool = False,
        apart: Apart | None = None,
    ) -> None:
        """`transport` stands in for the network, `scorer` for the command that starts the scoring process.

        crew: what this worker shares with others, when there are others. telemetry: stands in for what
        the environment wants. has_schema: the store's schema has just been brought up to date.
        apart: the process that appends to the log, where there is one.
        """
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or RandomIds()
        self.metrics = Metrics() if crew is None else Metrics(crew.folder, crew.slot)
        self.telemetry = telemetry or opened(self.clock, settings.backends)
        self._transport = transport
        self._tasks: list[asyncio.Task[None]] = []
        self._log = get_log()
        folder = settings.data_dir
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not has_schema:
            upgrade(settings.store_url)
        self.engine = open_engine(settings.store_url)
        self.prices = prices.load(Path(settings.billing.prices_dir) if settings.billing.prices_dir else None)
        self.keyring = KeyRing(self.engine, clock=self.clock, refresh_ms=settings.catalogue.refresh_ms)
        catalogue = Catalogue(
            self.engine, clock=self.clock, ids=self.ids, default_consent=settings.catalogue.default_consent
        )
        self.registry = SnapshotRefresher(catalogue, refresh_ms=settings.catalogue.refresh_ms)
        self.attributing = Attributing(
            settings,
            index=self._index_in_use,
            metrics=self.metrics,
            clock=self.clock,
            log=self._log,
            command=scorer if crew is None else crew.scorer,
        )
        self.budgets = Budgets(self.engine)
        self.made = MadeThings(self.engine)
        rules = settings.audit
        kept = AuditedExchanges(settings.data_dir, exchanges_max=rules.exchanges_max, days=rules.days)
        self.auditing = Auditing(kept, rules, clock=self.clock)
        self.issuer = Issuer(folder, settings.receipts.origin, self.clock)
        self._logs = logs(crew)
        self.apart = apart
        pause_s = settings.receipts.append_ms / 1_000
        self.appender = Appender(self.engine, self.issuer.secrets_of, pause_s=pause_s)
        self.retainer = Retainer(
            self.engine,
            settings.retention,
            folder,
            seal=lambda digest: self.issuer.signer.jws(digest, SEAL_TYPE),
            clock=self.clock,
        )
        self.passages = PassageUses(self.engine)
        self.users = UsersRefresher(self.engine, settings.billing, SubjectKeys(folder), self.clock)
        self.relay: Relay | None = None
        self.journal: Journal | None = None
        self.sink: Sink | None = None

    async def start(self) -> None:
        """Open the journal, load keys and registry, start the scorer, and take up what was left over."""
        settings = self.settings
        await self.keyring.refresh()
        await self.registry.refresh()
        await self.users.refresh()
        if self.keyring.away:  # without a single key it could only refuse what other workers can serve
            raise Unavailable(
                "the store does not answer, and no key is in memory yet",
                remedy="check [store] url and that its server runs",
                code="store_unavailable",
            )
        journal = Journal.open(
            settings.journal_dir, settings=settings.metering, clock=self.clock, metrics=self.metrics
        )
        sink = Sink(journal, self.engine, settings=settings.metering, metrics=self.metrics)
        pending = PendingTexts.of_shard(settings.data_dir, journal.directory.name)
        self.journal, self.sink = journal, sink
        await self.attributing.start()
        relay = Relay(
            settings=settings,
            keyring=self.keyring,
            journal=journal,
            pending=WaitingTexts(pending),
            attributing=self.attributing,
            credit_of=self.credit_of,
            works_at=self.works_at,
            registry_seq=lambda: self.registry.snapshot.seq,
            policy_seq=self.users.policy_seq,
            price_of=self.price_of,
            issuer=self.issuer,
            clock=self.clock,
            ids=self.ids,
            metrics=self.metrics,
            log=self._log,
            budgets=self.budgets,
            made=self.made,
            metered=functools.partial(metering.known_ids, self.engine),
            auditing=self.auditing,
            drew=self.passages.add,
            subject_of=self.users.digest,
            transport=self._transport,
        )
        self.attributing.on_late = relay.settle_late
        self.relay = relay
        watcher = IndexWatcher(
            settings.index_dir, self._index_changed, refresh_ms=settings.catalogue.refresh_ms
        )
        watcher.path = self._index_in_use()  # what the scorer has just opened need not be opened again
        for name, work in (
            ("keys", self.keyring.run()),
            ("registry", self.registry.run()),
            ("users", self.users.run()),
            ("index", watcher.run()),
            ("sink", sink.run()),
            ("left over", self._take_up(journal, pending)),
            ("overdue", self._give_up(journal)),
            ("budgets", self._sweep_budgets()),
            ("passages", self.passages.run()),
            *(
                [
                    ("webhooks", tell(self.engine, self.settings.data_dir, self.clock)),
                    ("subject keys", self.users.forget()),
                    ("log", self._append()),
                    ("retention", self.retainer.run()),
                    ("daily uses", DailyUses(self.engine).run()),
                ]
                if self._logs
                else []
            ),
        ):
            self._spawn(name, work)
        # Everything alive now stays alive: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        self._log.info(
            "proxy_started", version=__version__, shard=journal.shard_id, method=self.attributing.method
        )

    async def stop(self) -> None:
        """Close in the opposite order; what cannot be carried now is carried at the next start."""
        if self.relay is not None:
            await self.relay.aclose()
        await self.attributing.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.journal is not None and self.sink is not None:
            await self.journal.close()
            with contextlib.suppress(Problem, TimeoutError):
                await asyncio.wait_for(self.sink.drain(), DRAIN_S)
            await self.sink.close()
            with contextlib.suppress(SQLAlchemyError):
                await asyncio.to_thread(self.passages.step)
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.close)
        await close_engine(self.engine)
        gc.unfreeze()
        self._log.info("proxy_stopped")

    def credit_of(self, work: str) -> WorkCredit | None:
        """Return what the registry says of a work now."""
        return self.registry.snapshot.credit(work)

    def credits(self, scored: Scored | Failed) -> Credited:
        """Return a score with the registry's word on each work."""
        assert self.relay is not None
        return self.relay.credits(scored)

    def works_at(self, address: str) -> tuple[str, ...]:
        """Return the works that are registered with this web address now."""
        return self.registry.snapshot.works_at(address)

    def price_of(
        self, model: str, occurred_us: int, tokens_in: int, tokens_out: int, images: int, milliseconds: int
    ) -> tuple[str, int | None, str]:
        """Return (price table's version, grains or None, currency) for one answer."""
        in_force = self.prices.at(occurred_us)
        if in_force is None:
            return "", None, self.settings.billing.currency
        price = in_force.price(model, tokens_in, tokens_out, images, milliseconds)
        if price is None:
            return in_force.version, None, self.settings.billing.currency
        return price.version, price.grains, price.currency

    async def checks(self) -> dict[str, str]:
        """Return what /readyz says of each part: `ok`, or what is wrong with it."""
        serves = self.attributing.healthy
        found = {
            "model": "ok" if serves else "the scorer does not serve; see `endcredits doctor`",
            "index": "ok"
            if serves or not self._has_index()
            else "does not serve; see `endcredits index verify`",
            "journal": "ok" if self.journal is not None else "not open",
        }
        if self.journal is not None and self.journal.problem is not None:
            found["journal"] = "cannot be written; the log says why (journal_write_failed)"
        sink = self.sink
        if sink is not None and sink.problem is not None:
            found["carrier"] = sink.problem.cause
        logging = self.appender.problem or (self.apart.problem if self.apart is not None else None)
        if logging is not None:
            found["log"] = logging.cause
        try:
            async with asyncio.timeout(READY_CHECK_S):
                await of_store(ping, self.engine)
            found["database"] = "ok"
        except (TimeoutError, SQLAlchemyError, Unavailable) as error:
            found["database"] = f"does not answer ({type(error).__name__})"
        return found

    def _has_index(self) -> bool:
        """Say whether there is an index to serve from, a broken one too; without any work there is none."""
        try:
            return indexing.current(self.settings.index_dir) is not None
        except Problem:
            return True

    def about(self) -> dict[str, object]:
        """Return what /.well-known/endcredits.json says beside the version."""
        return {"method": self.attributing.method, **self.issuer.about()}

    async def _append(self) -> None:
        """Have answers put into the log: by the process that does nothing else, as long as it lives."""
        if self.apart is not None:
            await self.apart.run()
        await self.appender.run()

    def _index_in_use(self) -> Path | None:
        try:
            return indexing.current(self.settings.index_dir)
        except Problem as problem:
            self._log.error("index_unusable", cause=problem.cause, remedy=problem.remedy)
            # A folder that is no index: the scorer refuses it, and answers wait rather than being nobody's.
            return self.settings.index_dir

    async def _index_changed(self, _path: Path | None) -> None:
        await self.attributing.reload()

    async def _take_up(self, journal: Journal, pending: PendingTexts) -> None:
        """Settle what former processes left: in our own shard, then in shards whose process is gone."""
        assert self.relay is not None
        hours_max = self.settings.attribution.pending_hours_max
        await settle_left_over(journal, pending, self.attributing, self.relay.credits, hours_max=hours_max)
        if self.settings.server.workers > 1:
            await asyncio.sleep(SIBLINGS_S)  # a sibling may be about to take that shard for its own
        for sink in await carry_orphans(
            self.settings.journal_dir, self.engine, settings=self.settings.metering, clock=self.clock
        ):
            orphan = sink.journal
            texts = PendingTexts.of_shard(self.settings.data_dir, orphan.directory.name)
            await settle_left_over(orphan, texts, self.attributing, self.relay.credits, hours_max=hours_max)
            await orphan.close()
            await sink.drain()
            await sink.close()

    async def _give_up(self, journal: Journal) -> None:
        """Settle answers whose text has waited too long, again and again."""
        assert self.relay is not None
        while True:
            await asyncio.sleep(OVERDUE_EVERY_S)
            for event_id in await journal.settle_overdue(self.settings.attribution.pending_hours_max):
                self.attributing.forget(event_id)
                await on_disk(self.relay.pending.erase, event_id)

    async def _sweep_budgets(self) -> None:
        """Settle what dead workers reserved, again and again."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await asyncio.to_thread(self.budgets.sweep, now_us=self.clock.now_us())
                await asyncio.to_thread(self.made.prune, now_us=self.clock.now_us())
                await self.auditing.sweep()
            except Unavailable as problem:
                self._log.warning("budgets_not_swept", cause=problem.cause)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.error("task_failed", task=name, exc_info=error)

        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(ended)
        self._tasks.append(task)


def logs(crew: Crew | None) -> bool:
    """Whether this worker sees to the log: one is enough."""
    return crew is None or crew.slot == 0

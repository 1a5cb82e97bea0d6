"""What anybody may see: where the money goes, how right the shares are, and whether a work is here.

The pages and `/api` say the same, made by the same functions: /portal/transparency and /api/transparency,
/portal/look-up and /api/look-up. Sums over everybody are made once a minute at most, however many look. The
look-up says yes or no and nothing else, and each address may ask a few times a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.enums import RequestEncodingType
from litestar.handlers import BaseRouteHandler
from litestar.params import Body

from proxy.access.sessions import Attempts
from proxy.asking import of_pages
from proxy.billing import periods_store
from proxy.billing.transparency_store import Standing, standing
from proxy.clock import Clock, iso_utc
from proxy.errors import BadRequest, Problem, TooOften
from proxy.portal.log import signed_checkpoint
from proxy.portal.pages import AnyRequest, Pages
from proxy.receipts import store as log_store
from proxy.receipts.verify import b64

if TYPE_CHECKING:
    import sqlalchemy as sa

    from proxy.receipts.issuing import Issuer

KEPT_S: Final = 60.0
PERIODS_MAX: Final = 24  # two years of months
LOOK_UPS_PER_MIN: Final = 10
TEXT_CHARACTERS_MAX: Final = 40_000
ADDRESS_CHARACTERS_MAX: Final = 2_000


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """How right the shipped method is, as its card says; percents and ppm, so that nothing is rounded twice.

    score: 100 times mean skill times (1 - false credit), with its 95 % interval; skill is 1 when every share
    is right and 0 when it is no better than crediting nobody. false_ppm: words of texts that owe nothing and
    were credited all the same. skill_permille: by how a work was used.
    """

    outputs: int
    works: int
    score_permille: int
    from_permille: int
    to_permille: int
    false_ppm: int
    skill_permille: dict[str, int]


# attribution/models/scorer/CARD.md says how it was measured; a test compares.
MEASURED: Final = Measured(
    outputs=970,
    works=9_639,
    score_permille=827,
    from_permille=802,
    to_permille=850,
    false_ppm=21_000,
    skill_permille={"verbatim": 970, "paraphrase": 830, "summary": 599, "mixture": 837, "duplicate": 990},
)


class PeriodSums(msgspec.Struct, frozen=True, kw_only=True):
    """A closed period, over all apps and creators. Grains unless the name says otherwise."""

    period: str
    state: str
    currency: str
    closed: str
    answers: int
    charged_grains: int
    creators_grains: int
    unclaimed_grains: int
    claimed_grains: int
    common_grains: dict[str, int]
    platform_grains: int


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """The log as it is: `checkpoint` is what /log/checkpoint says."""

    origin: str
    entries: int
    root: str
    checkpoint: str


class Transparency(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    as_of: str
    works: int
    creators: int
    method: str
    measured: Measured
    standing: list[Standing]
    periods: list[PeriodSums]
    log: LogState


class Sought(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody looks for: a passage of their own text, or the address at which their work is found."""

    text: Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)] = ""
    address: Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)] = ""


class Found(msgspec.Struct, frozen=True):
    """All that is said."""

    is_registered: bool


@dataclass(frozen=True, slots=True)
class Looking:
    """How works are recognised. in_text: whether a text is a registered work's; at_address: works there."""

    in_text: Callable[[str], Awaitable[bool]]
    at_address: Callable[[str], Sequence[str]]


class Public:
    """What the pages and the API say."""

    def __init__(
        self,
        engine: sa.Engine,
        issuer: Issuer,
        looking: Looking,
        *,
        clock: Clock,
        method: Callable[[], str],
        count: Callable[[], tuple[int, int]],
    ) -> None:
        """`count` returns how many works and creators are registered; it may block."""
        self._engine = engine
        self._issuer = issuer
        self._looking = looking
        self._clock = clock
        self._method = method
        self._count = count
        self._attempts = Attempts(LOOK_UPS_PER_MIN)
        self._kept: Transparency | None = None
        self._kept_s = 0.0
        self._turn = asyncio.Lock()

    async def transparency(self) -> Transparency:
        """Return what the books and the log say, at most a minute old."""
        async with self._turn:  # who comes while it is made waits for it, instead of making it again
            if self._kept is None or self._clock.monotonic_s() - self._kept_s >= KEPT_S:
                self._kept = await self._made()
                self._kept_s = self._clock.monotonic_s()
            return self._kept

    async def look_up(self, sought: Sought, asker: str) -> Found:
        """Tell whether a work is registered. asker: the address that asks.

        Raises BadRequest for what is too little to tell by, TooOften for who asks too often.
        """
        wait_s = self._attempts.wait_s(asker, self._clock.now_us())
        if wait_s:
            raise TooOften("that was asked too often", wait_s=wait_s, code="too_many_look_ups")
        if bool(sought.text.strip()) == bool(sought.address.strip()):
            raise BadRequest("say one thing to look for", remedy="give a passage of the text, or an address")
        if sought.address.strip():
            return Found(bool(self._looking.at_address(sought.address.strip())))
        return Found(await self._looking.in_text(sought.text))

    async def _made(self) -> Transparency:
        checkpoint = await signed_checkpoint(self._engine, self._issuer)
        return await of_pages(self._read, checkpoint)

    def _read(self, checkpoint: str) -> Transparency:
        now_us = self._clock.now_us()
        works, creators = self._count()
        state = log_store.read_state(self._engine)
        periods = [
            PeriodSums(
                period=one.label,
                state=one.state,
                currency=one.currency,
                closed=iso_utc(one.closed_us),
                answers=one.totals.events,
                charged_grains=one.totals.charged_grains,
                creators_grains=one.totals.creators_grains,
                unclaimed_grains=one.totals.escrow_grains - one.totals.claimed_grains,
                claimed_grains=one.totals.claimed_grains,
                common_grains=one.totals.common_grains,
                platform_grains=one.totals.platform_grains,
            )
            for one in periods_store.summaries(self._engine, now_us)[:PERIODS_MAX]
        ]
        return Transparency(
            as_of=iso_utc(now_us),
            works=works,
            creators=creators,
            method=self._method(),
            measured=MEASURED,
            standing=standing(self._engine),
            periods=periods,
            log=LogState(
                origin=self._issuer.origin, entries=state.size, root=b64(state.root), checkpoint=checkpoint
            ),
        )


def public_router(public: Public, peer: Callable[[AnyRequest], str]) -> Router:
    """Return what anybody may ask under /api. peer: the address that asks."""

    @get("/transparency")
    async def transparency() -> Response[bytes]:
        """Totals by period, what stands in the books, the log, and how right shares are."""
        made = await public.transparency()
        headers = {"cache-control": f"public, max-age={KEPT_S:.0f}"}
        return Response(msgspec.json.encode(made), media_type="application/json", headers=headers)

    @post("/look-up", status_code=200)
    async def look_up(request: Request[Any, Any, Any], data: Annotated[Sought, Body()]) -> dict[str, bool]:
        """Whether a text, or an address, is a registered work's: yes or no."""
        found = await public.look_up(data, peer(request))
        return {"is_registered": found.is_registered}

    return Router("/api", route_handlers=[transparency, look_up])


def public_pages(
    pages: Pages,
    public: Public,
    peer: Callable[[AnyRequest], str],
    form_page: Callable[..., Response[Any]],
) -> Sequence[BaseRouteHandler]:
    """Return the pages. form_page: a page whose form somebody who is not signed in may send."""

    @get("/transparency")
    async def transparency(request: AnyRequest) -> Response[bytes]:
        """Where the money goes."""
        return pages.page(request, "transparency.html.jinja", told=await public.transparency())

    @get("/look-up", sync_to_thread=False)
    def ask(request: AnyRequest) -> Response[Any]:
        """Is my work here?"""
        return form_page(request, pages, "look-up.html.jinja", _asked())

    @post("/look-up", status_code=200)
    async def answer(
        request: AnyRequest,
        data: Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)],
    ) -> Response[Any]:
        """Yes or no."""
        text, address = data.get("text", "")[:TEXT_CHARACTERS_MAX], data.get("address", "")
        sought = Sought(text=text, address=address[:ADDRESS_CHARACTERS_MAX])
        try:
            found = await public.look_up(sought, peer(request))
        except Problem as refused:
            known = _asked(sought, refused=refused)
            return form_page(request, pages, "look-up.html.jinja", known, status=refused.status)
        return form_page(request, pages, "look-up.html.jinja", _asked(sought, found=found))

    return (transparency, ask, answer)


def _asked(
    sought: Sought | None = None, *, found: Found | None = None, refused: Problem | None = None
) -> dict[str, Any]:
    return {"sought": sought or Sought(), "found": found, "refused": refused}

"""Pages: templates made into replies that a browser can trust, whoever wrote the words in them.

Everything that comes from outside is escaped where it is printed, because templates escape by themselves; and
should that ever fail, the policy sent with each page lets no inline script or style run, loads nothing from
other hosts and lets nobody frame it. Numbers, money and dates are written as the reader's browser asks for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlencode

import jinja2
from litestar import Request, Response
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from proxy.billing.locales import Amount, English, Style, preferred, style_of
from proxy.billing.money import GRAINS_PER_MINOR, PPM
from proxy.billing.words import REASONS
from proxy.catalogue.agreements import percent_text
from proxy.clock import iso_utc
from proxy.errors import BadRequest
from proxy.portal.assets import Assets

TEMPLATES: Final = Path(__file__).with_name("templates")
PERMILLE_PPM: Final = PPM // 1_000  # how fine a reader's own percents are
STYLES_KEPT: Final = 64  # locales in memory at once: more readers' languages than one machine meets
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# A reply may say otherwise: a statement carries its own style, a file is kept in no cache.
HEADERS: Final[Mapping[bytes, bytes]] = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"private, no-store",
}
AnyRequest = Request[Any, Any, Any]


def guarded(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that every reply carries HEADERS, unless it says otherwise itself."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name.lower() for name, _ in message["headers"]}
                missing = [(name, value) for name, value in HEADERS.items() if name not in said]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        await app(scope, receive, sent)

    return serve


class Pages:
    """The templates, the files they name, and what every page knows."""

    def __init__(
        self, assets: Assets, about: Callable[[AnyRequest], Mapping[str, Any]] | None = None
    ) -> None:
        """`about` says what pages know of the reader: `me`, `token`, `menu`, `secure`."""
        self._about = about or _nobody
        self._templates = environment(assets)

    def style(self, request: AnyRequest) -> Style:
        """Return how the reader writes numbers, money and dates."""
        return reader_style(request.headers.get("accept-language", ""))

    def page(self, request: AnyRequest, template: str, *, status: int = 200, **known: Any) -> Response[bytes]:
        """Return a page made of `template` and what is `known`."""
        common = {"style": self.style(request), "here": request.url.path, "me": None, "token": "", "menu": ()}
        text = self._templates.get_template(template).render(**(common | dict(self._about(request)) | known))
        return Response(
            text.encode(),
            status_code=status,
            media_type="text/html",
            headers={"vary": "accept-language, cookie"},
        )


def environment(assets: Assets) -> jinja2.Environment:
    """Return the templates' environment: escaping, strict, with the filters that need the reader's style."""
    made: Any = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(asset=assets.address, query=address, MINOR=GRAINS_PER_MINOR)
    made.filters.update(
        amount=_amount,
        spoken=_spoken,
        count=_count,
        share=_share,
        part=_part,
        reason=_reason,
        day=_day,
        moment=_moment,
        iso=iso_utc,
        month=_month,
    )
    return cast("jinja2.Environment", made)


def _nobody(_request: AnyRequest) -> Mapping[str, Any]:
    return {}


def reader_style(languages: str) -> Style:
    """Return how numbers, money and dates are written for an Accept-Language header."""
    return _style(preferred(languages)) if languages else _style("")


@functools.lru_cache(maxsize=STYLES_KEPT)
def _style(tag: str) -> Style:
    try:
        return style_of(tag)
    except BadRequest:
        return English()


def address(path: str, **query: object) -> str:
    """Return an address of ours with those parts of a query that say something."""
    said = urlencode({name: value for name, value in query.items() if value not in {None, ""}})
    return f"{path}?{said}" if said else path


def _of(context: jinja2.runtime.Context) -> Style:
    style: Style = context["style"]
    return style


def _reason(reason: str) -> str:
    """Why money is in the common account, as statements say it."""
    return REASONS[reason][0] if reason in REASONS else reason.replace("_", " ").capitalize()


@jinja2.pass_context
def _amount(context: jinja2.runtime.Context, grains: int, currency: str) -> Amount:
    return _of(context).amount(grains, currency)


@jinja2.pass_context
def _spoken(context: jinja2.runtime.Context, grains: int, currency: str) -> str:
    return _of(context).spoken(grains, currency)


@jinja2.pass_context
def _count(context: jinja2.runtime.Context, number: int) -> str:
    return _of(context).count(number)


@jinja2.pass_context
def _share(context: jinja2.runtime.Context, part: int, whole: int = PPM) -> str:
    return _of(context).percent(part, whole)


@jinja2.pass_context
def _part(context: jinja2.runtime.Context, ppm: int) -> str:
    return whole_part(_of(context), ppm)


def whole_part(style: Style, ppm: int) -> str:
    """Return a part that was agreed on: as the reader writes percents, and never less than exactly."""
    return style.percent(ppm, PPM) if ppm % PERMILLE_PPM == 0 else f"{percent_text(ppm)}%"


@jinja2.pass_context
def _day(context: jinja2.runtime.Context, at_us: int | str) -> str:
    """A day in full, of a moment in microseconds or an ISO text."""
    return _of(context).date((at_us if isinstance(at_us, str) else iso_utc(at_us))[:10])


@jinja2.pass_context
def _moment(context: jinja2.runtime.Context, at_us: int | str) -> str:
    """A day with its minute, UTC: where it matters which came first."""
    text = at_us if isinstance(at_us, str) else iso_utc(at_us)
    return f"{_of(context).date(text[:10])}, {text[11:16]} UTC"


@jinja2.pass_context
def _month(context: jinja2.runtime.Context, label: str) -> str:
    return _of(context).month(label)

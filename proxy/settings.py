"""Everything an operator can set: one TOML file and a few environment variables, into one frozen Settings.

The defaults live here and nowhere else; config/endcredits.toml writes every one of them out with its unit,
and tests/house compares the two. An unknown key is an error with the nearest known one, because a misspelt
limit that is silently ignored is a limit that does not exist. Secrets are never in the file: a backend names
the environment variable that holds its key.
"""

from __future__ import annotations

import datetime as dt
import difflib
import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import msgspec

from proxy.errors import SettingsError

Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Ppm = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HANDED_OVER = "ENDCREDITS_SERVING"
AttributionView = Literal["off", "headers", "body", "full"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file. Fields are its keys; their units end their names."""


class Server(Section, frozen=True):
    """[server]: where we listen, and what a client may send."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8080
    workers: Positive = 1
    body_bytes_max: Positive = 33_554_432
    passthrough_bytes_max: Positive = 536_870_912
    client_idle_s: Positive = 60
    client_bytes_per_s: Natural = 100
    trusted_proxies: tuple[str, ...] = ()
    shutdown_s: Natural = 10
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Store(Section, frozen=True):
    """[store]: where events and money live. An empty url is sqlite in the data folder."""

    url: str = ""


class Retention(Section, frozen=True):
    """[retention]: how long answers stay in the store once their period is final. 0 days: for ever."""

    usage_days: Annotated[int, msgspec.Meta(ge=0, le=36_600)] = 400
    archive: Literal["file", "none"] = "file"


class Backend(Section, frozen=True):
    """[[backends]]: one generation server; those with a weight share the traffic, the rest follow."""

    name: str = "default"
    url: str = "http://127.0.0.1:8000/v1"
    api_key_env: str = ""
    key_header: Literal["authorization", "api-key", "x-api-key"] = "authorization"
    api_version: str = ""
    models: tuple[str, ...] = ("*",)
    aliases: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    weight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    connect_ms: Positive = 5_000
    first_byte_ms: Positive = 120_000
    idle_ms: Positive = 120_000
    whole_ms: Positive = 1_800_000
    tls_verify: bool = True
    ca_file: str = ""
    env_proxies: bool = False
    transport: Literal["own", "httpx"] = "own"


class Routing(Section, frozen=True):
    """[routing]: when another backend is asked, or the same again, and when one is left alone.

    client_left: what becomes of an answer whose client has left. `drain` reads the backend on for its usage,
    for at most drain_ms; `abort` ends it at once, and its tokens are estimated.
    """

    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=20)] = 3
    retry_status: tuple[Annotated[int, msgspec.Meta(ge=400, le=599)], ...] = (429, 503)
    retry_after_ms: Natural = 1_000
    circuit_failures: Natural = 3
    circuit_ms: Positive = 1_000
    circuit_ms_max: Positive = 30_000
    promise_wait_ms: Positive = 1_000
    client_left: Literal["drain", "abort"] = "drain"
    drain_ms: Positive = 30_000


class Attribution(Section, frozen=True):
    """[attribution]: how credits are computed and shown."""

    view: AttributionView = "body"
    works_top: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    mode: Literal["inline", "deferred"] = "inline"
    deadline_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 250
    text_bytes_max: Positive = 1_048_576
    backlog_bytes: Positive = 268_435_456
    on_backlog_full: Literal["refuse", "unattributed"] = "refuse"
    pending_hours_max: Positive = 24
    context_bytes_max: Natural = 1_048_576
    encoder_nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 5


class Guard(Section, frozen=True):
    """[guard]: how much of one work an answer may repeat word for word, and what happens beyond."""

    action: Literal["off", "flag", "cut"] = "flag"
    excerpt_words: Positive = 300
    prohibited_words: Natural = 25


class Access(Section, frozen=True):
    """[access]: what is assumed of requests whose app has a budget."""

    output_tokens_max: Positive = 16_384
    unpriced: Literal["refuse", "allow"] = "refuse"


class Audit(Section, frozen=True):
    """[audit]: what is kept of the exchanges of apps that were opted in (`apps audit on`)."""

    sample_ppm: Ppm = 50_000
    exchanges_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_000
    exchange_bytes_max: Positive = 262_144
    days: Positive = 30


class Metering(Section, frozen=True):
    """[metering]: the journal beside the store."""

    segment_bytes: Positive = 16_777_216
    queue_events: Positive = 10_000
    carry_events: Positive = 500
    carry_ms: Positive = 200


class Receipts(Section, frozen=True):
    """[receipts]: what is signed and logged. origin: the log's name, for ever."""

    origin: Annotated[str, msgspec.Meta(pattern=r"^[^\s+]{1,200}$")] = "endcredits.local/log"
    append_ms: Annotated[int, msgspec.Meta(ge=10, le=60_000)] = 500


class Portal(Section, frozen=True):
    """[portal]: how long one is signed in to the pages, and how often an address may try."""

    session_hours: Annotated[int, msgspec.Meta(ge=1, le=8_760)] = 12
    link_hours: Annotated[int, msgspec.Meta(ge=1, le=8_760)] = 72
    sign_ins_per_min: Positive = 20


class OidcProvider(Section, frozen=True):
    """[[oidc.providers]]: somebody else's sign-in page. No client secret of either kind: a public client."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,40}$")]
    issuer: str
    client_id: str
    client_secret_env: str = ""
    client_secret_file: str = ""
    title: Annotated[str, msgspec.Meta(max_length=60)] = ""
    scopes: tuple[str, ...] = ("openid",)
    private: bool = False


class Oidc(Section, frozen=True):
    """[oidc]: signing in to the pages by identity providers (the extra `oidc`)."""

    address: str = ""
    providers: tuple[OidcProvider, ...] = ()


class Catalogue(Section, frozen=True):
    """[catalogue]: what happens to works."""

    file_bytes_max: Positive = 33_554_432
    refresh_ms: Annotated[int, msgspec.Meta(ge=10, le=1_000)] = 250
    default_consent: Literal["paid", "free", "denied"] = "paid"


class DirectRate(Section, frozen=True):
    """[[billing.rates]]: a direct per-use rate; the first that matches holds.

    creator: whose works, by id. medium: text, picture or sound.
    """

    amount: str
    work: str = "*"
    model: str = "*"
    creator: str = "*"
    medium: str = "*"


class Scheme(Section, frozen=True):
    """[[billing.schemes]]: which compensation an app's answers pay; the first that matches holds.

    medium: text, picture or sound. royalty_ppm: instead of [billing] royalty_ppm.
    """

    scheme: Literal["royalty", "direct", "pool"]
    app: str = "*"
    model: str = "*"
    medium: str = "*"
    royalty_ppm: Ppm | None = None


class PoolRule(Section, frozen=True):
    """[[billing.pools]]: how an app's declared revenue is divided; the first that matches holds.

    creators_ppm: creators' part of the revenue. without_use: where the part of an end user goes who used
    nothing that pays. unattributed: where the part of use goes that no work explains.
    """

    app: str = "*"
    creators_ppm: Ppm = 500_000
    division: Literal["user_centric", "pro_rata"] = "user_centric"
    without_use: Literal["common", "platform"] = "common"
    unattributed: Literal["common", "spread", "platform"] = "common"


class Billing(Section, frozen=True):
    """[billing]: usage into money. Amounts are decimal text in `currency`, never floats.

    All but prices_dir and the days is the policy that holds while no other was activated (billing.policies).
    comment_days: how long a closed period is a draft; answer_days: until when a dispute is to be answered.
    """

    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "USD"
    prices_dir: str = ""
    scheme: Literal["royalty", "direct", "pool"] = "royalty"
    royalty_ppm: Ppm = 300_000
    rate: str = "0.002"
    unattributed: Literal["common", "platform", "not_charged"] = "common"
    pay_own_apps: bool = False
    schemes: tuple[Scheme, ...] = ()
    rates: tuple[DirectRate, ...] = ()
    pools: tuple[PoolRule, ...] = ()
    common_rule: Literal["carried", "pro_rata", "equal", "to"] = "carried"
    common_to: str = ""
    common_reasons: tuple[str, ...] = ("unattributed", "no_text", "without_use")
    floor: Literal["exclude", "top_up"] = "exclude"
    floor_max: str = "0.10"
    comment_days: Annotated[int, msgspec.Meta(ge=0, le=366)] = 14
    answer_days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 30


class Concentration(Section, frozen=True):
    """[concentration]: what `periods report` calls out of the ordinary. Parts are of what creators earned."""

    least_earned: str = "10"
    creator_ppm: Ppm = 200_000
    work_ppm: Ppm = 100_000
    one_app_ppm: Ppm = 800_000
    herfindahl_ppm: Ppm = 250_000
    growth_ppm: Positive = 5_000_000
    top_rows: Positive = 20


class WithholdingRow(Section, frozen=True, kw_only=True):
    """[[payouts.withholding]]: what is kept of payouts for `regime` from a day on, by form and country."""

    regime: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,20}$")]
    form: Literal["W9", "W8BEN", "W8BENE", "none", "other", "*"]
    ppm: Ppm
    effective_from: dt.date
    country: Annotated[str, msgspec.Meta(pattern=r"^([A-Z]{2}|\*)$")] = "*"
    treaty: bool = False


class Payouts(Section, frozen=True):
    """[payouts]: when creators are paid, and from which account. `minimum` is in [billing] currency."""

    minimum: str = "10"
    debtor_name: str = ""
    debtor_iban: str = ""
    debtor_bic: str = ""
    withholding: tuple[WithholdingRow, ...] = ()


class Settings(Section, frozen=True):
    """All of it. `data_dir` comes from --data or ENDCREDITS_DATA, never from the file."""

    server: Server = Server()
    store: Store = Store()
    retention: Retention = Retention()
    backends: tuple[Backend, ...] = (Backend(),)
    routing: Routing = Routing()
    access: Access = Access()
    attribution: Attribution = Attribution()
    guard: Guard = Guard()
    audit: Audit = Audit()
    metering: Metering = Metering()
    receipts: Receipts = Receipts()
    portal: Portal = Portal()
    oidc: Oidc = Oidc()
    catalogue: Catalogue = Catalogue()
    billing: Billing = Billing()
    concentration: Concentration = Concentration()
    payouts: Payouts = Payouts()
    data_dir: Path = Path("var")

    @property
    def store_url(self) -> str:
        """The store's URL with the default filled in."""
        return self.store.url or f"sqlite:///{self.data_dir.resolve() / 'endcredits.db'}"

    @property
    def journal_dir(self) -> Path:
        """Where each worker's journal shard lies."""
        return self.data_dir / "journal"

    @property
    def index_dir(self) -> Path:
        """Where attribution indexes lie, and the file `current` that names the one in use."""
        return self.data_dir / "index"


class _File(Section, frozen=True):
    server: Server = Server()
    store: Store = Store()
    retention: Retention = Retention()
    backends: tuple[Backend, ...] = (Backend(),)
    routing: Routing = Routing()
    access: Access = Access()
    attribution: Attribution = Attribution()
    guard: Guard = Guard()
    audit: Audit = Audit()
    metering: Metering = Metering()
    receipts: Receipts = Receipts()
    portal: Portal = Portal()
    oidc: Oidc = Oidc()
    catalogue: Catalogue = Catalogue()
    billing: Billing = Billing()
    concentration: Concentration = Concentration()
    payouts: Payouts = Payouts()


def load_settings(config: Path | None, *, data_dir: Path | None = None) -> Settings:
    """Return the settings of `config` (or defaults), refusing what is not understood.

    `config` None means ENDCREDITS_CONFIG, else ./endcredits.toml when it is there, else the defaults.
    Raises SettingsError naming file, key and remedy.
    """
    path = config or _named_by_environment()
    parsed = _File() if path is None else _read(path)
    check_backends(parsed.backends, str(path or "settings"))
    networks(parsed.server.trusted_proxies, str(path or "settings"))
    data = data_dir or Path(os.environ.get("ENDCREDITS_DATA", "var"))
    return Settings(**{name: getattr(parsed, name) for name in _File.__struct_fields__}, data_dir=data)


def handed_over(settings: Settings) -> dict[str, str]:
    """Return the variable in which `serving` finds these settings again, in a process to be started."""
    return {HANDED_OVER: msgspec.json.encode(settings, enc_hook=str).decode()}


def serving() -> Settings:
    """Return the settings that `endcredits serve` left in the environment for its own processes."""
    return msgspec.json.decode(os.environ[HANDED_OVER], type=Settings, dec_hook=_decode_path)


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(f"settings hold no {kind}")


def _named_by_environment() -> Path | None:
    named = os.environ.get("ENDCREDITS_CONFIG")
    if named:
        return Path(named)
    beside = Path("endcredits.toml")
    return beside if beside.is_file() else None


def _read(path: Path) -> _File:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror})", remedy="check the path given to --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: not TOML: {error}", remedy="compare with config/endcredits.toml"
        ) from error
    _refuse_unknown(raw, _File, str(path), "")
    try:
        return msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        key = place.rstrip("`") or "the file"
        raise SettingsError(
            f"{path}: {key}: {message[0].lower()}{message[1:]}",
            remedy="config/endcredits.toml shows every key with its unit and range",
        ) from error


def _refuse_unknown(raw: dict[str, Any], section: type[Section], file: str, prefix: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    for key, value in raw.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = (
                f"did you mean '{prefix}{near[0]}'?" if near else f"known here: {', '.join(sorted(fields))}"
            )
            raise SettingsError(f"{file}: unknown key '{prefix}{key}'", remedy=hint)
        inner = _section_in(fields[key])
        rows = cast("list[Any]", value) if isinstance(value, list) else [value]
        for number, row in enumerate(rows):
            if inner is not None and isinstance(row, dict):
                table = cast("dict[str, Any]", row)
                place = f"{prefix}{key}[{number}]." if isinstance(value, list) else f"{prefix}{key}."
                _refuse_unknown(table, inner, file, place)


def _section_in(annotation: Any) -> type[Section] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def networks(addresses: tuple[str, ...], file: str) -> tuple[Network, ...]:
    """Return [server] trusted_proxies as networks. Raises SettingsError naming one that is none."""
    found: list[Network] = []
    for address in addresses:
        try:
            found.append(ipaddress.ip_network(address, strict=False))
        except ValueError as error:
            raise SettingsError(
                f"{file}: server.trusted_proxies has '{address}', which is no address or network",
                remedy="write addresses like 10.0.0.7 or networks like 10.0.0.0/8",
            ) from error
    return tuple(found)


def check_backends(backends: tuple[Backend, ...], file: str) -> None:
    """Refuse backends that cannot be reached as written; `file` names where they come from."""
    if not backends:
        raise SettingsError(f"{file}: no [[backends]]", remedy="add one with a url, or pass --upstream URL")
    names: set[str] = set()
    for number, backend in enumerate(backends):
        parts = urlsplit(backend.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(
                f"{file}: backends[{number}].url is '{backend.url}', which has no scheme or host",
                remedy=f"write http://{backend.url} or https://{backend.url}",
            )
        if parts.username or parts.query or parts.fragment:
            raise SettingsError(
                f"{file}: backends[{number}].url carries credentials, a query or a fragment",
                remedy="give scheme, host, port and path only; api_key_env names where the key is",
            )
        if backend.name in names:
            raise SettingsError(
                f"{file}: two backends are named '{backend.name}'", remedy="rename one of them"
            )
        names.add(backend.name)
        if backend.ca_file and not Path(backend.ca_file).is_file():
            raise SettingsError(
                f"{file}: backends[{number}].ca_file '{backend.ca_file}' is no file",
                remedy="give the path of a PEM file with the certificates to trust",
            )
        if not re.fullmatch(r"[\w.-]*", backend.api_version, re.ASCII):
            raise SettingsError(
                f"{file}: backends[{number}].api_version is '{backend.api_version}'",
                remedy="write a version like 2024-10-21",
            )

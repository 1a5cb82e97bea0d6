"""What an answer costs: dated price files, each with models by pattern.

A price file says from when it holds; the file in force is the latest one that had begun when the answer was
given, so a price change never reaches back. Its version carries the hash of its bytes: an edited file is
another version, and an event that was priced says which. A model that no pattern matches has no price, which
is not a price of 0: its events are kept, and a period that holds them refuses to close until a price is
given.

A price is exact (tokens times grains per million of them, images and seconds times grains for each) and then
rounded up to a whole grain, once: the odd grain goes to the creators' side of the sum.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from proxy.billing.money import GRAINS_MAX, digits, parse
from proxy.errors import SettingsError

PACKAGED: Final = Path(__file__).with_name("prices")
FILES_MAX: Final = 1_000  # a change a day for almost three years; more is a wrong folder
FILE_BYTES_MAX: Final = 1 << 20  # some ten thousand models; more is a wrong file
FILE_KEYS: Final = ("version", "currency", "effective_from", "notes", "models")
AMOUNT_KEYS: Final = ("input_per_million", "output_per_million", "per_image", "per_second")
MODEL_KEYS: Final = ("pattern", *AMOUNT_KEYS, "notes")
_SHAPE = "config/prices/example.toml shows every key"


@dataclass(frozen=True, slots=True)
class Price:
    """What one answer costs, and which table said so."""

    grains: int
    currency: str
    version: str


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """One [[models]] row. Grains per million tokens, per image, per second of sound or video."""

    pattern: str
    matcher: re.Pattern[str]
    input_per_million_grains: int
    output_per_million_grains: int
    per_image_grains: int
    per_second_grains: int

    def grains(
        self, input_tokens: int, output_tokens: int, images: int = 0, milliseconds: int = 0
    ) -> int | None:
        """Return the price, rounded up once; None beyond 64 bits, and where nothing was counted of an answer
        that images or seconds are the price of.
        """
        if not (input_tokens or output_tokens or images or milliseconds) and self._is_of_media:
            return None
        millionths = input_tokens * self.input_per_million_grains
        millionths += output_tokens * self.output_per_million_grains
        millionths += images * self.per_image_grains * 1_000_000
        millionths += milliseconds * self.per_second_grains * 1_000
        grains = -(-millionths // 1_000_000)
        return grains if grains <= GRAINS_MAX else None

    @property
    def _is_of_media(self) -> bool:
        by_token = self.input_per_million_grains or self.output_per_million_grains
        return bool(self.per_image_grains or self.per_second_grains) and not by_token


@dataclass(frozen=True, slots=True)
class PriceList:
    """One file: the prices in force from `effective_from_us` on, models most specific first."""

    version: str
    currency: str
    effective_from_us: int
    models: tuple[ModelPrice, ...]
    text: str = field(default="", repr=False, compare=False)  # as it was written, for who prices again

    def find(self, model: str) -> ModelPrice | None:
        """Return the most specific row that matches, or None."""
        for row in self.models:
            if row.matcher.fullmatch(model):
                return row
        return None

    def price(
        self, model: str, input_tokens: int, output_tokens: int, images: int = 0, milliseconds: int = 0
    ) -> Price | None:
        """Return what an answer cost by this file, or None when it does not know the model's price."""
        row = self.find(model)
        grains = row.grains(input_tokens, output_tokens, images, milliseconds) if row else None
        return None if grains is None else Price(grains, self.currency, self.version)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Every dated file, oldest first."""

    lists: tuple[PriceList, ...]

    @classmethod
    def load(cls, folder: Path | None = None) -> PriceTable:
        """Read `folder`/*.toml, or the packaged example for the demo models when it is None.

        Raises SettingsError naming file, key and remedy.
        """
        place = folder or PACKAGED
        files = sorted(place.glob("*.toml"))
        if not files or len(files) > FILES_MAX:
            raise SettingsError(
                f"{place}: {len(files)} price files (*.toml), expected 1 to {FILES_MAX}",
                remedy="point [billing] prices_dir at a folder of price files, or empty it for the demo",
            )
        return cls.of(place, [_read(file) for file in files])

    @classmethod
    def parse(cls, texts: Sequence[str]) -> PriceTable:
        """Return the table of these files' texts. Raises SettingsError as `load` does."""
        return cls.of(Path(), [_parsed(Path(f"prices[{n}]"), one.encode()) for n, one in enumerate(texts)])

    @classmethod
    def of(cls, place: Path, lists: Iterable[PriceList]) -> PriceTable:
        """Return the table of some files, each with its own time. Raises SettingsError naming their place."""
        lists = sorted(lists, key=lambda entry: entry.effective_from_us)
        for earlier, later in itertools.pairwise(lists):
            if earlier.effective_from_us == later.effective_from_us:
                raise SettingsError(
                    f"{place}: {earlier.version} and {later.version} take effect at the same time",
                    remedy="give each price file its own effective_from",
                )
        return cls(tuple(lists))

    def at(self, occurred_us: int) -> PriceList | None:
        """Return the file in force at that time, or None before the first."""
        for entry in reversed(self.lists):  # a loop: every request asks
            if entry.effective_from_us <= occurred_us:
                return entry
        return None

    def price(
        self,
        model: str,
        occurred_us: int,
        input_tokens: int,
        output_tokens: int,
        images: int = 0,
        milliseconds: int = 0,
    ) -> Price | None:
        """Return what an answer cost, or None when no price is known: never 0 for want of one."""
        entry = self.at(occurred_us)
        return entry.price(model, input_tokens, output_tokens, images, milliseconds) if entry else None

    @property
    def version(self) -> str:
        """The latest file's version."""
        return self.lists[-1].version


def load(folder: Path | None = None) -> PriceTable:
    """Return the table in `folder`, or the packaged one; see PriceTable.load."""
    return PriceTable.load(folder)


def _read(file: Path) -> PriceList:
    try:
        raw = file.read_bytes()
        if len(raw) > FILE_BYTES_MAX:
            raise SettingsError(f"{file}: larger than {FILE_BYTES_MAX} bytes", remedy="split it by date")
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot be read ({error.strerror})", remedy="check its permissions"
        ) from error
    return _parsed(file, raw)


def _parsed(file: Path, raw: bytes) -> PriceList:
    try:
        text = raw.decode("utf-8")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {error}", remedy=_SHAPE) from error
    _refuse_unknown(file, table, FILE_KEYS, "")
    currency = _text(file, table, "currency", "")
    try:
        digits(currency)
    except ValueError as error:
        raise SettingsError(f"{file}: currency: {error}", remedy="write an ISO 4217 code like USD") from error
    rows = table.get("models")
    if not isinstance(rows, list) or not rows:
        raise SettingsError(f"{file}: no [[models]]", remedy=_SHAPE)
    models = [_model(file, row, number, currency) for number, row in enumerate(cast("list[Any]", rows))]
    patterns = [row.pattern for row in models]
    for pattern in patterns:
        if patterns.count(pattern) > 1:
            raise SettingsError(
                f"{file}: '{pattern}' has two prices", remedy="keep one [[models]] per pattern"
            )
    models.sort(key=_specificity)
    return PriceList(
        version=f"{_version(file, table)}@{hashlib.sha256(raw).hexdigest()[:8]}",
        currency=currency,
        effective_from_us=_effective(file, table.get("effective_from")),
        models=tuple(models),
        text=text,
    )


def _specificity(row: ModelPrice) -> tuple[bool, int, str]:
    return ("*" in row.pattern, -len(row.pattern), row.pattern)


def _model(file: Path, row: Any, number: int, currency: str) -> ModelPrice:
    place = f"models[{number}]."
    if not isinstance(row, dict):
        raise SettingsError(f"{file}: models[{number}] is not a table", remedy=_SHAPE)
    table = cast("dict[str, Any]", row)
    _refuse_unknown(file, table, MODEL_KEYS, place)
    pattern = _text(file, table, "pattern", place)
    amounts = {key: _amount(file, table, key, place, currency) for key in AMOUNT_KEYS if key in table}
    if not amounts:
        raise SettingsError(
            f"{file}: {place}pattern '{pattern}' has no price",
            remedy='write input_per_million and output_per_million; "0" where a use is free',
        )
    return ModelPrice(
        pattern=pattern,
        matcher=re.compile(".*".join(re.escape(piece) for piece in pattern.split("*")), re.DOTALL),
        input_per_million_grains=amounts.get("input_per_million", 0),
        output_per_million_grains=amounts.get("output_per_million", 0),
        per_image_grains=amounts.get("per_image", 0),
        per_second_grains=amounts.get("per_second", 0),
    )


def _amount(file: Path, table: dict[str, Any], key: str, place: str, currency: str) -> int:
    value = table[key]
    if not isinstance(value, str):
        raise SettingsError(
            f"{file}: {place}{key} is {value!r}, not text",
            remedy=f'write it in quotes, {key} = "{value}": a bare number would be read as a float',
        )
    try:
        grains = parse(value, currency)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{file}: {place}{key}: {error}", remedy='write an amount like "0.60"') from error
    if grains < 0:
        raise SettingsError(f"{file}: {place}{key} is negative", remedy="a price is 0 or more")
    return grains


def _refuse_unknown(file: Path, table: dict[str, Any], known: tuple[str, ...], place: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{place}{near[0]}'?" if near else f"known here: {', '.join(known)}"
            raise SettingsError(f"{file}: unknown key '{place}{key}'", remedy=hint)


def _text(file: Path, table: dict[str, Any], key: str, place: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{file}: {place}{key} is missing or not text", remedy=_SHAPE)
    return value


def _version(file: Path, table: dict[str, Any]) -> str:
    value = table.get("version")
    if isinstance(value, dt.date):
        return value.isoformat()
    return _text(file, table, "version", "")


def _effective(file: Path, value: Any) -> int:
    """Microseconds at which the file takes effect: a date (its midnight UTC) or a time."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if not isinstance(value, dt.datetime):
        raise SettingsError(
            f"{file}: effective_from is not a date", remedy="write effective_from = 2026-11-01"
        )
    moment = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)

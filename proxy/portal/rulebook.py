"""The rules of money in words, for who decides on them.

A policy names its rules as `[billing]` does: `common_rule = "pro_rata"`. Who weighs one against another reads
what it does instead: "The common account is given out: by what each creator earned". A rule that has no words
here is told by its name, so that a new one is shown before it is described.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from proxy.billing.locales import Style
from proxy.portal.pages import whole_part

ROWS_TOLD: Final = 5  # of a rate card: the rest is in the policy itself
# In the order in which money takes its way.
NAMES: Final[Mapping[str, str]] = {
    "currency": "Currency",
    "scheme": "An answer pays",
    "royalty_ppm": "A royalty's part of the price",
    "rate": "A rate for a whole answer",
    "rates": "Other rates",
    "schemes": "Other ways of paying",
    "pools": "How pools are divided",
    "unattributed": "The part that no work explains",
    "floor": "A work that asks for more than it gets",
    "floor_max": "The most that a work may ask of an answer",
    "pay_own_apps": "A creator's own app pays them",
    "common_rule": "The common account is given out",
    "common_to": "Given out to",
    "common_reasons": "Of it is given out",
}
VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "scheme": {
        "royalty": "a royalty: a part of its price",
        "direct": "a rate, whatever its price",
        "pool": "nothing by itself: what an app earns in a month is divided",
    },
    "unattributed": {
        "common": "goes to the common account",
        "platform": "goes to the platform",
        "not_charged": "is not charged",
    },
    "floor": {
        "exclude": "gets nothing; its part goes to the common account",
        "top_up": "is topped up by the app",
    },
    "common_rule": {
        "carried": "not yet: it is carried on",
        "pro_rata": "by what each creator earned",
        "equal": "in equal parts",
        "to": "to one creator",
    },
    "common_reasons": {
        "unattributed": "what no work explains",
        "no_text": "what answers without text paid",
        "without_use": "what people paid who used nothing that pays",
        "below_floor": "what was less than a work asks for",
    },
}


def told_rules(rules: Mapping[str, Any], style: Style) -> list[tuple[str, str]]:
    """Return [(rule, what it says)] in the order in which money takes its way."""
    return [(_name(key), _value(key, rules[key], style)) for key in _in_order(rules)]


def changed(now: Mapping[str, Any], then: Mapping[str, Any], style: Style) -> list[tuple[str, str, str]]:
    """Return [(rule, as it is now, as it would be)] of the rules in which two policies differ."""
    return [
        (_name(key), _value(key, now.get(key, ""), style), _value(key, then.get(key, ""), style))
        for key in _in_order({**now, **then})
        if now.get(key) != then.get(key)
    ]


def _in_order(rules: Mapping[str, Any]) -> list[str]:
    known = [key for key in NAMES if key in rules]
    return [*known, *sorted(rules.keys() - NAMES.keys() - {"id", "name"})]


def _name(key: str) -> str:
    return NAMES.get(key) or key.removesuffix("_ppm").replace("_", " ").capitalize()


def _value(key: str, value: Any, style: Style) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and key.endswith("_ppm"):
        return whole_part(style, value)
    if isinstance(value, dict):
        return _row(cast("dict[str, Any]", value), style)
    if isinstance(value, list):
        rows = cast("list[Any]", value)
        told = [_value(key, one, style) for one in rows[:ROWS_TOLD]]
        more = [f"{style.count(len(rows) - ROWS_TOLD)} more"] if len(rows) > ROWS_TOLD else []
        return "; ".join([*told, *more]) or "none"
    text = "" if value is None else str(value)
    return VALUES.get(key, {}).get(text) or text or "none"


def _row(row: Mapping[str, Any], style: Style) -> str:
    """A row of a rate card: what it says of which app, model or work; `*` is any and says nothing."""
    said = {key: one for key, one in row.items() if one not in ("*", None)}
    return ", ".join(
        f"{_name(key)[:1].lower()}{_name(key)[1:]} {_value(key, one, style)}" for key, one in said.items()
    )

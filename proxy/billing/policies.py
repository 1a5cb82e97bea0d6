"""The rules that decided a period, as a value: dated, versioned, named by the hash of what they say.

A policy says which compensation each app, model and medium pays, at which rates, and what becomes of money
that no work explains. It never changes: another policy is another id. It holds from a time on, and an answer
is paid by the policy in force when it was given, however late it is metered. So a change reaches forward
only, and what was promised when an app asked is what is paid; an activation in the past is refused.

Why the time of use, and not the registry's number that an answer carries: an answer that was never scored
carries none, price tables are dated by the same clock, and a platform announces a change by its date. A
closed period can be recomputed all the same: activations are numbered and only ever added, and its basis
says up to which number they were read. Where nobody has activated anything, the [billing] settings hold,
under the id of what they say.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, cast

import msgspec

from proxy.clock import base32
from proxy.errors import BadRequest
from proxy.settings import Billing

Medium = Literal["text", "picture", "sound"]
FILE_BYTES_MAX: Final = 1 << 20  # some ten thousand rates; more is a wrong file
RATES_MAX: Final = 10_000  # each is tried in turn for every work of an answer
NAME_CHARACTERS_MAX: Final = 100
# Of [billing]: where files lie is no rule, and how long people have to answer divides no money.
_NOT_RULES: Final = frozenset({"prices_dir", "comment_days", "answer_days"})


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One set of rules. `rules` are the keys of [billing] that divide money."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
    rules: Billing

    @property
    def text(self) -> str:
        """The canonical text: sorted keys, no spaces, every rule written out, so that no default hides."""
        rules = cast("dict[str, Any]", msgspec.to_builtins(self.rules))
        said = {key: value for key, value in rules.items() if key not in _NOT_RULES}
        return msgspec.json.encode({"name": self.name, "rules": said}, order="sorted").decode()

    @property
    def id(self) -> str:
        """What it is called in statements: equal rules under one name are one policy."""
        digest = hashlib.sha256(self.text.encode()).digest()
        return "pol_" + base32(int.from_bytes(digest[:17], "big") >> 6)


@dataclass(frozen=True, slots=True)
class Activation:
    """That a policy holds from a time on. seq: its place among all activations, from 1."""

    seq: int
    effective_from_us: int
    policy: Policy
    at_us: int = 0
    by: str = ""


@dataclass(frozen=True, slots=True)
class Agenda:
    """Which policy holds when: the default, then each activation from its time on.

    Of two from the same time on the one activated later holds, so a mistake is mended before it acts.
    """

    default: Policy
    activations: tuple[Activation, ...] = ()

    @property
    def seq(self) -> int:
        """Up to which activation this knows, 0 for none."""
        return max((one.seq for one in self.activations), default=0)

    @property
    def creators(self) -> frozenset[str]:
        """Creators that a rate names: whose works must be known when answers are paid."""
        policies = (self.default, *(one.policy for one in self.activations))
        return frozenset(row.creator for one in policies for row in one.rules.rates if row.creator != "*")

    @property
    def dated(self) -> tuple[tuple[int, Policy], ...]:
        """(from when, policy), oldest first, one for each time."""
        last = {
            one.effective_from_us: one.policy for one in sorted(self.activations, key=lambda one: one.seq)
        }
        return tuple(sorted(last.items(), key=lambda pair: pair[0]))

    def at(self, occurred_us: int) -> Policy:
        """Return what holds at a time."""
        held = self.default
        for since_us, policy in self.dated:
            if since_us <= occurred_us:
                held = policy
        return held


def of_settings(billing: Billing) -> Policy:
    """Return the [billing] settings as the policy they are."""
    return Policy(name="settings", rules=billing)


def read_policy(raw: bytes) -> Policy:
    """Return the policy that a TOML file says: `name`, and keys of [billing], each with its default.

    Raises BadRequest naming the key that cannot be read.
    """
    if len(raw) > FILE_BYTES_MAX:
        raise BadRequest(f"the file has {len(raw)} bytes", remedy=f"a policy has up to {FILE_BYTES_MAX}")
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the policy is not TOML: {error}", remedy="docs/money.md shows one") from error
    name = table.pop("name", "")
    return policy_of(name, table)


def from_text(text: str) -> Policy:
    """Return the policy of a canonical text, as the store has it."""
    said = msgspec.json.decode(text)
    return policy_of(said["name"], said["rules"])


def policy_of(name: object, rules: dict[str, Any]) -> Policy:
    """Return the policy of a name and keys of [billing]. Raises BadRequest naming what cannot be read."""
    if misplaced := sorted(_NOT_RULES & rules.keys()):
        raise BadRequest(
            f"'{misplaced[0]}' is a setting, no rule", remedy="leave it in config/endcredits.toml"
        )
    try:
        policy = msgspec.convert({"name": name, "rules": rules}, Policy)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"the policy cannot be read: {error}",
            remedy="it has a name and the keys of [billing]",
            code="policy",
        ) from error
    check(policy)
    return policy


def check(policy: Policy) -> None:
    """Refuse rules that nobody could follow. Amounts are read where terms are made of them."""
    rules = policy.rules
    if len(rules.rates) > RATES_MAX:
        raise BadRequest(f"{len(rules.rates)} rates", remedy=f"a policy has up to {RATES_MAX}", code="policy")
    for row in (*rules.schemes, *rules.rates):
        if row.medium not in {"*", "text", "picture", "sound"}:
            raise BadRequest(
                f"there is no medium '{row.medium}'", remedy="use text, picture, sound or *", code="policy"
            )
    if starred := [row.creator for row in rules.rates if "*" in row.creator and row.creator != "*"]:
        raise BadRequest(
            f"'{starred[0]}' names no creator", remedy="write a creator's id, or * for all", code="policy"
        )
    if (rules.common_rule == "to") != bool(rules.common_to):
        raise BadRequest(
            'common_rule = "to" and common_to belong together',
            remedy="name the creator whom the rule pays, or leave common_to empty",
            code="policy",
        )


def medium_of(endpoint: str) -> Medium:
    """Return what kind of answer an endpoint gives, in a batch too: what is no picture or sound is text."""
    name = endpoint.removeprefix("batch.")
    if name.partition(".")[0] == "images":
        return "picture"
    return "sound" if name in {"audio.speech", "realtime"} else "text"

"""`audit-causal`: is the fast model's order of works the order in which they moved the answer?

For exchanges that the operator hands in, or that are kept of an app that was opted in: the answer is scored
again with each grounded work left out, by a server that gives log-probabilities of given text, and both
orders are compared. Off the request path. The texts are sent to --backend and nowhere else; nothing is
stored, and what is printed is ids and numbers, never a text.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from proxy.cli import offline
from proxy.cli.desk import Desk, command, main
from proxy.clock import SystemClock
from proxy.errors import BadRequest, Problem

if TYPE_CHECKING:
    from attribution import Attributor
    from attribution.causal import Agreement, Comparison, Influence, Mean, Message, Plan
    from attribution.index import Index
    from proxy.cli.logprobs import Scored, Scoring

PROMPT_CHARACTERS_MAX = (
    400_000  # some 100,000 tokens: what scoring servers hold; and a sample must fit in memory
)
SAMPLE_MAX = 1_000
MEANING = (
    "Influence: how much less likely this answer is without the work, in nats, to the scoring model in this "
    "context. It says nothing of training, and it is no share."
)
REASONS_SHOWN = 20  # of exchanges left out, one line each; the rest is counted


class _Part(msgspec.Struct, frozen=True):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None


class _Exchange(msgspec.Struct, frozen=True):
    """One line in. `model` is what answered: shown, not used, for another model scores."""

    id: str
    messages: list[_Message]
    answer: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An exchange of the sample, with what to score."""

    exchange: _Exchange
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Audited:
    """One exchange's result."""

    chosen: _Chosen
    tokens: int
    scored: int
    influence: dict[str, Influence]
    share_ppm: dict[str, int]
    comparison: Comparison


@command(main, "audit-causal")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option("--app", default="", metavar="APP", help="Take what is kept of this app, not a file.")
@click.option("--sample", type=click.IntRange(1, SAMPLE_MAX), default=20, show_default=True, metavar="N",
              help="Exchanges to score, of those with a grounded work.")  # fmt: skip
@click.option("--backend", required=True, metavar="URL", help="Server that gives logprobs of a given text.")
@click.option("--model", default="", help="The scoring model's name, where the server wants one.")
@click.option("--key-env", default="", metavar="NAME", help="Environment variable with the server's key.")
@click.option("--catalogue", type=click.Path(path_type=Path),
              help="Works to hold against, .jsonl or .csv (also .gz) [the registered ones].")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another sample.")
def audit_causal(
    desk: Desk,
    file: Path,
    app: str,
    sample: int,
    backend: str,
    model: str,
    key_env: str,
    catalogue: Path | None,
    seed: int,
) -> int:
    """Score answers again with each grounded work left out: {"id", "messages", "answer"} lines in.

    With --app: the exchanges that are kept of an app that was opted in by `apps audit on`.

    Prints each work's causal influence beside its share, and how well the two orders agree. Texts are sent to
    the backend you name.
    """
    from proxy.cli.logprobs import Asking, NotScored, open_scoring

    skipped: list[tuple[str, str]] = []
    audited: list[_Audited] = []
    asking = Asking(backend, model=model, key=_key(key_env))
    try:
        scoring = open_scoring(asking)
        desk.note(f"{asking.root} scores given text by the dialect {scoring.dialect!r}")
        with offline.holding(desk, catalogue) as (attributor, given):
            if app:
                chosen = _sample(_kept(desk, app), attributor.index, sample, seed, skipped)
            else:
                with offline.opened(file, "rb", sys.stdin.buffer) as source:
                    given_in = _exchanges(source, str(file))
                    chosen = _sample(given_in, attributor.index, sample, seed, skipped)
            total = sum(1 + len(one.plan.without) for one in chosen)
            done = 0
            with desk.progress("scoring") as progress:
                progress(0, total)
                for one in chosen:
                    shares = _shares(attributor, one.exchange)
                    begun = done

                    def step(prompts: int, begun: int = begun) -> None:
                        progress(begun + prompts, total)

                    try:
                        audited.append(_audited(scoring, one, shares, step))
                    except NotScored as error:
                        skipped.append((one.exchange.id, str(error)))
                    done = begun + 1 + len(one.plan.without)
                    progress(done, total)
    finally:
        asking.close()
    _tell(desk, audited, skipped, given or {}, scoring.dialect, seed)
    return 0 if audited else 1


def _shares(attributor: Attributor, exchange: _Exchange) -> dict[str, int]:
    """Return the fast model's shares as a request would have got them, its messages known."""
    from attribution.grounding import ground

    context = ground(attributor.index, [_text(one.content) for one in exchange.messages])
    return {share.work_id: share.ppm for share in attributor.attribute(exchange.answer, context).shares}


def _key(name: str) -> str:
    if name and not os.environ.get(name):
        raise Problem(f"--key-env {name}: no such variable, or it is empty", remedy=f"export {name}=...")
    return os.environ.get(name, "") if name else ""


def _sample(
    exchanges: Iterator[tuple[int, _Exchange]],
    index: Index | None,
    size: int,
    seed: int,
    skipped: list[tuple[str, str]],
) -> list[_Chosen]:
    """Return `size` exchanges with a grounded work, by the hash of their ids: their order changes nothing."""
    from attribution.causal import Message, grounded, plan

    kept: list[tuple[int, int, _Chosen]] = []
    for number, exchange in exchanges:
        messages: list[Message] = [Message(one.role, _text(one.content)) for one in exchange.messages]
        why = _unfit(exchange, messages)
        passages = [] if why or index is None else grounded(index, messages)
        if not why and not passages:
            why = "no registered work stands in its messages"
        if why:
            skipped.append((exchange.id, why))
            continue
        digest = hashlib.sha256(f"{seed}|{exchange.id}".encode("utf-8", "surrogatepass")).digest()
        entry = (-int.from_bytes(digest[:8], "big"), -number, _Chosen(exchange, plan(messages, passages)))
        if len(kept) < size:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)
    return [chosen for _, _, chosen in sorted(kept, reverse=True)]


def _kept(desk: Desk, app: str) -> Iterator[tuple[int, _Exchange]]:
    from proxy.access.limits_store import app_limits
    from proxy.cli.access import audited_exchanges

    app_id, limits = app_limits(desk.engine, app)
    if not limits.audited:
        raise BadRequest(
            f"'{app}' is not opted in: nothing is kept of it", remedy=f"`endcredits apps audit on {app}`"
        )
    kept = audited_exchanges(desk).read(app_id, SystemClock().now_us() / 1_000_000)
    for number, one in enumerate(kept):
        messages = [_Message(said.role, said.content) for said in one.messages]
        yield number, _Exchange(one.id, messages, one.answer, one.model)


def _exchanges(source: IO[bytes], name: str) -> Iterator[tuple[int, _Exchange]]:
    decode = msgspec.json.Decoder(_Exchange).decode
    for number, line in offline.lines(source, name):
        try:
            yield number, decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(
                f"{name}:{number}: {error}",
                remedy='write {"id": "", "messages": [{"role": "", "content": ""}], "answer": ""} a line',
            ) from error


def _text(content: str | list[_Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""


def _unfit(exchange: _Exchange, messages: list[Message]) -> str:
    if not exchange.answer.strip():
        return "its answer is empty"
    if sum(len(one.text) for one in messages) + len(exchange.answer) > PROMPT_CHARACTERS_MAX:
        return f"longer than {PROMPT_CHARACTERS_MAX} characters"
    return ""


def _audited(
    scoring: Scoring, chosen: _Chosen, shares: dict[str, int], step: Callable[[int], None]
) -> _Audited:
    from attribution.causal import compare, influences, positions
    from proxy.cli.logprobs import NotScored

    answer, salt = chosen.exchange.answer, chosen.exchange.id

    def score(prompt: str) -> Scored:
        return scoring.score(prompt, answer, lambda count: positions(count, salt))

    full = score(chosen.plan.full)
    step(1)
    without: dict[str, tuple[float, ...]] = {}
    for number, (work, prompt) in enumerate(chosen.plan.without.items(), start=2):
        left = score(prompt)
        step(number)
        if (left.tokens, left.positions) != (full.tokens, full.positions):
            raise NotScored("the answer is cut into other tokens after another prompt")
        without[work] = left.logprobs
    found = influences(full.logprobs, without, len(full.tokens))
    return _Audited(chosen, len(full.tokens), len(full.logprobs), found, shares, compare(found, shares))


def _tell(
    desk: Desk,
    audited: list[_Audited],
    skipped: list[tuple[str, str]],
    given: dict[str, str],
    dialect: str,
    seed: int,
) -> None:
    from attribution.causal import agreement

    whole = agreement([one.comparison for one in audited], seed=seed)
    if desk.as_json:
        for one in audited:
            click.echo(msgspec.json.encode(_line(one, given)))
        summary = {
            "exchanges": len(audited),
            "skipped": [{"id": exchange, "why": why} for exchange, why in skipped],
            "dialect": dialect,
            **asdict(whole),
        }
        click.echo(msgspec.json.encode({"summary": summary}))
        return
    rows = [
        {
            "exchange": row["id"],
            "work": work["work_id"],
            "grounded words": work["grounded_words"],
            "share": f"{work['share_ppm'] / 10_000:.1f} %",
            "causal nats": f"{work['influence_nats']:.2f}",
            "a token": f"{work['influence_nats_per_token']:.3f}",
            "tokens": f"{row['scored_tokens']}/{row['tokens']}",
        }
        for row in (_line(one, given) for one in audited)
        for work in row["works"]
    ]
    columns = ("exchange", "work", "grounded words", "share", "causal nats", "a token", "tokens")
    desk.table(rows, columns, empty="no exchange was scored; the reasons follow")
    for line in _summary(whole, len(audited)):
        click.echo(line)
    for exchange, why in skipped[:REASONS_SHOWN]:
        desk.note(f"left out: {exchange}: {why}")
    if len(skipped) > REASONS_SHOWN:
        desk.note(f"left out: {len(skipped) - REASONS_SHOWN} more (--json lists all)")


def _line(one: _Audited, given: dict[str, str]) -> dict[str, Any]:
    """Return an exchange's result, the work of most influence first."""
    plan = one.chosen.plan
    return {
        "id": one.chosen.exchange.id,
        "model": one.chosen.exchange.model,
        "tokens": one.tokens,
        "scored_tokens": one.scored,
        "works": [
            {
                "work_id": given.get(work, work),
                "grounded_words": plan.grounded_words[work],
                "share_ppm": one.share_ppm.get(work, 0),
                "influence_nats": round(found.total_nats, 4),
                "influence_nats_per_token": round(found.token_nats, 6),
            }
            for work, found in sorted(one.influence.items(), key=lambda pair: (-pair[1].total_nats, pair[0]))
        ],
        "works_not_scored": [given.get(work, work) for work in plan.not_scored],
        **asdict(one.comparison),
    }


def _summary(whole: Agreement, exchanges: int) -> list[str]:
    def said(name: str, mean: Mean) -> str:
        if mean.value is None:
            return f"{name}: nothing to compare"
        interval = "" if mean.low is None else f" [{mean.low:.2f}, {mean.high:.2f}]"
        return f"{name}: {mean.value:.2f}{interval} over {mean.count} exchanges"

    return [
        f"{exchanges} exchanges scored",
        said("rank agreement, Kendall's tau-b", whole.tau_b),
        said("rank agreement, Spearman", whole.spearman),
        said("same work first", whole.top),
        MEANING,
    ]

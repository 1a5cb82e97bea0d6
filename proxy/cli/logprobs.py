"""How likely a given text is after a prompt, asked of whatever server speaks one of two dialects.

Chat completions give log-probabilities of what a model says, not of what it is given. Two ways lead round
that, and `open_scoring` finds out which one a server has by trying, because names and versions do not tell:

- **echo**: `/v1/completions` with `echo` and `logprobs` gives those of the prompt's own tokens back (vLLM and
  others). Two requests a prompt, every token of the answer scored.
- **forced**: llama.cpp's server takes `echo` and ignores it. Its `/completion` reports the log-probability of
  the token it sampled as it was before any bias; a bias that forces the wanted token makes it report
  that one: exact, one request a token. A spread of the answer's tokens is scored then; the prompt is cached.

Texts go to the server that the operator names and nowhere else; no error repeats them, nor a key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httpx

from proxy.errors import Problem

CONNECT_S = 10.0
READ_S = 120.0  # a long prompt on a processor without an accelerator
REPLY_BYTES_MAX = 32 << 20  # 100,000 tokens with their text and one alternative each; more is not an answer
FORCING_BIAS = 1_000  # above any logit: the token is then sampled, whatever the model thinks of it
PROBE = "One two three four five six seven eight."
SAID_CHARACTERS = 200  # of a server's own error, shown to the operator

Pick = Callable[[int], Sequence[int]]


class NotScored(Exception):
    """The server did not score this text, which is left out; the message says why, without the text."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Natural log-probabilities of some of an answer's tokens, at `positions`; `tokens` are all of them."""

    tokens: tuple[str, ...]
    positions: tuple[int, ...]
    logprobs: tuple[float, ...]


class Scoring(Protocol):
    """A server that can score given text."""

    dialect: str

    def score(self, prompt: str, answer: str, pick: Pick) -> Scored:
        """Score the answer after the prompt.

        pick: number of tokens -> which to score, where each costs a request. Raises NotScored, or Problem
        where the server is not there.
        """
        ...


class Asking:
    """POSTs JSON to one server, within bounds. Raises NotScored and Problem as Scoring does."""

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        key: str = "",
        transport: httpx.BaseTransport | None = None,
        read_s: float = READ_S,
    ) -> None:
        self.root = url.rstrip("/").removesuffix("/v1")
        if not self.root.startswith(("http://", "https://")):
            raise Problem(
                f"--backend {url}: no http:// or https://",
                remedy="write http://127.0.0.1:8080/v1",
                code="audit",
            )
        self.model = {"model": model} if model else {}
        self._client = httpx.Client(
            transport=transport,
            timeout=httpx.Timeout(read_s, connect=CONNECT_S),
            headers={"authorization": f"Bearer {key}"} if key else {},
            trust_env=False,  # as everywhere: a proxy of the environment must not see the texts
        )

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON object that the server answers with."""
        try:
            with self._client.stream("POST", self.root + path, json=body) as reply:
                data = bytearray()
                for piece in reply.iter_bytes():
                    data += piece
                    if len(data) > REPLY_BYTES_MAX:
                        raise NotScored(f"{path}: the reply is longer than {REPLY_BYTES_MAX} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Problem(
                f"{self.root}: no connection ({error})",
                remedy="start the scoring backend",
                code="audit_backend",
            ) from error
        except httpx.TimeoutException as error:
            raise NotScored(f"{path}: no answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotScored(f"{path}: {type(error).__name__}") from error
        if reply.status_code in {401, 403}:
            raise Problem(
                f"{self.root}: the key is refused ({reply.status_code})",
                remedy="name the variable that holds the backend's key: --key-env NAME",
                code="audit_backend",
            )
        if not reply.is_success:
            raise NotScored(f"{path}: {reply.status_code} {_said(bytes(data))}".rstrip())
        try:
            found = json.loads(data)
        except ValueError as error:
            raise NotScored(f"{path}: the reply is no JSON") from error
        if not isinstance(found, dict):
            raise NotScored(f"{path}: the reply is no JSON object")
        return cast("dict[str, Any]", found)


class EchoScoring:
    """`/v1/completions` that echoes its prompt with log-probabilities."""

    dialect = "echo"

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def score(self, prompt: str, answer: str, pick: Pick) -> Scored:  # noqa: ARG002  all come at once
        """Score every token of the answer; how many there are is what the prompt alone lacks."""
        before = self._tokens_of(self._ask(prompt, {}), "prompt_tokens")
        reply = self._ask(prompt + answer, {"echo": True, "logprobs": 1})
        count = self._tokens_of(reply, "prompt_tokens") - before
        generated = self._tokens_of(reply, "completion_tokens")
        tokens, logprobs = _echoed(reply)
        end = len(logprobs) - generated
        # One token at least stands before the answer: the prompt is never empty.
        if not 0 < count < end or len(tokens) != len(logprobs):
            raise NotScored(f"{len(logprobs)} log-probabilities for {count} tokens after {before}")
        return Scored(
            tuple(str(token) for token in tokens[end - count : end]),
            tuple(range(count)),
            tuple(_logprob(value) for value in logprobs[end - count : end]),
        )

    def _ask(self, prompt: str, more: dict[str, Any]) -> dict[str, Any]:
        # One token is asked for although none is wanted: some servers refuse 0.
        body = {**self._asking.model, "prompt": prompt, "max_tokens": 1, "temperature": 0, **more}
        return self._asking.post("/v1/completions", body)

    @staticmethod
    def _tokens_of(reply: dict[str, Any], name: str) -> int:
        usage = reply.get("usage")
        count: Any = cast("dict[str, Any]", usage).get(name, 0) if isinstance(usage, dict) else None
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise NotScored(f"no usage.{name}, so where the answer begins is not known")
        return count


class ForcedScoring:
    """llama.cpp's `/completion`, made to sample the answer one token at a time."""

    dialect = "forced"

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def score(self, prompt: str, answer: str, pick: Pick) -> Scored:
        """Score the tokens that `pick` takes, each by a request that ends just before it."""
        before = self._tokenised(prompt, special=True)
        tokens = self._tokenised(answer, special=False)
        if not tokens:
            raise NotScored("the answer has no tokens")
        chosen = tuple(pick(len(tokens)))
        return Scored(
            tuple(str(token) for token in tokens),
            chosen,
            tuple(self._forced(before + tokens[:at], tokens[at]) for at in chosen),
        )

    def _tokenised(self, text: str, *, special: bool) -> list[int]:
        reply = self._asking.post(
            "/tokenize", {"content": text, "add_special": special, "parse_special": False}
        )
        tokens = reply.get("tokens")
        if not isinstance(tokens, list) or not all(
            isinstance(token, int) for token in cast("list[object]", tokens)
        ):
            raise NotScored("/tokenize gives no list of token ids")
        return cast("list[int]", tokens)

    def _forced(self, before: list[int], token: int) -> float:
        body = {
            "prompt": before,
            "n_predict": 1,
            "n_probs": 1,
            "logit_bias": [[token, FORCING_BIAS]],
            "temperature": 0,
            "samplers": [],  # a server's own penalties and cuts must not choose
            "cache_prompt": True,
        }
        reply: Any = self._asking.post("/completion", body)
        try:
            told = reply["completion_probabilities"][0]
            sampled, logprob = told["id"], told["logprob"]
        except (KeyError, IndexError, TypeError) as error:
            raise NotScored("/completion gives no log-probability of the token it sampled") from error
        if sampled != token:
            raise NotScored("/completion did not follow logit_bias")
        return _logprob(logprob)


def open_scoring(asking: Asking) -> Scoring:
    """Return the first dialect by which the server scores a probe. Raises Problem when it has neither."""
    refused: list[str] = []
    for scoring in (EchoScoring(asking), ForcedScoring(asking)):
        try:
            found = scoring.score("Zero\n", PROBE, lambda _count: (0, 1))
        except NotScored as error:
            refused.append(f"{scoring.dialect}: {error}")
            continue
        # A forced token with no doubt at all is a probability taken after the bias: it would call all alike.
        if all(logprob > -1e-9 for logprob in found.logprobs):
            refused.append(f"{scoring.dialect}: every token is reported as certain")
            continue
        return scoring
    raise Problem(
        f"{asking.root}: gives no log-probabilities of a given text ({'; '.join(refused)})",
        remedy="name a server whose /v1/completions takes echo with logprobs (vLLM), or llama.cpp's server; "
        "pass --model NAME where it serves several; a service that only chats cannot score a given answer",
        code="audit_backend",
    )


def _echoed(reply: Any) -> tuple[list[Any], list[Any]]:
    try:
        told = reply["choices"][0]["logprobs"]
        tokens, logprobs = told["tokens"], told["token_logprobs"]
    except (KeyError, IndexError, TypeError) as error:
        raise NotScored("/v1/completions does not echo log-probabilities") from error
    if not isinstance(tokens, list) or not isinstance(logprobs, list):
        raise NotScored("/v1/completions does not echo log-probabilities")
    return cast("list[Any]", tokens), cast("list[Any]", logprobs)


def _logprob(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise NotScored("a log-probability that is no number")
    if value > 1e-6:  # rounding may pass 0 by a hair, a probability may not pass 1
        raise NotScored("a log-probability above 0")
    return min(float(value), 0.0)


def _said(data: bytes) -> str:
    """Return the kind of error a server names; its words may repeat the text that it was given."""
    try:
        error: Any = json.loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    told: Any = cast("dict[str, Any]", error).get("type") if isinstance(error, dict) else None
    return told[:SAID_CHARACTERS] if isinstance(told, str) else ""

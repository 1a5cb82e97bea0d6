"""The whole job once, exactly as a user would do it: `endcredits demo`.

Register works, serve, ask through the official OpenAI client, see who is credited for which passage, close
the period, read a creator's statement and add it up. Every step goes through the product's own commands, port
and files, so that the demo cannot show what a user would not get. Nothing is left behind unless a data folder
is given: processes end and temporary files go, also when a step fails.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from proxy.clock import SystemClock, iso_utc
from proxy.demo import show
from proxy.demo.answers import CATALOGUE_DIR
from proxy.demo.chat import MODEL
from proxy.demo.children import Child, child, command
from proxy.errors import Problem, Unavailable

if TYPE_CHECKING:
    from openai import OpenAI

CONFIG = Path(__file__).with_name("demo.toml")
SETTLE_S = 20  # for events to reach the store; it takes a fraction of a second
SETTLE_POLL_S = 0.3
INTERRUPTED = 130  # what a shell reports for Ctrl-C

# (question, streamed): one work, a song quoted, nobody's work, and several works in one answer.
QUESTIONS = (
    ("How did the grandmother with the jar keep her sourdough starter alive?", False),
    ("Quote the chorus of the paper umbrella song.", True),
    ("How do I sort a list in Python?", False),
    ("Compare an airport's bees, a glacier and a laundry where people play chess.", True),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one question."""

    text: str
    credits: show.Credits
    note: str = ""


def run(*, once: bool, port: int, data_dir: Path | None) -> int:
    """Tell the whole story; then serve on until Ctrl-C, or return when `once`. Returns the exit status.

    `port` 0 picks a free one. `data_dir` None takes a temporary folder, removed at the end. Raises Problem
    when a step fails, after everything it started has been ended.
    """
    console = Console(highlight=False)
    _require_client()
    told = False
    try:
        with _terminated_like_interrupted(), ExitStack() as stack:
            folder = _data_folder(data_dir, stack)
            server = _tell(console, folder, port, stack)
            told = True
            if not once:
                server.serve()
    except KeyboardInterrupt:
        console.print("\nEnded." if told else "\nInterrupted; everything started has been ended.")
        return 0 if told else INTERRUPTED
    return 0


def _tell(console: Console, folder: Path, port: int, stack: ExitStack) -> Child:
    """The story from an empty folder to HTML statements; returns the proxy, which still serves."""
    console.print(Text("Endcredits: every AI answer rolls its credits, and pays them.", style="bold"))
    backend = stack.enter_context(child("backend", ["proxy.demo.backend", "--port", "0"], folder))

    _heading(console, "1", "Register works, build the index, make a key")
    key = _register(console, folder)

    _heading(console, "2", "Serve: the proxy stands before any OpenAI-compatible backend")
    upstream = str(backend.first_line()["base_url"])
    base_url, server = _serve(console, folder, port, upstream, stack)

    _heading(console, "3", "Ask through the official OpenAI client")
    started_us = SystemClock().now_us()
    with _client(f"{base_url}/v1", key) as client:
        for number, (question, streamed) in enumerate(QUESTIONS, 1):
            _show_question(console, number, question, streamed=streamed)
            reply = _ask_streamed(client, question, console) if streamed else _ask(client, question)
            _show_reply(console, reply)

    _heading(console, "4", "Close the period and read a statement")
    label = _close(console, folder, len(QUESTIONS), started_us)
    _show_statement(console, folder, label)
    _farewell(console, base_url, key, folder)
    return server


def _register(console: Console, folder: Path) -> str:
    """Put creators, works, index and an app key into the folder; returns the key."""
    arguments = ("--data", str(folder), "--config", str(CONFIG))
    steps = (
        ("creators", "add", "--from", str(CATALOGUE_DIR / "creators.jsonl")),
        ("works", "add", str(CATALOGUE_DIR / "catalogue.jsonl")),  # builds the index as well
    )
    for step in steps:
        _show_command(console, step)
        command((*step, *arguments), folder)
    step = ("keys", "create", "--role", "app", "--name", "demo")
    _show_command(console, step)
    [made] = command((*step, *arguments), folder)
    return str(made["key"])


def _serve(console: Console, folder: Path, port: int, upstream: str, stack: ExitStack) -> tuple[str, Child]:
    arguments = ["serve", "--upstream", upstream, "--port", str(port)]
    _show_command(console, arguments)
    whole = ["proxy", *arguments, "--data", str(folder), "--config", str(CONFIG), "--json"]
    server = stack.enter_context(child("proxy", whole, folder))
    base_url = str(server.first_line()["url"])
    server.ready(f"{base_url}/readyz")
    console.print(f"Listening on {base_url}, ready.")
    return base_url, server


def _ask(client: OpenAI, question: str) -> Reply:
    completion = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], extra_headers={"x-attribution": "full"}
    )
    credits_ = _credits_in(completion.model_extra)
    return Reply(completion.choices[0].message.content or "", credits_, "one JSON reply")


def _ask_streamed(client: OpenAI, question: str, console: Console) -> Reply:
    """Show the text as it comes, where somebody watches; the credits arrive with the last chunk."""
    text, pieces, field = "", 0, None
    asked_s = time.perf_counter()
    first_s = last_s = asked_s
    with ExitStack() as stack:
        live = stack.enter_context(Live(console=console, transient=True)) if console.is_terminal else None
        stream = stack.enter_context(
            client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": question}],
                stream=True,
                extra_headers={"x-attribution": "full"},
            )
        )
        for chunk in stream:
            field = (chunk.model_extra or {}).get("attribution", field)
            piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
            if piece:
                text, pieces, last_s = text + piece, pieces + 1, time.perf_counter()
                first_s = first_s if pieces > 1 else last_s
            if live is not None:
                live.update(Padding(Text(text), (0, 4)))
    waited_ms = (time.perf_counter() - last_s) * 1000
    note = (
        f"streamed in {pieces} pieces, the first after {(first_s - asked_s) * 1000:.0f} ms; "
        f"credits {waited_ms:.0f} ms after the last"
    )
    return Reply(text, _credits_in({"attribution": field}), note)


def _credits_in(members: dict[str, Any] | None) -> show.Credits:
    field = (members or {}).get("attribution")
    if field is None:
        raise Problem("the reply carries no credits", remedy="see the proxy's log", code="demo")
    return show.read_credits(field)


def _close(console: Console, folder: Path, answers: int, started_us: int) -> str:
    """Wait until every answer asked for is in the store, then close; returns the period's label."""
    arguments = ("--data", str(folder), "--config", str(CONFIG))
    since = iso_utc(started_us)
    deadline_s = time.monotonic() + SETTLE_S
    _show_command(console, ("usage", "--since", since))
    while len(events := command(("usage", "--since", since, *arguments), folder)) < answers or any(
        event.get("status") == "pending" for event in events
    ):
        if time.monotonic() > deadline_s:
            raise Unavailable(
                f"{len(events)} of {answers} answers reached the store within {SETTLE_S} s",
                remedy="run the demo again on an idle machine",
            )
        time.sleep(SETTLE_POLL_S)
    tokens = [sum(int(event["tokens"][kind]) for event in events) for kind in ("input", "output")]
    console.print(
        f"{answers} answers asked for, {len(events)} usage events: {tokens[0]} tokens in, {tokens[1]} out."
    )
    label = "demo-" + "".join(sign for sign in since[:19].replace("T", "-") if sign.isalnum() or sign == "-")
    _show_command(console, ("periods", "close", label))
    command(("periods", "close", label, *arguments), folder)
    return label


def _show_statement(console: Console, folder: Path, label: str) -> None:
    """Export every statement, print the one that earned most, and add it up again from its lines."""
    arguments = ("--data", str(folder), "--config", str(CONFIG))
    for form in ("json", "html"):
        target = folder / "statements" / form
        target.mkdir(parents=True, exist_ok=True)
        step = ("statements", "export", "--period", label, "--format", form, "--out")
        _show_command(console, (*step, f"statements/{form}"))
        command((*step, str(target), *arguments), folder)
    statements = [
        show.read_statement(path.read_bytes()) for path in (folder / "statements/json").glob("*.json")
    ]
    statements = [statement for statement in statements if statement.period == label]
    if not statements:
        raise Problem(f"period {label} has no statement", remedy="see `statements list`", code="demo")
    chosen = max(
        statements, key=lambda statement: (len(statement.lines), statement.earned_grains, statement.name)
    )
    console.print()
    console.print(show.statement(chosen))
    console.print(Text(show.checked(chosen), style="green"))
    console.print(
        f"{len(statements)} statements of this period as HTML pages in", Text(str(folder / "statements/html"))
    )


def _farewell(console: Console, base_url: str, key: str, folder: Path) -> None:
    _heading(console, "5", "Your turn")
    question = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Tell me about tides."}]})
    lines = (
        f"export OPENAI_BASE_URL={base_url}/v1",
        f"export OPENAI_API_KEY={key}",
        "",
        "curl -s $OPENAI_BASE_URL/chat/completions \\",
        '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
        f"  -d '{question}'",
    )
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    console.print(
        f"\nData: {folder}. Ask about bees, a glacier, hats, a lighthouse, the moon.", soft_wrap=True
    )


def _show_question(console: Console, number: int, question: str, *, streamed: bool) -> None:
    console.print()
    console.print(Text(f"Question {number}", style="bold"), Text("(streamed)" if streamed else "(JSON)"))
    console.print(Padding(Text(question, style="italic"), (0, 0, 1, 4)))


def _show_reply(console: Console, reply: Reply) -> None:
    credits_ = reply.credits
    console.print(show.answer(reply.text, credits_.works))
    console.print()
    console.print(show.roll(credits_))
    whole = "the shares sum to 1,000,000 ppm" if credits_.adds_up else f"shares are {credits_.status}"
    console.print(Text(f"{reply.note}; {whole}", style="dim"))


def _show_command(console: Console, arguments: tuple[str, ...] | list[str]) -> None:
    shown = " ".join(argument.replace(f"{CATALOGUE_DIR}/", "") for argument in arguments)
    console.print(Text(f"$ endcredits {shown}", style="bold"), soft_wrap=True)


def _heading(console: Console, number: str, title: str) -> None:
    console.print()
    console.rule(Text(f"{number}. {title}", style="bold"), align="left", characters="─")


def _data_folder(given: Path | None, stack: ExitStack) -> Path:
    if given is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="endcredits-demo-")))
    given.mkdir(parents=True, exist_ok=True, mode=0o700)
    return given.resolve()


def _require_client() -> None:
    """Refuse before anything is started: the client is an extra."""
    if importlib.util.find_spec("openai") is None:
        raise Problem(
            "the demo asks through the official client, and 'openai' is not installed",
            remedy="pip install 'endcredits[demo]'",
            code="demo",
        )


def _client(base_url: str, key: str) -> OpenAI:
    import openai  # an extra: the command line loads without it

    # Loopback, whatever http_proxy says; and no retries, so that one question is one usage event.
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=base_url, api_key=key, http_client=http, max_retries=0, timeout=60)


@contextmanager
def _terminated_like_interrupted() -> Generator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that a stopped demo leaves no process behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

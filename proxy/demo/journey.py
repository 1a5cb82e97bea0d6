"""The whole job once, exactly as a user would do it: `endcredits demo`.

Register works, serve, ask through the official OpenAI client, see who is credited for which passage, close
the period, read a creator's statement and add it up. Every step goes through the product's own commands, port
and files, so that the demo cannot show what a user would not get. Nothing is left behind unless a data folder
is given: processes end and temporary files go, also when a step fails.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import tempfile
import textwrap
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

from proxy.access.sessions_store import Sessions
from proxy.catalogue.store import Catalogue
from proxy.catalogue.works import Consent, Use
from proxy.clock import RandomIds, SystemClock, iso_utc
from proxy.database import open_engine
from proxy.demo import show
from proxy.demo.answers import CATALOGUE_DIR
from proxy.demo.chat import MODEL
from proxy.demo.children import Child, child, command
from proxy.errors import Problem, Unavailable
from proxy.settings import Settings, load_settings

if TYPE_CHECKING:
    from openai import OpenAI
    from sqlalchemy import Engine

CONFIG = Path(__file__).with_name("demo.toml")
APP = "demo"
SHOWABLE = re.compile(r"CC-BY|LicenseRef-Excerpts-Allowed")  # licences under which a passage may be quoted
SETTLE_S = 20  # for events to reach the store; it takes a fraction of a second
SETTLE_POLL_S = 0.3
COMMAND_COLUMNS = 76  # so that a continued line with its backslash fits 80
INTERRUPTED = 130  # what a shell reports for Ctrl-C

# (question, streamed): one work, a song quoted, nobody's work, and several works in one answer.
QUESTIONS = (
    ("How did the grandmother with the jar keep her sourdough starter alive?", False),
    ("Quote the chorus of the paper umbrella song.", True),
    ("How do I sort a list in Python?", False),
    ("Compare a night bus, an airport's bees and a glacier.", True),
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
            story = _Story(console, folder, kept=data_dir is not None)
            server = story.tell(port, stack)
            told = True
            if not once:
                story.farewell()
                server.serve()
    except KeyboardInterrupt:
        console.print("\nEnded." if told else "\nInterrupted; everything started has been ended.")
        return 0 if told else INTERRUPTED
    return 0


class _Story:
    """The steps in order; what a later step needs of an earlier one is kept here."""

    def __init__(self, console: Console, folder: Path, *, kept: bool) -> None:
        self._console = console
        self._folder = folder
        self._kept = kept
        self._base_url = ""
        self._key = ""

    def tell(self, port: int, stack: ExitStack) -> Child:
        """Go from an empty folder to printed statements; returns the proxy, which still serves."""
        say = self._console.print
        say(Text("Endcredits: every AI answer rolls its credits, and pays them.", style="bold"))
        backend = stack.enter_context(child("backend", ["proxy.demo.backend", "--port", "0"], self._folder))

        _heading(self._console, "1", "Register works, build the index, make a key")
        self._register()

        _heading(self._console, "2", "Serve: the proxy stands before any OpenAI-compatible backend")
        server = self._serve(port, str(backend.first_line()["base_url"]), stack)

        _heading(self._console, "3", "Ask through the official OpenAI client")
        started_us = SystemClock().now_us()
        if not self._ask_all():
            raise server.failed("credited nobody for answers that quote its catalogue")

        _heading(self._console, "4", "Close the period and read a statement")
        label = self._close(started_us)
        self._show_statement(label)
        return server

    def farewell(self) -> None:
        """Say how to go on while the proxy serves."""
        _heading(self._console, "5", "Your turn: the proxy serves until Ctrl-C")
        question = json.dumps(
            {"model": MODEL, "messages": [{"role": "user", "content": "Tell me about tides."}]}
        )
        lines = (
            f"export OPENAI_BASE_URL={self._base_url}/v1",
            f"export OPENAI_API_KEY={self._key}",
            "",
            "curl -s $OPENAI_BASE_URL/chat/completions \\",
            '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
            '  -H "Content-Type: application/json" \\',
            f"  -d '{question}'",
            "",
            "Ask also about bees, a glacier, hats, a lighthouse or the moon.",
        )
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)
        self._console.print()
        self._console.print(Text("Or watch it in a browser, where sentences take their source's colour:"))
        self._console.print(Text(self._link(), style="bold"), soft_wrap=True)
        self._console.print(Text("The link signs in once, as this demo's app."), style="dim")

    def _link(self) -> str:
        """Return the address that opens the playground, signed in as the demo's app."""
        with self._store() as (settings, engine):
            stay_h, open_h = settings.portal.session_hours, settings.portal.link_hours
            sessions = Sessions(engine, clock=SystemClock(), session_hours=stay_h, link_hours=open_h)
            link = sessions.link("app", name=APP, by="demo")
        return f"{self._base_url}/portal/enter/{link.secret}?back=/portal/playground"

    @contextmanager
    def _store(self) -> Generator[tuple[Settings, Engine]]:
        settings = load_settings(CONFIG, data_dir=self._folder)
        engine = open_engine(settings.store_url)
        try:
            yield settings, engine
        finally:
            engine.dispose()

    def _run(self, *arguments: str) -> list[dict[str, Any]]:
        """Show a command as a user types it, and run it on the demo's folder."""
        _show_command(self._console, arguments)
        return self._run_quietly(*arguments)

    def _run_quietly(self, *arguments: str) -> list[dict[str, Any]]:
        return command((*arguments, "--data", str(self._folder), "--config", str(CONFIG)), self._folder)

    def _register(self) -> None:
        """Put creators, works, index and an app key into the folder."""
        self._run("creators", "add", "--from", str(CATALOGUE_DIR / "creators.jsonl"))
        # Builds the index as well. The sample's texts were written for it, so what is attested is true.
        self._run("works", "add", str(CATALOGUE_DIR / "catalogue.jsonl"), "--attest")
        self._let_passages_be_shown()
        [made] = self._run("keys", "create", "--role", "app", "--name", APP)
        self._key = str(made["key"])

    def _let_passages_be_shown(self) -> None:
        """Record what some of the sample's creators allow beside being credited, by their licences."""
        with self._store() as (settings, engine):
            given = settings.catalogue.default_consent
            catalogue = Catalogue(engine, clock=SystemClock(), ids=RandomIds(), default_consent=given)
            shown = [work for work in catalogue.works() if SHOWABLE.match(work.licence)]
            for work in shown:
                catalogue.set_consent(work.id, Consent(Use.EXCERPT_DISPLAY, "free"))
        said = f"Creators of {len(shown)} works let passages of them be shown beside an answer."
        self._console.print(Text(said))

    def _serve(self, port: int, upstream: str, stack: ExitStack) -> Child:
        arguments = ("serve", "--upstream", upstream, "--port", str(port))
        _show_command(self._console, arguments)
        whole = ["proxy", *arguments, "--data", str(self._folder), "--config", str(CONFIG), "--json"]
        server = stack.enter_context(child("proxy", whole, self._folder))
        self._base_url = str(server.first_line()["url"])
        server.ready(f"{self._base_url}/readyz")
        self._console.print(f"Listening on {self._base_url}, ready.")
        return server

    def _ask_all(self) -> bool:
        """Ask every question and show what comes back; returns whether any work was credited."""
        credited = False
        with _client(f"{self._base_url}/v1", self._key) as client:
            for number, (question, streamed) in enumerate(QUESTIONS, 1):
                _show_question(self._console, number, question, streamed=streamed)
                reply = _ask_streamed(client, question, self._console) if streamed else _ask(client, question)
                _show_reply(self._console, reply)
                credited = credited or bool(reply.credits.works)
        return credited

    def _close(self, started_us: int) -> str:
        """Wait until every answer asked for is in the store, then close; returns the period's label."""
        since = iso_utc(started_us)
        _show_command(self._console, ("usage", "--since", since))
        deadline_s = time.monotonic() + SETTLE_S
        while not _all_settled(events := self._run_quietly("usage", "--since", since)):
            if time.monotonic() > deadline_s:
                raise Unavailable(
                    f"{len(events)} of {len(QUESTIONS)} answers were settled within {SETTLE_S} s",
                    remedy="run the demo again on an idle machine",
                )
            time.sleep(SETTLE_POLL_S)
        tokens_in, tokens_out = (
            sum(int(event["tokens"][kind]) for event in events) for kind in ("input", "output")
        )
        self._console.print(
            f"{len(QUESTIONS)} answers asked for, {len(events)} usage events: "
            f"{tokens_in} tokens in, {tokens_out} out."
        )
        label = "demo-" + "".join(filter(str.isalnum, since[:19]))
        self._run("periods", "close", label)
        return label

    def _show_statement(self, label: str) -> None:
        """Export every statement, print one with several lines, and add it up again from them."""
        pages = self._folder / "statements"
        for form in ("json", "html"):
            step = ("statements", "export", "--period", label, "--format", form, "--out")
            _show_command(self._console, (*step, "statements"))
            self._run_quietly(*step, str(pages))
        exported = [show.read_statement(path.read_bytes()) for path in pages.glob(f"{label}-*.json")]
        if not exported:
            raise Problem(f"no statement of period {label} was exported", code="demo")
        chosen = max(exported, key=lambda one: (len(one.lines), one.earned_grains, one.name))
        self._console.print()
        self._console.print(show.statement(chosen))
        self._console.print(Text(show.checked(chosen), style="green"))
        until = "" if self._kept else " (until the demo ends; --data DIR keeps them)"
        self._console.print(Text(f"{len(exported)} statements as HTML in {pages}{until}"), soft_wrap=True)


def _all_settled(events: list[dict[str, Any]]) -> bool:
    return len(events) >= len(QUESTIONS) and all(event.get("status") != "pending" for event in events)


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


def _show_command(console: Console, arguments: tuple[str, ...]) -> None:
    shown = " ".join(argument.replace(f"{CATALOGUE_DIR}/", "") for argument in ("$ endcredits", *arguments))
    lines = textwrap.wrap(shown, COMMAND_COLUMNS, subsequent_indent="    ", break_on_hyphens=False)
    console.print(Text(" \\\n".join(lines), style="bold"), soft_wrap=True)


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

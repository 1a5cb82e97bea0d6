"""The journey's own pieces, and the whole of it as a user runs it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from proxy.access.sessions_store import Sessions
from proxy.access.store import create_key
from proxy.clock import RandomIds, SystemClock
from proxy.database import open_engine
from proxy.demo import journey, show
from proxy.demo.answers import compose, load_repertoire
from proxy.demo.children import child, environment
from proxy.errors import Problem, Unauthenticated
from proxy.settings import load_settings
from tests.stores import lay

FIELD = {"id": "rct_a", "status": "settled", "unattributed_ppm": 1_000_000, "works": []}


def console() -> Console:
    return Console(file=io.StringIO(), width=80, no_color=True, highlight=False)


def test_the_demos_settings_are_understood() -> None:
    settings = load_settings(journey.CONFIG)
    assert settings.billing.scheme == "royalty"
    assert settings.attribution.deadline_ms == 10_000


def test_the_questions_show_one_work_a_quotation_nobodys_work_and_a_mixture() -> None:
    repertoire = load_repertoire()
    drawn = [compose(repertoire, question).work_ids for question, _ in journey.QUESTIONS]
    assert drawn == [
        ("the-lodger-in-the-jar",),
        ("paper-umbrella-weather",),
        (),
        ("the-airport-keeps-bees", "the-night-bus-has-my-number", "recording-ice"),
    ]
    assert {streamed for _, streamed in journey.QUESTIONS} == {False, True}


def test_it_ends_with_a_link_that_opens_the_playground_as_the_demos_app_once(tmp_path: Path) -> None:
    settings = load_settings(journey.CONFIG, data_dir=tmp_path)
    lay(settings.store_url)
    engine = open_engine(settings.store_url)
    create_key(engine, "app", clock=SystemClock(), ids=RandomIds(), name=journey.APP)
    out = console()
    story = journey._Story(out, tmp_path, kept=True)
    story.farewell()
    said = out.file.getvalue()
    (secret, back) = re.findall(r"/portal/enter/([\w-]{43})\?back=(\S+)", said)[0]
    assert back == "/portal/playground"
    sessions = Sessions(engine, clock=SystemClock(), session_hours=1, link_hours=1)
    found = sessions.find(sessions.enter(secret)[0])
    assert found is not None
    assert (found.principal.role, found.principal.name) == ("app", "demo")
    with pytest.raises(Unauthenticated):
        sessions.enter(secret)
    engine.dispose()


def test_a_missing_client_is_named_with_its_remedy(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(journey.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Problem, match="openai") as refused:
        journey.run(once=True, port=0, data_dir=tmp_path)
    assert refused.value.remedy == "pip install 'endcredits[demo]'"
    assert list(tmp_path.iterdir()) == []


def test_a_reply_without_credits_is_refused() -> None:
    with pytest.raises(Problem, match="no credits"):
        journey._credits_in({})


def test_a_reply_is_shown_with_its_credits() -> None:
    shown = console()
    journey._show_reply(shown, journey.Reply("Ask again.", show.read_credits(FIELD), "one JSON reply"))
    assert "unattributed" in shown.file.getvalue()
    assert "sum to 1,000,000 ppm" in shown.file.getvalue()


def test_both_kinds_of_question_reach_a_backend_with_the_official_client(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(journey, "_credits_in", lambda _members: show.read_credits(FIELD))
    repertoire = load_repertoire()
    with (
        child("backend", ["proxy.demo.backend", "--piece-ms", "0"], tmp_path) as backend,
        journey._client(str(backend.first_line()["base_url"]), "none") as client,
    ):
        for question, streamed in journey.QUESTIONS:
            if streamed:
                reply = journey._ask_streamed(client, question, console())
            else:
                reply = journey._ask(client, question)
            assert reply.text == compose(repertoire, question).text


def test_a_step_that_fails_leaves_neither_process_nor_temporary_folder(monkeypatch) -> None:
    seen: list[Path] = []

    def refuse(story):
        seen.append(story._folder)
        raise Problem("a step failed")

    monkeypatch.setattr(journey._Story, "_register", refuse)
    with pytest.raises(Problem, match="a step failed"):
        journey.run(once=True, port=0, data_dir=None)
    assert not seen[0].exists()


def test_the_whole_journey_credits_both_kinds_of_reply_and_ends_with_a_statement_that_adds_up(
    tmp_path,
) -> None:
    command = [
        sys.executable,
        "-m",
        "proxy",
        "demo",
        "--once",
        "--port",
        "0",
        "--data",
        str(tmp_path / "data"),
    ]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = done.stdout.split("Question ")[1:]
    assert len(asked) == len(journey.QUESTIONS)
    assert all("the shares sum to 1,000,000 ppm" in " ".join(answer.split()) for answer in asked)
    assert "The Lodger in the Jar" in asked[0]
    assert "Paper Umbrella Weather" in asked[1]
    assert re.search(r"unattributed +nobody +100\.0000 %", asked[2])
    assert "4 answers asked for, 4 usage events" in done.stdout
    assert "Checked:" in done.stdout
    assert list((tmp_path / "data" / "statements").glob("*.html"))
    wide = [line for line in done.stdout.splitlines() if len(line) > 80 and str(tmp_path) not in line]
    assert wide == []

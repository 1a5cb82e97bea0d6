"""What is kept of an opted-in app's exchanges, through the whole application; and that nothing is of any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.metering.audited import FOLDER, AuditedExchanges, Message
from proxy.relay.auditing import WRITING_MAX, Auditing, exchange_of, is_sampled, messages_of
from proxy.relay.exchange import Exchange
from proxy.settings import Attribution, Audit
from proxy.wire.chat import ChatCompletions
from proxy.wire.completions import Completions
from proxy.wire.headers import Wishes
from tests.builders import chat_request
from tests.commands import Commands
from tests.fakes import FrozenClock
from tests.live import Live, live, settings_in

pytestmark = pytest.mark.anyio
ALWAYS = Audit(sample_ppm=1_000_000)
ASKED, SAID = "what did the heron say to the miller", "That the river had been low since Tuesday"
WISHES = Wishes("body", 10, "inline", 250)


def on_disk(folder: Path, *texts: str) -> list[Path]:
    """Return the files that hold one of these texts."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(text.encode() in path.read_bytes() for text in texts)]


async def asked(app: Live, key: dict[str, str], *, stream: bool = False, **headers: str) -> str:
    app.answers(SAID, stream=stream)
    reply = await app.chat({**key, **headers}, stream=stream, messages=[{"role": "user", "content": ASKED}])
    assert reply.status_code == 200
    return reply.headers["x-attribution-id"]


def kept_in(folder: Path) -> list[Path]:
    return list((folder / FOLDER).rglob("*.exchange"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("deadline_ms", [1, 20_000])
async def test_without_an_opt_in_no_word_of_an_exchange_is_at_rest_anywhere(
    tmp_path: Path, stream: bool, deadline_ms: int, capfd: Any
):
    given = settings_in(tmp_path, audit=ALWAYS, attribution=Attribution(deadline_ms=deadline_ms))
    async with live(given) as app:
        other = app.key(name="audited")
        assert Commands(tmp_path)("apps", "audit", "on", "audited").status == 0
        await asked(app, app.key(name="shop"), stream=stream)
        assert on_disk(tmp_path, ASKED, SAID) == []
        assert other
    assert on_disk(tmp_path, ASKED, SAID) == []
    assert kept_in(tmp_path) == []
    told = capfd.readouterr()
    assert ASKED not in told.out + told.err
    assert SAID not in told.out + told.err


@pytest.mark.parametrize("stream", [False, True])
async def test_an_opted_in_app_is_kept_sealed_until_it_is_opted_out(tmp_path: Path, stream: bool):
    ec = Commands(tmp_path)
    async with live(settings_in(tmp_path, audit=ALWAYS)) as app:
        key = app.key(name="shop")
        assert ec.json("apps", "audit", "on", "shop").row == {"app": "shop", "audited": True, "erased": 0}
        await app.running.keyring.refresh()
        event_id = await asked(app, key, stream=stream)
    (path,) = kept_in(tmp_path)
    assert path.stem == event_id
    assert on_disk(tmp_path, ASKED, SAID) == []
    kept = AuditedExchanges(tmp_path, exchanges_max=9, days=9)
    (found,) = kept.read(path.parent.name, path.stat().st_mtime)
    assert found.messages == (Message("user", ASKED),)
    assert found.answer == SAID
    assert ec.json("apps", "list").row["audited"] is True
    assert ec.json("apps", "audit", "off", "shop").row == {"app": "shop", "audited": False, "erased": 1}
    assert kept_in(tmp_path) == []
    assert ec.json("apps", "list").row["audited"] is False


async def test_an_opt_out_acts_on_a_running_server(tmp_path: Path):
    ec = Commands(tmp_path)
    async with live(settings_in(tmp_path, audit=ALWAYS)) as app:
        key = app.key(name="shop")
        ec("apps", "audit", "on", "shop")
        await app.running.keyring.refresh()
        await asked(app, key)
        ec("apps", "audit", "off", "shop")
        await asked(
            app, key
        )  # the worker may not have heard of it yet: there is no key to keep anything with
        await app.running.keyring.refresh()
        await asked(app, key)
    assert kept_in(tmp_path) == []


def answered(text: str = SAID, **changes: Any) -> Exchange:
    made = Exchange("rct_1", ChatCompletions(), WISHES)
    made.client_asked([], chat_request(**changes))
    made.told.add(0, text)
    return made


def test_the_sample_is_a_part_of_all_answers_and_the_same_everywhere():
    taken = [name for name in map(str, range(4_000)) if is_sampled(name, 250_000)]
    assert 850 < len(taken) < 1_150
    assert not any(is_sampled(name, 0) for name in taken)
    assert all(is_sampled(name, 1_000_000) for name in taken)


def test_messages_keep_their_roles_and_lose_their_pictures():
    picture = [{"type": "text", "text": "Look: "}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": picture}]
    asked = ChatCompletions().read_request(chat_request(messages=said))
    assert messages_of(ChatCompletions(), asked) == (
        Message("system", "Be brief."),
        Message("user", "Look: "),
    )


def test_a_request_without_roles_is_the_users():
    asked = Completions().read_request(json.dumps({"model": "m", "prompt": [ASKED]}).encode())
    assert messages_of(Completions(), asked) == (Message("user", ASKED),)


def test_only_whole_short_exchanges_with_words_are_taken():
    assert exchange_of(answered(), 4_096) is not None
    assert exchange_of(answered(), 20) is None
    assert exchange_of(answered(" \n"), 4_096) is None
    assert exchange_of(answered("much " * 1_000), 4_096) is None
    assert exchange_of(answered(messages=[]), 4_096) is None
    assert exchange_of(Exchange("rct_1", ChatCompletions(), WISHES), 4_096) is None
    cut = Exchange("rct_1", ChatCompletions(), WISHES, text_characters_max=5)
    cut.client_asked([], chat_request())
    cut.told.add(0, SAID)
    assert exchange_of(cut, 4_096) is None


async def test_what_comes_faster_than_it_can_be_written_is_not_kept(tmp_path: Path):
    kept = AuditedExchanges(tmp_path, exchanges_max=100, days=9)
    kept.opt_in("app_1")
    auditing = Auditing(kept, ALWAYS, clock=FrozenClock())
    for _ in range(WRITING_MAX + 5):
        auditing.take("app_1", answered())
    await auditing.aclose()
    assert kept.count("app_1") == 1  # one id, written again and again
    await auditing.sweep()

"""The child computes what the command computes, and prints what it was refused."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pytest

from proxy.portal.previewer import main, previewed
from proxy.portal.previews import Asked
from proxy.settings import Settings, handed_over
from tests.stores import lay


@pytest.fixture
def settings(tmp_path):
    settings = Settings(data_dir=tmp_path)
    lay(settings.store_url)
    return settings


def test_a_store_without_answers_pays_nothing_by_any_policy(settings):
    row = previewed(settings, Asked(policy="settings"))
    assert (row["is_open"], row["events"], row["creators"]) == (True, 0, [])
    assert row["counts"]["creators"] == 0


def test_a_refusal_is_printed(settings, monkeypatch, capsysbinary):
    for name, value in handed_over(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"policy":"pol_none"}')))
    main()
    assert json.loads(capsysbinary.readouterr().out)["error"]["status"] == 404

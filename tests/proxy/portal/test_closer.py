"""The child closes as the command does, and tells what it booked."""

from __future__ import annotations

import json
import sys

import pytest

from proxy.errors import BadRequest
from proxy.portal.closer import closed, main
from proxy.settings import Settings, handed_over
from tests.stores import lay


@pytest.fixture
def settings(tmp_path):
    settings = Settings(data_dir=tmp_path)
    lay(settings.store_url)
    return settings


def test_a_dry_run_books_nothing_and_a_real_one_does(settings):
    looked = closed(settings, "2026-11", dry_run=True)
    assert (looked["statements"], looked["totals"]["charged_grains"], looked["creators"]) == (0, 0, [])
    assert closed(settings, "2026-11", dry_run=False)["label"] == "2026-11"
    with pytest.raises(BadRequest):
        closed(settings, "no label at all", dry_run=True)


def test_a_refusal_is_printed_for_the_page(settings, monkeypatch, capsysbinary):
    for name, value in handed_over(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["closer", "no label at all", "dry"])
    main()
    assert json.loads(capsysbinary.readouterr().out)["error"]["code"] == "period_label"

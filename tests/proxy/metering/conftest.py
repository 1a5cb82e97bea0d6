from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy.database import open_engine, upgrade
from proxy.metering.frames import Frame, encode_record
from proxy.metering.journal import Journal
from proxy.metering.usage import PPM, Attributed, Begun, Line, Used
from proxy.settings import Metering


class FrozenClock:
    def __init__(self, now_us=1_780_000_000_000_000):
        self.us = now_us

    def now_us(self):
        return self.us

    def monotonic_s(self):
        return self.us / 1e6


class Made:
    """Records by number, so that a test names answers instead of spelling them."""

    @staticmethod
    def begun(number, **changes):
        fields = {"id": f"rct_{number}", "occurred_us": 1_780_000_000_000_000 + number, "app": "app_a", "model": "m",
                      "endpoint": "/v1/chat/completions", "input_tokens": 11}  # fmt: skip
        return Begun(**(fields | changes))

    @staticmethod
    def used(number, **changes):
        fields = {"id": f"rct_{number}", "occurred_us": 1_780_000_000_000_000 + number, "app": "app_a", "backend": "default",
                      "model": "m", "endpoint": "/v1/chat/completions", "outcome": "complete", "input_tokens": 10, "output_tokens": 20,
                      "estimated": False, "output_digest": "ab", "price_version": "p1", "price_grains": 12_500_000}  # fmt: skip
        return Used(**(fields | changes))

    @staticmethod
    def attributed(number, works=5, **changes):
        lines = tuple(Line(f"w_{work}", 1000 * (works - work)) for work in range(works))
        fields = {"id": f"rct_{number}", "unattributed_ppm": PPM - sum(line.ppm for line in lines), "lines": lines,
                      "method": "endcredits/1 abc", "registry_seq": 3}  # fmt: skip
        return Attributed(**(fields | changes))

    @classmethod
    def answer(cls, number):
        return [cls.begun(number), cls.used(number), cls.attributed(number)]


@pytest.fixture
def made():
    return Made


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def open_journal(folder, clock):
    def opened(**changes):
        changes = {"settings": Metering(), "clock": clock} | changes
        return Journal.open(changes.pop("folder", folder), **changes)

    return opened


def create_tables(engine: sa.Engine) -> None:
    """The whole schema: who carries also asks what has left, which other chapters' tables tell."""
    upgrade(engine.url.render_as_string(hide_password=False))


def dump(engine: sa.Engine) -> dict[str, list[tuple]]:
    """Every row of this chapter's tables, for comparing."""
    with engine.connect() as connection:
        return {
            name: [
                tuple(row)
                for row in connection.execute(sa.text(f"SELECT * FROM {name} ORDER BY 1, 2"))  # noqa: S608  our own names
            ]
            for name in ("shard", "event", "attributed", "event_line")
        }


@pytest.fixture
def sqlite_engine(tmp_path):
    from tests.stores import lay  # here: a crash test takes this file in where `tests` is no package

    lay(url := f"sqlite:///{tmp_path / 'store.db'}")
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request):
    """The store on both engines: what is promised of one is promised of the other."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_engine")
        return
    engine = open_engine(request.getfixturevalue("postgres_url"))
    yield engine
    engine.dispose()


@pytest.fixture
def frames_of():
    """Records as the frames a reader would give, their indexes from `first` on."""

    def made_frames(records, first=0):
        return [Frame(index, encode_record(record), 0) for index, record in enumerate(records, start=first)]

    return made_frames


@pytest.fixture
def dumped():
    return dump

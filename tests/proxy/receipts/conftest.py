import pytest

from proxy.metering import store
from proxy.metering.frames import Frame, encode_record
from proxy.metering.usage import PPM, Attributed, Line, Used
from tests import stores

engine, store_url, postgres_engine = stores.engine, stores.store_url, stores.postgres_engine


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def any_engine(request):
    return request.getfixturevalue("engine" if request.param == "sqlite" else "postgres_engine")


def records(number):
    lines = tuple(Line(f"w_{work}", 1000 * (3 - work)) for work in range(3))
    return [
        Used(
            id=f"rct_{number}", occurred_us=1_780_000_000_000_000 + number, app="app_a", backend="b", model="m", endpoint="chat",
            outcome="complete", input_tokens=10, output_tokens=20, estimated=False, price_version="p1", price_grains=5,
        ),
        Attributed(id=f"rct_{number}", unattributed_ppm=PPM - 6000, lines=lines, method="endcredits/1 abc", registry_seq=3),
    ]  # fmt: skip


def carry(engine, numbers, shard="shd_a", *, parts=(0, 1)):
    """Put answers into the store as a journal's carrier does. parts: which records of each, of both."""
    first = store.watermark(engine, shard)
    some = [records(number)[part] for number in numbers for part in parts]
    frames = [Frame(first + at, encode_record(record), 0) for at, record in enumerate(some)]
    assert store.carry(engine, shard, frames).next_index == first + len(frames)

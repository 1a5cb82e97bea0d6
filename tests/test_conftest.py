import socket

import pytest
from hypothesis import HealthCheck, settings

pytestmark = pytest.mark.anyio


def test_a_test_cannot_resolve_a_name_outside_this_machine():
    with pytest.raises(BaseException, match="tried to resolve"):
        socket.create_connection(("example.invalid", 80), timeout=1)


def test_a_test_cannot_connect_outside_this_machine():
    with socket.socket() as s, pytest.raises(BaseException, match="tried to connect"):
        s.connect(("192.0.2.1", 80))


def test_no_example_fails_for_the_time_that_a_busy_machine_gave_it():
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


async def test_async_tests_run_on_asyncio_and_reach_loopback():
    import asyncio

    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.close()

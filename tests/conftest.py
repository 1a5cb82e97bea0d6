"""What every test stands on: one async backend, and no way out of this machine.

A test that forgets its fake must fail loudly, not resolve a name: sockets reach loopback and Unix addresses only.
The guard patches the socket module because that is the last place everything passes; nothing else in the suite
is patched, fakes are handed in.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing of what it promises.
_UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("unhurried", settings(), **_UNHURRIED)
settings.load_profile("unhurried")
# platformdirs warns without it, and a warning is an error here; short, because it holds Unix socket paths.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="ec-run-"))
pytest_plugins = ("tests.postgres", "tests.kept_books")  # they start nothing until a test asks
# Libraries that would fetch a model by name must find it here or fail.
os.environ["HF_HUB_OFFLINE"] = "1"
# A developer's own settings and keys are no part of a test.
for _name in list(os.environ):
    if _name.startswith(("ENDCREDITS_", "OPENAI_", "ANTHROPIC_", "LANGCHAIN_", "LANGSMITH_")):
        os.environ.pop(_name)


class LeftTheMachine(BaseException):
    """A test tried to reach beyond loopback; a BaseException, so that no retry loop swallows it."""


def _stays_here(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or host in {"", "localhost", "localhost."}:
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not _stays_here(address[0]):
            raise LeftTheMachine(f"a test tried to connect to {address!r}; hand it a fake backend")
        return call(self, address)

    return connect


_resolve = socket.getaddrinfo


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if not _stays_here(host) and host != "0.0.0.0":  # noqa: S104  binding everywhere resolves nothing
        raise LeftTheMachine(f"a test tried to resolve {host!r}; hand it a fake backend")
    return _resolve(host, *args, **kwargs)


# At import, not in a fixture: collection and other plugins must not leave either.
socket.socket.connect = _guarded(socket.socket.connect)
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
socket.getaddrinfo = _guarded_getaddrinfo


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """anyio's plugin runs async tests on asyncio, the loop we serve with."""
    return "asyncio"

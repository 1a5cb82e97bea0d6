from typing import Any

import pytest
from litestar import Litestar, get
from litestar.di import NamedDependency, Provide
from litestar.testing import TestClient

from proxy.access.guards import RING, provide_principal, requires, requires_role
from proxy.access.keys import Action, Principal
from proxy.errors import Unavailable
from proxy.portal.problems import answer_problem

HOLDERS = {
    "ec_app_a": Principal("app", "key_1", app_id="app_1", name="reader"),
    "ec_creator_c": Principal("creator", "key_2", creator_id="c_1"),
    "ec_operator_o": Principal("operator", "key_3"),
}


class Ring:
    def __init__(self) -> None:
        self.asked = 0

    async def find(self, secret: str) -> Principal | None:
        self.asked += 1
        if secret == "away":
            raise Unavailable("the store is away")
        return HOLDERS.get(secret)


@get(
    "/mine",
    guards=[requires_role("creator", "operator")],
    dependencies={"principal": Provide(provide_principal)},
)
async def mine(principal: NamedDependency[Principal]) -> dict[str, Any]:
    return {"key": principal.key_id}


@get("/all", guards=[requires(Action.OPERATE)])
async def everything() -> None: ...


@pytest.fixture
def ring():
    return Ring()


@pytest.fixture
def client(ring):
    app = Litestar([mine, everything], exception_handlers={Exception: answer_problem}, openapi_config=None)
    app.state[RING] = ring
    with TestClient(app) as client:
        yield client


def ask(client, path, key):
    return client.get(path, headers={"authorization": f"Bearer {key}"} if key else {})


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/mine", "ec_creator_c", 200),
        ("/mine", "ec_operator_o", 200),
        ("/mine", "ec_app_a", 403),
        ("/mine", "ec_app_unknown", 401),
        ("/mine", "", 401),
        ("/mine", "away", 503),
        ("/all", "ec_operator_o", 200),
        ("/all", "ec_creator_c", 403),
    ],
)
def test_each_role_gets_in_where_it_belongs(client, path, key, status):
    assert ask(client, path, key).status_code == status


def test_a_handler_is_told_who_asks_and_the_ring_is_asked_once(client, ring):
    assert ask(client, "/mine", "ec_creator_c").json() == {"key": "key_2"}
    assert ring.asked == 1


def test_a_stranger_is_told_how_to_send_a_key(client):
    answer = ask(client, "/mine", "")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "ec_" in answer.json()["remedy"]

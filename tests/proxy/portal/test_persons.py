"""What people may ask over HTTP: a creator about herself, an app about its users, an operator about everybody."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from proxy.access.store import app_names
from proxy.access.subjects import SubjectKeys
from proxy.billing.users import subject_digest
from proxy.metering.usage import Line
from tests.live import live, settings_in
from tests.proxy.billing.conftest import make_event, meter

pytestmark = pytest.mark.anyio


class People:
    """Two creators, two apps and an operator, and a way to ask with each one's key."""

    def __init__(self, app):
        self.running, self._client = app.running, app.client
        (self.hers,), _ = app.register("a text of hers"), app.register("a text of his", creator="bo")
        self._keys = {
            "ada": app.key("creator", creator="ada"), "bo": app.key("creator", creator="bo"),
            "ines": app.key("operator", name="Ines"),
            "shop": app.key("app", name="shop"), "mall": app.key("app", name="mall"),
        }  # fmt: skip

    async def __call__(self, who, method, path, body=None):
        return await self._client.request(method, f"/api/{path}", json=body, headers=self._keys[who])


@pytest.fixture
async def people(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        yield People(app)


async def test_a_creator_chooses_her_name_and_nobody_elses(people):
    told = await people("ada", "PUT", "creators/me/name", {"name": "A. S."})
    assert told.json()["shown"] == "A. S."
    await people.running.registry.refresh()
    assert people.running.credit_of(people.hers).creators == ("A. S.",)
    assert (await people("bo", "PUT", "creators/ada/name", {"name": "B"})).status_code == 404
    assert (await people("bo", "PUT", "creators/me/name", {"name": "a. s."})).status_code == 409
    assert (await people("ines", "PUT", "creators/ada/name", {"name": ""})).json()["shown"] == "ada"
    assert (await people("shop", "PUT", "creators/ada/name", {"name": "X"})).status_code == 403


async def test_a_creator_is_given_all_that_is_held_on_her(people):
    answer = await people("ada", "GET", "creators/me/export")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read(f"texts/{people.hers}.txt").decode() == "a text of hers"
        assert [row["ref"] for row in json.loads(archive.read("creator.json"))] == ["ada"]
    assert (await people("bo", "GET", "creators/ada/export")).status_code == 404
    assert (await people("ines", "GET", "creators/ada/export")).status_code == 200


async def test_only_an_operator_erases_and_the_credit_is_gone_at_the_next_look(people):
    for who in ("ada", "shop"):
        assert (await people(who, "DELETE", "creators/ada")).status_code == 403
        assert (await people(who, "DELETE", f"works/{people.hers}/text")).status_code == 403
    assert (await people("ines", "DELETE", f"works/{people.hers}/text")).json()["changed"]
    await people.running.registry.refresh()
    assert people.running.credit_of(people.hers) is None
    told = (await people("ines", "DELETE", "creators/bo")).json()
    assert (told["changed"], len(told["works"])) == (True, 1)
    assert "index build" in told["remedy"]
    assert (await people("ines", "DELETE", "creators/%00")).status_code == 404
    await people.running.keyring.refresh()
    assert (await people("bo", "GET", "creators/me/export")).status_code == 401


async def test_an_app_asks_about_its_own_users_only(people):
    ids = {name: app for app, name in app_names(people.running.engine).items()}
    digest = subject_digest(SubjectKeys(people.running.settings.data_dir).key(ids["shop"], 0), "user-7")
    event = make_event(1, (Line(people.hers, 400_000),), app_id=ids["shop"], subject_digest=digest, images=2)
    meter(people.running.engine, [event])
    found = (await people("shop", "POST", "users/export", {"subject": "user-7"})).json()["items"]
    assert [(one["id"], one["images"], one["milliseconds"]) for one in found] == [(event.id, 2, 0)]
    assert (await people("mall", "POST", "users/export", {"subject": "user-7"})).json()["items"] == []
    assert (await people("ines", "POST", "users/export", {"subject": "user-7"})).status_code == 400
    asked = {"subject": "user-7", "app": "shop"}
    assert len((await people("ines", "POST", "users/export", asked)).json()["items"]) == 1
    assert (await people("mall", "POST", "users/erase", {"subject": "user-7"})).json()["answers"] == 0
    assert (await people("shop", "POST", "users/erase", {"subject": "user-7"})).json()["answers"] == 1
    assert (await people("ines", "POST", "users/export", asked)).json()["items"] == []
    assert (await people("ada", "POST", "users/erase", {"subject": "user-7"})).status_code == 403
    assert (await people("shop", "POST", "users/erase", {"subject": ""})).status_code == 400

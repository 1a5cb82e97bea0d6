import pytest

from tests.live import live, settings_in

pytestmark = pytest.mark.anyio


async def test_an_operator_names_addresses_and_sees_what_came_of_it(tmp_path):
    async with live(settings_in(tmp_path / "data")) as app:
        operator, other = app.key("operator", name="Ines"), app.key()

        async def ask(method, path="", body=None, key=operator):
            return await app.client.request(method, f"/api/webhooks{path}", json=body, headers=key)

        made = (await ask("POST", body={"url": "https://hooks.example/in"})).json()
        assert made["secret"].startswith("whsec_")
        (listed,) = (await ask("GET")).json()["items"]
        assert (listed["id"], listed["by"]) == (made["id"], "Ines")
        assert "secret" not in listed
        assert (await ask("POST", body={"url": "https://10.0.0.1/"})).status_code == 400
        assert (
            await ask("POST", body={"url": "https://a.example/", "events": ["everything"]})
        ).status_code == 400
        assert (await ask("GET", "/messages")).json() == {"items": [], "next_cursor": None}
        assert (await ask("GET", "/messages?cursor=rubbish")).status_code == 400
        assert (await ask("DELETE", f"/{made['id']}")).json()["changed"]
        assert (await ask("DELETE", "/%00")).status_code == 404
        for method in ("GET", "POST"):
            assert (await ask(method, body={"url": "https://a.example/"}, key=other)).status_code == 403

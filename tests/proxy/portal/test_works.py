"""Works over HTTP: a creator's own, as the command line has them."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.portal import HOST, portal

pytestmark = pytest.mark.anyio


class Api:
    """Asks with one person's key."""

    def __init__(self, there, key):
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(there.app),
            base_url=HOST,
            headers={"authorization": f"Bearer {key}"},
        )

    async def __call__(self, method, path, **more):
        return await self.client.request(method, f"/api/works{path}", **more)


async def test_a_script_does_what_the_pages_do(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        ada = Api(there, there.key("creator", creator="ada")[1])
        files = [("files", (f"{n}.txt", f"text number {n} of mine", "text/plain")) for n in range(3)]
        added = (await ada("POST", "", files=files)).json()["items"]
        assert [one["status"] for one in added] == ["added"] * 3
        first = (await ada("GET", "", params={"limit": 2})).json()
        rest = (await ada("GET", "", params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [one["ref"] for one in first["items"] + rest["items"]] == ["0.txt", "1.txt", "2.txt"]
        assert rest["next_cursor"] is None
        work = first["items"][0]["id"]
        said = {"use": "output_influence", "verdict": "denied"}
        assert (await ada("POST", f"/{work}/consents", json=said)).json()["verdict"] == "denied"
        shown = (await ada("GET", f"/{work}")).json()
        assert shown["consents"] == {"output_influence": "denied"}
        assert shown["split"] == [{"party": shown["creator"], "name": "Ada", "ppm": 1_000_000}]
        assert [(await ada("POST", f"/{work}/withdraw")).json()["changed"] for _ in range(2)] == [True, False]


async def test_nobody_reaches_the_works_of_another(tmp_path):
    async with portal(tmp_path) as there:
        (hers,) = there.register("a text of hers")
        there.register("a text of his", creator="bo")
        bo, shop = (Api(there, there.key(*who, **more)[1]) for who, more in (
            (("creator",), {"creator": "bo"}), (("app",), {"name": "shop"})))  # fmt: skip
        for method, path, more in (
            ("GET", f"/{hers}", {}),
            ("POST", f"/{hers}/withdraw", {}),
            ("POST", f"/{hers}/consents", {"json": {"use": "output_influence", "verdict": "denied"}}),
        ):
            assert (await bo(method, path, **more)).status_code == 404
            assert (await shop(method, path, **more)).status_code == 403
        found = (await bo("GET", "", params={"creator": "ada"})).json()["items"]
        assert [one["creator_ref"] for one in found] == ["bo"]


async def test_an_operator_reads_all_and_uploads_for_nobody(tmp_path):
    async with portal(tmp_path) as there:
        there.register("a text of hers")
        there.register("a text of his", creator="bo")
        ines = Api(there, there.key("operator", name="Ines")[1])
        assert len((await ines("GET", "")).json()["items"]) == 2
        assert len((await ines("GET", "", params={"creator": "ada"})).json()["items"]) == 1
        refused = await ines("POST", "", files=[("files", ("a.txt", "text", "text/plain"))])
        assert refused.status_code == 400


async def test_what_is_no_upload_is_refused(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        ada = Api(there, there.key("creator", creator="ada")[1])
        assert (await ada("POST", "", data={"files": "words"})).json()["code"] == "no_files"
        many = [("files", (f"{n}.txt", "text", "text/plain")) for n in range(201)]
        assert (await ada("POST", "", files=many)).status_code == 400
        for names in (("\N{CJK UNIFIED IDEOGRAPH-6F22}" * 100 + ".txt",), ("a/same.txt", "b/same.txt")):
            wrong = [("files", (name, f"the text of {name}", "text/plain")) for name in names]
            assert (await ada("POST", "", files=wrong)).json()["code"] == "file_name"
        assert (await ada("GET", "")).json()["items"] == []
        said = {"use": "everything", "verdict": "paid"}
        assert (await ada("POST", "/w_none/consents", json=said)).status_code == 404


async def test_nobody_uploads_a_copy_past_its_original_by_a_licence_of_their_own_making(tmp_path):
    async with portal(tmp_path) as there:
        (his,) = there.register("a text of his", creator="bo")
        there.catalogue.add_creator("Ada", ref="ada")
        ada = Api(there, there.key("creator", creator="ada")[1])
        row = {"work_id": "copy", "text": "a text of his, told by me", "adapts": f"{his}:0"}
        sent = [("files", ("list.jsonl", json.dumps(row), "application/json"))]
        (refused,) = (await ada("POST", "", files=sent)).json()["items"]
        assert (refused["status"], refused["ref"]) == ("refused", "copy")
        assert "licence" in refused["why"]


async def test_a_creator_says_what_her_work_comes_from_and_the_other_reads_and_ends_it(tmp_path):
    async with portal(tmp_path) as there:
        his, other = there.register("a long text of his", "another of his", creator="bo", title="Lied")
        (hers,) = there.register("a text of hers", title="Song")
        ada, bo, ines = (
            Api(there, there.key(*who, **more)[1])
            for who, more in (
                (("creator",), {"creator": "ada"}),
                (("creator",), {"creator": "bo"}),
                (("operator",), {"name": "Ines"}),
            )
        )
        said = {"kind": "translation_of", "of": his}
        assert (await bo("POST", f"/{hers}/links", json=said)).status_code == 404
        assert (await ada("POST", f"/{hers}/links", json={"kind": "cover_of", "of": his})).status_code == 400
        by_ref = {"kind": "translation_of", "of": "bo-0"}
        assert (await ada("POST", f"/{hers}/links", json=by_ref)).status_code == 404
        assert [(await ada("POST", f"/{hers}/links", json=said)).json()["changed"] for _ in range(2)] == [
            True,
            False,
        ]
        assert (await bo("POST", f"/{other}/links", json={"kind": "excerpt_of", "of": "bo-0"})).json()[
            "of"
        ] == his
        (link,) = (await ada("GET", f"/{hers}")).json()["links"]
        assert (link["kind"], link["work"], link["title"], link["own"]) == (
            "translation_of",
            his,
            "Lied 0",
            False,
        )
        linked = (await bo("GET", f"/{his}")).json()["linked_by"]
        assert [(one["kind"], one["work"], one["own"]) for one in linked] == [
            ("excerpt_of", other, True),
            ("translation_of", hers, False),
        ]
        assert (await ines("GET", f"/{hers}")).json()["links"][0]["by"] == there.catalogue.creator("ada").id
        assert (await bo("POST", f"/{hers}/unlink", json={"of": his})).json()["changed"]
        again = await ada("POST", f"/{hers}/links", json=said)
        assert (again.status_code, again.json()["code"]) == (409, "link_ended")
        assert (await ines("POST", f"/{hers}/links", json=said)).json()["changed"]


async def test_an_upload_links_to_ones_own_by_ref_and_to_others_by_id_alone(tmp_path):
    async with portal(tmp_path) as there:
        (his,) = there.register("a text of his", creator="bo")
        there.catalogue.add_creator("Ada", ref="ada")
        ada = Api(there, there.key("creator", creator="ada")[1])
        rows = [
            {"work_id": "song", "text": "a song of hers", "translation_of": his},
            {"work_id": "tape", "text": "a tape of it", "recording_of": ["song"]},
            {"work_id": "guess", "text": "a guess", "translation_of": "bo-0"},
        ]
        listed = "".join(json.dumps(row) + "\n" for row in rows)
        sent = [("files", ("list.jsonl", listed, "application/json"))]
        song, tape, guess = (await ada("POST", "", files=sent)).json()["items"]
        assert (guess["status"], guess["why"]) == ("refused", "there is no work 'bo-0'")
        (link,) = (await ada("GET", f"/{tape['work_id']}")).json()["links"]
        assert (link["work"], link["own"]) == (song["work_id"], True)
        assert (await ada("GET", f"/{song['work_id']}")).json()["links"][0]["work"] == his

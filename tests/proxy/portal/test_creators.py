"""A creator's pages: what is theirs is shown and done, and nothing else."""

from __future__ import annotations

import pytest
from sqlalchemy import event as sa_event

from proxy.billing.daily_store import DailyUses
from proxy.billing.prices import load
from proxy.billing.proving import Prover
from proxy.billing.run import close_period
from proxy.clock import SystemClock
from proxy.metering.usage import Line
from proxy.receipts.verify import Keys, check_file, check_uses
from tests.portal import portal
from tests.proxy.billing.conftest import make_event, meter

pytestmark = pytest.mark.anyio
PRICE = 200 * 10**9
NASTY = "<script>alert(1)</script>\"'"


def earn(there, works, prover=None) -> None:
    """Meter an answer that draws on these works, and close its month."""
    engine = there.running.engine
    meter(engine, [make_event(1, tuple(Line(work, 400_000) for work in works), price_grains=PRICE)])
    billing = there.running.settings.billing
    now_us = SystemClock().now_us()
    close_period(engine, "2026-11", billing, load(), dry_run=False, now_us=now_us, prover=prover)


async def two(there):
    """Ada and Bo with a work each, an earned month, and a browser each."""
    hers, his = there.register("a text of hers")[0], there.register("a text of his", creator="bo")[0]
    earn(there, [hers, his])
    ada = await there.browser(there.key("creator", creator="ada")[1])
    bo = await there.browser(there.key("creator", creator="bo")[1])
    return hers, his, ada, bo


def statement_of(page) -> str:
    return page.text.split('href="/portal/statements/')[1].split('"')[0]


async def test_an_empty_place_teaches(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        ada = await there.browser(there.key("creator", creator="ada")[1])
        for path, said in {
            "/portal/": "Put your first work in",
            "/portal/works": "Nothing of yours is here yet",
            "/portal/statements": "No statement yet",
            "/portal/money": "Nothing was paid yet",
            "/portal/matters": "No dispute",
        }.items():
            page = await ada.get(path)
            assert page.status_code == 200, path
            assert said in page.text, path


async def test_a_creator_reads_what_was_used_and_earned(tmp_path):
    async with portal(tmp_path) as there:
        _, _, ada, _ = await two(there)
        home = await ada.get("/portal/")
        assert "$24.00" in home.text
        page = await ada.get(f"/portal/statements/{statement_of(home)}")
        assert "November 2026" in page.text
        assert "Work 0" in page.text
        for suffix in ("json", "csv", "tsv", "distributor.tsv", "html"):
            document = await ada.get(f"/portal/statements/{statement_of(home)}.{suffix}")
            assert document.status_code == 200, suffix
            assert document.headers["x-content-type-options"] == "nosniff"
        german = await ada.get("/portal/", headers={"accept-language": "de-DE"})
        assert "24,00" in german.text
        assert "before statements were signed" in page.text


async def test_a_creator_takes_home_a_signed_statement_and_the_receipts_behind_it(tmp_path):
    async with portal(tmp_path) as there:
        hers, his = there.register("a text of hers")[0], there.register("a text of his", creator="bo")[0]
        earn(there, [hers, his], Prover(there.running.engine, there.running.issuer))
        ada = await there.browser(there.key("creator", creator="ada")[1])
        bo = await there.browser(there.key("creator", creator="bo")[1])
        name = statement_of(await ada.get("/portal/"))
        page = await ada.get(f"/portal/statements/{name}")
        assert f"/portal/statements/{name}.signed.json" in page.text
        shown = await ada.get(f"/portal/statements/{name}.signed.json")
        behind = await ada.get(f"/portal/statements/{name}.uses.jsonl")
        keys = Keys.parse((await ada.get("/.well-known/endcredits.json")).content)
        assert check_file(shown.content, keys)[0].startswith("signed: ")
        rows = behind.content.splitlines(keepends=True)
        assert check_uses(rows, shown.content, keys)[0].startswith("uses: the receipts of 1 ")
        for suffix in ("signed.json", "uses.jsonl"):
            assert (await bo.get(f"/portal/statements/{name}.{suffix}")).status_code == 404


async def test_a_comment_a_dispute_and_its_end(tmp_path):
    async with portal(tmp_path) as there:
        _, _, ada, _ = await two(there)
        name = statement_of(await ada.get("/portal/"))
        await ada.get(f"/portal/statements/{name}")
        said = await ada.post(f"/portal/statements/{name}/comments", {"text": NASTY})
        page = await ada.get(said.headers["location"])
        assert "&lt;script&gt;" in page.text
        assert "<script>alert" not in page.text
        opened = await ada.post(f"/portal/statements/{name}/disputes", {"reason": NASTY})
        place = opened.headers["location"].partition("?")[0]
        page = await ada.get(opened.headers["location"])
        assert "$24.00" in page.text
        assert "<script>alert" not in page.text
        assert "Take it back" in page.text
        back = await ada.post(f"{place}/withdraw", {"reason": "It was right."})
        assert "took the dispute back" in (await ada.get(back.headers["location"])).text


async def test_works_go_in_file_by_file_and_each_is_answered_for(tmp_path):
    async with portal(tmp_path) as there:
        there.catalogue.add_creator("Ada", ref="ada")
        there.catalogue.add_creator("Bo", ref="bo")
        ada = await there.browser(there.key("creator", creator="ada")[1])
        await ada.get("/portal/works")
        rows = (
            '{"work_id": "1", "title": "Mine", "text": "a song of mine and mine alone"}\n'
            '{"work_id": "2", "creator_id": "bo", "title": "His", "text": "a song of his"}\n'
            '{"work_id": "3", "title": "Old", "text": "another song", "registered_at": "1999-01-01T00:00:00Z"}\n'
        )
        files = [
            ("files", ("ferry.txt", "The ferry left at noon, and nobody waved.", "text/plain")),
            ("files", ("../../etc/evil.txt", "A path that goes elsewhere is only a name.", "text/plain")),
            ("files", ("picture.exe", b"MZ\x00\x01", "application/octet-stream")),
            ("files", ("list.jsonl", rows, "application/jsonl")),
        ]
        refused = await ada.post("/portal/works", files=files)
        assert refused.status_code == 400
        assert "tick the box" in refused.text
        page = await ada.post("/portal/works", {"attest": "yes", "consent": "free"}, files=files)
        assert page.status_code == 200
        assert page.text.count(">In<") == 4
        assert page.text.count(">Refused<") == 2
        assert "who is not you" in page.text
        works = there.catalogue.works(creator="ada")
        assert sorted(one.ref for one in works) == ["1", "3", "evil.txt", "ferry.txt"]
        assert there.catalogue.works(creator="bo") == []
        now_us = SystemClock().now_us()
        assert all(one.registered_us > now_us - 60_000_000 for one in works)
        assert {one.verdict for one in works if one.ref.endswith(".txt")} == {"free"}
        attested = {one.attested_by for work in works for one in attestations(there, work.id)}
        assert attested == {works[0].creator_id}
        again = await ada.post("/portal/works", {"attest": "yes"}, files=files[:1])
        assert "Was here already" in again.text


def attestations(there, work):
    from proxy.catalogue.ownership_store import Ownership
    from proxy.clock import RandomIds

    return Ownership(there.running.engine, clock=SystemClock(), ids=RandomIds()).attestations(work)


async def test_what_is_allowed_is_kept_where_it_changed_and_a_work_is_withdrawn_for_ever(tmp_path):
    async with portal(tmp_path) as there:
        (hers,) = there.register("a text of hers")
        ada = await there.browser(there.key("creator", creator="ada")[1])
        await ada.get(f"/portal/works/{hers}")
        form = {"output_influence": "denied", "excerpt_display": "free", "train_gen": ""}
        done = [await ada.post(f"/portal/works/{hers}/consents", form) for _ in range(2)]
        assert [one.status_code for one in done] == [303, 303]
        said = [(one.use, one.verdict) for one in there.catalogue.consents(hers)]
        assert said == [("output_influence", "denied"), ("excerpt_display", "free")]
        assert "Not allowed" in (await ada.get("/portal/works")).text
        wrong = await ada.post(f"/portal/works/{hers}/consents", {"output_influence": "maybe"})
        assert wrong.status_code == 400
        assert (await ada.post(f"/portal/works/{hers}/withdraw")).status_code == 400
        assert there.catalogue.find_work(hers).status == "active"
        gone = await ada.post(f"/portal/works/{hers}/withdraw", {"sure": "yes"})
        assert "is withdrawn" in (await ada.get(gone.headers["location"])).text
        assert there.catalogue.find_work(hers).status == "withdrawn"


async def test_a_claim_is_made_by_oneself_and_for_oneself(tmp_path):
    async with portal(tmp_path) as there:
        _, his, ada, bo = await two(there)
        page = await ada.get("/portal/matters", params={"work": NASTY})
        assert "<script>alert" not in page.text
        form = {
            "work": his,
            "basis": "I sang it in 1999.",
            "evidence": "https://a.example/1 https://a.example/2",
        }
        made = await ada.post("/portal/claims", form)
        assert "I sang it in 1999." in (await ada.get(made.headers["location"])).text
        assert "I sang it" not in (await bo.get("/portal/matters")).text
        assert (
            await ada.post("/portal/claims", form | {"evidence": "javascript:alert(1)"})
        ).status_code == 400


async def test_what_is_not_hers_is_like_what_does_not_exist(tmp_path):
    async with portal(tmp_path) as there:
        hers, _, ada, bo = await two(there)
        name = statement_of(await ada.get("/portal/"))
        await ada.get(f"/portal/statements/{name}")
        opened = await ada.post(f"/portal/statements/{name}/disputes", {"reason": "Wrong."})
        case = opened.headers["location"].partition("?")[0]
        seen = {"get": [], "post": []}
        for mine, nobodys in (
            (f"/portal/works/{hers}", "/portal/works/w_nobody"),
            (f"/portal/statements/{name}", "/portal/statements/st_nobody"),
            (f"/portal/statements/{name}.csv", "/portal/statements/st_nobody.csv"),
            (case, "/portal/matters/dsp_nobody"),
        ):
            seen["get"] += [(await bo.get(mine)).status_code, (await bo.get(nobodys)).status_code]
        await bo.get("/portal/works")
        for path, form in (
            (f"/portal/works/{hers}/consents", {"output_influence": "denied"}),
            (f"/portal/works/{hers}/withdraw", {"sure": "yes"}),
            (f"/portal/statements/{name}/comments", {"text": "mine now"}),
            (f"/portal/statements/{name}/disputes", {"reason": "mine now"}),
            (f"{case}/answer", {"text": "mine now"}),
            (f"{case}/withdraw", {"reason": "mine now"}),
        ):
            seen["post"].append((await bo.post(path, form)).status_code)
        assert set(seen["get"]) == {404}
        assert set(seen["post"]) == {404}
        assert there.catalogue.find_work(hers).status == "active"


async def test_pages_ask_the_store_a_bounded_number_of_times(tmp_path):
    async with portal(tmp_path) as there:
        there.register(*[f"text number {n} of hers" for n in range(60)])
        ada = await there.browser(there.key("creator", creator="ada")[1])
        asked: list[str] = []
        sa_event.listen(there.running.engine, "before_cursor_execute", lambda *what: asked.append(what[2]))
        for path in ("/portal/", "/portal/works", "/portal/statements", "/portal/money", "/portal/matters"):
            asked.clear()
            await ada.get(path)
            assert len(asked) < 40, (path, len(asked))
        page = await ada.get("/portal/works")
        following = page.text.split('href="/portal/works?after=')[1].split('"')[0]
        assert "Work 59" in (await ada.get(f"/portal/works?after={following}")).text


async def test_what_used_her_works_is_a_picture_and_a_table(tmp_path):
    async with portal(tmp_path) as there:
        hers, his = there.register(NASTY, title=NASTY)[0], there.register("a text of his", creator="bo")[0]
        now_us = SystemClock().now_us()
        meter(there.running.engine, [
            make_event(n, (Line(work, 400_000),), occurred_us=now_us, app_id=NASTY, model=NASTY)
            for n, work in enumerate((hers, hers, his))
        ])  # fmt: skip
        ada = await there.browser(there.key("creator", creator="ada")[1])
        assert "Nothing has used your works" in (await ada.get("/portal/uses")).text
        DailyUses(there.running.engine).step()
        page = await ada.get("/portal/uses?span=7")
        assert 'data-y="2"' in page.text
        assert "<script>alert" not in page.text
        assert (await ada.get("/portal/uses?span=-5")).status_code == 200

import zlib

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from proxy.catalogue.identifiers import parse
from proxy.catalogue.ownership import OWN_STATEMENT, Held, statement_sha256
from proxy.catalogue.ownership_store import CLAIMS_OF_ONE_MAX, CLAIMS_OPEN_MAX, Ownership
from proxy.catalogue.store import Catalogue
from proxy.catalogue.tables import metadata
from proxy.catalogue.works import COMMONS, UNCLAIMED, Adapted, Consent, NewWork, Part, Split
from proxy.database import open_engine, upgrade
from proxy.errors import BadRequest, Conflict, Forbidden, NotFound
from tests.repository import ROOT
from tests.stores import lay

ISBN, OTHER_ISBN = parse("isbn:9780306406157"), parse("isbn:080442957X")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request, tmp_path):
    """Every promise of this file is one on both engines."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def ownership(engine, clock, ids):
    return Ownership(engine, clock=clock, ids=ids)


@pytest.fixture
def lamp(catalogue, new_work):
    """A work that Ada registered; Bo and Cy are known."""
    (outcome,) = catalogue.add_works([new_work("lamp")])
    for name in ("bo", "cy"):
        catalogue.add_creator(name, ref=name)
    return outcome.work_id


def own(catalogue, work):
    return catalogue.find_work(work).creator_ref


def indexed(catalogue, work):
    return next(text for text in catalogue.texts() if text.work_id == work)


# Attestations and the commons


def test_every_registration_keeps_what_was_attested_and_by_whom(catalogue, ownership, new_work, lamp):
    (ours,) = ownership.attestations(lamp)
    ada = catalogue.creator("ada").id
    assert (ours.attested_by, ours.on_behalf_of, ours.statement) == ("operator", ada, OWN_STATEMENT)
    assert ours.statement_sha256 == statement_sha256(OWN_STATEMENT)
    assert ours.text_sha256 == catalogue.find_work(lamp).text_sha256
    assert ours.seq == catalogue.find_work(lamp).registered_seq
    (outcome,) = catalogue.add_works([new_work("moth")], creators_attest=True)
    (theirs,) = ownership.attestations(outcome.work_id)
    assert theirs.attested_by == theirs.on_behalf_of == ada


def test_a_second_run_attests_nothing_twice(catalogue, ownership, new_work, lamp):
    list(catalogue.add_works([new_work("lamp")], creators_attest=True))
    assert len(ownership.attestations(lamp)) == 1


def test_the_commons_is_nobody_and_earns_nobody(catalogue, ownership, new_work):
    (psalm,) = catalogue.add_works([NewWork("psalm", COMMONS, "Psalm", "The psalm.", registered_us=1)])
    entry = catalogue.find_work(psalm.work_id)
    assert (entry.creator_id, entry.commons, entry.verdict) == (COMMONS, True, "free")
    assert catalogue.snapshot().credit(psalm.work_id).verdict == "free"
    catalogue.set_consent(psalm.work_id, Consent.of("output_influence", "paid"))
    assert catalogue.snapshot().credit(psalm.work_id).verdict == "free"
    text = indexed(catalogue, psalm.work_id)
    assert (text.commons, text.registered_us, text.standing) == (True, 1, 0)
    assert ownership.attestations(psalm.work_id)[0].statement == "commons/1"
    assert catalogue.creators() == []
    with pytest.raises(Conflict):
        catalogue.set_split(psalm.work_id, Split((Part(UNCLAIMED, 1_000_000),)))


def test_nobody_can_be_given_a_part_of_a_work():
    for party in (COMMONS, "~other"):
        with pytest.raises(BadRequest):
            Split((Part(party, 1_000_000),))


# Identifiers


def test_a_verified_identifier_gives_standing_until_it_is_revoked(catalogue, ownership, lamp):
    assert indexed(catalogue, lamp).standing == 0
    assert ownership.verify(lamp, ISBN, "seen on the title page")
    assert not ownership.verify(lamp, ISBN)
    assert indexed(catalogue, lamp).standing == catalogue.find_work(lamp).standing == 1
    assert [known.identifier for known in ownership.identifiers(lamp)] == ["isbn:9780306406157"]
    assert ownership.revoke(lamp, ISBN, "of another edition")
    assert not ownership.revoke(lamp, ISBN)
    assert indexed(catalogue, lamp).standing == 0
    assert ownership.verify(lamp, ISBN)
    assert indexed(catalogue, lamp).standing == 1


def test_an_identifier_speaks_for_one_creator_only(catalogue, ownership, new_work, lamp):
    outcomes = catalogue.add_works([new_work("copy", creator="bo"), new_work("chapter")])
    copy, chapter = [outcome.work_id for outcome in outcomes]
    ownership.verify(lamp, ISBN)
    with pytest.raises(Conflict, match=lamp) as refused:
        ownership.verify(copy, ISBN)
    assert refused.value.remedy
    assert ownership.verify(chapter, ISBN), "chapters of one book share its number"
    assert ownership.verify(copy, OTHER_ISBN)
    with pytest.raises(NotFound):
        ownership.verify("w_nowhere", ISBN)


# Claims


def test_an_upheld_claim_moves_the_work_and_its_money_from_the_decision_on(catalogue, ownership, lamp):
    bo = catalogue.creator("bo").id
    claim = ownership.open_claim(lamp, "bo", "Printed in 1999.", ["https://bo.example/lamp"])
    assert (claim.state, claim.claimant, claim.evidence) == ("open", bo, ("https://bo.example/lamp",))
    assert own(catalogue, lamp) == "ada", "a claim alone changes nothing"
    decided = ownership.decide_claim(claim.id, "upheld", "The printed copy shows it.")
    assert (decided.state, decided.reason, decided.decided_by) == (
        "upheld", "The printed copy shows it.", "operator",
    )  # fmt: skip
    assert ownership.claim(claim.id) == decided
    before, after = (
        catalogue.splits_as_of(decided.decided_seq - 1),
        catalogue.splits_as_of(decided.decided_seq),
    )
    assert before[lamp] == ((catalogue.creator("ada").id, 1_000_000),)
    assert after[lamp] == ((bo, 1_000_000),)
    entry = catalogue.find_work(lamp)
    assert (entry.creator_ref, entry.registrant_id, entry.standing) == ("bo", catalogue.creator("ada").id, 2)
    assert catalogue.snapshot().credit(lamp).creators == ("bo",)
    assert [work.id for work in catalogue.works(creator="bo")] == [lamp]
    assert catalogue.works(creator="ada") == []
    text = indexed(catalogue, lamp)
    assert (text.creator_id, text.standing) == (bo, 2)


def test_an_upheld_claim_replaces_whatever_split_there_was(catalogue, ownership, new_work, lamp):
    split = Split((Part("ada", 600_000), Part(UNCLAIMED, 400_000)))
    (outcome,) = catalogue.add_works([new_work("duet", split=split)])
    claim = ownership.open_claim(outcome.work_id, "bo", "Mine.")
    seq = ownership.decide_claim(claim.id, "upheld", "Yes.").decided_seq
    assert catalogue.splits_as_of(seq)[outcome.work_id] == ((catalogue.creator("bo").id, 1_000_000),)


def test_a_rejected_or_withdrawn_claim_changes_nothing(catalogue, ownership, lamp):
    for outcome in ("rejected", "withdrawn"):
        claim = ownership.open_claim(lamp, "bo", "Mine.")
        ownership.decide_claim(claim.id, outcome, "No.")
        entry = catalogue.find_work(lamp)
        assert (entry.creator_ref, entry.standing) == ("ada", 0)
    assert [claim.state for claim in ownership.claims(work_id=lamp)] == ["rejected", "withdrawn"]


def test_a_claim_is_decided_once(ownership, lamp):
    claim = ownership.open_claim(lamp, "bo", "Mine.")
    ownership.decide_claim(claim.id, "rejected", "No.")
    with pytest.raises(Conflict, match="rejected") as refused:
        ownership.decide_claim(claim.id, "upheld", "Or yes?")
    assert "new claim" in refused.value.remedy
    with pytest.raises(NotFound):
        ownership.decide_claim("clm_nowhere", "upheld", "x")


def test_two_may_claim_one_work_and_the_last_upheld_claim_holds(catalogue, ownership, lamp):
    first, second = ownership.open_claim(lamp, "bo", "Mine."), ownership.open_claim(lamp, "cy", "No, mine.")
    assert len(ownership.claims(open_only=True)) == 2
    with pytest.raises(Conflict, match=first.id):
        ownership.open_claim(lamp, "bo", "Mine, I say.")
    ownership.decide_claim(first.id, "upheld", "Bo it is.")
    assert own(catalogue, lamp) == "bo"
    assert [claim.id for claim in ownership.claims(open_only=True)] == [second.id]
    ownership.decide_claim(second.id, "upheld", "Cy had it before Bo.")
    assert own(catalogue, lamp) == "cy"
    back = ownership.open_claim(lamp, "ada", "It was mine all along.")
    ownership.decide_claim(back.id, "upheld", "She has the manuscript.")
    assert own(catalogue, lamp) == "ada"
    assert catalogue.find_work(lamp).standing == 2


def test_nobody_claims_what_is_theirs_or_for_nobody(ownership, lamp):
    with pytest.raises(Conflict, match="already"):
        ownership.open_claim(lamp, "ada", "Mine.")
    for stranger in ("nobody", COMMONS):
        with pytest.raises(NotFound):
            ownership.open_claim(lamp, stranger, "Mine.")
    with pytest.raises(NotFound):
        ownership.open_claim("w_nowhere", "bo", "Mine.")
    with pytest.raises(BadRequest):
        ownership.open_claim(lamp, "bo", "\x1b")


def test_a_flood_of_claims_on_one_work_is_stopped(catalogue, ownership, lamp):
    for number in range(CLAIMS_OPEN_MAX):
        catalogue.add_creator(f"Puppet {number}", ref=f"p{number}")
        ownership.open_claim(lamp, f"p{number}", "Mine.")
    with pytest.raises(Conflict, match=f"{CLAIMS_OPEN_MAX} claims"):
        ownership.open_claim(lamp, "bo", "Mine.")


def test_nobody_holds_up_everybodys_money_by_claims(engine, catalogue, ownership, new_work, clock, ids, lamp):
    works = [one.work_id for one in catalogue.add_works(new_work(f"w{n}") for n in range(CLAIMS_OF_ONE_MAX))]
    bo = Ownership(engine, clock=clock, ids=ids, creator=catalogue.creator("bo").id)
    claims = [bo.open_claim(work, "bo", "Mine.") for work in works]
    with pytest.raises(Conflict, match=f"{CLAIMS_OF_ONE_MAX} claims of yours"):
        bo.open_claim(lamp, "bo", "Mine.")
    assert bo.open_claim(works[0], "bo", "Mine.") == claims[0]
    ownership.decide_claim(claims[0].id, "rejected", "It is hers.")
    bo.open_claim(lamp, "bo", "Mine.")
    assert ownership.open_claim(works[0], "bo", "All of it is his.").state == "open"


def test_a_commons_work_can_be_claimed_and_is_then_somebodys(catalogue, ownership, lamp):
    (psalm,) = catalogue.add_works([NewWork("psalm", COMMONS, "Psalm", "The psalm.")])
    claim = ownership.open_claim(psalm.work_id, "bo", "It is my translation.")
    ownership.decide_claim(claim.id, "upheld", "It is.")
    entry = catalogue.find_work(psalm.work_id)
    assert (entry.commons, entry.verdict, entry.creator_ref) == (False, "paid", "bo")
    assert not indexed(catalogue, psalm.work_id).commons


def test_a_creator_claims_for_themselves_only_and_decides_nothing(
    catalogue, ownership, engine, clock, ids, lamp
):
    bo = Ownership(engine, clock=clock, ids=ids, creator=catalogue.creator("bo").id)
    with pytest.raises(Forbidden):
        bo.open_claim(lamp, "cy", "Theirs.")
    mine, another = bo.open_claim(lamp, "bo", "Mine."), ownership.open_claim(lamp, "cy", "Mine.")
    for claim, outcome in ((mine, "upheld"), (mine, "rejected"), (another, "withdrawn"), (another, "upheld")):
        with pytest.raises(Forbidden):
            bo.decide_claim(claim.id, outcome, "So be it.")
    assert bo.decide_claim(mine.id, "withdrawn", "I was wrong.").decided_by == catalogue.creator("bo").id
    for ask in (
        lambda: bo.verify(lamp, ISBN), lambda: bo.revoke(lamp, ISBN), lambda: bo.review(lamp, "released"),
        lambda: bo.record_held([]),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            ask()


# The review queue


def test_the_queue_says_since_when_whatever_is_built_later(ownership, clock, lamp):
    held = {lamp: Held(lamp, "copy", "It copies another work.", "w_other", 912_000)}
    began = clock.now_us()
    ownership.record_held(held.values())
    clock.advance(60)
    ownership.record_held(held.values())
    (entry,) = ownership.queue(held, clock.now_us())
    assert (entry.since_us, entry.state, entry.held.part_ppm) == (began, "held", 912_000)
    ownership.record_held([])
    clock.advance(60)
    ownership.record_held(held.values())
    assert ownership.queue(held, 0)[0].since_us == clock.now_us(), "it was let go in between"


def test_a_decision_is_kept_with_who_and_why(catalogue, engine, clock, ids, lamp):
    ownership = Ownership(engine, clock=clock, ids=ids, by="Ines\x1b")
    held = {lamp: Held(lamp, "list", "It is a list.")}
    ownership.record_held(held.values())
    assert ownership.review(lamp, "upheld", "It is a list of\nkeywords.")
    assert not ownership.review(lamp, "upheld", "again")
    (entry,) = ownership.queue(held, 0)
    assert (entry.state, entry.said, entry.decided_by) == ("upheld", "It is a list of keywords.", "Ines")
    assert not indexed(catalogue, lamp).reviewed
    assert ownership.review(lamp, "released", "It is a poem.")
    assert indexed(catalogue, lamp).reviewed
    assert ownership.queue(held, 0)[0].state == "released"
    ownership.review(lamp, "upheld", "No, a list.")
    assert not indexed(catalogue, lamp).reviewed


def test_another_reason_to_hold_a_work_wants_another_look(ownership, lamp):
    ownership.record_held([Held(lamp, "list", "It is a list.")])
    ownership.review(lamp, "upheld", "It is one.")
    ownership.record_held([Held(lamp, "list", "It is a longer list.")])
    assert ownership.queue({lamp: Held(lamp, "list", "It is a list.")}, 0)[0].state == "upheld"
    ownership.record_held([Held(lamp, "copy", "half of it", "w_other", 500_000)])
    assert ownership.queue({lamp: Held(lamp, "copy", "half of it", "w_other", 500_000)}, 0)[0].state == "held"


def test_a_rebuild_is_due_after_what_changes_whom_an_index_credits(
    catalogue, ownership, clock, new_work, lamp
):
    built_us = clock.now_us()
    clock.advance(1)
    catalogue.set_consent(lamp, Consent.of("output_influence", "free"))
    ownership.record_held([Held(lamp, "list", "It is a list.")])
    claim = ownership.open_claim(lamp, "bo", "Mine.")
    assert ownership.rebuild_due(built_us) == 0
    ownership.verify(lamp, ISBN)
    ownership.decide_claim(claim.id, "upheld", "Yes.")
    ownership.review(lamp, "released")
    list(catalogue.add_works([new_work("more")]))
    assert ownership.rebuild_due(built_us) == 4
    assert ownership.rebuild_due(clock.now_us()) == 0


def test_a_running_server_hears_of_a_claim_with_its_next_look(catalogue, ownership, lamp):
    before = catalogue.snapshot()
    claim = ownership.open_claim(lamp, "bo", "Mine.")
    ownership.decide_claim(claim.id, "upheld", "Yes.")
    after = catalogue.snapshot(before)
    assert after.credit(lamp).creators == ("bo",)
    assert after == catalogue.snapshot()


def test_history_stays_as_it_was_written(engine, ownership, lamp):
    claim = ownership.open_claim(lamp, "bo", "Mine.")
    ownership.decide_claim(claim.id, "rejected", "No.")
    ownership.verify(lamp, ISBN)
    ownership.review(lamp, "upheld", "No.")
    for statement in (
        "UPDATE claim SET claimant = 'x'", "DELETE FROM claim_decision", "UPDATE attestation SET statement = 'x'",
        "DELETE FROM work_identifier", "UPDATE review SET reason = ''",
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(sa.text(statement))


# Stores that are older than all this


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def old_url(request, tmp_path):
    """A store of the version before: one work, which somebody had released from quarantine."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("empty_postgres_url")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "proxy" / "migrations"))
    config.attributes["url"] = url
    alembic.command.upgrade(config, "0003_billing")
    old = open_engine(url)
    event = {"seq": 1, "kind": "work_released", "work_id": "w_1", "payload_sha256": "", "actor": "operator"}
    work = {
        "id": "w_1", "ref": "a", "creator_id": "c_1", "title": "A", "medium": "text", "text_sha256": "",
        "text_bytes": 3, "licence": "", "url": "", "registered_us": 0, "registered_seq": 1, "status": "active",
    }  # fmt: skip
    rows = {
        "creator": {"id": "c_1", "ref": "ada", "name": "Ada", "country": "", "created_us": 0},
        "work": work,
        "work_text": {"work_id": "w_1", "text_zlib": zlib.compress(b"Old")},
        "registry_event": event | {"at_us": 0},
    }
    with old.begin() as connection:
        for table, row in rows.items():
            connection.execute(sa.insert(metadata.tables[table]), [row])
    old.dispose()
    return url


def test_an_older_store_keeps_what_was_decided_and_has_nothing_attested(old_url, clock, ids):
    upgrade(old_url)
    engine = open_engine(old_url)
    catalogue, ownership = (kind(engine, clock=clock, ids=ids) for kind in (Catalogue, Ownership))
    (text,) = catalogue.texts()
    assert (text.creator_id, text.reviewed, text.standing, text.commons) == ("c_1", True, 0, False)
    assert ownership.attestations("w_1") == ownership.identifiers("w_1") == ownership.claims() == []
    assert ownership.queue({"w_1": Held("w_1", "list")}, 7)[0].since_us == 7
    assert not ownership.review("w_1", "released"), "it is released already"
    assert [creator.ref for creator in catalogue.creators()] == ["ada"]
    assert catalogue.creator(COMMONS).name == "The commons"
    engine.dispose()


@pytest.fixture
def retold(catalogue, new_work, lamp):
    (outcome,) = catalogue.add_works([new_work("retold", creator="bo", adapts=(Adapted("lamp", 300_000),))])
    return outcome.work_id


def allowed(catalogue):
    return {text.work_id: text.adapts for text in catalogue.texts() if text.adapts}


def test_a_list_states_what_a_work_adapts_and_the_index_hears_of_it(catalogue, ownership, lamp, retold):
    assert ownership.adapts(retold) == (Adapted(lamp, 300_000),)
    assert ownership.adapted_by(lamp) == (retold,)
    assert allowed(catalogue) == {retold: (lamp,)}


def test_an_adaptation_may_stand_below_its_original_in_one_list(catalogue, ownership, new_work):
    rows = [new_work("tale"), new_work("play", creator="bo", adapts=(Adapted("tale", 5),))]
    rows.append(new_work("film", creator="cy", adapts=(Adapted("play", 7),)))
    tale, play, film = (outcome.work_id for outcome in catalogue.add_works(rows))
    assert allowed(catalogue) == {play: (tale,), film: (play, tale)}
    refused, orphan = catalogue.add_works([new_work("early", adapts=(Adapted("late", 1),)), new_work("late")])
    assert (refused.status, orphan.status) == ("refused", "added")


def test_adaptations_of_adaptations_end_somewhere(catalogue, new_work):
    rows = [new_work("a0"), *(new_work(f"a{n}", adapts=(Adapted(f"a{n - 1}", 1),)) for n in range(1, 13))]
    assert [outcome.status for outcome in catalogue.add_works(rows)] == ["added"] * 11 + ["refused"] * 2


def test_a_statement_replaces_the_one_before_and_a_circle_is_refused(
    catalogue, ownership, lamp, retold, clock
):
    built_us = clock.now_us()
    clock.advance(5)
    assert not ownership.set_adapts(retold, [Adapted(lamp, 300_000)])
    assert ownership.set_adapts(retold, [Adapted(lamp, 0)])
    assert ownership.adapts(retold) == (Adapted(lamp, 0),)
    assert ownership.rebuild_due(built_us) == 1
    for work, original in ((lamp, retold), (lamp, lamp), (retold, "w_none")):
        with pytest.raises(BadRequest):
            ownership.set_adapts(work, [Adapted(original, 1)])
    with pytest.raises(BadRequest):
        ownership.set_adapts(retold, [])


def test_whoever_denies_derivatives_ends_the_licence_for_the_index(catalogue, lamp, retold):
    catalogue.set_consent(lamp, Consent.of("derivative", "denied"))
    assert allowed(catalogue) == {}
    catalogue.set_consent(lamp, Consent.of("derivative", "paid"))
    assert allowed(catalogue) == {retold: (lamp,)}


def test_a_commons_states_no_originals_and_gets_no_money(catalogue, ownership, lamp, retold):
    (psalm,) = catalogue.add_works([NewWork("psalm", COMMONS, "Psalm", "The psalm.")])
    with pytest.raises(Conflict):
        ownership.set_adapts(psalm.work_id, [Adapted(lamp, 0)])
    with pytest.raises(BadRequest):
        ownership.set_adapts(retold, [Adapted("psalm", 1)])
    assert ownership.set_adapts(retold, [Adapted("psalm", 0)])


def test_a_creator_states_no_licence_by_themselves(engine, clock, ids, catalogue, lamp, retold):
    theirs = Ownership(engine, clock=clock, ids=ids, creator=catalogue.creator("bo").id)
    with pytest.raises(Forbidden):
        theirs.set_adapts(retold, [Adapted(lamp, 1)])


def test_credits_of_an_adaptation_name_who_made_the_original_and_follow_its_owner(
    catalogue, ownership, lamp, retold
):
    first = catalogue.snapshot()
    assert first.credit(retold).creators == ("bo", "ada")
    catalogue.add_creator("Dee", ref="dee")
    claim = ownership.open_claim(lamp, "dee", "Printed 1999.")
    ownership.decide_claim(claim.id, "upheld", "The copy shows it.")
    second = catalogue.snapshot(first)
    assert second.credit(retold).creators == ("bo", "Dee")
    assert second.works == catalogue.snapshot().works
    ownership.set_adapts(retold, [Adapted(lamp, 0)])
    assert catalogue.snapshot(second).credit(retold).creators == ("bo",)

"""`creators`, `works`, `index` and `keys`: who is registered, what, under which consent, and who may call.

Every row of a registration that does not go in is named with its reason; the rest goes in, and running the
same registration again adds nothing twice. Registering ends with a new index, because a work that is not in
it earns nothing.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from proxy.cli.desk import Desk, command, main
from proxy.clock import RandomIds, SystemClock, iso_utc
from proxy.errors import BadRequest, NotFound, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.catalogue.indexing import IndexInfo
    from proxy.catalogue.store import Catalogue
    from proxy.catalogue.works import Outcome

ROLES = ("app", "creator", "operator")
VERDICTS = ("paid", "free", "denied")


@main.group()
def creators() -> None:
    """People who wrote what is registered."""


@main.group()
def works() -> None:
    """Registered texts, their consents and their withdrawal."""


@main.group()
def index() -> None:
    """What attribution searches, built from every registered work."""


@main.group()
def keys() -> None:
    """Bearer keys of apps, creators and operators."""


def open_catalogue(desk: Desk) -> Catalogue:
    """Return the registry of the desk's store."""
    from proxy.catalogue.store import Catalogue as Registry

    return Registry(
        desk.engine,
        clock=SystemClock(),
        ids=RandomIds(),
        default_consent=desk.settings.catalogue.default_consent,
    )


# -- creators ----------------------------------------------------------------------------------------------


@command(creators)
@click.argument("name", required=False)
@click.option("--ref", default="", help="Your own short name for them [made of the name].")
@click.option("--country", default="", help="Two letters, ISO 3166-1.")
@click.option(
    "--from", "listed", type=click.Path(path_type=Path, exists=True), help="JSON lines: ref, name, country."
)
def add(desk: Desk, name: str | None, ref: str, country: str, listed: Path | None) -> int:
    """Register a creator by NAME, or a list of them with --from."""
    if (name is None) == (listed is None):
        raise click.UsageError("give a NAME, or a list with --from")
    catalogue = open_catalogue(desk)
    refused = 0
    rows = [_NewCreator(name or "", ref, country)] if listed is None else _listed_creators(listed)
    for number, row in enumerate(rows, start=1):
        try:
            if isinstance(row, Problem):
                raise row
            creator, new = catalogue.add_creator(row.name, ref=row.ref, country=row.country)
        except Problem as problem:
            if listed is None:
                raise
            refused += 1
            desk.note(f"refused: {listed}:{number}: {problem}")
            continue
        answer = {"id": creator.id, "ref": creator.ref, "name": creator.name, "added": new}
        desk.say(answer, f"{creator.id}  {creator.name} ({creator.ref}){'' if new else ', known already'}")
    return 1 if refused else 0


class _NewCreator(msgspec.Struct, frozen=True):
    name: str
    ref: str = ""
    country: str = ""


def _listed_creators(path: Path) -> Iterable[_NewCreator | Problem]:
    with path.open("rb") as file:
        for line in filter(bytes.strip, file):
            try:
                yield msgspec.json.decode(line, type=_NewCreator)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield BadRequest(f"not a creator: {error}", remedy='write {"ref": "...", "name": "..."}')


@command(creators, "list")
def list_creators(desk: Desk) -> None:
    """List every creator, oldest first."""
    rows = (dataclasses.asdict(creator) for creator in open_catalogue(desk).creators())
    desk.table(
        with_times(rows),
        ("id", "ref", "name", "country"),
        empty="no creators; `endcredits creators add NAME`",
    )


@command(creators, "show")
@click.argument("creator")
def show_creator(desk: Desk, creator: str) -> None:
    """Show one creator (id or ref) and how many works they have."""
    catalogue = open_catalogue(desk)
    found = catalogue.creator(creator)
    owned = catalogue.works(creator=found.id)
    answer = next(iter(with_times([dataclasses.asdict(found)]))) | {"works": len(owned)}
    desk.say(answer, f"{found.name} ({found.ref}), {found.id}: {len(owned)} works")


def with_times(rows: Iterable[dict[str, object]]) -> Iterable[dict[str, object]]:
    """Turn every `*_us` into RFC 3339 text under its bare name."""
    for row in rows:
        yield {
            key.removesuffix("_us"): iso_utc(value)
            if key.endswith("_us") and isinstance(value, int)
            else value
            for key, value in row.items()
        }


# -- works -------------------------------------------------------------------------------------------------


@command(works, "add")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--creator", default="", help="Whose they are (id or ref), where rows do not say it.")
@click.option("--licence", default="", help="Licence of those that do not say it.")
@click.option("--consent", type=click.Choice(VERDICTS), help="Consent of those that do not say it.")
@click.option("--commons", is_flag=True, help="They are nobody's: public domain, CC0 or boilerplate.")
@click.option(
    "--attest", is_flag=True, help="Their creators said so themselves; else it is your word for them."
)
@click.option("--no-index", is_flag=True, help="Do not build the index now.")
def add_works(
    desk: Desk,
    paths: tuple[Path, ...],
    creator: str,
    licence: str,
    consent: str | None,
    *,
    commons: bool,
    attest: bool,
    no_index: bool,
) -> int:
    """Register texts: files, folders, or lists (.jsonl, .csv, also .gz) with a row a work.

    Files are .txt, .md, .html, .epub, .pdf, .docx, .srt, .vtt and .fountain (screenplays).

    With each goes an attestation, kept by the digest of its words: "I made this text, or I hold the rights to
    it and may license them here. I did not take it from somebody else. I know that this statement is kept."
    """
    from proxy.catalogue.intake import Defaults, commons_licence, read
    from proxy.catalogue.ownership import COMMONS_STATEMENT, OWN_STATEMENT, STATEMENTS
    from proxy.catalogue.works import COMMONS, COMMONS_LICENCES

    catalogue = open_catalogue(desk)
    if commons and (creator or consent or attest):
        raise click.UsageError("what is nobody's has no creator, no consent and nobody to attest it")
    if commons:
        licence = commons_licence(licence or COMMONS_LICENCES[0])
    if creator.startswith("~"):
        raise BadRequest(f"'{creator}' is nobody", remedy="pass --commons for what belongs to nobody")
    owner = COMMONS if commons else catalogue.creator(creator).id if creator else ""
    defaults = Defaults(
        creator=owner,
        licence=licence,
        consent=consent,  # pyright: ignore[reportArgumentType]  click has checked it
        bytes_max=desk.settings.catalogue.file_bytes_max,
    )
    counts = {"added": 0, "unchanged": 0, "refused": 0}
    for path in paths:
        for outcome in catalogue.add_works(read(path, defaults), creators_attest=attest):
            counts[outcome.status] += 1
            _tell(desk, outcome)
    desk.note(", ".join(f"{number} {status}" for status, number in counts.items()))
    if counts["added"]:
        who = "by you" if commons else "by their creators" if attest else "by you, for their creators"
        desk.note(f'attested {who}: "{STATEMENTS[COMMONS_STATEMENT if commons else OWN_STATEMENT]}"')
    if counts["added"]:
        _judge_licences(desk)
    if counts["added"] and not no_index:
        build_index(desk)
    return 1 if counts["refused"] else 0


def _judge_licences(desk: Desk) -> None:
    """Let what creators have said of all their works hold for the new ones too."""
    from proxy.catalogue.licences_store import Licences

    default = desk.settings.catalogue.default_consent
    licences = Licences(desk.engine, clock=SystemClock(), ids=RandomIds(), default=default)
    if changed := licences.judge_all():
        desk.note(f"{changed} consents follow from licences on file")


def _tell(desk: Desk, outcome: Outcome) -> None:
    if desk.as_json:
        desk.say(dataclasses.asdict(outcome), "")
    elif outcome.status == "refused":
        remedy = f"; {outcome.remedy}" if outcome.remedy else ""
        desk.note(
            f"refused: {outcome.place}{f' ({outcome.ref})' if outcome.ref else ''}: {outcome.why}{remedy}"
        )


@command(works, "list")
@click.option("--creator", default="", help="Only of this creator (id or ref).")
def list_works(desk: Desk, creator: str) -> None:
    """List registered works in the order of registration."""
    from proxy.catalogue.linking_store import Links

    links = Links(desk.engine, clock=SystemClock()).all()
    rows: Iterable[dict[str, object]] = (
        {**dataclasses.asdict(entry), "links": [dataclasses.asdict(one) for one in links.get(entry.id, ())]}
        for entry in open_catalogue(desk).works(creator=creator)
    )
    columns = ("id", "ref", "creator_ref", "title", "licence", "verdict", "status")
    desk.table(with_times(rows), columns, empty="no works; `endcredits works add PATH --creator ID`")


@command(works, "show")
@click.argument("work")
def show_work(desk: Desk, work: str) -> None:
    """Show one work (id or ref): whose it is and why, its split and every consent it was given."""
    from proxy.catalogue.linking_store import Links
    from proxy.catalogue.ownership import STATEMENTS
    from proxy.catalogue.ownership_store import Ownership

    catalogue = open_catalogue(desk)
    entry = catalogue.find_work(work)
    split = catalogue.splits_as_of(catalogue.seq()).get(entry.id, ((entry.creator_id, 1_000_000),))
    consents = [msgspec.to_builtins(consent) for consent in catalogue.consents(entry.id)]
    answer = next(iter(with_times([dataclasses.asdict(entry)])))
    answer |= {"split": [{"party": party, "ppm": ppm} for party, ppm in split], "consents": consents}
    ownership = Ownership(desk.engine, clock=SystemClock(), ids=RandomIds())
    identifiers, attested = ownership.identifiers(entry.id), ownership.attestations(entry.id)
    answer |= {
        "identifiers": [known.identifier for known in identifiers],
        "attestations": list(with_times(dataclasses.asdict(one) for one in attested)),
    }
    lines = [f"{entry.title} ({entry.id})", f"  creator   {entry.creator_ref} ({entry.creator_id})"]
    lines += [
        f"  licence   {entry.licence or 'none stated'}",
        f"  verdict   {entry.verdict} ({entry.status})",
    ]
    lines += [f"  split     {ppm / 10_000:g} % {party}" for party, ppm in split]
    adapts, adapted_by = ownership.adapts(entry.id), ownership.adapted_by(entry.id)
    answer |= {"adapts": [dataclasses.asdict(one) for one in adapts], "adapted_by": list(adapted_by)}
    lines += [f"  adapts    {one.work}, whose parties get {one.ppm / 10_000:g} %" for one in adapts]
    lines += [f"  adapted   by {work}" for work in adapted_by]
    links = Links(desk.engine, clock=SystemClock())
    of, to = links.of(entry.id), links.to(entry.id)
    answer |= {
        name: list(with_times(map(dataclasses.asdict, some)))
        for name, some in (("links", of), ("linked_by", to))
    }
    lines += [f"  linked    {one.kind.replace('_', ' ')} {one.of}" for one in of]
    lines += [f"  linked    {one.work_id} is a {one.kind.replace('_', ' ')} this" for one in to]
    lines += [f"  verified  {known.identifier}" for known in identifiers]
    if entry.registrant_id != entry.creator_id:
        lines.append(f"  claimed   registered by {entry.registrant_id}, theirs since a claim was upheld")
    for one in attested:
        said = STATEMENTS.get(one.statement, one.statement)
        lines.append(f'  attested  {iso_utc(one.at_us)[:10]} by {one.attested_by}: "{said}"')
    desk.say(answer, "\n".join(lines))


@command(works)
@click.argument("work")
@click.argument("verdict", type=click.Choice(VERDICTS))
@click.option("--use", default="output_influence", show_default=True, help="What is allowed or denied.")
def consent(desk: Desk, work: str, verdict: str, use: str) -> None:
    """Say what is allowed with a work from now on: paid, free or denied."""
    from proxy.catalogue.works import Consent, Use

    catalogue = open_catalogue(desk)
    entry = catalogue.find_work(work)
    seq = catalogue.set_consent(entry.id, Consent.of(use, verdict))
    answer = {"work": entry.id, "use": use, "verdict": verdict, "registry_seq": seq}
    desk.say(answer, f"{entry.title}: {use} is {verdict} from registry entry {seq} on")
    if use == Use.DERIVATIVE:
        desk.note("what was made from it is judged anew by the next `endcredits index build`")


@command(works)
@click.argument("work")
def withdraw(desk: Desk, work: str) -> None:
    """Withdraw a work: it is still recognised and guarded, and paid nothing from now on."""
    catalogue = open_catalogue(desk)
    entry = catalogue.find_work(work)
    changed = catalogue.withdraw(entry.id)
    answer = {"work": entry.id, "withdrawn": True, "changed": changed}
    desk.say(answer, f"{entry.title} is withdrawn{'' if changed else ' already'}")


# -- index -------------------------------------------------------------------------------------------------


def build_index(desk: Desk, *, keep_old: bool = True) -> Path:
    """Build an index of what is registered now, and write down what it holds up for review.

    keep_old: as in indexing.build.
    """
    from proxy.catalogue import indexing
    from proxy.catalogue.ownership_store import Ownership

    catalogue = open_catalogue(desk)
    with desk.progress("indexing") as progress:
        folder = indexing.build(
            catalogue, desk.settings.index_dir, clock=SystemClock(), progress=progress, keep_old=keep_old
        )
    desk.note(f"index {folder.name} is in use: {catalogue.count_works()} works")
    held = indexing.quarantined(desk.settings.index_dir)
    Ownership(desk.engine, clock=SystemClock(), ids=RandomIds()).record_held(held.values())
    if held:
        desk.note(f"{len(held)} of them earn nothing until somebody has looked: `endcredits works review`")
    return folder


@command(index)
def build(desk: Desk) -> None:
    """Build a new index of every registered work, check it, and swap it in while servers go on."""
    folder = build_index(desk)
    desk.say({"index": folder.name, "path": str(folder)}, str(folder))


@command(index)
def verify(desk: Desk) -> None:
    """Check every file of the index in use against its manifest."""
    from proxy.catalogue import indexing

    found = indexing.verify(desk.settings.index_dir)
    desk.say(
        _index_answer(found), f"index {found.path.name} is whole: {len(found.manifest.files)} files checked"
    )


@command(index)
def info(desk: Desk) -> None:
    """Show what the index in use is made of."""
    from proxy.catalogue import indexing

    found = indexing.info(desk.settings.index_dir)
    if found is None:
        raise NotFound(
            "there is no index yet", remedy="`endcredits works add PATH` or `endcredits index build`"
        )
    answer = _index_answer(found)
    desk.say(answer, "\n".join(f"{name:<12} {value}" for name, value in answer.items()))


def _index_answer(found: IndexInfo) -> dict[str, object]:
    manifest = found.manifest
    return {
        "index": found.path.name,
        "built": iso_utc(found.built_us),
        "bytes": found.size_bytes,
        "works": manifest.works,
        "passages": manifest.passages,
        "words": manifest.words,
        "model_sha256": manifest.model_sha256,
    }


# -- keys --------------------------------------------------------------------------------------------------


@command(keys, "create")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--creator", default="", help="Whose key it is (id or ref), or whose own app's.")
@click.option("--name", default="", help="For an app: the app's name; else a note for yourself.")
def create_key(desk: Desk, role: str, creator: str, name: str) -> None:
    """Make a key and show it once; only its hash is kept.

    An app with a --creator is that creator's own: what it uses of their works is metered, and earns them
    nothing unless [billing] pay_own_apps says so.
    """
    from proxy.access import links_store, store

    owner = _person(desk, creator) if creator else ""
    own_app = owner if role == "app" else ""
    links_store.refuse_taken_app(desk.engine, name or "default", own_app)  # before a key is made and lost
    made = store.create_key(
        desk.engine,
        role,  # pyright: ignore[reportArgumentType]  click has checked it
        creator="" if own_app else owner,
        name=name,
        clock=SystemClock(),
        ids=RandomIds(),
    )
    if own_app:
        links_store.link_app(desk.engine, made.principal.app_id, own_app, clock=SystemClock())
    desk.say({"id": made.id, "key": made.secret}, f"{made.secret}\n(shown once; its id is {made.id})")


@command(keys, "list")
def list_keys(desk: Desk) -> None:
    """List keys by what can be shown of them, and whose they or their apps are."""
    from proxy.access import links_store, store

    owners = links_store.owners_by_app_name(desk.engine)
    rows: Iterable[dict[str, object]] = (
        {**dataclasses.asdict(key), "creator_id": key.creator_id or owners.get(key.app, "")}
        for key in store.list_keys(desk.engine)
    )
    columns = ("id", "role", "name", "creator_id", "shown", "created", "revoked")
    desk.table(with_times(rows), columns, empty="no keys; `endcredits keys create --role app`")


@command(keys)
@click.argument("key_id")
def revoke(desk: Desk, key_id: str) -> None:
    """Revoke a key by its id; it stops working everywhere within a second."""
    from proxy.access import store

    if key_id.startswith("ec_"):
        raise BadRequest("this is a key, not a key's id", remedy="`endcredits keys list` shows ids (key_...)")
    changed = store.revoke(desk.engine, key_id, clock=SystemClock())
    desk.say(
        {"id": key_id, "revoked": True, "changed": changed},
        f"{key_id} is revoked{'' if changed else ' already'}",
    )


@command(keys)
@click.argument("app")
@click.option("--creator", required=True, help="Whose own app it is (id or ref).")
def link(desk: Desk, app: str, creator: str) -> None:
    """Say that APP (id or name) is a creator's own: from now on it earns that creator nothing."""
    from proxy.access import links_store

    owner = _person(desk, creator)
    changed = links_store.link_app(desk.engine, app, owner, clock=SystemClock())
    said = f"{app} is {creator}'s own app{'' if changed else ' already'}; it earns them nothing from now on"
    desk.say({"app": app, "creator": owner, "linked": True, "changed": changed}, said)


@command(keys)
@click.argument("app")
def unlink(desk: Desk, app: str) -> None:
    """Say that APP (id or name) is nobody's own: from now on it pays everybody."""
    from proxy.access import links_store

    changed = links_store.link_app(desk.engine, app, "", clock=SystemClock())
    said = f"{app} is nobody's own app{'' if changed else ' already'}"
    desk.say({"app": app, "linked": False, "changed": changed}, said)


def _person(desk: Desk, creator: str) -> str:
    """Return the id of a creator (id or ref) who can hold a key or an app; the commons is nobody."""
    if creator.startswith("~"):
        raise NotFound(f"there is no creator '{creator}'", remedy="`endcredits creators list` shows them")
    return open_catalogue(desk).creator(creator).id

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from proxy.access.links import AppLinks
from proxy.access.links_store import app_links, link_app, owners_by_app_name, refuse_taken_app
from proxy.access.store import create_key
from proxy.catalogue.store import Catalogue
from proxy.database import open_engine
from proxy.errors import Conflict, NotFound
from tests.stores import lay


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    lay(url)
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def people(engine, clock, ids):
    catalogue = Catalogue(engine, clock=clock, ids=ids)
    return [catalogue.add_creator(name)[0].id for name in ("Ada", "Bo")]


@pytest.fixture
def shop(engine, clock, ids):
    return create_key(engine, "app", clock=clock, ids=ids, name="shop").principal.app_id


def test_every_change_of_a_link_is_kept_with_its_number(engine, clock, people, shop):
    assert app_links(engine) == AppLinks({})
    assert link_app(engine, "shop", people[0], clock=clock)
    assert not link_app(engine, shop, people[0], clock=clock)
    assert owners_by_app_name(engine) == {"shop": people[0]}
    ((first, ada),) = app_links(engine).history[shop]
    assert ada == people[0]
    assert link_app(engine, shop, "", clock=clock)
    assert link_app(engine, shop, people[1], clock=clock)
    links = app_links(engine)
    assert [links.creator_of(shop, first + step) for step in (-1, 0, 1, 2, 99)] == [
        "", people[0], "", people[1], people[1],
    ]  # fmt: skip
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text("UPDATE app_link SET seq = 0"))


def test_an_app_of_one_creator_is_not_taken_by_another(engine, clock, people, shop):
    link_app(engine, shop, people[0], clock=clock)
    for take in (
        lambda: link_app(engine, shop, people[1], clock=clock),
        lambda: refuse_taken_app(engine, "shop", people[1]),
    ):
        with pytest.raises(Conflict) as refused:
            take()
        assert "unlink" in refused.value.remedy
    refuse_taken_app(engine, "shop", people[0])
    refuse_taken_app(engine, "new shop", people[1])
    with pytest.raises(NotFound):
        link_app(engine, "nowhere", people[0], clock=clock)

import json

import pytest

from proxy.billing.interchange import FORMS
from proxy.billing.interchange_store import about, exported
from proxy.metering.usage import Line
from tests.proxy.billing.conftest import make_event, meter


@pytest.fixture
def used(engine):
    meter(engine, [make_event(1, (Line("w_1", 5),)), make_event(2, app_id="app_b")])
    meter(engine, [make_event(3)], pending=True)
    return engine


def test_settled_answers_are_exported_oldest_first_and_pending_ones_wait(used):
    ids = [json.loads(line)["id"] for line in exported(used, "cloudevents")]
    assert ids == [make_event(1).id, make_event(2).id]
    assert len(list(exported(used, "openattribution"))) == 2
    assert [json.loads(line)["id"] for line in exported(used, "cloudevents", app="app_b")] == ids[1:]
    assert len(list(exported(used, "cloudevents", since_us=make_event(2).occurred_us))) == 1


def test_measured_use_is_one_document(used):
    document = list(exported(used, "rsl"))
    assert (document[1][:4], document[-1]) == ("<rsl", "</rsl>")
    assert len([line for line in document if "<m:use" in line]) == 1


@pytest.mark.parametrize("form", FORMS)
def test_nothing_used_is_nothing_told(engine, form):
    assert [line for line in exported(engine, form) if "w_" in line] == []


def test_of_works_that_are_not_registered_nothing_is_told(engine):
    assert about(engine, ["w_1"]) == {}

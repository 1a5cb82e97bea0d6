import pytest

from proxy.cli.webhooks import KINDS
from proxy.hooks import targets
from tests.commands import Commands


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path / "data")


def test_an_address_is_added_listed_and_removed(ec):
    made = ec.json(
        "webhooks", "add", "https://hooks.example/in", "--event", "period.closed", "--by", "Ines"
    ).row
    assert made["secret"].startswith("whsec_")
    (row,) = ec.json("webhooks", "list").rows
    assert (row["id"], row["events"], row["by"]) == (made["id"], "period.closed", "Ines")
    assert "whsec_" not in ec("webhooks", "list").out
    assert ec.json("webhooks", "messages", made["id"]).rows == []
    assert ec.json("webhooks", "remove", made["id"]).row["changed"]
    assert ec.json("webhooks", "list").rows == []


def test_what_is_no_public_address_is_refused(ec):
    assert ec.json("webhooks", "add", "https://127.0.0.1/").row["error"] == "webhook_target"


def test_the_command_knows_everything_that_is_told():
    assert KINDS == targets.KINDS

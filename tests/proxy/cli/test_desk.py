from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.desk import every
from tests.commands import Commands


@pytest.fixture
def ec(tmp_path):
    return Commands(tmp_path / "data")


def test_the_data_folder_is_private_to_its_owner(ec):
    assert ec("keys", "list").status == 0
    assert ec.data.stat().st_mode & 0o777 == 0o700


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_one(ec, tmp_path):
    config = tmp_path / "endcredits.toml"
    config.write_text("[server]\nprot = 1\n")
    ran = ec("keys", "list", "--config", config)
    assert ran.status == 1
    assert "server.prot" in ran.err
    assert "server.port" in ran.err


def test_a_wrong_usage_exits_with_2(ec):
    assert ec("keys", "create").status == 2
    assert ec("no-such-command").status == 2


@pytest.mark.parametrize("group", ["creators", "works", "index", "keys", "periods", "statements"])
def test_every_group_explains_its_commands(ec, group):
    ran = Commands(ec.data)(group, "--help")
    assert ran.status in {0, 2}
    assert "Commands:" in ran.out or "Usage" in ran.out + ran.err


def test_tables_name_what_to_do_when_they_are_empty(ec):
    assert "endcredits creators add" in ec("creators", "list").out
    assert "endcredits works add" in ec("works", "list").out
    assert "endcredits keys create" in ec("keys", "list").out


def test_a_table_that_goes_into_a_pipe_cuts_nothing(ec):
    name = (
        "A name of some length, longer than eighty characters, so that a narrow table would fold it somewhere"
    )
    ec("creators", "add", name)
    assert name in ec("creators", "list").out


def test_a_data_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    ran = Commands(tmp_path / "file" / "data")("keys", "list")
    assert ran.status == 1
    assert "--data" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@given(st.sets(st.tuples(st.integers(0, 5), st.text(max_size=1)), max_size=12), st.integers(1, 5))
def test_a_list_that_comes_in_pages_is_told_whole(rows, at_once):
    def page(behind):
        return sorted(row for row in rows if behind is None or row > behind)[:at_once]

    assert list(every(page, lambda row: row)) == sorted(rows)

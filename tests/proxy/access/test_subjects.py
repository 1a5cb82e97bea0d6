import concurrent.futures
import stat

import pytest

from proxy.access.subjects import FOLDER, HELD_MAX, SubjectKeys
from proxy.errors import SettingsError


def test_each_app_and_period_has_a_key_of_its_own_which_is_the_same_for_every_process(tmp_path):
    keys, other = SubjectKeys(tmp_path), SubjectKeys(tmp_path)
    made = {keys.key("app_a", 0), keys.key("app_b", 0), keys.key("app_a", 1)}
    assert len(made) == 3
    assert {other.key("app_a", 0), other.key("app_b", 0), other.key("app_a", 1)} == made
    assert keys.find("app_a", 0) in made
    assert keys.find("app_c", 0) is None
    assert keys.periods() == [0, 1]


def test_a_key_is_its_owners_only(tmp_path):
    SubjectKeys(tmp_path).key("app_a", 0)
    path = tmp_path / FOLDER / "000000" / "app_a"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (
        stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    )
    assert [one.name for one in path.parent.iterdir()] == ["app_a"]


def test_processes_that_come_together_make_one_key(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: SubjectKeys(tmp_path).key("app_a", 0), range(32)))
    assert len(made) == 1


def test_a_destroyed_key_is_gone_and_is_never_made_again(tmp_path):
    keys, late = SubjectKeys(tmp_path), SubjectKeys(tmp_path)
    before = keys.key("app_a", 0)
    keys.key("app_a", 1)
    assert keys.destroy(1) == [0]
    assert keys.destroy(1) == []
    assert keys.find("app_a", 0) is None
    assert late.key("app_a", 0) not in {before, SubjectKeys(tmp_path).key("app_a", 0)}
    assert keys.periods() == [1]
    assert keys.destroy(0) == []
    assert late.find("app_a", 0) is None


def test_a_new_period_lets_go_of_the_keys_in_memory(tmp_path):
    keys = SubjectKeys(tmp_path)
    keys.key("app_a", 0)
    keys.key("app_a", 1)
    assert len(keys._held) == 1
    assert HELD_MAX > 1


def test_where_no_key_can_be_kept_users_are_told_apart_all_the_same(tmp_path):
    (tmp_path / FOLDER).write_text("a file, where a folder should be")
    keys = SubjectKeys(tmp_path)
    assert keys.key("app_a", 0) == keys.key("app_a", 0) != keys.key("app_b", 0)


def test_a_damaged_key_is_refused_by_name_and_stops_no_answer(tmp_path):
    keys = SubjectKeys(tmp_path)
    keys.key("app_a", 0)
    (tmp_path / FOLDER / "000000" / "app_a").write_bytes(b"short")
    other = SubjectKeys(tmp_path)
    assert len(other.key("app_a", 0)) == 32
    with pytest.raises(SettingsError, match="app_a is damaged"):
        other.find("app_a", 0)


def test_only_an_apps_id_names_a_file(tmp_path):
    with pytest.raises(ValueError, match="not an app"):
        SubjectKeys(tmp_path).find("../../etc", 0)

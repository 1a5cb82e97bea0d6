from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.settings import Server, Settings, handed_over, load_settings, serving


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> Path:
        path = tmp_path / "endcredits.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def refusal(path: Path) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return caught.value


def test_without_a_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings(None) == Settings()


def test_a_file_beside_us_is_taken_and_the_environment_comes_before_it(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("[server]\nport = 1111\n")
    assert load_settings(None).server.port == 1111
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 2222\n")
    monkeypatch.setenv("ENDCREDITS_CONFIG", str(other))
    assert load_settings(None).server.port == 2222
    assert load_settings(tmp_path / "endcredits.toml").server.port == 1111


def test_the_data_folder_comes_from_the_option_then_the_environment(write, monkeypatch):
    path = write("")
    monkeypatch.setenv("ENDCREDITS_DATA", "/somewhere")
    assert load_settings(path).data_dir == Path("/somewhere")
    assert load_settings(path, data_dir=Path("elsewhere")).data_dir == Path("elsewhere")


def test_what_is_not_said_keeps_its_default(write):
    settings = load_settings(write("[attribution]\ndeadline_ms = 40\n"))
    assert settings.attribution.deadline_ms == 40
    assert settings.attribution.works_top == Settings().attribution.works_top


def test_a_misspelt_key_is_refused_with_the_nearest_known_one(write):
    error = refusal(write("[attribution]\ndeadline = 40\n"))
    assert "attribution.deadline" in error.cause
    assert "attribution.deadline_ms" in error.remedy


def test_a_misspelt_key_inside_a_backend_is_named_with_its_number(write):
    text = '[[backends]]\nname = "a"\n[[backends]]\nname = "b"\nurll = "http://x/v1"\n'
    error = refusal(write(text))
    assert "backends[1].urll" in error.cause
    assert "backends[1].url'" in error.remedy


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[server]\nport = 70000\n", "server.port"),
        ('[server]\nport = "8080"\n', "server.port"),
        ('[attribution]\nview = "loud"\n', "attribution.view"),
        ("[attribution]\nworks_top = 0\n", "attribution.works_top"),
        ("[billing]\nroyalty_ppm = 1000001\n", "billing.royalty_ppm"),
        ('[billing]\ncurrency = "usd"\n', "billing.currency"),
        ("[billing]\nrate = 0.002\n", "billing.rate"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_its_place(write, text, place):
    error = refusal(write(text))
    assert place in error.cause
    assert error.remedy


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:9000", "no scheme"),
        ("ftp://host/v1", "no scheme"),
        ("http://", "no scheme or host"),
        ("http://user:secret@host/v1", "credentials"),
        ("http://host/v1?key=secret", "query"),
    ],
)
def test_a_backend_that_cannot_be_reached_as_written_is_refused(write, url, says):
    error = refusal(write(f'[[backends]]\nurl = "{url}"\n'))
    assert says in error.cause
    assert error.remedy


def test_two_backends_of_one_name_are_refused(write):
    assert "two backends" in refusal(write('[[backends]]\nname = "a"\n[[backends]]\nname = "a"\n')).cause


def test_no_backend_at_all_is_refused(write):
    assert "no [[backends]]" in refusal(write("backends = []\n")).cause


def test_a_file_that_is_not_there_or_not_toml_is_refused_by_its_name(write, tmp_path):
    assert "nowhere.toml" in refusal(tmp_path / "nowhere.toml").cause
    assert "not TOML" in refusal(write("[server\n")).cause


def test_the_store_is_sqlite_in_the_data_folder_unless_said_otherwise(tmp_path, write):
    assert Settings(data_dir=tmp_path).store_url == f"sqlite:///{tmp_path / 'endcredits.db'}"
    settings = load_settings(write('[store]\nurl = "postgresql://db/endcredits"\n'))
    assert settings.store_url == "postgresql://db/endcredits"


def test_settings_cannot_be_changed_once_read():
    with pytest.raises(AttributeError):
        Settings().server.port = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_trusted_proxy_is_an_address_or_a_network(write):
    path = write('[server]\ntrusted_proxies = ["10.0.0.7", "fd00::/8"]\n')
    assert load_settings(path).server.trusted_proxies == ("10.0.0.7", "fd00::/8")
    error = refusal(write('[server]\ntrusted_proxies = ["proxy.example"]\n'))
    assert "'proxy.example'" in error.cause


def test_an_authority_file_that_is_not_there_is_refused_at_start(write):
    error = refusal(write('[[backends]]\nca_file = "/nowhere/ca.pem"\n'))
    assert "ca_file" in error.cause


def test_an_api_version_with_odd_characters_is_refused(write):
    assert "api_version" in refusal(write('[[backends]]\napi_version = "2024&x=1"\n')).cause


def test_the_process_that_serves_reads_the_settings_that_the_command_left_for_it(tmp_path, monkeypatch):
    settings = Settings(data_dir=tmp_path, server=Server(port=1234))
    for name, value in handed_over(settings).items():
        monkeypatch.setenv(name, value)
    assert serving() == settings

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.money import parse
from proxy.billing.prices import GRAINS_MAX, PriceTable, load
from proxy.clock import parse_time_us
from proxy.errors import SettingsError

HEAD = 'version = "v1"\ncurrency = "USD"\neffective_from = 2026-01-01\n'
ROW = '[[models]]\npattern = "{}"\ninput_per_million = "{}"\noutput_per_million = "{}"\n'
NOON = parse_time_us("2026-11-22T12:00:00Z")


def write(folder: Path, text: str, name: str = "a.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_price_is_exact_and_rounded_up_to_a_grain(tmp_path):
    table = load(write(tmp_path, HEAD + ROW.format("m", "0.000000001", "10.00")))
    price = table.price("m", NOON, 1, 0)
    assert price is not None
    assert (price.grains, price.currency) == (1, "USD")
    price = table.price("m", NOON, 1_000_000, 1_000)
    assert price is not None
    assert price.grains == 1 + parse("0.01", "USD")


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_more_tokens_never_cost_less(more, tokens):
    table = load()
    small, large = table.price("demo-1", NOON, tokens, 7), table.price("demo-1", NOON, tokens + more, 7)
    assert small is not None
    assert large is not None
    assert small.grains <= large.grains


def test_an_unknown_model_has_no_price_and_not_a_price_of_nothing(tmp_path):
    table = load(write(tmp_path, HEAD + ROW.format("m", "0", "0")))
    assert table.price("other", NOON, 10, 10) is None
    known = table.price("m", NOON, 10, 10)
    assert known is not None
    assert known.grains == 0


def test_the_packaged_table_prices_only_the_demo_models():
    table = load()
    assert table.price("demo-writer", NOON, 10, 10) is not None
    assert table.price("gpt-anything", NOON, 10, 10) is None


def test_an_exact_name_beats_a_pattern_and_a_longer_pattern_a_shorter_one(tmp_path):
    rows = [("*", "1"), ("m-*", "2"), ("m-large-*", "3"), ("m-large-x", "4")]
    table = load(
        write(tmp_path, HEAD + "".join(ROW.format(pattern, amount, "0") for pattern, amount in rows))
    )
    found = [table.price(model, NOON, 1_000_000, 0) for model in ("z", "m-a", "m-large-a", "m-large-x")]
    assert [price.grains // 10**9 for price in found if price] == [1, 2, 3, 4]


def test_characters_other_than_the_star_stand_for_themselves(tmp_path):
    table = load(write(tmp_path, HEAD + ROW.format("m.[1]?*", "1", "0")))
    assert table.price("m.[1]?-new", NOON, 1, 0) is not None
    assert table.price("mx1y", NOON, 1, 0) is None


def test_the_file_in_force_is_the_latest_that_had_begun(tmp_path):
    write(tmp_path, HEAD + ROW.format("m", "1", "0"), "old.toml")
    later = HEAD.replace("v1", "v2").replace("2026-01-01", "2026-06-01T00:00:00Z")
    table = load(write(tmp_path, later + ROW.format("m", "2", "0"), "new.toml"))
    midnight = parse_time_us("2026-06-01T00:00:00Z")
    before, after = table.price("m", midnight - 1, 1_000_000, 0), table.price("m", midnight, 1_000_000, 0)
    assert before is not None
    assert after is not None
    assert (before.grains, after.grains) == (10**9, 2 * 10**9)
    assert before.version.startswith("v1@")
    assert after.version == table.version
    assert table.at(parse_time_us("2025-12-31")) is None
    assert table.price("m", parse_time_us("2025-12-31"), 1, 1) is None


def test_an_edited_file_is_another_version(tmp_path):
    first = load(write(tmp_path, HEAD + ROW.format("m", "1", "0"))).version
    second = load(write(tmp_path, HEAD + ROW.format("m", "2", "0"))).version
    assert first != second
    assert first.rpartition("@")[0] == second.rpartition("@")[0] == "v1"


def test_a_model_priced_by_the_image_is_not_free_because_it_used_no_token(tmp_path):
    table = load(write(tmp_path, HEAD + '[[models]]\npattern = "p"\nper_image = "0.04"\n'))
    assert table.price("p", NOON, 0, 0) is None


MEDIA = '[[models]]\npattern = "{}"\nper_image = "{}"\nper_second = "{}"\n'


def grains_of(table, model, *used):
    price = table.price(model, NOON, *used)
    assert price is not None
    return price.grains


def test_images_and_seconds_cost_what_each_of_them_does(tmp_path):
    table = load(write(tmp_path, HEAD + MEDIA.format("p", "0.04", "0.0006")))
    assert grains_of(table, "p", 0, 0, 1) == parse("0.04", "USD")
    assert grains_of(table, "p", 0, 0, 3) == parse("0.12", "USD")
    assert grains_of(table, "p", 0, 0, 0, 60_000) == parse("0.036", "USD")
    assert grains_of(table, "p", 0, 0, 2, 8_500) == parse("0.0851", "USD")
    assert grains_of(table, "p", 5, 0) == 0  # counted, and nothing of it is what the price is of


def test_a_price_of_tokens_and_images_is_rounded_up_once_and_not_for_each(tmp_path):
    row = ROW.format("m", "0.0005", "0.0005") + 'per_image = "0.01"\nper_second = "0.0000005"\n'
    table = load(write(tmp_path, HEAD + row))
    # Half a grain of tokens in, out, and of sound: one and a half, so two and not three.
    assert grains_of(table, "m", 1, 1, 0, 1) == 2
    assert grains_of(table, "m", 1, 1, 7, 1) == 2 + 7 * parse("0.01", "USD")


amounts = st.integers(0, 10**10)


@given(
    prices=st.tuples(amounts, amounts, amounts, amounts).filter(any),
    used=st.tuples(*(st.integers(0, 10**9),) * 4).filter(any),
)
def test_a_price_is_the_exact_sum_and_then_a_whole_grain(prices, used):
    keys = ("input_per_million", "output_per_million", "per_image", "per_second")
    written = [
        f'{key} = "{grains // 10**9}.{grains % 10**9:09}"' for key, grains in zip(keys, prices, strict=True)
    ]
    row = '[[models]]\npattern = "m"\n' + "\n".join(written) + "\n"
    price = PriceTable.parse([HEAD + row]).price("m", NOON, *used)
    units = (10**6, 10**6, 1, 10**3)
    exact = sum(
        Fraction(count * grains, unit) for count, grains, unit in zip(used, prices, units, strict=True)
    )
    assert (price.grains if price else None) == (math.ceil(exact) if exact <= GRAINS_MAX else None)


@pytest.mark.parametrize("used", [(0, 0, 2**53, 0), (0, 0, 0, 2**62), (0, 0, 2**63 - 1, 2**63 - 1)])
def test_a_price_that_64_bits_do_not_hold_is_no_price(tmp_path, used):
    table = load(write(tmp_path, HEAD + MEDIA.format("p", "1000", "1000")))
    assert table.price("p", NOON, *used) is None
    assert grains_of(table, "p", 0, 0, GRAINS_MAX // 10**12) <= GRAINS_MAX


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not toml", "not TOML"),
        (HEAD, "no [[models]]"),
        (HEAD + "models = 3", "no [[models]]"),
        (HEAD + "models = [3]", "models[0] is not a table"),
        (HEAD + 'curency = "USD"\n' + ROW.format("m", "1", "1"), "did you mean 'currency'"),
        (HEAD + ROW.format("m", "1", "1") + 'per_imag = "1"', "did you mean 'models[0].per_image'"),
        (HEAD + ROW.format("m", "1,5", "1"), "models[0].input_per_million"),
        (HEAD + ROW.format("m", "-1", "1"), "negative"),
        (HEAD + '[[models]]\npattern = "m"\ninput_per_million = 1.5', 'input_per_million = "1.5"'),
        (HEAD + '[[models]]\npattern = "m"', "has no price"),
        (HEAD + '[[models]]\ninput_per_million = "1"', "models[0].pattern"),
        (HEAD + ROW.format("m", "1", "1") * 2, "two prices"),
        (HEAD.replace("USD", "ZZZ") + ROW.format("m", "1", "1"), "unknown currency"),
        (HEAD.replace("2026-01-01", '"soon"') + ROW.format("m", "1", "1"), "effective_from"),
        (HEAD.replace('"v1"', "1") + ROW.format("m", "1", "1"), "version"),
    ],
)
def test_a_file_that_is_not_understood_names_itself_its_key_and_a_remedy(tmp_path, text, says):
    with pytest.raises(SettingsError) as refused:
        PriceTable.load(write(tmp_path, text))
    assert says in str(refused.value)
    assert "a.toml" in refused.value.cause
    assert refused.value.remedy


def test_two_files_of_one_date_are_refused(tmp_path):
    write(tmp_path, HEAD + ROW.format("m", "1", "1"), "a.toml")
    write(tmp_path, HEAD + ROW.format("m", "2", "2"), "b.toml")
    with pytest.raises(SettingsError, match="same time"):
        load(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="0 price files"):
        load(tmp_path)


def test_the_documented_example_loads():
    table = load(Path(__file__).parents[3] / "config" / "prices")
    price = table.price("house-large-preview", NOON, 1_000_000, 0)
    assert price is not None
    assert price.grains == parse("5", "USD")
    assert grains_of(table, "house-painter", 12, 0, 2) == parse("0.08", "USD")
    assert grains_of(table, "house-voice", 0, 40, 0, 1_500) == parse("0.0009", "USD")

"""The model's name in a request, and one list of models out of several."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.errors import WireError
from proxy.wire.models import Claims, claims_in, is_model_list, may_use, merged_list, model_in, renamed


def test_only_the_models_value_changes():
    body = b'{ "n" : 1.50, "model":"small" ,"messages":[{"model":"x"}],"z":1e2}'
    assert renamed(body, 'big"1') == body.replace(b'"small"', b'"big\\"1"')


@given(
    st.text(), st.dictionaries(st.text(max_size=4).filter(lambda k: k.casefold() != "model"), st.integers())
)
def test_a_renamed_request_reads_as_before_but_for_its_model(name, others):
    body = json.dumps({**others, "model": "old"}).encode()
    assert json.loads(renamed(body, name)) == {**others, "model": name}


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}', b'{"model":"a","Model":"b"}', b'{"model":"a","mod\\u0065l":"b"}', b'{"n":1}', b"[]",
        b'{"MODEL":"a","x":1,"model":"a"}',
    ],
)  # fmt: skip
def test_a_body_that_could_be_read_as_another_model_is_refused(body):
    with pytest.raises(WireError) as caught:
        renamed(body, "c")
    assert caught.value.param == "model"


def test_an_escaped_name_of_the_member_is_still_its_place():
    assert renamed(b'{"mod\\u0065l":"a"}', "b") == b'{"mod\\u0065l":"b"}'


@pytest.mark.parametrize(
    ("body", "model"),
    [(b'{"model":"m"}', "m"), (b'{"model":null}', None), (b"{}", None), (b"nonsense", None), (b"\xff", None)],
)
def test_the_model_is_read_where_there_is_one(body, model):
    assert model_in(body) == model


def test_an_empty_allow_list_has_every_model_and_a_pattern_those_it_matches():
    assert may_use("x", ())
    assert may_use("gpt-4o", ("gpt-*",))
    assert not may_use("o3", ("gpt-*", "llama"))


def listed(body):
    return [row["id"] for row in json.loads(body)["data"]]


def reply(*ids):
    return json.dumps({"object": "list", "data": [{"id": name, "own": 1} for name in ids]}).encode()


def test_lists_are_merged_first_come_and_only_what_is_served():
    merged = merged_list([(reply("a", "b"), ("*",), ()), (reply("b", "c", "d"), ("c*",), ("small",))])
    assert listed(merged) == ["a", "b", "c", "small"]
    assert json.loads(merged)["object"] == "list"


def test_only_what_a_key_may_use_is_listed():
    merged = merged_list([(reply("a1", "b1"), ("*",), ("a-small", "b-small"))], allowed=("a*",))
    assert listed(merged) == ["a1", "a-small"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1]", b'{"data":{}}', b'{"data":[1,{"id":7},{}]}', b"\xff"]
)
def test_a_reply_that_is_no_list_adds_only_aliases(body):
    assert listed(merged_list([(body, ("*",), ("small",))])) == ["small"]


@pytest.mark.parametrize(
    ("body", "claims"),
    [
        (b'{"model":"m","max_tokens":5,"max_completion_tokens":9,"n":3}', ("m", 9, 3)),
        (b'{"model":7,"max_output_tokens":-1,"max_tokens":true,"n":"x"}', (None, None, 1)),
        (b'{"model":"m","n":0,"max_tokens":1.5}', ("m", None, 1)),
    ],
)
def test_claims_are_what_can_be_believed(body, claims):
    found = claims_in(body)
    assert found is not None
    assert (found.model, found.output_tokens, found.choices) == claims


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_claims_nothing(body):
    assert claims_in(body) is None


@pytest.mark.parametrize(
    ("path", "is_list"), [(b"/v1/models", True), (b"/v1/models/a", True), (b"/v1/modelsx", False)]
)
def test_the_list_of_models_is_known_by_its_path(path, is_list):
    assert is_model_list(path) == is_list


def test_a_forms_model_is_read_and_renamed_like_that_of_json():
    kind = b"multipart/form-data; boundary=xx"
    body = b'--xx\r\nContent-Disposition: form-data; name="model"\r\n\r\nold\r\n--xx--\r\n'
    assert (model_in(body, kind), claims_in(body, kind)) == ("old", Claims("old"))
    assert renamed(body, "new", kind) == body.replace(b"old", b"new")
    assert model_in(body) is None

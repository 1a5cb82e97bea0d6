"""ID tokens and documents as values: what is believed, and everything that is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.access import oidc
from proxy.access.oidc import (
    ALGORITHMS,
    Discovered,
    NotBelieved,
    Tokens,
    UnknownKey,
    access_hash,
    bound_to,
    checked_endpoint,
    exchange,
    read_discovered,
    read_keys,
    read_tokens,
    subject_of,
    way_out,
)
from proxy.errors import SettingsError, Unavailable
from tests.identity_provider import b64, ec_key, ed_key, jwk, rsa_key, token

ISSUER, CLIENT, NONCE, NOW_S = "https://id.example", "credits", "n" * 43, 1_800_000_000.0
SAID = {
    "iss": ISSUER,
    "sub": "sub-1",
    "aud": CLIENT,
    "nonce": NONCE,
    "iat": 1_800_000_000,
    "exp": 1_800_000_300,
}


def published(*keys):
    return read_keys(json.dumps({"keys": list(keys)}).encode(), ISSUER)


def subject(id_token, keys=None, *, access_token=""):
    keys = published(jwk(rsa_key(), "k1")) if keys is None else keys
    tokens = Tokens(id_token, access_token)
    return subject_of(tokens, keys, issuer=ISSUER, client_id=CLIENT, nonce=NONCE, now_s=NOW_S)


@pytest.mark.parametrize(
    ("alg", "key"),
    [("RS256", rsa_key()), ("PS256", rsa_key()), ("ES256", ec_key()), ("EdDSA", ed_key())],
)
def test_a_token_that_its_provider_signed_for_us_names_its_subject(alg, key):
    at_hash = access_hash("access", alg)
    made = token(SAID | {"at_hash": at_hash}, key, alg=alg)
    assert subject(made, published(jwk(key, "k1")), access_token="access") == "sub-1"


def test_the_hash_of_an_access_token_is_the_one_that_the_standard_prints():
    # OpenID Connect Core 1.0, A.3.
    assert access_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y", "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"iss": "https://evil.example"}, "another issuer's"),
        ({"iss": ISSUER + "/"}, "another issuer's"),
        ({"aud": "other"}, "another service"),
        ({"aud": []}, "another service"),
        ({"aud": [CLIENT, "other"]}, "several services"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "another service"),
        ({"azp": "other"}, "another service"),
        ({"exp": 1_799_999_940}, "has ended"),
        ({"exp": None}, "does not say"),
        ({"exp": "tomorrow"}, "does not say"),
        ({"exp": True}, "does not say"),
        ({"exp": float("inf")}, "does not say"),
        ({"iat": None}, "does not say"),
        ({"iat": 1_800_000_061}, "not valid yet"),
        ({"nbf": 1_800_000_061}, "not valid yet"),
        ({"nonce": None}, "not asked for"),
        ({"nonce": "m" * 43}, "not asked for"),
        ({"nonce": ["n" * 43]}, "does not say"),
        ({"at_hash": "A" * 22}, "another access token"),
        ({"sub": None}, "does not say"),
        ({"sub": ""}, "names nobody"),
        ({"sub": 7}, "does not say"),
        ({"sub": "a" * 256}, "names nobody"),
        ({"sub": "a\nb"}, "names nobody"),
    ],
)
def test_a_token_that_says_anything_else_is_refused(change, cause):
    with pytest.raises(NotBelieved, match=cause):
        subject(token(SAID | change, rsa_key()), access_token="access")


def test_several_audiences_are_fine_when_the_token_was_given_to_us():
    assert subject(token(SAID | {"aud": ["other", CLIENT], "azp": CLIENT}, rsa_key())) == "sub-1"


def test_clocks_may_differ_by_a_minute():
    assert subject(token(SAID | {"exp": 1_799_999_941, "iat": 1_799_999_000}, rsa_key())) == "sub-1"
    assert subject(token(SAID | {"iat": 1_800_000_060, "nbf": 1_800_000_060}, rsa_key())) == "sub-1"


@pytest.mark.parametrize("alg", ["none", "NONE", "HS256", "HS384", "ES256K", "RS1", "", "dir"])
def test_what_is_not_signed_by_a_public_key_is_refused(alg):
    made = token(SAID, rsa_key(), alg="none" if alg.lower() == "none" else "HS256")
    head = b64(json.dumps({"alg": alg, "kid": "k1"}).encode())
    _, _, rest = made.partition(".")
    for one in (f"{head}.{rest}", f"{head}.{rest.partition('.')[0]}."):
        with pytest.raises(NotBelieved, match="not signed in a way"):
            subject(one)


def test_no_list_of_ours_holds_a_secret_signature():
    assert not [name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"]


def test_a_key_signs_only_in_its_own_way():
    # An EC token under an RSA key's name, an RSA token where the key says PS256, another curve's name.
    for made, keys in (
        (token(SAID, ec_key(), alg="ES256"), [jwk(rsa_key(), "k1")]),
        (token(SAID, rsa_key()), [jwk(rsa_key(), "k1", alg="PS256")]),
        (token(SAID, ec_key(), alg="ES384"), [jwk(ec_key(), "k1")]),
        (token(SAID, rsa_key()), [jwk(rsa_key(), "k1", use="enc")]),
        (token(SAID, rsa_key(), kid="k2"), [jwk(rsa_key(), "k1")]),
        (token(SAID, rsa_key(), kid=None), [jwk(rsa_key(), "k1"), jwk(rsa_key("other"), "k2")]),
        (token(SAID, rsa_key()), [jwk(rsa_key(), "k1"), jwk(rsa_key("other"), "k1")]),
        (token(SAID, rsa_key()), []),
    ):
        with pytest.raises(UnknownKey):
            subject(made, published(*keys))
    with pytest.raises(NotBelieved, match="signature"):
        subject(token(SAID, rsa_key("other")))


def test_a_lone_key_needs_no_name():
    assert subject(token(SAID, rsa_key(), kid=None), published(jwk(rsa_key()))) == "sub-1"


def test_a_short_key_and_one_that_is_none_are_refused():
    short = rsa_key("short", 1_024)
    with pytest.raises(NotBelieved, match="too short"):
        subject(token(SAID, short), published(jwk(short, "k1")))
    for broken in ({"kty": "RSA", "n": "", "e": ""}, {"kty": "RSA", "n": "!", "e": "AQAB"}):
        with pytest.raises(NotBelieved):
            subject(token(SAID, rsa_key()), published(broken | {"kid": "k1"}))


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": False}, {"crit": []}, {"crit": ["exp"]}])
def test_a_token_that_asks_for_more_is_refused(header):
    with pytest.raises(NotBelieved, match="not understood"):
        subject(token(SAID, rsa_key(), **header))


WHOLE = token(SAID, ec_key(), alg="ES256")


@given(st.integers(0, len(WHOLE) - 1), st.characters(codec="ascii"))
def test_no_other_text_is_taken_for_a_signed_token(place, character):
    changed = WHOLE[:place] + character + WHOLE[place + 1 :]
    if changed != WHOLE:
        with pytest.raises(NotBelieved):
            subject(changed, published(jwk(ec_key(), "k1")))


@given(st.text(max_size=200) | st.binary(max_size=200).map(b64))
def test_rubbish_is_refused_and_breaks_nothing(text):
    with pytest.raises(NotBelieved):
        subject(text)
    with pytest.raises(NotBelieved):
        subject(f"{text}.{text}.{text}")


def test_a_token_without_an_end_is_not_read():
    with pytest.raises(NotBelieved, match="too long"):
        subject(token(SAID | {"more": "a" * 20_000}, rsa_key()))


@given(st.binary(max_size=100) | st.sampled_from([b"[]", b"{}", b'{"keys": 1}', b'{"id_token": 1}', b"\xff"]))
def test_documents_that_cannot_be_read_are_said_so(body):
    for read in (lambda: read_discovered(body, ISSUER, private=False), lambda: read_keys(body, ISSUER)):
        with pytest.raises(Unavailable):
            read()
    with pytest.raises(NotBelieved):
        read_tokens(body)


def test_keys_of_kinds_nobody_knows_are_passed_over_and_too_many_refused():
    strange = [{"kty": "oct", "k": "AA"}, {"kty": 7}, {}, [], {"kty": "EC", "crv": "secp256k1"}]
    assert [key.kid for key in published(*strange, jwk(ec_key(), "good"))] == ["good"]
    with pytest.raises(Unavailable, match="101 keys"):
        published(*[jwk(ec_key(), str(number)) for number in range(101)])


DISCOVERY = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize?tenant=a",
    "token_endpoint": "https://tokens.example/",
    "jwks_uri": f"{ISSUER}/keys",
}


def discovered(*, issuer=ISSUER, private=False, **change) -> Discovered:
    return read_discovered(json.dumps(DISCOVERY | change).encode(), issuer, private=private)


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"issuer": ISSUER + "/"},
        {"jwks_uri": "http://id.example/keys"},
        {"jwks_uri": "https://127.0.0.1/keys"},
        {"jwks_uri": "https://169.254.169.254/latest"},
        {"jwks_uri": "file:///etc/passwd"},
        {"token_endpoint": "https://user:word@id.example/"},
        {"token_endpoint": "https://id.example/#part"},
        {"token_endpoint": "https://[::1/"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": 'https://id.example/"><script>'},
        {"authorization_endpoint": "https://id.example/'"},
        {"authorization_endpoint": "https://id.example/" + "a" * 2_000},
        {"id_token_signing_alg_values_supported": ["HS256", "none"]},
    ],
)
def test_a_discovery_document_leads_nowhere_it_should_not(change):
    with pytest.raises(Unavailable):
        discovered(**change)


def test_a_provider_in_a_network_of_ones_own_names_its_own_host_only():
    home = "http://10.0.0.7:8080"
    inside = {"issuer": home, **dict.fromkeys(list(DISCOVERY)[1:], f"{home}/x")}
    assert read_discovered(json.dumps(inside).encode(), home, private=True).issuer == home
    for elsewhere in ("http://10.0.0.8:8080/x", "http://10.0.0.7:9200/x", "https://10.0.0.7:8080/x"):
        with pytest.raises(Unavailable):
            checked_endpoint(elsewhere, home, private=True)


def test_the_way_out_carries_what_binds_it_to_one_browser():
    bound = bound_to("c" * 43)
    address = way_out(discovered(), CLIENT, "https://us.example/back", ("openid", "profile"), bound)
    assert address.startswith(f"{ISSUER}/authorize?tenant=a&response_type=code&client_id=credits&")
    assert f"state={bound.state}&nonce={bound.nonce}&code_challenge={bound.challenge}" in address
    assert "code_challenge_method=S256" in address
    assert bound.verifier not in address
    assert len({bound.state, bound.nonce, bound.verifier, bound.challenge, "c" * 43}) == 5
    assert bound_to("d" * 43).state != bound.state


def test_the_challenge_is_the_one_that_the_standard_prints():
    # RFC 7636, appendix B.
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert oidc.Bound("", "", verifier).challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_client_proves_itself_as_its_provider_takes_it():
    bound, client = bound_to("c" * 43), (CLIENT, "a b:c")
    headers, form = exchange(discovered(), client, "https://us.example/back", "the code", bound)
    assert headers["authorization"] == "Basic Y3JlZGl0czphK2IlM0Fj"
    assert b"client_secret" not in form
    posts = discovered(token_endpoint_auth_methods_supported=["client_secret_post"])
    headers, form = exchange(posts, client, "https://us.example/back", "the code", bound)
    assert "authorization" not in headers
    assert b"client_id=credits&client_secret=a+b%3Ac" in form
    headers, form = exchange(discovered(), (CLIENT, ""), "https://us.example/back", "the code", bound)
    assert "authorization" not in headers
    assert form.endswith(b"client_id=credits")
    signs = discovered(token_endpoint_auth_methods_supported=["private_key_jwt"])
    with pytest.raises(Unavailable, match="no client secret"):
        exchange(signs, client, "https://us.example/back", "the code", bound)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(SettingsError) as refused:
        oidc.library()
    assert "endcredits[oidc]" in refused.value.remedy

"""Other people's scripts and styles are what their packages hold, named with version, licence and digest."""

from __future__ import annotations

import hashlib
import re
import tomllib

import pytest

from tests.repository import ROOT, shown, tracked

STATIC = ROOT / "proxy" / "portal" / "static"
VENDOR = STATIC / "vendor"
PACKAGES = tomllib.loads((VENDOR / "VENDOR.toml").read_text(encoding="utf-8"))["package"]
PAGES = [
    path for path in tracked() if "proxy/portal/" in str(path) and path.name.endswith((".jinja", ".css"))
]
OURS = [
    path
    for path in tracked()
    if path.suffix == ".js" and STATIC in path.parents and VENDOR not in path.parents
]


def test_every_vendored_file_is_named_with_its_digest_and_nothing_else_is():
    named = {
        f"{package['folder']}/{name}": digest
        for package in PACKAGES
        for name, digest in package["files"].items()
    }
    there = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tracked()
        if VENDOR in path.parents and path.name != "VENDOR.toml"
    }
    assert there == named


@pytest.mark.parametrize("package", PACKAGES, ids=lambda one: one["npm"])
def test_every_vendored_package_has_a_version_a_licence_and_a_reason(package):
    assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
    assert package["licence"] in {"0BSD", "MIT", "BSD-3-Clause", "Apache-2.0", "ISC"}
    assert len(package["why"].split()) >= 4
    assert "LICENSE" in package["files"]


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_no_page_holds_a_script_a_style_or_another_host(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe\b|@import", text) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)", text) == []
    assert re.findall(r"(?:src|href|action)=[\"']?(?:https?:)?//", text) == []


@pytest.mark.parametrize("path", OURS, ids=shown)
def test_no_script_of_ours_makes_code_or_markup_of_text(path):
    text = path.read_text(encoding="utf-8")
    assert (
        re.findall(r"\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write", text)
        == []
    )

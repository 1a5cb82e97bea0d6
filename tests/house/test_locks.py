"""Whatever is installed is named by version and hash, and no file of ours says from which host."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from tests.repository import ROOT, shown, texts, tracked

LOCKS = [path for path in tracked() if path.suffix == ".lock" or path.name == "uv.txt"]
# Joined here, so that this file does not hold what it looks for.
HOSTS = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("pypi", "org"),
            ("python" + "hosted", "org"),
            ("registry", "npm" + "js", "org"),
            ("npm" + "js", "com"),
            ("deb", "debian", "org"),
            ("crates", "io"),
            ("proxy", "golang", "org"),
            ("repo", "anaconda", "com"),
        )
    )
)


def requirements(text: str) -> list[str]:
    """Join continued lines; each requirement with its hashes is one string."""
    return [
        line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")
    ]


def pins(path) -> dict[tuple[str, str], str]:
    """(name, marker) -> version."""
    found = {}
    for line in requirements(path.read_text(encoding="utf-8")):
        head = line.split("--hash=")[0].strip()
        spec, _, marker = head.partition(";")
        name, _, version = spec.strip().partition("==")
        found[name.strip(), marker.strip()] = version.strip()
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=shown)
def test_everything_locked_has_one_version_and_its_hashes(lock):
    lines = requirements(lock.read_text(encoding="utf-8"))
    assert lines
    for line in lines:
        assert re.match(r"[A-Za-z0-9._-]+==[^ ]+", line), line[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), line[:80]


APART = {"requirements-litellm.lock"}  # its environment holds nothing else


def test_the_locks_agree_with_each_other():
    versions: dict[tuple[str, str], dict[str, str]] = {}
    for lock in (lock for lock in LOCKS if shown(lock) not in APART):
        for what, version in pins(lock).items():
            versions.setdefault(what, {})[shown(lock)] = version
    assert {what: by for what, by in versions.items() if len(set(by.values())) > 1} == {}


def test_no_lock_names_a_release_that_stole_credentials():
    for lock in LOCKS:
        found = {version for (name, _), version in pins(lock).items() if name.partition("[")[0] == "litellm"}
        assert found.isdisjoint({"1.82.7", "1.82.8"})


def test_every_direct_dependency_is_in_the_core_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = {name for name, _ in pins(ROOT / "requirements.lock")}
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    names = {re.match(r"[A-Za-z0-9_-]+", spec)[0].lower().replace("_", "-") for spec in wanted}
    assert names <= locked


@pytest.mark.parametrize("path", texts(), ids=shown)
def test_no_file_names_a_package_registry(path):
    assert HOSTS.findall(path.read_text(encoding="utf-8")) == []


def test_scripts_are_executable_and_parse():
    for name in ("run", "lock", "wheel"):
        script = ROOT / ".ci" / name
        assert script.stat().st_mode & 0o111
        shell = "bash" if script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash") else "sh"
        subprocess.run([shell, "-n", str(script)], check=True)

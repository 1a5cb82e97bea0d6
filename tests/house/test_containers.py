"""The image and the compose file, read without an engine: what they name exists, and nothing runs as root."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from tests.repository import ROOT, tracked

DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def compose() -> dict:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def test_every_file_the_image_copies_exists_and_is_tracked():
    names = {path.relative_to(ROOT) for path in tracked()}
    for word, rest in instructions():
        if word != "COPY" or rest.startswith("--from"):
            continue
        *sources, _ = shlex.split(rest)
        for source in sources:
            path = ROOT / source
            assert path.exists(), f"COPY {source}"
            assert any(
                name == path.relative_to(ROOT) or path.relative_to(ROOT) in name.parents for name in names
            )


def test_base_images_are_named_by_version():
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert bases
    for base in [
        *bases,
        *(service["image"] for service in compose()["services"].values() if "image" in service),
    ]:
        assert re.fullmatch(r"[a-z/]+:\d[\w.-]*", base), base


def test_the_image_does_not_run_as_root_and_says_when_it_is_ready():
    last_stage = instructions()
    last_stage = last_stage[max(i for i, (word, _) in enumerate(last_stage) if word == "FROM") :]
    words = dict(last_stage)
    assert words["USER"] not in {"root", "0"}
    assert "/readyz" in words["HEALTHCHECK"]
    assert words["VOLUME"] == "/data"


def test_what_is_installed_into_the_image_is_locked_by_hash():
    for word, rest in instructions():
        for command in rest.split("&&") if word == "RUN" else []:
            if "pip install" in command:
                assert "--require-hashes" in command or "--no-deps --no-build-isolation" in command


def test_compose_mounts_and_builds_from_files_that_exist():
    services = compose()["services"]
    for service in services.values():
        if "build" in service:
            context = (COMPOSE.parent / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (
                (COMPOSE.parent / source).exists()
                if source.startswith(".")
                else source in compose()["volumes"]
            )
        assert set(service.get("depends_on", {})) <= set(services)


def test_the_store_is_healthy_before_the_proxy_starts():
    services = compose()["services"]
    assert services["proxy"]["depends_on"]["store"]["condition"] == "service_healthy"
    assert services["store"]["healthcheck"]["test"]


def test_secrets_come_from_the_environment_file():
    example = dict(
        line.split("=", 1)
        for line in (COMPOSE.parent / "env.example").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert set(example.values()) == {""}
    text = COMPOSE.read_text(encoding="utf-8")
    for key, value in re.findall(r"(\w*(?:PASSWORD|API_KEY|SECRET)\w*):\s*(\S+)", text):
        name = re.match(r"\$\{(\w+)", value)
        assert name, f"{key} is written out"
        assert name[1] in example


def workflow() -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


def test_the_pipeline_runs_the_developers_own_command_on_every_supported_python():
    (job,) = workflow()["jobs"].values()
    assert any(step.get("run") == ".ci/run" for step in job["steps"])
    assert workflow()["permissions"] == {"contents": "read"}
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert job["strategy"]["matrix"]["python"] == classifiers


@pytest.mark.parametrize("place", [".ci/run", ".pre-commit-config.yaml", "CONTRIBUTING.md", "README.md"])
def test_every_make_target_that_is_mentioned_exists(place):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    mentioned = re.findall(
        r"\bmake (?:--[\w-]+ )*([a-z][a-z-]+)\b", (ROOT / place).read_text(encoding="utf-8")
    )
    assert {name for name in mentioned if name not in targets and name not in {"sure", "it"}} == set()

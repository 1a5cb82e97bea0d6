"""The docs name everything an outsider meets, and name nothing that is not there."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from proxy.cli import main
from tests.repository import ROOT, modules, parsed, shown, tracked

DOCS = ROOT / "docs"
PAGES = [path for path in tracked() if path.suffix == ".md" and path.parent in {ROOT, DOCS}]
LOG_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def strings(*packages: str) -> set[str]:
    return {
        node.value
        for path in modules(*packages)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    } | {
        node.value.decode("latin-1")
        for path in modules(*packages)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes)
    }


def words_in(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def test_every_header_is_documented():
    headers = {
        text.lower() for text in strings("proxy") if re.fullmatch(r"x-attribution(-[a-z]+)*", text.lower())
    }
    assert len(headers) >= 5
    assert {header for header in headers if f"`{header}`" not in words_in("wire.md")} == set()


def test_every_metric_is_documented_with_its_unit():
    metrics = {text for text in strings("proxy") if re.fullmatch(r"endcredits_[a-z_]+", text)}
    assert len(metrics) >= 10
    assert {metric for metric in metrics if f"`{metric}`" not in words_in("operations.md")} == set()


def test_every_logged_event_is_documented():
    events = {
        node.args[0].value
        for path in modules("proxy")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOG_LEVELS
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", str(node.args[0].value))
    }
    assert {event for event in events if f"`{event}`" not in words_in("operations.md")} == set()


def test_every_error_code_an_app_may_meet_is_documented():
    # Told as backend_protocol; and under /api, not /v1.
    said_elsewhere = {"frame_too_long", "no_api_key", "too_short"}
    on_pages = {"oidc_refused", "oidc_unavailable", "oidc_unknown", "oidc_ended", "oidc_linked"}
    assert {code for code in on_pages if f"`{code}`" not in words_in("portal.md")} == set()
    said_elsewhere |= on_pages
    codes = {
        keyword.value.value
        for path in modules("proxy")
        if path.parent.name in {"relay", "wire", "access"}
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    assert len(codes) >= 5
    assert {code for code in codes - said_elsewhere if f"`{code}`" not in words_in("wire.md")} == set()


def test_every_environment_variable_of_ours_is_documented():
    names = {text for text in strings("proxy", "attribution") if re.fullmatch(r"ENDCREDITS_[A-Z_]+", text)}
    assert {name for name in names if name not in words_in("operations.md")} == set()


def test_every_test_that_the_page_on_faults_names_is_there():
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)(?:\[(\w+)\])?`", words_in("wire.md"))
    assert len(named) >= 40
    trees = {path: parsed(ROOT / "tests" / path) for path, _, _ in named}
    tests = {path: {getattr(node, "name", "") for node in tree.body} for path, tree in trees.items()}
    texts = {
        path: {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for path, tree in trees.items()
    }
    for path, name, case in named:
        assert name in tests[path], f"{path}::{name}"
        assert not case or case in texts[path], f"{path}::{name}[{case}]"


def test_every_fault_has_a_behaviour_and_a_test():
    _, _, section = words_in("wire.md").partition("## Bad input and faults")
    rows = [line.split(" | ") for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    assert len(rows) >= 20
    for row in rows[1:]:
        assert len(row) == 3, row
        assert "::test_" in row[2], row


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_between_our_pages_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_file_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:attribution|proxy|tests|docs|config|docker|\.ci)/[\w./-]*)`", text)
    made_by_the_reader = {"docker/.env"}
    assert {name for name in named if not (ROOT / name).exists()} <= made_by_the_reader


def command_lines(page: Path) -> list[str]:
    """Every whole command that the page prints: in its shell blocks, fenced or indented."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"^ {4}(endcredits .*)$", text, re.MULTILINE)
    shown = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()] + indented
    return [one[0] for line in shown for one in re.findall(r"\b(endcredits [a-z]([^|&>]|(?<=\S)\|)*)", line)]


def words_of_commands(page: Path) -> list[str]:
    """What the page says of commands between its lines: in backticks, perhaps only a part of one."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [" ".join(one.split()) for one in re.findall(r"`(endcredits [a-z][^`]*)`", text)]


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that these words name, and those behind its name."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        assert words[0].split("|")[0] in command.commands, f"{command.name} {words[0]}"
        command, words = command.commands[words[0].split("|")[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_command_a_page_prints_is_one_that_the_program_takes(page):
    for line in command_lines(page):
        command, words = found(shlex.split(line, comments=True)[1:])
        given, left, _ = command.make_parser(click.Context(command)).parse_args(words)
        assert left == [], line
        for option in command.params:
            value = given.get(option.name or "")
            assert value or not option.required, f"{line}: {option.name}"
            if isinstance(option.type, click.Choice) and isinstance(value, str):
                assert value in option.type.choices, line


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_command_a_page_speaks_of_exists_with_its_options(page):
    for line in words_of_commands(page):
        if line == "endcredits --help":
            continue
        command, words = found(line.split()[1:])
        options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", " ".join(words))) <= options | {"--help"}, line


def runnable_blocks() -> list[str]:
    """README blocks under `<!-- runs -->`: a reader copies them, so they are run as they stand."""
    return re.findall(
        r"<!-- runs -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )


def test_the_readmes_commands_run_one_after_the_other(tmp_path):
    here = str(Path(sys.executable).parent)
    (tmp_path / "endcredits").write_text(f'#!/bin/sh\nexec {sys.executable} -m proxy "$@"\n')
    (tmp_path / "endcredits").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{here}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ENDCREDITS_DATA": str(tmp_path / "var"),
    }
    blocks = runnable_blocks()
    assert blocks
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '"gulls.txt"' in ran.stdout, "what was registered is credited"

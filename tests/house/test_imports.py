"""Imports point one way. import-linter reads the source; what it cannot see (a package's __init__ runs first,
a library drags in another) is asked of a fresh interpreter."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from tests.repository import ROOT, modules, parsed, shown

SQL = {"sqlalchemy", "sqlmodel", "alembic", "sqlite3", "psycopg"}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that `statement` loads into a bare interpreter, by full name."""
    code = f"import sys, json; was = set(sys.modules); {statement}; print(json.dumps(sorted(set(sys.modules) - was)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout))


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_every_import_contract_is_kept():
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    ran = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_wire_loads_nothing_but_the_standard_library_and_msgspec():
    foreign = (
        tops(loaded_by("import proxy.wire"))
        - set(sys.stdlib_module_names)
        - {"proxy", "msgspec", "typing_extensions"}
    )
    assert not foreign
    ours = {name for name in loaded_by("import proxy.wire") if name.startswith("proxy")}
    assert {name for name in ours if name != "proxy" and not name.startswith("proxy.wire")} == set()


def test_attribution_loads_no_web_no_database_and_no_runtime_before_it_is_opened():
    heavy = {
        "litestar",
        "uvicorn",
        "httpx",
        "sqlmodel",
        "structlog",
        "onnxruntime",
        "proxy",
        "asyncio",
    }
    assert tops(loaded_by("import attribution")) & (heavy | SQL) == set()


def test_serving_loads_nothing_that_is_only_for_the_demo_the_tests_or_training():
    needless = {
        "openai",
        "faker",
        "polyfactory",
        "onnx",
        "sklearn",
        "scipy",
        "torch",
        "pytest",
        "alembic_utils",
    }
    assert tops(loaded_by("import proxy.app")) & needless == set()


def test_a_process_that_only_serves_has_no_numpy_whatever_of_billing_it_shows():
    # Twenty megabytes: closing a period and searching an index need it, and happen elsewhere.
    assert "numpy" not in tops(loaded_by("import proxy.app, proxy.portal.api"))


@pytest.mark.parametrize("path", modules("proxy"), ids=shown)
def test_only_stores_and_migrations_speak_sql_and_only_upstream_speaks_http(path):
    place = shown(path)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(parsed(path))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    # proxy/cli/logprobs.py asks a scoring server, offline, proxy/outside.py asks whom an operator named, and
    # proxy/hooks/sending.py tells webhooks what happened by it: no request of a client goes through them.
    speaks_http = place in {
        "proxy/hooks/sending.py",
        "proxy/outside.py",
        "proxy/relay/upstream.py",
        "proxy/relay/transport.py",
        "proxy/cli/logprobs.py",
    } or place.startswith("proxy/demo/")
    # Others may name the type of a transport that is handed in; only these files make or send a request.
    named = {
        node.attr
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "httpx"
    }
    assert speaks_http or named <= {"AsyncBaseTransport"}, f"{place} uses httpx: {named}"
    statements = {"select", "insert", "update", "delete", "text"}
    calls_sql = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and imported & SQL and node.func.id in statements)
            or (
                isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"sa", "sqlalchemy", "sqlmodel"}
                and node.func.attr in statements
            )
        )
    }
    is_store = place.endswith("store.py") or "/migrations/" in place or place == "proxy/database.py"
    assert is_store or not calls_sql, (
        f"{place} writes SQL: {calls_sql}; that belongs in a file named store.py or *_store.py"
    )

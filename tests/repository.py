"""Where the repository's files are, for tests that read the code instead of running it."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT_SUFFIXES_NOT = {
    ".onnx",
    ".npy",
    ".png",
    ".pdf",
    ".docx",
    ".epub",
    ".gz",
    ".ico",
    ".woff2",
    ".bin",
    ".npz",
}


@cache
def tracked() -> tuple[Path, ...]:
    """Every file git would commit, in order; new files that are not ignored belong to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return tuple(sorted(path for name in listed.split("\0") if name and (path := ROOT / name).is_file()))


def texts() -> tuple[Path, ...]:
    """Every tracked file that people read as text."""
    return tuple(path for path in tracked() if path.suffix not in TEXT_SUFFIXES_NOT)


def modules(*packages: str) -> tuple[Path, ...]:
    """Every Python file of the packages, as absolute paths."""
    return tuple(
        path
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in (packages or ("attribution", "proxy"))
    )


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def shown(path: Path) -> str:
    """The path as a person would type it from the root."""
    return str(path.relative_to(ROOT))

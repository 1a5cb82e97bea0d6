"""The command line, called in this process: what it printed, and with which status it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from proxy.cli import main


@dataclass(frozen=True)
class Ran:
    """One command's end."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def row(self) -> dict[str, Any]:
        """Its only JSON line."""
        (row,) = self.rows
        return row


@dataclass(frozen=True)
class Commands:
    """`endcredits ... --data FOLDER`."""

    data: Path

    def __call__(self, *arguments: str | Path, fed: str | bytes | None = None) -> Ran:
        words = [str(argument) for argument in arguments]
        ran = CliRunner().invoke(main, [*words, "--data", str(self.data)], input=fed)
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return Ran(ran.exit_code, ran.stdout, ran.stderr)

    def json(self, *arguments: str | Path, fed: str | bytes | None = None) -> Ran:
        """The same with --json."""
        return self(*arguments, "--json", fed=fed)

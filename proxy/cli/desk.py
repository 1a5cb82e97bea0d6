"""What all commands share: the group they hang on, their three options, and how they print and refuse.

Standard output carries answers only (text for people, JSON lines with --json); progress, notices and
refusals go to standard error, so that a pipe never meets them.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from proxy import __version__
from proxy.errors import Problem

if TYPE_CHECKING:
    import sqlalchemy as sa

    from proxy.settings import Settings

Progress = Callable[[int, int], None]
PIPE_WIDTH = 300
Place = tuple[int, str]
T = TypeVar("T")


class Desk:
    """What a command works with: settings, output form, and the store opened on first use."""

    def __init__(
        self, config: Path | None = None, data: Path | None = None, *, as_json: bool = False
    ) -> None:
        self.config = config
        self.data = data
        self.as_json = as_json

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of --config, with --data applied."""
        from proxy.settings import load_settings

        return load_settings(self.config, data_dir=self.data)

    @functools.cached_property
    def engine(self) -> sa.Engine:
        """The store's engine, its schema brought up to date; an empty store is created."""
        from proxy.database import open_engine, upgrade

        make_private(self.settings.data_dir)
        upgrade(self.settings.store_url)
        return open_engine(self.settings.store_url)

    def close(self) -> None:
        """Give the store's connections back."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    def say(self, value: object, text: str) -> None:
        """Print `value` as one JSON line for machines, or `text` for people."""
        click.echo(msgspec.json.encode(value) if self.as_json else text)

    def note(self, text: str) -> None:
        """Tell a person something that is not the answer."""
        click.echo(text, err=True)

    def table(self, rows: Iterable[Mapping[str, object]], columns: tuple[str, ...], *, empty: str) -> None:
        """Print rows as JSON lines, or as an aligned table; `empty` says what to do when there are none."""
        if self.as_json:
            for row in rows:
                click.echo(msgspec.json.encode(row))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            cells = (row.get(column) for column in columns)
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
        if table.row_count:
            # A pipe has no width: nothing is cut there.
            Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
        else:
            click.echo(empty)

    @contextlib.contextmanager
    def progress(self, label: str) -> Generator[Progress]:
        """Give a `(done, total)` callback that draws a bar on standard error, where somebody looks."""
        if self.as_json or not sys.stderr.isatty():
            yield lambda _done, _total: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as drawn:
            task = drawn.add_task(label, total=None)
            yield lambda done, total: drawn.update(task, completed=done, total=total or None)


def every(page: Callable[[Place | None], Sequence[T]], place: Callable[[T], Place]) -> Iterator[T]:
    """Give all rows of a list that comes a page at a time. page: gives those behind a place, None: the first.

    place: (time, id) of a row.
    """
    behind: Place | None = None
    while rows := page(behind):
        yield from rows
        behind = place(rows[-1])


def make_private(folder: Path) -> None:
    """Create a folder that only its owner may enter: it holds hashes of keys, texts of works and money."""
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise Problem(
                f"{folder}: the data folder cannot be created ({error.strerror})",
                remedy="pass --data DIR with a folder you may write to",
                code="data_dir",
            ) from error


def command(group: click.Group, name: str = "") -> Callable[[Callable[..., int | None]], click.Command]:
    """Register a command that takes --config, --data and --json, and turns a Problem into exit status 1."""

    def register(function: Callable[..., int | None]) -> click.Command:
        @functools.wraps(function)
        def run(config: Path | None, data: Path | None, *, as_json: bool, **arguments: Any) -> None:
            desk = Desk(config, data, as_json=as_json)
            try:
                status = function(desk, **arguments)
            except Problem as problem:
                refuse(problem, as_json=as_json)
                status = 1
            finally:
                desk.close()
            raise SystemExit(status or 0)

        wrapped: Any = run
        for option in (
            click.option("--json", "as_json", is_flag=True, help="JSON lines for machines."),
            click.option(
                "--data", type=click.Path(path_type=Path, file_okay=False), help="Data folder [./var]."
            ),
            click.option(
                "--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML)."
            ),
        ):
            wrapped = option(wrapped)
        made = click.command(name or function.__name__)(wrapped)
        assert made.name not in group.commands, f"two commands are called {made.name}"
        group.add_command(made)
        return made

    return register


def refuse(problem: Problem, *, as_json: bool) -> None:
    """Print cause and remedy."""
    if as_json:
        answer = {"error": problem.code, "cause": problem.cause, "remedy": problem.remedy}
        click.echo(msgspec.json.encode(answer))
    click.echo(f"error: {problem.cause}", err=True)
    if problem.remedy:
        click.echo(f"remedy: {problem.remedy}", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="endcredits")
def main() -> None:
    """Every AI answer rolls its credits, and pays them."""

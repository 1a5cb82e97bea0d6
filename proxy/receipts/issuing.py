"""Issues receipts: the keys in force, the secrets of each month, and a settled answer as a signed token.

Both lie in folders beside the store. Keys are read again when they may have changed, so that a rotation made
by a command signs within a second in every process. A month's secret is made a month ahead, so that a disk
that fills up meets no answer that needs one; deleting its file makes what it salted impossible to open, and
changes nothing that was signed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path
from typing import Any, Final

from proxy.clock import Clock
from proxy.errors import NotFound, SettingsError
from proxy.keyfile import secret_file
from proxy.metering.usage import MeteredEvent
from proxy.observability import get_log
from proxy.receipts.receipt import Secrets, payload
from proxy.receipts.signing import Signer, SigningKey, open_keys
from proxy.receipts.verify import VerifierKey, b64url

KEYS_DIR: Final = "signing"
SECRETS_DIR: Final = "receipt-secrets"
REFRESH_S: Final = 1.0
DAY_US: Final = 86_400_000_000
AHEAD_DAYS: Final = 31  # always in the next month
DAYS_HELD_MAX: Final = 400  # secrets in memory, by the day: the log goes through a period in its order


class MonthSecrets:
    """The secrets of each month, in UTC, in which answers are given, in `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        """Make their folder where there is none."""
        self._folder = data_dir / SECRETS_DIR
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._days: dict[int, Secrets] = {}

    def of(self, occurred_us: int) -> Secrets:
        """Return the secrets of the month in which an answer was given, making them if need be.

        Raises SettingsError for a damaged file, OSError where none can be made.
        """
        day = occurred_us // DAY_US  # to ask what month it is costs more than all the rest of a digest
        secrets = self._days.get(day)
        if secrets is None:
            while len(self._days) >= DAYS_HELD_MAX:
                self._days.pop(next(iter(self._days)))
            secrets = self._days[day] = Secrets(secret_file(self._path(day)))
        return secrets

    def kept(self, occurred_us: int) -> Secrets:
        """Return those secrets as long as they are kept: a new one would open nothing.

        Raises NotFound once they were destroyed.
        """
        path = self._path(occurred_us // DAY_US)
        if not path.exists():
            raise NotFound(
                f"what shows receipts of {path.stem} was destroyed",
                remedy="a receipt that was saved with its proof before stays valid",
                code="secret_destroyed",
            )
        return Secrets(secret_file(path))

    def make_ahead(self, now_us: int) -> None:
        """Make this month's and the next one's; what cannot be made now is made when an answer needs it."""
        for ahead_days in (0, AHEAD_DAYS):
            with contextlib.suppress(SettingsError, OSError):
                self.of(now_us + ahead_days * DAY_US)

    def _path(self, day: int) -> Path:
        return self._folder / f"{dt.date(1970, 1, 1) + dt.timedelta(days=day):%Y-%m}.key"


class Issuer:
    """Signs with the keys in `data_dir`. origin: the log's name, which its checkpoints' signatures bear."""

    def __init__(self, data_dir: Path, origin: str, clock: Clock) -> None:
        """Read the keys, making the first one where there is none. Raises SettingsError for a damaged one."""
        self.origin = origin
        self._keys_dir = data_dir / KEYS_DIR
        months = MonthSecrets(data_dir)
        self._months = months
        self.secrets_of, self.kept_secrets_of = months.of, months.kept
        self._clock = clock
        self._log = get_log()
        self._is_readable = True
        self._read(clock.now_us())

    @property
    def signer(self) -> Signer:
        """What signs now."""
        if self._clock.monotonic_s() - self._read_s >= REFRESH_S:
            now_us = self._clock.now_us()
            try:
                self._read(now_us)
            except (SettingsError, OSError) as error:
                # Who serves goes on with the keys it has; who starts with them is told at once.
                if self._is_readable:
                    self._log.error("signing_keys_unreadable", why=str(error))
                self._is_readable = False
                self._read_s = self._clock.monotonic_s()
        return self._signer

    def receipt(self, event: MeteredEvent) -> str:
        """Return a settled answer's receipt: a compact JWS. Raises as `secrets_of` does."""
        return self.signer.jws(payload(event, self.secrets_of(event.occurred_us)))

    def about(self) -> dict[str, Any]:
        """Return what anybody needs to check what was signed: the log's name, and every public key ever."""
        return {
            "log": {"origin": self.origin, "url": "/log/"},
            "keys": [self._public(key) for key in self._known()],
        }

    def _known(self) -> list[SigningKey]:
        _ = self.signer  # which reads them again
        return self._keys

    def _public(self, key: SigningKey) -> dict[str, Any]:
        return {
            "kid": key.kid,
            "alg": "EdDSA",
            "x": b64url(key.public),
            "verifier": str(VerifierKey.of(self.origin, key.public)),
            "from_us": key.from_us,
            "until_us": key.until_us or None,
        }

    def _read(self, now_us: int) -> None:
        keys = open_keys(self._keys_dir, now_us)
        self._signer = Signer(self.origin, keys, now_us)
        self._keys, self._is_readable = keys, True
        self._read_s = self._clock.monotonic_s()
        self._months.make_ahead(now_us)

"""The `endcredits` command: what an operator types.

Each command reads settings, opens (and if need be creates) the store, does one thing and exits: 0 done, 1
refused or failed, 2 wrong usage. All of them work while a server runs on the same data folder: they write
to the same store, and the server notices within a second. With --json every command prints JSON lines and
nothing else on standard output; progress and notices go to standard error.

`desk` holds what every command shares; one module beside it for each family of commands. Bodies import what
they need when they run, so that `--help` and small commands start in a fraction of a second.
"""

from __future__ import annotations

from proxy.cli import (
    access,
    apps,
    audit,
    causal,
    compensation,
    licences,
    matters,
    money,
    offline,
    ownership,
    payees,
    payouts,
    persons,
    proofs,
    registry,
    serving,
    statements,
    storing,
    webhooks,
)
from proxy.cli.desk import main

__all__ = [
    "access",
    "apps",
    "audit",
    "causal",
    "compensation",
    "licences",
    "main",
    "matters",
    "money",
    "offline",
    "ownership",
    "payees",
    "payouts",
    "persons",
    "proofs",
    "registry",
    "serving",
    "statements",
    "storing",
    "webhooks",
]

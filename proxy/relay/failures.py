"""What a client hears when its backend fails before anything was sent."""

from __future__ import annotations

from typing import Literal

FailureKind = Literal["connect", "timeout", "cut", "protocol"]

# kind -> (status, code, what happened and what to do)
FAILURES: dict[FailureKind, tuple[int, str, str]] = {
    "connect": (502, "backend_unreachable", "no backend could be reached; try again shortly"),
    "timeout": (504, "backend_timeout", "the backend did not answer in time; try again, or ask for less"),
    "cut": (502, "backend_cut", "the backend broke off its answer; try again"),
    "protocol": (502, "backend_protocol", "the backend's answer breaks its protocol; tell its operator"),
}

"""Where an exchange stands, and how its answer travels: the states that exchange.py moves between."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """How far one request and its answer are; never back."""

    WAITING = enum.auto()  # for the backend's head
    FLOWING = enum.auto()
    SETTLING = enum.auto()
    RECORDING = enum.auto()
    RELEASED = enum.auto()  # recorded; what may still come is passed on
    OVER = enum.auto()


class Mode(enum.Enum):
    """How the answer is read, known with its head."""

    STREAM = enum.auto()  # server-sent events
    WHOLE = enum.auto()  # JSON, or text that the endpoint reads: held whole
    REFUSAL = enum.auto()  # the backend's own error, held while it is short
    UNREAD = enum.auto()  # neither, or encoded: passed on, one piece behind

"""What can go wrong in attribution, each with its cause and its remedy.

The library knows no web: the proxy turns these into its own problems, a command prints them. Four kinds,
because four different people act: who installed the package, who changed the model, who has built no index
yet, and who runs the disk the index lies on.
"""

from __future__ import annotations


class AttributionError(Exception):
    """A refusal with its cause and its remedy."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}" if self.remedy else self.cause


class ModelMissing(AttributionError):
    """A model file is not where it should be."""


class ModelMismatch(AttributionError):
    """A model file is not the one its manifest, or the index, was made with."""


class IndexMissing(AttributionError):
    """There is no index at this path, or its building never came to an end."""


class IndexCorrupt(AttributionError):
    """An index's files are not what its manifest says."""

"""Attribution: which registered works a text draws on, and how much of each.

>>> import tempfile, pathlib
>>> from attribution import Attributor, SourceWork, build_index
>>> poem = (
...     "The lamplighter's heron counted eleven copper bells before the harbour froze. Nobody paid the toll."
... )
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "index"
>>> manifest = build_index([SourceWork("poem", poem, registered_us=1)], folder)
>>> attributor = Attributor.open(folder)
>>> answer = attributor.attribute(
...     "The lamplighter's heron counted eleven copper bells before the harbour froze."
... )
>>> [(share.work_id, share.ppm) for share in answer.shares], answer.unattributed_ppm
([('poem', 1000000)], 0)

Importing this costs little: the models' runtime is loaded when an index is opened or built.
"""

from __future__ import annotations

from attribution.engine import AttributionStream, Attributor, build_index
from attribution.errors import AttributionError, IndexCorrupt, IndexMissing, ModelMismatch, ModelMissing
from attribution.index import Manifest, verify_index
from attribution.ownership import held, quarantined
from attribution.terms import PPM, Attribution, Held, Match, Share, SourceWork

__all__ = [
    "PPM",
    "Attribution",
    "AttributionError",
    "AttributionStream",
    "Attributor",
    "Held",
    "IndexCorrupt",
    "IndexMissing",
    "Manifest",
    "Match",
    "ModelMismatch",
    "ModelMissing",
    "Share",
    "SourceWork",
    "build_index",
    "held",
    "quarantined",
    "verify_index",
]

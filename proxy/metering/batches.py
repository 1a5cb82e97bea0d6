"""The ids of a batch's answers: made from where they stand, so that reading one again is the same event.

A batch's output may be downloaded any number of times, by any worker, and each of its answers is metered
once. So the id is no random one: it is a digest of backend, file and the request's own name in it. A name
that stands there twice is two answers; the second has a 1 in its digest.
"""

from __future__ import annotations

import hashlib

from proxy.clock import base32


def line_id(backend: str, file_id: str, custom_id: str, occurrence: int = 0) -> str:
    """Return the attribution id of one answer. occurrence: how often its name stood in the file before."""
    place = "\0".join(("batch", backend, file_id, str(occurrence), custom_id))
    digest = hashlib.sha256(place.encode("utf-8", "surrogatepass")).digest()
    return "rct_" + base32(int.from_bytes(digest[:17]) >> 6)  # 130 bits

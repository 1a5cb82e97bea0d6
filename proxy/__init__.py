"""Endcredits: an OpenAI-compatible reverse proxy that rolls the credits of every answer, and pays them.

This package is the server, one folder a chapter: `wire` (the protocol), `relay` (one request), `access`
(who is asking), `catalogue` (works and consent), `metering` (what was used), `billing` (usage into money),
`portal` (what people and scripts read). It imports nothing here, so that `proxy.wire` loads on its own.
"""

__version__ = "0.1.0"

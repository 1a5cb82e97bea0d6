"""How one answer's credits are shown: its headers, and the field in the bytes of its endpoint.

Everything here is a function of what was wished, what was credited and what the endpoint has room for. When
an answer may be shown at all (settled or late, usage on disk) is the exchange's to know.
"""

from __future__ import annotations

import msgspec

from proxy.relay.credits import Credited, citations_of, view_of
from proxy.relay.guard import ends
from proxy.wire.annotate import (
    AttributionView,
    Citations,
    spliced,
    spliced_frame,
    with_citations,
    with_response_citations,
)
from proxy.wire.endpoint import Endpoint
from proxy.wire.headers import Status, Wishes, credit_headers, id_header, status_header
from proxy.wire.sse import Frame

Headers = list[tuple[bytes, bytes]]


class Showing:
    """One answer's way of being shown. `choices`: as asked, 1 unless told."""

    def __init__(
        self, event_id: str, endpoint: Endpoint, wishes: Wishes, method: str, choices: int = 1
    ) -> None:
        self._id = event_id
        self._endpoint = endpoint
        self._wishes = wishes
        self._method = method
        self._choices = choices
        self.receipt = ""  # once the answer is settled and recorded

    def headers(self, status: Status | None) -> Headers:
        """Return the headers of a reply whose credits are not in its head; None: not known yet."""
        told = [] if status is None else [status_header(status)]
        return [id_header(self._id), *told]

    def headers_with(self, status: Status, credits_: Credited | None) -> Headers:
        """Return the headers of a whole reply: the shares too, when they are settled."""
        extra = self.headers(status)
        if status == "settled" and credits_ is not None:
            shares = [(work.work, work.ppm) for work in credits_.works[: self._wishes.works_top]]
            extra += credit_headers(shares, credits_.unattributed_ppm)
        return extra

    def frame(self, frame: Frame, credits_: Credited | None) -> bytes:
        """Return the held event's bytes with the field, or as they came where there is no room for it."""
        if not self._splices:
            return frame.raw
        return spliced_frame(
            frame, self._view(credits_), self._citations(credits_), holder=self._endpoint.holder
        )

    def body(self, body: bytes, credits_: Credited | None) -> bytes:
        """Return a whole JSON reply's bytes with the field, without what the guard cuts off."""
        if credits_ is not None and (cut := ends(credits_.replication)):
            body = self._endpoint.cut_reply(body, cut)
        if not self._splices:
            return body
        citations = self._citations(credits_)
        if citations and self._endpoint.citing == "response":
            body = with_response_citations(body, citations)
        elif citations:
            body = with_citations(body, citations, b"message")
        return spliced(body, self._view(credits_))

    @property
    def _splices(self) -> bool:
        return self._endpoint.takes_field and self._wishes.view in {"body", "full", "annotations"}

    def _citations(self, credits_: Credited | None) -> Citations | None:
        if self._wishes.view != "annotations" or not self._endpoint.citing:
            return None
        return citations_of(credits_, top=self._wishes.works_top)

    def _view(self, credits_: Credited | None) -> AttributionView:
        if self._endpoint.unscored:
            return AttributionView(self._id, "off", self._method, None, reason=self._endpoint.unscored)
        view = view_of(
            self._id,
            credits_,
            view=self._wishes.view,
            top=self._wishes.works_top,
            choices=self._choices,
            method=self._method,
        )
        return msgspec.structs.replace(view, receipt=self.receipt) if self.receipt else view

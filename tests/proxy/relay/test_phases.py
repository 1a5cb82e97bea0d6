from __future__ import annotations

from proxy.relay.phases import Mode, Phase


def test_an_exchange_goes_through_its_phases_in_the_order_they_are_written():
    assert [phase.name for phase in Phase] == [
        "WAITING", "FLOWING", "SETTLING", "RECORDING", "RELEASED", "OVER",
    ]  # fmt: skip


def test_an_answer_travels_in_one_of_four_ways():
    assert {mode.name for mode in Mode} == {"STREAM", "WHOLE", "REFUSAL", "UNREAD"}

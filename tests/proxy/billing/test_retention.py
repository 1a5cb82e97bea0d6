import pytest

from proxy.billing.retention import DAY_US, Facts, standing

CLOSED = 100 * DAY_US
WINDOW = CLOSED + 14 * DAY_US
LOGGED = {"shd_a": 10, "shd_b": 5}


def of(now_us, *, days=30, logged=LOGGED, **facts):
    made = {"until_us": WINDOW, "answers": 3, "end_bounds": {"shd_a": 10, "shd_b": 5}} | facts
    return standing(Facts("2026-11", CLOSED, **made), days=days, logged=logged, now_us=now_us)


@pytest.mark.parametrize(
    ("now_us", "changes", "state", "why"),
    [
        (WINDOW - 1, {}, "kept", "a draft until"),
        (WINDOW, {}, "kept", "until 1970-05-25"),
        (WINDOW + 30 * DAY_US - 1, {}, "kept", "until 1970-05-25"),
        (WINDOW + 30 * DAY_US, {}, "due", ""),
        (WINDOW + 30 * DAY_US, {"disputes": 1}, "kept", "a dispute is open"),
        (WINDOW + 30 * DAY_US, {"disputes": 2}, "kept", "2 disputes are open"),
        (WINDOW + 30 * DAY_US, {"logged": {"shd_a": 10}}, "kept", "public log"),
        (WINDOW + 30 * DAY_US, {"logged": {"shd_a": 9, "shd_b": 5}}, "kept", "public log"),
        (WINDOW + 900 * DAY_US, {"days": 0}, "kept", "usage_days is 0"),
        (WINDOW + 900 * DAY_US, {"trimmed_us": WINDOW + 40 * DAY_US}, "trimmed", "left on 1970-06-04"),
        (WINDOW + 900 * DAY_US, {"days": 0, "trimmed_us": WINDOW}, "trimmed", "left on"),
        (CLOSED + 30 * DAY_US, {"until_us": 0}, "due", ""),  # closed before there were windows
        (CLOSED + 29 * DAY_US, {"until_us": 0}, "kept", "until"),
    ],
)
def test_answers_stay_while_somebody_may_ask_for_the_single_line(now_us, changes, state, why):
    found = of(now_us, **changes)
    assert (found.state, found.why.startswith(why) or why in found.why) == (state, True)


def test_it_says_from_when_they_may_leave():
    assert of(WINDOW).due_us == WINDOW + 30 * DAY_US
    assert of(WINDOW, days=0).due_us == 0

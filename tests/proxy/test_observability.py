from __future__ import annotations

import json
import subprocess
import sys

from prometheus_client import generate_latest

from proxy.observability import Metrics

SCRIPT = """
import logging
from proxy.observability import configure_logging, get_log
configure_logging("info")
get_log().info("exchange_settled", settle_ms=21.4, path=__import__("pathlib").Path("/x"))
get_log().debug("exchange_seen")
logging.getLogger("some.library").warning('it said "no"')
"""


def lines_of(script: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "", "standard output belongs to the command's answer"
    return ran.stderr.splitlines()


def test_an_event_is_one_line_of_json_with_its_time_and_level():
    event = json.loads(lines_of(SCRIPT)[0])
    assert event.pop("at").endswith("Z")
    assert event == {"event": "exchange_settled", "level": "info", "settle_ms": 21.4, "path": "/x"}


def test_events_below_the_level_are_not_written():
    assert not any("exchange_seen" in line for line in lines_of(SCRIPT))


def test_what_a_library_logs_is_one_line_of_json_too():
    (line,) = (line for line in lines_of(SCRIPT) if "library" in line)
    assert 'it said "no"' in json.loads(line)["message"]


TWICE = """
from proxy.observability import configure_logging, get_log
configure_logging("info")
fields = {"id": "rct_1", "text": 'a "b" \\n', "number": 1.5, "none": None, "level_of_care": 3}
get_log().info("told", **fields)
get_log().warning("told", **fields)
"""


def test_what_is_told_of_every_answer_has_the_form_of_any_other_event():
    short, long = map(json.loads, lines_of(TWICE))
    assert len(short.pop("at")) == len(long.pop("at"))
    assert short == {**long, "level": "info"}


def test_what_is_counted_by_label_is_counted_once_whoever_finds_it():
    metrics = Metrics()
    for _ in range(3):
        metrics.requests.labels("chat", "complete").inc()
    metrics.requests.labels(endpoint="chat", outcome="complete").inc()
    metrics.request_seconds.labels("chat").observe(0.004)
    told = generate_latest(metrics.registry).decode()
    assert 'endcredits_requests_total{endpoint="chat",outcome="complete"} 4.0' in told
    assert 'endcredits_request_seconds_count{endpoint="chat"} 1.0' in told


def test_two_apps_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.client_left.inc()
    assert "endcredits_clients_left_total 1.0" in generate_latest(one.registry).decode()
    assert "endcredits_clients_left_total 0.0" in generate_latest(other.registry).decode()


SHARED = """
import sys, pathlib
from proxy.observability import Metrics
metrics = Metrics(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
metrics.client_left.inc()
metrics.backlog_bytes.set(7)
metrics.backend_circuit_open.labels("b").set(1)
sys.stdout.buffer.write(metrics.exposed())
"""


def test_workers_count_together_and_one_that_is_replaced_counts_on(tmp_path):
    def worker(slot: str) -> str:
        command = [sys.executable, "-c", SHARED, str(tmp_path), slot]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    worker("0")
    worker("1")
    told = worker("1")
    assert "endcredits_clients_left_total 3.0" in told
    assert "endcredits_backlog_bytes 14.0" in told
    assert 'endcredits_backend_circuit_open{backend="b"} 1.0' in told


def test_a_command_that_configures_nothing_still_keeps_standard_output_for_its_answer():
    (line,) = lines_of("from proxy.observability import get_log; get_log().warning('store_returned')")
    assert "store_returned" in line

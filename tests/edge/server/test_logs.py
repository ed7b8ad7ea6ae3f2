"""The log's lines are JSON and hold no words of an error, and the metrics are text that Prometheus reads."""

import json
import logging
import os
import re
import sys
from pathlib import Path

import pytest

from edge.server.logs import JsonLines, log_to_stderr
from edge.server.metrics import Metrics


def test_a_line_is_json_with_the_fields_and_without_an_errors_words() -> None:
    try:
        raise ValueError("what the user said")
    except ValueError as error:
        record = logging.LogRecord("edge", logging.ERROR, "file", 1, "it %s", ("failed",), (type(error), error, None))
    record.fields = {"route": "/v1/chat", "text": "a\r\nb"}
    line = JsonLines().format(record)
    said = json.loads(line)
    assert (said["event"], said["level"], said["route"]) == ("it failed", "error", "/v1/chat")
    assert said["error"] == "ValueError"
    assert "what the user said" not in line and "\n" not in line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["time"])


@pytest.mark.parametrize(
    ("level", "prefix"), [("DEBUG", "<7>"), ("INFO", "<6>"), ("WARNING", "<4>"), ("ERROR", "<3>"), ("CRITICAL", "<2>")]
)
def test_journald_gets_the_level_in_front_of_a_line(level: str, prefix: str) -> None:
    record = logging.LogRecord("edge", logging.getLevelNamesMapping()[level], "file", 1, "it happened", (), None)
    line = JsonLines(for_journal=True).format(record)
    assert line.startswith(prefix + "{") and json.loads(line.removeprefix(prefix))["event"] == "it happened"
    assert JsonLines().format(record).startswith("{")


@pytest.mark.parametrize("is_journal", [True, False])
def test_only_what_journald_reads_has_levels(is_journal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("edge")
    before = ([*logger.handlers], logger.level)
    with (tmp_path / "log").open("w") as file:
        found = os.fstat(file.fileno())
        stream = f"{found.st_dev}:{found.st_ino}" if is_journal else f"{found.st_dev}:{found.st_ino + 1}"
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        monkeypatch.setattr(sys, "stderr", file)
        try:
            log_to_stderr()
            logger.warning("it happened")
        finally:
            for handler in [each for each in logger.handlers if each not in before[0]]:
                logger.removeHandler(handler)
                logging.getLogger("asyncio").removeHandler(handler)
            logger.setLevel(before[1])
    assert (tmp_path / "log").read_text().startswith("<4>{" if is_journal else "{")


def test_the_metrics_are_text_that_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.gauge("edge_running", lambda: 2)
    metrics.request("/v1/chat", 200)
    metrics.request("/v1/chat", 200)
    metrics.first_token(0.2)
    metrics.generation("stop", n_input=10, n_output=6, n_timed=5, s=0.5)
    lines = metrics.text().splitlines()
    for line in lines:
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [-+.e\d]+', line), line
    for expected in (
        'edge_requests_total{route="/v1/chat",status="200"} 2',
        'edge_tokens_total{kind="input"} 10',
        'edge_generations_total{end="stop"} 1',
        'edge_time_to_first_token_seconds_bucket{le="0.1"} 0',
        'edge_time_to_first_token_seconds_bucket{le="0.25"} 1',
        'edge_tokens_per_second_bucket{le="5"} 0',
        'edge_tokens_per_second_bucket{le="10"} 1',
        "edge_running 2",
    ):
        assert expected in lines

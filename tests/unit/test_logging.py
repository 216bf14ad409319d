"""Log lines are JSON, and hold no text of an exception, whoever raised or logged it. Each in a process of its own."""

import json
import subprocess
import sys

SECRET = "redis://:hunter2@secret-host:6379 /etc/passwd"

PREAMBLE = f"""
import logging, structlog
from shared.runtime.logging import configure

configure("a_service", "INFO")

def fail():
    raise ConnectionError({SECRET!r})

try:
    fail()
except ConnectionError as caught:
    error = caught
"""


def logged(code: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    assert "hunter2" not in done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_error_of_ours_shows_its_type_and_place_only() -> None:
    [line] = logged("structlog.get_logger().error('it_failed', task_id='t', exc_info=error)")

    assert line["event"] == "it_failed"
    assert line["task_id"] == "t"
    assert line["error"] == "builtins.ConnectionError"
    assert line["where"] == "__main__.fail:8"
    assert line["service"] == "a_service"
    assert line["level"] == "error"


def test_a_librarys_line_keeps_its_template_and_loses_its_arguments() -> None:
    [line] = logged(f"logging.getLogger('some.library').critical('Lost %s: %s', {SECRET!r}, error, exc_info=error)")

    assert line["event"] == "Lost %s: %s"
    assert line["error"] == "builtins.ConnectionError"
    assert line["logger"] == "some.library"


def test_an_error_among_a_librarys_arguments_shows_as_its_type() -> None:
    [line] = logged("logging.getLogger('some.library').warning('Lost because of %s', error)")

    assert line["error"] == "builtins.ConnectionError"


def test_an_error_given_as_the_message_shows_as_its_type() -> None:
    [line] = logged("logging.getLogger('some.library').error(error)")

    assert line["event"] == "ConnectionError"


def test_lines_of_other_threads_name_the_service_too() -> None:
    [line] = logged(
        "import threading\n"
        "thread = threading.Thread(target=lambda: structlog.get_logger().info('from_a_thread'))\n"
        "thread.start(); thread.join()"
    )

    assert line["service"] == "a_service"

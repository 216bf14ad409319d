"""The browser's client is tested in its own language, by Node's test runner."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
def test_the_clients_own_tests_pass() -> None:
    node = shutil.which("node")
    if node is None and not os.environ.get("CI"):
        pytest.skip("there is no node here; CI has it")
    assert node is not None, "CI needs node"

    done = subprocess.run(
        [node, "--test", "web/client/"], cwd=PROJECT, capture_output=True, text=True, timeout=110, check=False
    )

    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

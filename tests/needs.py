"""Programs that a test needs and that `make test` does not install."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """The path of a program. Where it is missing, the test is skipped on a laptop and fails in CI."""
    found = shutil.which(name)
    if found is None:
        complaint = f"needs {name} on the PATH"
        if os.environ.get("CI"):
            pytest.fail(complaint)
        pytest.skip(complaint)
    return found

"""A container's health check: `python -m shared.runtime.probe PORT [PATH]`, PATH being /readyz where it is left out.

Exit status 0 where it answers 200. Standard library only and no import of ours: it runs every few seconds, beside the
service.
"""

import http.client
import sys

#: Longer than a busy service takes, shorter than the pause between two checks.
TIMEOUT_SECONDS = 2.5


def is_ready(port: int, path: str) -> bool:
    """Whether this machine answers 200 there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "/readyz") else 1)

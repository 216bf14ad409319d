"""The secret that API and gateway share, made where there is none: `python -m demo.token_secret DIRECTORY`.

Kept in a file, so that tokens given out outlive a restart.
"""

import os
import secrets
import sys
from pathlib import Path

#: Of EKIDEN_TOKEN_SECRET; HS256 wants a key as long as its digest.
TOKEN_SECRET_BYTES = 32

#: As containers look for it among their secrets.
FILE_NAME = "ekiden_token_secret"


def token_secret(directory: Path) -> str:
    """The secret kept in a directory, made once."""
    file = directory / FILE_NAME
    secret = file.read_text().strip() if file.exists() else ""
    if len(secret) >= 2 * TOKEN_SECRET_BYTES:
        return secret
    secret = secrets.token_hex(TOKEN_SECRET_BYTES)
    directory.mkdir(parents=True, exist_ok=True)
    # Beside and then renamed, so that a crash half-way leaves no short secret; never readable by others.
    fresh = directory / f"{FILE_NAME}.{os.getpid()}"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(secret)
    fresh.replace(file)
    return secret


if __name__ == "__main__":
    token_secret(Path(sys.argv[1]))

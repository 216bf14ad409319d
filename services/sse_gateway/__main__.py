"""`python -m services.sse_gateway`."""

from services.sse_gateway.main import run
from services.sse_gateway.settings import Settings
from shared.runtime.logging import configure
from shared.runtime.settings import load

settings = load(Settings)
configure("sse_gateway", settings.log_level)
run(settings)

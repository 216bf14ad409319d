"""`python -m services.api`."""

from services.api.main import run
from services.api.settings import Settings
from shared.runtime.logging import configure
from shared.runtime.settings import load

settings = load(Settings)
configure("api", settings.log_level)
run(settings)

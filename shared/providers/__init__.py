"""Models behind one small interface: `LitellmChat.stream`. Only workers import this package."""

import os

# Here, since it must come before the first import of litellm, whichever module has that: without it litellm asks the
# network for a price list, and waits where there is none.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

"""What the demo model says when it is asked directly: every relay must deliver exactly that."""

import http.client
import json
from urllib.parse import urlsplit

#: Seconds for one whole answer: those of the scenarios take up to one.
ANSWER_SECONDS = 20.0


def expected_text(model_url: str, model: str, message: str) -> str:
    """The whole answer. Raises OSError or RuntimeError where there is none."""
    parts = urlsplit(model_url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_SECONDS)
    body = {"model": model, "messages": [{"role": "user", "content": message}]}
    try:
        connection.request("POST", f"{parts.path}/chat/completions", json.dumps(body))
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"the demo model answers {response.status} to {model}")
        text: str = json.load(response)["choices"][0]["message"]["content"]
    finally:
        connection.close()
    return text

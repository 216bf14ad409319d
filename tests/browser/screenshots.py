"""`python -m tests.browser.screenshots`: the pictures of the chat page in docs/images, taken of the real thing.

By day in English, by night in Japanese: a conversation in both languages, its last answer still coming.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.chat_page import ENGLISH, JAPANESE, ChatPage, Words
from tests.browser.chromium import chromium
from tests.browser.site import Site, two_ports_of
from tests.system import System

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

SIZE = {"width": 1200, "height": 800}

PICTURES = {
    "light": (ENGLISH, "駅伝とはどんな競技ですか", "And why do the runners carry a sash?"),
    "dark": (JAPANESE, "What is an ekiden race?", "走者はなぜたすきを渡すのですか"),
}


def main() -> None:
    """Start a relay, take the pictures, stop it."""
    executable = shutil.which("chromium")
    if executable is None:
        sys.exit("needs chromium on the PATH")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        system = System(Path(directory))
        try:
            system.start()
            with chromium(executable) as browser:
                for scheme, (words, first, second) in PICTURES.items():
                    path = IMAGES / f"chat-{scheme}.png"
                    _take(browser, two_ports_of(system), path, scheme, words, first, second)
                    print(f"{path.relative_to(IMAGES.parents[1])}: {path.stat().st_size // 1024} kB")
        finally:
            system.stop()


def _take(browser: Browser, site: Site, path: Path, scheme: str, words: Words, first: str, second: str) -> None:
    context = browser.new_context(locale=words.locale, viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
    chat = ChatPage(context, site, words)
    chat.open()
    chat.ask(first, "demo")
    chat.await_end()
    chat.ask(second, "demo")
    chat.await_text(80)
    expect(chat.note).to_have_text(words.answering)
    chat.page.mouse.move(0, SIZE["height"] / 2)  # away from the button, which looks different below it
    chat.page.screenshot(path=path, animations="disabled")
    chat.await_end()
    chat.assert_well_behaved()
    context.close()


if __name__ == "__main__":
    main()

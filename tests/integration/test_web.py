"""The page and its client, as far as can be told without a browser."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.contracts.errors import ProviderError, SessionBusy, StoreUnavailable
from shared.providers import errors as provider_errors

WEB = Path(__file__).resolve().parents[2] / "web"

NODE = shutil.which("node")

#: On a laptop without Node these are skipped; in CI they fail.
needs_node = pytest.mark.skipif(NODE is None and not os.environ.get("CI"), reason="needs Node 20 or later")


def files_of(directory: str) -> dict[Path, str]:
    return {path: path.read_text() for path in (WEB / directory).iterdir() if path.suffix in (".js", ".html")}


def words() -> dict[str, dict[str, object]]:
    """words.js as each of its two languages is exported; functions as their source."""
    script = """
        const said = {};
        for (const language of ["en", "ja"]) {
          Object.defineProperty(globalThis, "navigator", {value: {language}, configurable: true});
          said[language] = (await import(`./words.js?${language}`)).words;
        }
        console.log(JSON.stringify(said, (_, value) => typeof value === "function" ? String(value) : value));
    """
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=WEB / "page", capture_output=True, text=True, check=True)
    said: dict[str, dict[str, object]] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("directory", ["page", "client"])
def test_every_file_that_the_page_names_is_there(directory: str) -> None:
    named = [
        (path, name)
        for path, text in files_of(directory).items()
        for name in re.findall(r'(?:from |href=|src=)"([^"]+)"', text)
        if not name.startswith("node:")
    ]

    # /client/… is served from client/, which on disk lies beside page/.
    missing = [
        (path.name, name)
        for path, name in named
        if not (path.parent / name).is_file() and not (directory == "page" and (WEB / name).is_file())
    ]

    assert named
    assert missing == []


@needs_node
def test_both_languages_say_the_same_things() -> None:
    said = words()

    assert said["en"].keys() == said["ja"].keys()
    assert dict(said["en"]["faults"]).keys() == dict(said["ja"]["faults"]).keys()  # type: ignore[call-overload]


@needs_node
def test_the_page_has_words_for_every_fault_of_a_provider() -> None:
    classes = [one for one in vars(provider_errors).values() if isinstance(one, type)]
    codes = {one.code for one in classes if issubclass(one, ProviderError) and one is not ProviderError}

    faults = words()["en"]["faults"]

    assert {*codes, SessionBusy.code, StoreUnavailable.code} <= set(faults)  # type: ignore[call-overload]


@needs_node
def test_the_page_has_a_word_for_every_place_that_wants_one() -> None:
    places = set(re.findall(r'data-word="(\w+)"', (WEB / "page" / "index.html").read_text()))

    assert places <= words()["en"].keys()


@needs_node
@pytest.mark.timeout(120)
def test_the_clients_own_tests_pass() -> None:
    done = subprocess.run(["node", "--test", "web/client/"], cwd=WEB.parent, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout

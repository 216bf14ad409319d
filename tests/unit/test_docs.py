"""What the documents name exists, and the two READMEs say the same."""

import re
from pathlib import Path

import pytest

from shared.contracts import events

PROJECT = Path(__file__).parents[2]

DOCUMENTS = sorted(
    path.relative_to(PROJECT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "services/*/README.md", "web/README.md")
    for path in PROJECT.glob(pattern)
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file(document: str) -> None:
    text = (PROJECT / document).read_text()

    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]

    for link in links:
        assert ((PROJECT / document).parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_named_in_code_type_exists(document: str) -> None:
    text = (PROJECT / document).read_text()

    named = re.findall(r"`((?:services|shared|demo|web|edge|bench|docs|tests|requirements)/[\w./-]+)`", text)

    for name in named:
        assert (PROJECT / name).exists(), name


def blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)]


def test_the_two_readmes_have_the_same_headings_and_the_same_code() -> None:
    english = (PROJECT / "README.md").read_text()
    japanese = (PROJECT / "README.ja.md").read_text()

    assert headings(english) == headings(japanese)
    assert blocks(english) == blocks(japanese)


def test_the_page_on_events_lists_every_event_there_is() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \| (?:yes|no) \|", (PROJECT / "docs/events.md").read_text(), re.MULTILINE))

    assert listed == {str(kind.__struct_config__.tag) for kind in events.Event.__subclasses__()}

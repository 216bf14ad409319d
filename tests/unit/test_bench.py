"""The bench's client and its place in the READMEs."""

import time
from pathlib import Path

import pytest

from bench import readme
from bench.answers import Answer, fault_of
from bench.event_reader import EventReader

STREAM = (
    ": open\nretry: 1000\n\n"
    'id: 1-0\nevent: created\ndata: {"type":"created"}\n\n'
    'id: 1-1\nevent: delta\ndata: {"type":"delta","content":"駅"}\n\n'
    'event: ping\ndata: {"type":"ping"}\n\n'
    'id: 1-2\nevent: delta\ndata: {"type":"delta","content":"伝"}\n\n'
    'id: 1-3\nevent: completed\ndata: {"type":"completed","content":"駅伝"}\n\n'
).encode()


def test_the_reader_joins_what_was_said_however_the_bytes_were_cut() -> None:
    reader = EventReader()

    for place in range(len(STREAM)):
        reader.feed(STREAM[place : place + 1])

    assert reader.text() == "駅伝"
    assert reader.ending == "completed"


def test_the_reader_takes_the_time_of_the_first_delta_and_of_the_end() -> None:
    reader = EventReader()
    opening, first, rest = STREAM.partition(b"event: delta")
    before, _, after = rest.partition(b"\n\n")

    reader.feed(opening)
    assert reader.first_at is None
    began = time.perf_counter()
    reader.feed(first + before + b"\n\n")
    between = time.perf_counter()
    reader.feed(after)

    assert reader.first_at is not None
    assert reader.ended_at is not None
    assert began <= reader.first_at <= between <= reader.ended_at


def test_an_answer_counts_only_if_every_byte_came() -> None:
    def answer(text: str, fault: str = "") -> Answer:
        return Answer(text=text, first_seconds=0.1, total_seconds=0.2, fault=fault)

    assert fault_of(answer("all of it"), "all of it") == ""
    assert fault_of(answer("all of"), "all of it") != ""
    assert fault_of(answer("all of it", "HTTP status 503"), "all of it") == "HTTP status 503"


def test_the_table_replaces_what_stood_between_the_comments(tmp_path: Path) -> None:
    for name in readme.READMES:
        (tmp_path / name).write_text("above\n<!-- bench -->\nold\n<!-- /bench -->\nbelow\n", encoding="utf-8")

    readme.write(tmp_path, "| new |")

    for name in readme.READMES:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text == "above\n<!-- bench -->\n\n| new |\n\n<!-- /bench -->\nbelow\n"


def test_a_readme_without_the_comments_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in readme.READMES)
    first.write_text("<!-- bench -->\n<!-- /bench -->\n", encoding="utf-8")
    second.write_text("no place\n", encoding="utf-8")

    with pytest.raises(readme.NoBlock, match=second.name):
        readme.write(tmp_path, "| new |")

    assert first.read_text(encoding="utf-8") == "<!-- bench -->\n<!-- /bench -->\n"

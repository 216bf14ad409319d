"""Ids say where a task lives, cannot be guessed, and nothing else passes for one."""

import pytest

from shared.contracts import keys
from shared.contracts.ids import (
    all_buckets,
    bucket_of,
    entry_order,
    is_entry_id,
    is_session_id,
    is_task_id,
    new_session_id,
    new_task_id,
)


def test_new_ids_are_ids_and_never_the_same() -> None:
    task_ids = {new_task_id() for _ in range(1000)}
    session_ids = {new_session_id() for _ in range(1000)}

    assert len(task_ids) == len(session_ids) == 1000
    assert all(map(is_task_id, task_ids))
    assert all(map(is_session_id, session_ids))
    assert {bucket_of(task_id) for task_id in task_ids} <= set(all_buckets())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "task_",
        "task_zz" + "0" * 32,
        "task_40" + "0" * 32,
        "task_00" + "0" * 31,
        "task_00" + "0" * 32 + "\n",
        "../x",
    ],
)
def test_what_is_no_task_id_does_not_pass_for_one(text: str) -> None:
    assert not is_task_id(text)


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "01-0", "1-00", "1-0\n", "1-0-0", "+1-0", "１-0", "9" * 17 + "-0", "*", "$"]
)
def test_what_is_no_entry_id_does_not_pass_for_one(text: str) -> None:
    assert not is_entry_id(text)


def test_entries_compare_as_numbers() -> None:
    assert entry_order("9-10") < entry_order("10-2") < entry_order("10-11")


def test_all_keys_of_a_task_share_the_tag_of_its_bucket() -> None:
    task_id = new_task_id()

    tags = {key[key.index("{") : key.index("}") + 1] for key in keys.to_write(task_id)}

    assert tags == {f"{{{bucket_of(task_id)}}}"}

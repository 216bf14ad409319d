"""The locks: hashes, no addresses, and every service a piece of what works together."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"

LOCKS = sorted(path.name for path in REQUIREMENTS.glob("*.txt"))


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", (REQUIREMENTS / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    text = (REQUIREMENTS / name).read_text()

    assert "://" not in text
    for block in re.split(r"\n(?=[a-z0-9])", text)[1:]:
        assert "--hash=sha256:" in block, block[:60]


@pytest.mark.parametrize("name", sorted(set(LOCKS) - {"all.txt", "dev.txt", "bench.txt"}))
def test_a_services_lock_is_a_piece_of_the_whole(name: str) -> None:
    assert pins(name).items() <= pins("all.txt").items()


@pytest.mark.parametrize("name", ["dev.txt", "bench.txt"])
def test_what_tests_and_figures_add_agrees_with_what_runs(name: str) -> None:
    whole, added = pins("all.txt"), pins(name)

    assert {package: added[package] for package in added.keys() & whole.keys()} == {
        package: whole[package] for package in added.keys() & whole.keys()
    }


@pytest.mark.parametrize("name", ["api.txt", "sse_gateway.txt", "feedback_worker.txt"])
def test_only_workers_carry_litellm(name: str) -> None:
    assert "litellm" not in pins(name)

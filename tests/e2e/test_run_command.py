"""`make run` as its user meets it: real processes, real signals, no port or directory shared with anybody."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from demo.ports import free_block

#: Everything ready: litellm's import alone takes 4 s, on a busy machine several times that.
READY_SECONDS = 40.0

#: A stop in three stages, none of which should need its 8 s.
STOPPED_SECONDS = 15.0

PROCESSES = {"store", "demo_model", "llm_worker", "api", "sse_gateway"}

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="told by /proc, and PR_SET_PDEATHSIG is Linux's")


class RunCommand:
    """One `python -m demo.run`, its output in files, on ports and directories of its own."""

    def __init__(self, directory: Path, first_port: int) -> None:
        self.http_port = first_port
        self._out = directory / "stdout"
        self._err = directory / "stderr"
        settings = {
            "EKIDEN_HTTP_PORT": first_port,
            "EKIDEN_GATEWAY_PORT": first_port + 1,
            "EKIDEN_DEMO_PORT": first_port + 2,
            "EKIDEN_STORE_PORT": first_port + 3,
            "EKIDEN_OPS_PORT": first_port + 3,  # the services take the three after it
            "EKIDEN_RUN_DIR": directory / "run",
            "EKIDEN_LOG_DIR": directory / "logs",
        }
        outside = {name: value for name, value in os.environ.items() if not name.startswith("EKIDEN_")}
        directory.mkdir(exist_ok=True)
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "demo.run"],
                env=outside | {name: str(value) for name, value in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that were started, by name; each leads a process group."""
        return {name: int(pid) for name, pid in re.findall(r"^(\w+) *\| pid (\d+), log ", self.out, re.MULTILINE)}

    def await_ready(self) -> None:
        wait_for(lambda: "Ekiden is running: " in self.out or self.process.poll() is not None, READY_SECONDS)
        assert self.process.poll() is None, self.err

    def await_end(self) -> int:
        return self.process.wait(timeout=STOPPED_SECONDS)

    def await_nobody_left(self) -> None:
        groups = set(self.pids.values())
        wait_for(lambda: not living_members(groups), STOPPED_SECONDS)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=STOPPED_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def start_run(tmp_path: Path) -> Iterator[Callable[[str, int], RunCommand]]:
    """Start an instance: with a directory of this name, on the ports from this one on."""
    started: list[RunCommand] = []

    def start(name: str, first_port: int) -> RunCommand:
        started.append(RunCommand(tmp_path / name, first_port))
        return started[-1]

    yield start
    for run in reversed(started):
        run.clean_up()


@pytest.fixture
def run(start_run: Callable[[str, int], RunCommand]) -> RunCommand:
    """An instance that has just been started."""
    return start_run("first", free_block(7))


@pytest.mark.timeout(60)
def test_it_prints_the_address_once_everything_is_ready(run: RunCommand) -> None:
    run.await_ready()

    assert f"Ekiden is running: http://localhost:{run.http_port}\n" in run.out
    assert set(run.pids) == PROCESSES
    for port in range(run.http_port + 4, run.http_port + 7):
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.timeout(60)
def test_a_second_instance_fails_with_one_line_that_names_the_ports(
    run: RunCommand, start_run: Callable[[str, int], RunCommand]
) -> None:
    run.await_ready()

    second = start_run("second", run.http_port)

    assert second.await_end() == 1
    assert len(second.err.splitlines()) == 1
    assert f"port {run.http_port} (api, EKIDEN_HTTP_PORT)" in second.err
    assert not second.pids
    assert run.process.poll() is None


@pytest.mark.timeout(60)
def test_a_second_instance_leaves_a_store_in_use_alone(
    run: RunCommand, start_run: Callable[[str, int], RunCommand]
) -> None:
    run.await_ready()

    second = start_run("first", free_block(7))

    assert second.await_end() == 1
    assert "a store already runs in" in second.err
    assert run.process.poll() is None


@only_linux
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_with_exit_status_0(run: RunCommand, number: signal.Signals) -> None:
    run.await_ready()

    run.process.send_signal(number)

    assert run.await_end() == 0
    assert run.err == ""
    assert not living_members(set(run.pids.values()))


@only_linux
@pytest.mark.timeout(60)
def test_a_signal_before_readiness_ends_everything_too(run: RunCommand) -> None:
    wait_for(lambda: "llm_worker" in run.pids, READY_SECONDS)

    run.process.terminate()

    assert run.await_end() == 0
    assert "Ekiden is running" not in run.out
    assert not living_members(set(run.pids.values()))


@only_linux
@pytest.mark.timeout(60)
@pytest.mark.parametrize("victim", ["store", "llm_worker"])
def test_a_killed_process_ends_the_run_and_is_named(run: RunCommand, victim: str) -> None:
    run.await_ready()

    os.kill(run.pids[victim], signal.SIGKILL)

    assert run.await_end() == 1
    assert len(run.err.splitlines()) == 1
    assert f"{victim} has ended with SIGKILL; see " in run.err
    assert not living_members(set(run.pids.values()))


@only_linux
@pytest.mark.timeout(60)
def test_no_process_outlives_a_killed_run(run: RunCommand) -> None:
    run.await_ready()

    run.process.kill()

    run.await_nobody_left()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Poll until it holds; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)


def living_members(groups: set[int]) -> set[int]:
    """The processes in these process groups, without zombies: those are dead and only not yet collected."""
    living = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state parent group ...", and the name may hold anything.
            state, _, group = stat.read_text().rpartition(") ")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(group) in groups and state != "Z":
            living.add(int(stat.parent.name))
    return living

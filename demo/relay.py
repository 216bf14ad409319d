"""Runs a lineup: starts stage after stage, watches everybody, stops in reverse."""

import signal
import time
from types import FrameType

from demo.console import Console
from demo.fault import RunFault
from demo.lineup import Runner
from demo.log_follower import LogFollower
from demo.processes import POLL_SECONDS, Child, stop

#: The slowest is the worker, which imports litellm: 4 s here, several times that on a cold disk.
READY_TIMEOUT_SECONDS = 60.0


class StopSignals:
    """Counts Ctrl-C, SIGTERM and the terminal's end. The second and later ones mean: wait no longer."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup make run` is to survive its terminal.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class Relay:
    """The processes of one run, from first start to last stop. Used from the main thread only."""

    def __init__(self, stages: list[list[Runner]], console: Console, signals: StopSignals) -> None:
        self._stages = stages
        self._console = console
        self._signals = signals
        self._follower = LogFollower(console)
        self._started: list[Runner] = []

    def start(self) -> None:
        """Start everybody and return when all are ready or a signal came; RunFault when one fails."""
        for stage in self._stages:
            if self._signals.count:
                return
            for runner in stage:
                runner.start()
                self._started.append(runner)
                self._follower.follow(runner.child.name, runner.child.log)
                self._console.line(f"pid {runner.child.pid}, log {runner.child.log}", runner.child.name)
            self._await_ready(stage)
        self._console.progress("")
        self._follower.catch_up()  # so that the address is the last thing said

    def watch(self) -> None:
        """Return at a signal; RunFault when a process ends by itself."""
        while not self._signals.count:
            self._check_all_running()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End everybody, in reverse; nothing is left afterwards. A further signal cuts the wait short."""
        for stage in reversed(self._stages):
            self._stop_stage([runner.child for runner in stage if runner.child.is_running()])
        self._console.progress("")
        self._follower.close()

    def _stop_stage(self, running: list[Child]) -> None:
        heard = self._signals.count
        if running:
            self._console.progress(f"stopping {', '.join(child.name for child in running)}")
        stop(running, is_hurried=lambda: self._signals.count > heard)

    def _await_ready(self, stage: list[Runner]) -> None:
        began = time.monotonic()
        waiting = stage
        while not self._signals.count:
            self._check_all_running()
            waiting = [runner for runner in waiting if not runner.is_ready()]
            if not waiting:
                return
            seconds = time.monotonic() - began
            names = ", ".join(runner.child.name for runner in waiting)
            if seconds > READY_TIMEOUT_SECONDS:
                logs = ", ".join(str(runner.child.log) for runner in waiting)
                raise RunFault(f"{names} not ready after {READY_TIMEOUT_SECONDS:.0f} s; see {logs}")
            self._console.progress(f"waiting for {names} ({seconds:.0f} s)")
            time.sleep(POLL_SECONDS)

    def _check_all_running(self) -> None:
        for runner in self._started:
            child = runner.child
            if not child.is_running():
                raise RunFault(f"{child.name} has ended with {child.how_it_ended()}; see {child.log}")

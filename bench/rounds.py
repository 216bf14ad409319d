"""Runs the scenarios: everybody in turn, round after round, so that what else the machine does hits all alike."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.answers import Answer, Ask, Batch, fault_of
from bench.expectation import expected_text
from bench.scenarios import BURST, MESSAGE, WARM_UP, Scenario
from bench.subjects import Subject
from bench.usage import cpu_seconds, memory_bytes
from demo.processes import Child

#: Seconds between two looks at memory while answers run. A look takes some milliseconds of CPU.
LOOK_SECONDS = 0.25

#: Seconds for which a subject is left alone: what it uses then it uses for nothing. Long beside the second in which
#: most of what comes round comes round, and beside the 10 ms in which CPU time is told.
REST_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one subject did in one round of a scenario. `cpu_seconds` by process, our own and the model's included."""

    scenario: Scenario
    subject: str
    worker: str
    batches: list[Batch]
    cpu_seconds: dict[str, float]

    @property
    def answers(self) -> list[Answer]:
        """All answers of the round."""
        return [answer for batch in self.batches for answer in batch.answers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a subject takes: bytes at rest, bytes at most while fifty answers run, CPU seconds a second at rest."""

    idle_bytes: int
    busy_bytes: int
    idle_cpu: float


class Measurement:
    """All rounds of one run. `faults` says what went wrong, in words."""

    def __init__(self, subjects: list[Subject], model: Child, model_url: str) -> None:
        self.subjects = subjects
        self.rounds: list[Round] = []
        self.weights: dict[str, Weight] = {}
        self.faults: list[str] = []
        self._model = model
        self._model_url = model_url
        self._expected: dict[str, str] = {}

    async def warm_up(self) -> None:
        """Let everybody answer until nothing is done for the first time any more. Counts no figures."""
        for subject in self.subjects:
            await self._batches(subject, WARM_UP)

    async def run(self, scenario: Scenario, rounds: int) -> None:
        """Run a scenario so many times with everybody; who begins changes from round to round."""
        for number in range(rounds):
            for subject in _from(self.subjects, number):
                before = self._cpu(subject)
                batches = await self._batches(subject, scenario)
                await asyncio.sleep(scenario.pause_seconds)  # what is left to do after the last answer counts
                used = {name: seconds - before[name] for name, seconds in self._cpu(subject).items()}
                self.rounds.append(
                    Round(
                        scenario=scenario,
                        subject=subject.name,
                        worker=subject.worker,
                        batches=batches,
                        cpu_seconds=used,
                    )
                )

    async def weigh(self) -> None:
        """Read what everybody takes, at rest and while fifty answers run."""
        for subject in self.subjects:
            idle_cpu = await self._cpu_at_rest(subject)
            idle = busy = _memory(subject)
            asking = asyncio.create_task(self._batches(subject, BURST))
            while not asking.done():
                await asyncio.wait((asking,), timeout=LOOK_SECONDS)
                busy = max(busy, _memory(subject))
            await asking
            self.weights[subject.name] = Weight(idle_bytes=idle, busy_bytes=busy, idle_cpu=idle_cpu)

    async def _cpu_at_rest(self, subject: Subject) -> float:
        pids = [child.pid for child in subject.children.values()]
        before = sum(map(cpu_seconds, pids))
        await asyncio.sleep(REST_SECONDS)
        return (sum(map(cpu_seconds, pids)) - before) / REST_SECONDS

    async def _batches(self, subject: Subject, scenario: Scenario) -> list[Batch]:
        asked = Ask(model=scenario.model, message=MESSAGE, at_once=scenario.at_once)
        if scenario.model not in self._expected:
            self._expected[scenario.model] = await asyncio.to_thread(
                expected_text, self._model_url, scenario.model, MESSAGE
            )
        batches = []
        for _ in range(scenario.times):
            await asyncio.sleep(scenario.pause_seconds)
            batches.append(await subject.ask(asked))
            if faults := self._faults(batches[-1], scenario):
                self.faults += [f"{subject.name}, {scenario.name}: {fault}" for fault in faults]
                break  # the round is lost, and each further answer might take its whole time limit
        return batches

    def _faults(self, batch: Batch, scenario: Scenario) -> list[str]:
        faults = (fault_of(answer, self._expected[scenario.model]) for answer in batch.answers)
        return [fault for fault in faults if fault]

    def _cpu(self, subject: Subject) -> dict[str, float]:
        used = {name: cpu_seconds(child.pid) for name, child in subject.children.items()}
        return used | {"demo_model": cpu_seconds(self._model.pid), "client": time.process_time()}


def _memory(subject: Subject) -> int:
    return sum(memory_bytes(child.pid) for child in subject.children.values())


def _from(subjects: list[Subject], number: int) -> Iterator[Subject]:
    first = number % len(subjects)
    yield from subjects[first:]
    yield from subjects[:first]

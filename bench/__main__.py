"""`python -m bench`: start everybody, measure, print the tables.

    --only idle|burst|speed|memory   one scenario, for a quick look      --write   the table goes into the READMEs too
    --rounds N                       rounds of each scenario

About five minutes. Exit status 1 where an answer failed or was not complete, or where somebody did not start: then
there are no figures, the logs of all processes are kept, and the last line says where.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench import readme
from bench.report import cpu_table, figures_table, machine
from bench.rounds import Measurement
from bench.scenarios import SCENARIOS
from bench.subjects import Ekiden, LitellmAlone, OldDesign

#: The scenario that reads memory instead of clocks.
MEMORY = "memory"

#: Rounds of each scenario unless told otherwise: enough for a median that one disturbance does not move.
ROUNDS = 3

#: Seconds after which the whole run is given up: three times what it takes. Only what hangs takes longer.
RUN_SECONDS = 900

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Measure; the exit status."""
    arguments = _parse_arguments()
    # As Ctrl-C does: everything that was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    directory = Path(tempfile.mkdtemp(prefix="ekiden-bench-"))
    is_good = False
    try:
        is_good = _measure(arguments, directory)
    except KeyboardInterrupt:
        _say("stopped")
    finally:
        if is_good:
            shutil.rmtree(directory)
        else:
            _say(f"the logs are in {directory}")
    return 0 if is_good else 1


def _measure(arguments: argparse.Namespace, directory: Path) -> bool:
    with ExitStack() as stack:
        measurement = _start(stack, directory)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(measurement, arguments))
    if measurement.faults:
        for fault, count in Counter(measurement.faults).items():
            _say(f"{count} × {fault}")
        return False
    block = f"{figures_table(measurement)}\n\n{machine()}; medians of {arguments.rounds} rounds."
    sys.stdout.write("\n\n".join(part for part in (block, cpu_table(measurement)) if part) + "\n")
    if arguments.write:
        readme.write(ROOT, block)
    return True


def _start(stack: ExitStack, directory: Path) -> Measurement:
    """Start one after the other, so that each finds its ports free."""
    _say("starting Ekiden, the old design and litellm alone")
    ekiden = Ekiden(directory)
    stack.callback(ekiden.stop)
    ekiden.start()
    old_design = OldDesign(directory, ekiden.model_url)
    stack.callback(old_design.stop)
    old_design.start()
    alone = LitellmAlone(directory, ekiden.model_url)
    stack.callback(alone.stop)
    alone.start()
    return Measurement([ekiden, old_design, alone], ekiden.model, ekiden.model_url)


async def _run(measurement: Measurement, arguments: argparse.Namespace) -> None:
    try:
        async with asyncio.timeout(RUN_SECONDS):
            await _run_scenarios(measurement, arguments)
    except TimeoutError:
        measurement.faults.append(f"the run was not over after {RUN_SECONDS} s")
    finally:
        for subject in measurement.subjects:
            subject.disconnect()


async def _run_scenarios(measurement: Measurement, arguments: argparse.Namespace) -> None:
    _say("warming up")
    await measurement.warm_up()
    for name, scenario in SCENARIOS.items():
        if arguments.only in (None, name) and not measurement.faults:
            _say(f"{name}: {arguments.rounds} rounds")
            await measurement.run(scenario, arguments.rounds)
    if arguments.only in (None, MEMORY) and not measurement.faults:
        _say(MEMORY)
        await measurement.weigh()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Ekiden beside its predecessor.")
    parser.add_argument("--only", choices=[*SCENARIOS, MEMORY], help="one scenario, for a quick look")
    parser.add_argument("--rounds", type=int, default=ROUNDS, choices=range(1, 21), metavar="1-20")
    parser.add_argument("--write", action="store_true", help="put the table into README.md and README.ja.md")
    arguments = parser.parse_args()
    if arguments.write:
        if arguments.only is not None:
            parser.error("--write puts the whole table into the READMEs: not with --only")
        try:
            readme.check(ROOT)
        except readme.NoBlock as fault:
            parser.error(str(fault))
    return arguments


def _say(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

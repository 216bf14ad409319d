"""`python -m bench`: start everybody, measure, print the tables.

    --only idle|burst|speed|memory   one scenario, for a quick look      --write   the table goes into the READMEs too
    --rounds N                       rounds of each scenario

About five minutes. Exit status 1 where an answer failed or was not complete, or where somebody did not start: then the
logs of all processes are kept, and the last line says where.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
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

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Measure; the exit status."""
    arguments = _parse_arguments()
    # As Ctrl-C does: everything that was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    directory = Path(tempfile.mkdtemp(prefix="ekiden-bench-"))
    is_good = False
    try:
        if arguments.write:
            readme.check(ROOT)
        is_good = _measure(arguments, directory)
    except readme.NoBlock as fault:
        _say(str(fault))
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
    block = f"{figures_table(measurement)}\n\n{machine()}; {arguments.rounds} rounds."
    sys.stdout.write(f"{block}\n\n{cpu_table(measurement)}\n")
    for fault in measurement.faults:
        _say(f"FAULT {fault}")
    if arguments.write and not measurement.faults:
        readme.write(ROOT, block)
    return not measurement.faults


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
        await _run_scenarios(measurement, arguments)
    finally:
        for subject in measurement.subjects:
            subject.disconnect()


async def _run_scenarios(measurement: Measurement, arguments: argparse.Namespace) -> None:
    _say("warming up")
    await measurement.warm_up()
    for name, scenario in SCENARIOS.items():
        if arguments.only in (None, name):
            _say(f"{name}: {arguments.rounds} rounds")
            await measurement.run(scenario, arguments.rounds)
    if arguments.only in (None, MEMORY):
        _say(MEMORY)
        await measurement.weigh()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Ekiden beside its predecessor.")
    parser.add_argument("--only", choices=[*SCENARIOS, MEMORY], help="one scenario, for a quick look")
    parser.add_argument("--rounds", type=int, default=ROUNDS, choices=range(1, 21), metavar="1-20")
    parser.add_argument("--write", action="store_true", help="put the table into README.md and README.ja.md")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

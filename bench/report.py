"""The tables that a run prints, in Markdown."""

import os
import platform
from collections.abc import Callable, Iterable
from statistics import median

from bench.figures import FIGURES, values
from bench.rounds import Measurement, Weight
from bench.scenarios import SCENARIOS, Scenario

#: Bytes in a MB.
MB = 1_000_000

#: What is read once and not in rounds: label, digits after the point, value.
WEIGHED: tuple[tuple[str, int, Callable[[Weight], float]], ...] = (
    ("memory, idle, MB", 0, lambda weight: weight.idle_bytes / MB),
    ("memory, 50 at once, MB", 0, lambda weight: weight.busy_bytes / MB),
    ("CPU, idle, % of a core", 1, lambda weight: weight.idle_cpu * 100),
)

#: What a cell says where nothing was measured.
NOTHING = "–"


def figures_table(measurement: Measurement) -> str:
    """All figures side by side. The ratio is that of the first subject to the second, round by round."""
    names = [subject.name for subject in measurement.subjects]
    ours, theirs = names[:2]
    rows = [["", *names, f"{ours} ÷ {theirs}"]]
    for figure in FIGURES:
        by_name = {name: values(figure, measurement.rounds, name) for name in names}
        if by_name[ours]:
            ratios = [our / their for our, their in zip(by_name[ours], by_name[theirs], strict=True) if their]
            cells = [f"{median(by_name[name]):,.{figure.digits}f}" for name in names]
            rows.append([figure.label, *cells, _ratio(ratios)])
    if weights := measurement.weights:
        for label, digits, of in WEIGHED:
            weighed = {name: of(weights[name]) for name in names}
            cells = [f"{weighed[name]:,.{digits}f}" for name in names]
            rows.append([label, *cells, _ratio([weighed[ours] / weighed[theirs]] if weighed[theirs] else [])])
    return _table(rows)


def cpu_table(measurement: Measurement) -> str:
    """Where the time goes: CPU milliseconds of every process, per answer."""
    played = [
        scenario for scenario in SCENARIOS.values() if any(one.scenario == scenario for one in measurement.rounds)
    ]
    if not played:
        return ""
    headings = [f"{scenario.name} ({scenario.tokens:,} tokens)" for scenario in played]
    rows = [["CPU per answer, ms", *headings]]
    for subject in measurement.subjects:
        for process in (*subject.children, "demo_model", "client"):
            cells = [_cpu_ms(measurement, subject.name, process, scenario) for scenario in played]
            rows.append([f"{subject.name}: {process}", *cells])
    return _table(rows)


def machine() -> str:
    """On what it was measured."""
    system = platform.uname()
    return f"{os.cpu_count()} cores, {system.system} {system.machine}, Python {platform.python_version()}"


def _cpu_ms(measurement: Measurement, subject: str, process: str, scenario: Scenario) -> str:
    spent = [
        one.cpu_seconds[process] * 1000 / scenario.answers
        for one in measurement.rounds
        if one.subject == subject and one.scenario == scenario
    ]
    return f"{median(spent):,.1f}"


def _ratio(ratios: list[float]) -> str:
    return f"{median(ratios):.2f}" if ratios else NOTHING


def _table(rows: Iterable[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

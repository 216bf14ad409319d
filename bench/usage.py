"""CPU time and memory of processes with all that they started, by psutil."""

from collections.abc import Iterator

import psutil


def cpu_seconds(pid: int) -> float:
    """What a process and its descendants have used so far, user and system. Its resolution is 10 ms."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory_bytes(pid: int) -> int:
    """What a process and its descendants hold, pages that several share divided among them (PSS).

    Where the system does not tell PSS, as macOS, it is what they hold for themselves (USS).
    """
    total = 0
    for process in _tree(pid):
        try:
            memory = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        total += getattr(memory, "pss", memory.uss)
    return total


def _tree(pid: int) -> Iterator[psutil.Process]:
    try:
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)
    except psutil.NoSuchProcess:
        return

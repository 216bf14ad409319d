"""Replace this process by a command that gets SIGTERM when its parent dies, however it dies.

Run by path, as `python -I -S leash.py <parent's pid> <command...>`. Linux keeps the wish across exec, so the
command has this process's pid and nobody stands between it and its parent. A `preexec_fn` would do the same
in a forked copy of a threaded Python, where it may deadlock.

The kernel ties the signal to the *thread* that started us: start children from the main thread.
"""

import ctypes
import os
import signal
import sys

#: prctl(2): the signal this process gets when the thread that started it ends.
PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Set the signal, then become the command."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The parent may have died before the call above, and then the signal never comes.
    if os.getppid() != parent:
        sys.exit("the parent has gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

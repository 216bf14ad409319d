"""What ends `make run` with one line on stderr instead of a traceback."""


class RunFault(Exception):
    """A fault the user can act on; its text is the whole message and fits one line."""

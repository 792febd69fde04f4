"""Exceptions."""


class InputError(ValueError):
    """Invalid user input: a file, a frame, a configuration key or a command-line flag.

    The message is a single line that names the offending item and says how to fix it. The command line prints it
    without a traceback.
    """

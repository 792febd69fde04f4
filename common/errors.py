"""The one error type for bad input."""


class InputError(ValueError):
    """Bad input from outside: a file, a frame, a key or a flag.

    The message is one line that names the culprit (file, frame or key) and says what to do. The command line prints it
    without a traceback.
    """

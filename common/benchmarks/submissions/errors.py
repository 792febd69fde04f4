"""What is wrong with a submission: an error, or noted and counted as empty."""

from __future__ import annotations

from common.errors import InputError


class SubmissionErrors:
    """Collects what is wrong with a submission.

    Args:
        empty: go on: the caller counts the thing as empty. Otherwise the first fault is an error.

    Attributes:
        notes: one line for each fault so far.
    """

    def __init__(self, empty: bool = False) -> None:
        self.empty = empty
        self.notes: list[str] = []

    def report(self, message: str) -> None:
        """Note one fault, in one line that names the file, frame or id.

        Raises:
            InputError: unless faults count as empty.
        """
        if not self.empty:
            raise InputError(message)
        self.notes.append(message)

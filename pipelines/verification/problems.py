"""What a verification found wrong: collected, not raised, with the place of each."""

import contextlib
from collections import Counter
from collections.abc import Iterator

MAX_PROBLEMS = 40
MAX_OF_ONE_LAW = 3


class Problems:
    """Collects messages; of one law in one file only the first few are kept.

    Attributes:
        messages: `place: law, what was found`, in the order found.
        total: How many were found, kept or not.
        unreadable_rows: Rows that the counts lack, because they could not be read or
            have no usable structure.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.total = 0
        self.unreadable_rows = 0
        self._of_law: Counter[tuple[str, str]] = Counter()

    def add(self, file: str, message: str, *, law: str = "", place: str = "") -> None:
        """Notes one disagreement.

        Args:
            file: The file it is in.
            message: The rule and what was found.
            law: Groups messages of one kind, of which a file tells only the first few.
            place: Record, byte and slot inside the file.
        """
        self.total += 1
        if law:
            self._of_law[file, law] += 1
            if self._of_law[file, law] > MAX_OF_ONE_LAW:
                return
        if len(self.messages) < MAX_PROBLEMS:
            self.messages.append(f"{file}{place and ' ' + place}: {message}")

    def summary(self) -> list[str]:
        """Returns the messages, and how many more there were."""
        more = self.total - len(self.messages)
        return [*self.messages, *([f"... and {more} more"] if more else [])]

    @contextlib.contextmanager
    def catching(self, file: str, *errors: type[Exception]) -> Iterator[None]:
        """Turns these exceptions into a problem of `file`."""
        try:
            yield
        except errors as error:
            text = str(error) or repr(error)
            self.add(file, text.removeprefix(f"{file}: "))

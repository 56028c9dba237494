"""What goes wrong, by who has to act on it.

``UserError`` is for people: it says what was given, what is allowed and what to do next, and the
command line prints it as it is. ``SampleError`` names one bad datum; ``BadSamples`` counts them and
bounds them. Our own bugs stay plain exceptions and always stop the program. No message here ever
carries the text of a privileged field.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class UserError(Exception):
    """A mistake that the person at the keyboard can mend."""


class SampleError(Exception):
    """One bad datum.

    Args:
        place: file and line, shard and key, or item: where a person finds it.
        field: the schema's field, or None where the whole record is bad.
        reason: what is wrong, without the value of a privileged field.
    """

    def __init__(self, place: str, field: str | None, reason: str) -> None:
        self.place, self.field, self.reason = place, field, reason
        super().__init__(": ".join(part for part in (place, field, reason) if part))

    def __reduce__(self) -> tuple[type["SampleError"], tuple[str, str | None, str], dict[str, Any]]:
        # from process to process an exception is made anew, of what it was made of
        return type(self), (self.place, self.field, self.reason), self.__dict__


class TooManyBadSamples(UserError):
    """More bad data than the setting allows."""


class BadSamples:
    """The bad data met so far: named, counted, and bounded by ``limit``."""

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self.errors: list[SampleError] = []

    def __len__(self) -> int:
        return len(self.errors)

    def __iter__(self) -> Iterator[SampleError]:
        return iter(self.errors)

    def add(self, error: SampleError) -> None:
        """Count ``error``; raises TooManyBadSamples past the limit."""
        self.errors.append(error)
        if len(self.errors) > self.limit:
            named = "\n".join(f"  {bad}" for bad in self.errors[-10:])
            raise TooManyBadSamples(
                f"{len(self.errors)} bad samples, {self.limit} are allowed. The last ones:\n{named}\n"
                f"Mend them, or allow more with --max-bad."
            )

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count a SampleError raised inside instead of letting it through."""
        try:
            yield
        except SampleError as error:
            self.add(error)

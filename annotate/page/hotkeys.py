"""Which key sets which option on the labelling page.

Label Studio deals out its keys in the order of the page until they run out, so that the first turns of a
dialogue would take them all. Here each field gets a run of neighbours on one row of the keyboard, the fields
with the most options first; a field that finds no room has no keys, and a turn's own options never have.
"""

from collections.abc import Iterable, Mapping

from pride_mm.schema import Field, Kind, OptionsField, ScaleField

_ROWS = ("1234567890", "qwetyiop", "asdfgjkl", "zxcvbnm")  # r, u and h are Label Studio's own
# A key that no keyboard has, so that Label Studio deals out none of its own; the look hides its mark.
NO_KEY = "ⓧ"


def options_of(field: Field) -> tuple[str, ...]:
    """What a field offers as options, for the whole item; a long scale is typed in and offers none."""
    if isinstance(field, ScaleField):
        return tuple(str(level) for level in range(field.low, field.high + 1))
    if isinstance(field, OptionsField) and field.kind is not Kind.TURN_CHOICE:
        return field.options
    return ()


def hotkeys(fields: Iterable[Field]) -> Mapping[str, tuple[str, ...]]:
    """The keys of each field's options by the field's name; no key is given twice."""
    left = {row: row for row in _ROWS}
    found: dict[str, tuple[str, ...]] = {}
    for field in sorted(fields, key=lambda f: -len(options_of(f))):
        count = len(options_of(field))
        row = next((row for row in _ROWS if len(left[row]) >= count), None)
        if count and row is not None:
            found[field.name] = tuple(left[row][:count])
            left[row] = left[row][count:]
    return found

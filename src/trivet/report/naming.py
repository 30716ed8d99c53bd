"""Class names as people give them -> text that fits where it is shown."""

from collections.abc import Sequence


def plain_label(text: str, most: int = 18) -> str:
    """Return `text` on one line, without control characters, its middle left out beyond `most` characters.

    Example:
        >>> plain_label("traffic light, red, left", most=16)
        'traffic l…, left'
    """
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    tail = (most - 1) * 2 // 5  # names that begin alike often end differently
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def short_codes(names: Sequence[str]) -> tuple[str, ...]:
    """Return a code of one to three characters for each class: the first letter where it tells, else the label.

    Example:
        >>> short_codes(["RBC", "WBC", "plate", "platelet"])
        ('R', 'W', '2', '3')
    """
    initials = [name[:1].upper() for name in names]
    return tuple(
        initial if initial.isalpha() and initials.count(initial) == 1 else str(label)
        for label, initial in enumerate(initials)
    )

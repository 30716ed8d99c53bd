"""Class names as people give them -> text that fits where it is shown."""

from collections.abc import Sequence


def plain_label(text: str, most: int = 18) -> str:
    """Return `text` on one line, without control characters, cut to `most` characters with an ellipsis."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= most else text[: most - 1] + "…"


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

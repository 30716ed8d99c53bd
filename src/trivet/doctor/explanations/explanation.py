"""What is told of a kind of finding beside what its check says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """Why a finding hurts and what to do.

    Args:
        why: What it does to training.
        wrong: A few lines with the fault; they run where `model`, `optimizer`, `loader`, ... are what they say.
        right: The same lines set right.
        do: What to do, and what to beware of.
    """

    why: str
    wrong: str = ""
    right: str = ""
    do: str = ""

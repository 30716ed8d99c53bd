"""Why each finding hurts, an example of the fault, the same set right, and what to do."""

from trivet.doctor.explanations.data import DATA
from trivet.doctor.explanations.explanation import Explanation
from trivet.doctor.explanations.gradients import GRADIENTS
from trivet.doctor.explanations.loop import LOOP
from trivet.doctor.explanations.loss import LOSS
from trivet.doctor.explanations.parameters import PARAMETERS

EXPLANATIONS: dict[str, Explanation] = PARAMETERS | GRADIENTS | LOOP | LOSS | DATA
"""Name of the finding -> its explanation."""

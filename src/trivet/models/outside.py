"""Models made elsewhere, as models of ours."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.model import Model
from trivet.models.spec import Colour, ModelSpec
from trivet.structures import TaskName

OUTSIDE = "outside"
"""The head in the spec of a wrapped model."""

_OUTPUT_KEYS = ("out", "logits")  # torchvision's, transformers'
_SECOND_KEYS = ("aux",)  # trained beside the main output
_MULTIPLES: dict[TaskName, int] = {"segmentation": 32, "classification": 1}


class Outside(nn.Module):
    """A whole network as the head of a model without backbone and neck.

    Args:
        module: Images -> logits: a tensor, a tuple of them with the main one first, or a dict that has them under
            `out` or `logits` (what torchvision and transformers give).
        task: What its output is for.
        classes: How many classes it tells apart.
        multiple: What both sides of its input have to be a multiple of; `Model` sees to it.
    """

    task: TaskName

    def __init__(self, module: nn.Module, *, task: TaskName, classes: int, multiple: int) -> None:
        super().__init__()
        self.module = module
        self.task = task
        self.classes = classes
        self.multiple = multiple

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Tensor | tuple[Tensor, ...]:
        """Return logits, `[b, classes, h, w]` at any stride or `[b, classes]`; several in a tuple."""
        outputs = [self._checked(x) for x in _tensors(self.module(images))]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _checked(self, logits: Tensor) -> Tensor:
        sides = 4 if self.task == "segmentation" else 2
        if logits.ndim != sides or logits.shape[1] != self.classes:
            raise UsageError(
                f"{type(self.module).__name__} gives logits of shape {tuple(logits.shape)}, wanted "
                f"[images, {self.classes} classes{', height, width' if sides == 4 else ''}] for {self.task}",
                "make the module for this task and number of classes, or correct wrap_model's arguments",
            )
        return logits


def wrap_model(
    module: nn.Module,
    *,
    task: TaskName,
    classes: int,
    mean: Colour = (0.485, 0.456, 0.406),
    std: Colour = (0.229, 0.224, 0.225),
    size_hw: tuple[int, int] = (512, 512),
    multiple: int | None = None,
) -> Model:
    """Make a model of a network from elsewhere: segmentation-models-pytorch, torchvision, your own.

    Args:
        module: Takes normalised images `[b, 3, h, w]`; see `Outside` for what it may return.
        task: `segmentation` or `classification`.
        classes: How many classes it tells apart.
        mean: Mean of the images it was trained on, by channel, in 0-1; ImageNet's unless said.
        std: Their standard deviation, in 0-1.
        size_hw: The input size it is meant for; any other works.
        multiple: What its input's sides have to be a multiple of; `None` = 32 for segmentation, which suits nearly
            every network, and 1 for classification.

    Raises:
        UsageError: If the task is another, or a number is out of range.

    Example:
        >>> from torchvision.models.segmentation import lraspp_mobilenet_v3_large
        >>> net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
        >>> wrap_model(net, task="segmentation", classes=5).task
        'segmentation'
    """
    if task not in _MULTIPLES:
        raise UsageError(
            f"cannot wrap a module for task {task!r}", f"the tasks are {' and '.join(_MULTIPLES)}"
        )
    multiple = _MULTIPLES[task] if multiple is None else multiple
    if classes < 1 or multiple < 1:
        raise UsageError(
            f"a wrapped model needs classes and multiple of at least 1, got {classes} and {multiple}"
        )
    spec = ModelSpec(
        backbone=f"{type(module).__module__}:{type(module).__qualname__}",
        neck="none",
        head=OUTSIDE,
        classes=classes,
        size_hw=size_hw,
        mean=mean,
        std=std,
        fill_rgb=(round(255 * mean[0]), round(255 * mean[1]), round(255 * mean[2])),
        options={"task": task, "multiple": multiple},
    )
    head = Outside(module, task=task, classes=classes, multiple=multiple)
    return Model(nn.Identity(), nn.Identity(), head, spec=spec)


def _tensors(output: Any) -> list[Tensor]:
    """Return the logits in what a network gave, the main ones first."""
    parts = [output] if isinstance(output, Tensor) else output
    if isinstance(output, Mapping):
        main = [output[key] for key in _OUTPUT_KEYS if key in output]
        parts = [*main[:1], *(output[key] for key in _SECOND_KEYS if key in output)] if main else None
    if not isinstance(parts, (list, tuple)) or not parts or not all(isinstance(x, Tensor) for x in parts):
        raise UsageError(
            f"the wrapped module gives {type(output).__name__}, wanted a tensor of logits, a tuple of them, or a dict "
            f"with {' or '.join(map(repr, _OUTPUT_KEYS))}",
            "wrap it in a module that returns its logits",
        )
    return list(parts)

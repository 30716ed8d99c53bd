"""Other strides for a network whose stem and stages are modules: for small pictures, fewer of them halve the map."""

from collections.abc import Sequence

from torch import nn

from trivet.errors import UsageError

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)


def new_reductions(reductions: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Return each part's stride in input pixels when the parts have these strides of their own.

    Args:
        reductions: Each part's stride in input pixels as it is, in order.
        strides: Each part's wanted own stride: as it is, or 1.

    Raises:
        UsageError: If there are more or fewer of them than parts, or one is neither.
    """
    own = [after // before for before, after in zip((1, *reductions), reductions, strict=False)]
    if len(strides) != len(own) or any(new not in (1, old) for new, old in zip(strides, own, strict=True)):
        raise UsageError(
            f"its stem and stages have the strides {tuple(own)}, got strides={tuple(strides)}",
            "give one for each: as it is, or 1",
        )
    result, product = [], 1
    for stride in strides:
        product *= stride
        result.append(product)
    return result


def keep_size(part: nn.Module) -> None:
    """Set the stride of a part's convolutions to 1, so that its map is as large as its input.

    Raises:
        UsageError: If something else in it halves the map, or nothing does.
    """
    strided = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1]
    pools = [layer for layer in part.modules() if isinstance(layer, _POOLINGS)]
    if pools or not strided:
        found = type(pools[0]).__name__ if pools else "no strided convolution"
        raise UsageError(
            f"a stride can be changed where convolutions alone halve the map, and here is {found}",
            "leave strides out, or use a RegNet",
        )
    for layer in strided:
        layer.stride = (1, 1)

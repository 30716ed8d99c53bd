"""BiFPN (EfficientDet, section 3.2): a way down, a way up, and an edge from each map that came in."""

from trivet.models.necks.graph import Node, Plan


def bifpn_layout(first: int, last: int) -> tuple[Node, ...]:
    """Return the nodes of one layer over levels `first`..`last`.

    Example:
        >>> [node.inputs for node in bifpn_layout(3, 5)]
        [(1, 2), (0, 3), (1, 3, 4), (2, 5)]
    """
    plan = Plan(first, last)
    down = {last: plan.source(last)}
    for level in reversed(plan.levels[:-1]):
        down[level] = plan.add(level, plan.source(level), down[level + 1])
    below = down[first]
    for level in plan.levels[1:]:
        inner = (down[level],) if level != last else ()
        below = plan.add(level, plan.source(level), *inner, below)
    return tuple(plan.nodes)

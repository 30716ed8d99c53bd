"""Path aggregation (PANet, section 3.1) as a graph of fusing nodes: every level down, then every level up."""

from trivet.models.necks.graph import Node, Plan


def pan_layout(first: int, last: int) -> tuple[Node, ...]:
    """Return the nodes of one layer over levels `first`..`last`.

    Example:
        >>> [node.inputs for node in pan_layout(3, 5)]
        [(2,), (1, 3), (0, 4), (5,), (4, 6), (3, 7)]
    """
    plan = Plan(first, last)
    down = {last: plan.add(last, plan.source(last))}
    for level in reversed(plan.levels[:-1]):
        down[level] = plan.add(level, plan.source(level), down[level + 1])
    below = plan.add(first, down[first])
    for level in plan.levels[1:]:
        below = plan.add(level, down[level], below)
    return tuple(plan.nodes)

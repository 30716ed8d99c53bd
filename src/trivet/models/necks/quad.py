"""Quad-FPN (Xie et al. 2020, doi 10.1109/ICARCV50220.2020.9305379): down-up beside up-down, then their sum."""

from trivet.models.necks.graph import Node, Plan


def quad_layout(first: int, last: int) -> tuple[Node, ...]:
    """Return the nodes of one layer over levels `first`..`last`: four paths, then one fusion a level.

    Example:
        >>> [node.inputs for node in quad_layout(3, 4)]
        [(0, 1), (1, 2), (1, 0), (0, 4), (2, 5), (3, 4)]
    """
    plan = Plan(first, last)
    finer, coarser = plan.levels[1:], plan.levels[-2::-1]
    down = {last: plan.source(last)}
    for level in coarser:
        down[level] = plan.add(level, plan.source(level), down[level + 1])
    down_up = {first: down[first]}
    for level in finer:
        inner = (down[level],) if level != last else ()
        down_up[level] = plan.add(level, plan.source(level), *inner, down_up[level - 1])
    up = {first: plan.source(first)}
    for level in finer:
        up[level] = plan.add(level, plan.source(level), up[level - 1])
    up_down = {last: up[last]}
    for level in coarser:
        inner = (up[level],) if level != first else ()
        up_down[level] = plan.add(level, plan.source(level), *inner, up_down[level + 1])
    for level in plan.levels:
        plan.add(level, down_up[level], up_down[level])
    return tuple(plan.nodes)

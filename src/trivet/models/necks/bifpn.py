"""BiFPN (EfficientDet, section 3.2): a way down, a way up, and a direct edge from each map that came in."""

from trivet.models.necks.graph import Node


def bifpn_layout(first: int, last: int) -> tuple[Node, ...]:
    """Return the nodes of one BiFPN layer over levels `first`..`last`.

    Example:
        >>> [node.inputs for node in bifpn_layout(3, 5)]
        [(1, 2), (0, 3), (1, 3, 4), (2, 5)]
    """
    count = last - first + 1
    made = {level: [level - first] for level in range(first, last + 1)}
    nodes: list[Node] = []

    def add(level: int, inputs: list[int]) -> None:
        nodes.append(Node(level, tuple(inputs)))
        made[level].append(count + len(nodes) - 1)

    for level in range(last - 1, first - 1, -1):
        add(level, [made[level][-1], made[level + 1][-1]])
    for level in range(first + 1, last + 1):
        add(level, [*made[level], made[level - 1][-1]])
    return tuple(nodes)

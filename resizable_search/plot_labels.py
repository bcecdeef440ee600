"""Where labels go: beside their points, covering neither each other nor a point. Lengths are pixels."""

import itertools
import math
from collections.abc import Sequence

Point = tuple[float, float]
Segment = tuple[Point, Point]

DISTANCES = (9, 13, 20, 30, 42, 56, 74, 96, 120, 150)
DIRECTIONS = tuple((math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)) for turn in range(16))
REACH = 6.0
"""How far a point's mark reaches from its middle."""

SWEEPS = 4
"""How often every label may look for a better place, the others being where they are."""

NEAR = 18.0
"""A label nearer than this to its point needs no line to it."""


class Box:
    """A rectangle by its lower left corner and its size."""

    def __init__(self, x: float, y: float, width: float, height: float) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height

    def common(self, other: "Box", gap: float = 3.0) -> float:
        """The area that two rectangles have in common, each with half of the gap around it."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x) + gap
        along = min(self.y + self.height, other.y + other.height) - max(self.y, other.y) + gap
        return max(0.0, across) * max(0.0, along)

    def within(self, other: "Box") -> bool:
        """Whether it lies in the other whole."""
        return (
            other.x <= self.x
            and other.y <= self.y
            and self.x + self.width <= other.x + other.width
            and self.y + self.height <= other.y + other.height
        )

    def nearest(self, point: Point) -> Point:
        """The place in it that is nearest to a point."""
        return (
            min(max(point[0], self.x), self.x + self.width),
            min(max(point[1], self.y), self.y + self.height),
        )

    def length_of(self, line: Segment) -> float:
        """How much of a line lies in it, roughly."""
        (x1, y1), (x2, y2) = line
        whole = math.dist(*line)
        steps = max(2, int(whole / 4))
        inside = 0
        for i in range(steps + 1):
            x, y = x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps
            inside += self.x <= x <= self.x + self.width and self.y <= y <= self.y + self.height
        return whole * inside / (steps + 1)


def placed(
    points: Sequence[Point], sizes: Sequence[Point], lines: Sequence[Segment], bounds: Box
) -> list[Box]:
    """A box of the size asked for each point, in their order, within the bounds as far as they have room.

    `lines` are better not covered; other points and boxes must not be. Earlier points choose first.
    """
    marks = [Box(x - REACH, y - REACH, 2 * REACH, 2 * REACH) for x, y in points]
    found: list[Box] = []
    for sweep, i in itertools.product(range(SWEEPS), range(len(points))):
        others = [box for j, box in enumerate(found) if j != i]
        leaders = [
            (points[j], box.nearest(points[j]))
            for j, box in enumerate(found)
            if j != i and math.dist(points[j], box.nearest(points[j])) > NEAR
        ]
        boxes = _around(points[i], sizes[i])
        costs = [_cost(box, points[i], marks, others, lines, leaders, bounds) for box in boxes]
        best = boxes[costs.index(min(costs))]
        if sweep:
            found[i] = best
        else:
            found.append(best)
    return found


def _around(point: Point, size: Point) -> list[Box]:
    (x, y), (width, height) = point, size
    boxes = []
    for far, (right, up) in itertools.product(DISTANCES, DIRECTIONS):
        middle_x = x + right * (far + width / 2)
        middle_y = y + up * (far + height / 2)
        boxes.append(Box(middle_x - width / 2, middle_y - height / 2, width, height))
    return boxes


def _cost(
    box: Box,
    point: Point,
    marks: Sequence[Box],
    others: Sequence[Box],
    lines: Sequence[Segment],
    leaders: Sequence[Segment],
    bounds: Box,
) -> float:
    """How bad a place is: what it covers weighs most, then how far off it is."""
    cost = 0.0 if box.within(bounds) else 1e6
    cost += sum(20 * box.common(other) for other in others)
    cost += sum(20 * box.common(mark, 0) for mark in marks)
    cost += sum(3 * box.length_of(line) for line in lines)
    cost += sum(40 * box.length_of(line) for line in leaders)
    end = box.nearest(point)
    away = math.dist(point, end)
    if away > NEAR:
        own = (point, end)
        cost += 10
        cost += sum(40 * other.length_of(own) for other in others)
        cost += sum(20 * mark.length_of(own) for mark in marks if math.dist(point, _middle(mark)) > 1)
        cost += sum(60 for leader in leaders if _cross(own, leader))
    return cost + away


def _middle(box: Box) -> Point:
    return box.x + box.width / 2, box.y + box.height / 2


def _cross(a: Segment, b: Segment) -> bool:
    def side(line: Segment, p: Point) -> bool:
        (x1, y1), (x2, y2) = line
        return (x2 - x1) * (p[1] - y1) > (y2 - y1) * (p[0] - x1)

    return side(a, b[0]) != side(a, b[1]) and side(b, a[0]) != side(b, a[1])

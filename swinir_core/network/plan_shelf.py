"""What images of one size, run one after another, share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from .windows import WindowPlan


class PlanShelf(threading.local):
    """Where the plan of a forward pass waits for the next one of the same size, while somebody
    says that there will be more.

    Every thread has its own, because work on a GPU may still go on when a pass returns. A plan is
    taken from the shelf while it is used, so that layers which fail, perhaps for want of memory,
    leave none behind.
    """

    def __init__(self) -> None:
        self._plan: WindowPlan | None = None
        self._users = 0

    def __reduce__(self) -> tuple[type[PlanShelf], tuple[()]]:
        """Copies of a network begin with an empty one."""
        return PlanShelf, ()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Within, plans wait; nothing is left afterwards."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._plan = None

    def take(self, features: Tensor, size: int, keeps_graph: bool) -> WindowPlan:
        """The plan for ``features`` (B, C, H, W), whose sides are multiples of ``size``."""
        plan, self._plan = self._plan, None
        if plan is not None and plan.serves(features, keeps_graph):
            return plan
        del plan  # Its room is free before the next one is made.
        return WindowPlan.build(features, size, keeps_graph)

    def put_back(self, plan: WindowPlan) -> None:
        """After a pass that did not fail."""
        if self._users:
            self._plan = plan

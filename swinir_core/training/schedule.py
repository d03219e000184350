"""How fast a run learns and forgets at each step; functions of the step alone."""

import math

from .settings.settings import ScheduleSettings

FINAL_SHARE = 1 / 500
"""Of the highest learning rate, at the end of a cosine."""


def learning_rate(step: int, schedule: ScheduleSettings) -> float:
    """Linear warm-up, then halving at milestones or half a cosine."""
    top = schedule.learning_rate
    if step < schedule.warm_up:
        return top * (step + 1) / (schedule.warm_up + 1)
    if schedule.decay == "halving":
        return top / 2 ** sum(step >= milestone for milestone in schedule.halve_at)
    progress = (step - schedule.warm_up) / (schedule.steps - schedule.warm_up)
    height = (1 + math.cos(math.pi * progress)) / 2
    return top * (FINAL_SHARE + (1 - FINAL_SHARE) * height)


def ema_decay(step: int, schedule: ScheduleSettings) -> float:
    """How much of the average survives a step: little at first, lest it remember the weights of
    the beginning."""
    return min(schedule.ema, (1 + step) / (10 + step))

"""Learning rate and decay of the average at each step; functions of the step alone."""

import math

from .settings.settings import ScheduleSettings

FINAL_FRACTION = 1 / 500
"""Learning rate at the end of a cosine, as a fraction of the highest."""


def learning_rate(step: int, schedule: ScheduleSettings) -> float:
    """Learning rate of a step: linear warm-up, then halving at milestones or half a cosine."""
    top = schedule.learning_rate
    if step < schedule.warm_up:
        return top * (step + 1) / (schedule.warm_up + 1)
    if schedule.decay == "halving":
        return top / 2 ** sum(step >= milestone for milestone in schedule.halve_at)
    progress = (step - schedule.warm_up) / (schedule.steps - schedule.warm_up)
    height = (1 + math.cos(math.pi * progress)) / 2
    return top * (FINAL_FRACTION + (1 - FINAL_FRACTION) * height)


def ema_decay(step: int, schedule: ScheduleSettings) -> float:
    """Decay of the running average of the weights at a step, short at first so that the initial
    weights are soon forgotten."""
    return min(schedule.ema, (1 + step) / (10 + step))

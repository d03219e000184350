"""Every exception a caller may want to catch."""


class CheckpointError(ValueError):
    """A model file cannot be read, is not a SwinIR, or contradicts itself.

    The message names the file and says what to do.
    """


class ImageError(ValueError):
    """An image file cannot be read or written, or an image has a shape that cannot be restored."""


class PrecisionError(RuntimeError):
    """The weights are too large for the precision they were run in: the result is not finite."""


class Cancelled(Exception):  # noqa: N818 - named for what happened, nothing is wrong
    """The caller's ``cancelled`` callback asked a running restoration to stop."""

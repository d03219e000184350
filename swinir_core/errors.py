"""Exceptions that a caller may want to catch.

UserFacingError
    CheckpointError (ValueError)        a model file cannot be read or used
        OtherNetworkError               it holds another network
    ImageError (ValueError)             an image cannot be read, restored or written
    WriteError (OSError)                a file cannot be written
PrecisionError (RuntimeError)           weights are too large for a precision
Cancelled                               the caller stopped a run
"""

from .text import shown


class UserFacingError(Exception):
    """An error whose message is one line that can be printed, whatever names are quoted in it."""

    def __init__(self, message: object) -> None:
        super().__init__(shown(message))


class CheckpointError(UserFacingError, ValueError):
    """A model file cannot be read, is not a SwinIR, or contradicts itself.

    The message names the file and says what to do.
    """


class OtherNetworkError(CheckpointError):
    """A model file holds the weights of something else, which another program may know."""

    def __init__(self, message: object, is_upscaler: bool | None = None) -> None:
        """``is_upscaler``: whether it is a model for images; None where that is not known."""
        super().__init__(message)
        self.is_upscaler = is_upscaler


class ImageError(UserFacingError, ValueError):
    """An image file cannot be read or written, or an image has a shape that cannot be restored."""


class WriteError(UserFacingError, OSError):
    """A file cannot be written: the disk is full, a folder is read-only, a folder has its name.

    The message names the file and says why. What was there under its name is untouched.
    """


class PrecisionError(RuntimeError):
    """The weights are too large for the precision they were run in: the result is not finite."""


class Cancelled(Exception):  # noqa: N818 - named for what happened, nothing is wrong
    """The caller's ``cancelled`` callback asked a running restoration to stop."""

"""The error for an image that cannot be used, and the largest image and file that are read."""

from __future__ import annotations

from radscribe.errors import RadScribeError

#: Largest number of pixels of an image. The largest radiographs have some 30 million; more is a decompression
#: bomb or a scan of a wall.
MAX_PIXELS = 100_000_000
#: Largest size of a file in bytes. The largest picture with four channels of 16 bits takes less without
#: compression.
MAX_BYTES = 8 * MAX_PIXELS


class ImageError(RadScribeError):
    """An image that cannot be used.

    Attributes:
        reason: The cause in a few words, as `rejected.csv` lists it.
    """

    def __init__(self, message: str, hint: str = "", *, reason: str = ""):
        super().__init__(message, hint)
        self.reason = reason or message


def unreadable(name: object, reason: str, hint: str = "") -> ImageError:
    """The error for the image of this name; the reason is a few words, as `rejected.csv` lists it."""
    return ImageError(f"cannot read {name}: {reason}", hint, reason=reason)

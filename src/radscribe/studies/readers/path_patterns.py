"""Regular expressions that find the study or the patient of an image in its path."""

from __future__ import annotations

import re

from radscribe.errors import RadScribeError


class PathPattern:
    """Finds the study or the patient in the path of an image.

    Args:
        expression: Regular expression with one group, which is searched for in the path.
        finds: What it finds, for messages: `study` or `patient`.

    Raises:
        RadScribeError: the expression is not valid, or does not have exactly one group.
    """

    def __init__(self, expression: str, finds: str):
        self.expression = expression
        self.finds = finds
        self._unmatched: list[str] = []
        self._matched = 0
        example = f"For example --{finds}_pattern '([^/]+)/[^/]+$' takes the folder of an image"
        try:
            self._pattern = re.compile(expression)
        except (re.error, RecursionError, OverflowError) as error:
            raise RadScribeError(
                f"--{finds}_pattern '{expression}' is no valid regular expression: {error}", example
            ) from error
        if self._pattern.groups != 1:
            raise RadScribeError(
                f"--{finds}_pattern '{expression}' has {self._pattern.groups} groups, and needs one", example
            )

    def find(self, path: str) -> str:
        """The text of the group; empty if the path does not match or the group is empty."""
        match = self._pattern.search(path)
        found = (match[1] or "").strip() if match else ""
        if found:
            self._matched += 1
        else:
            self._unmatched.append(path)
        return found

    @property
    def reason(self) -> str:
        """Why an image that does not match is rejected."""
        return f"no {self.finds}: its path does not match --{self.finds}_pattern"

    def require_match(self) -> None:
        """Raise RadScribeError if paths were looked at and none of them matched."""
        if self._unmatched and not self._matched:
            raise RadScribeError(
                f"--{self.finds}_pattern '{self.expression}' matches none of {len(self._unmatched):,} paths "
                f"of images, such as '{self._unmatched[0]}'",
                f"Its one group must find the {self.finds} in such a path",
            )

"""The version, and the notice that stands on every surface."""

from importlib.metadata import version

VERSION = version("radscribe")
NOTICE = "research use, not for clinical diagnosis"

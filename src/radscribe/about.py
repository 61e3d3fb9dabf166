"""The version of RadScribe, and its notice: research use, not for clinical diagnosis."""

from importlib.metadata import version

VERSION = version("radscribe")
NOTICE = "research use, not for clinical diagnosis"

"""The values that options of readers have. Nothing heavy is imported here, for the command line is quick."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from radscribe.errors import unknown_name

#: Whether each examination or each image is a study.
Unit: TypeAlias = Literal["studies", "images"]
#: Sections that are taken as the report.
ReportSections: TypeAlias = Literal["findings", "impression", "both"]
#: Tables of observations of MIMIC-CXR.
MimicLabels: TypeAlias = Literal["chexpert", "negbio", "test-set"]
#: Sections of CheXpert Plus from which CheXbert labelled.
CheXpertPlusLabels: TypeAlias = Literal["findings", "impression", "report"]
#: What is the test split of CheXpert Plus.
CheXpertPlusTest: TypeAlias = Literal["valid", "patients"]
#: Which readers' boxes of PadChest-GR become masks.
BoxReaders: TypeAlias = Literal["first", "both"]
#: How hard the phantom is.
PhantomDifficulty: TypeAlias = Literal["easy", "medium", "hard"]
#: Labels of any data set.
Labels: TypeAlias = Literal[MimicLabels, CheXpertPlusLabels]


def require_choice(option: str, value: object, choices: Any) -> None:
    """Raise RadScribeError unless the value of an option is one of the values of a `Literal`."""
    if value not in get_args(choices):
        raise unknown_name(f"value of --{option}", str(value), get_args(choices))

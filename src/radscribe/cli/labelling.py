"""The command that labels report texts with the 14 observations, and compares two labellers."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from radscribe.cli.output import print_json
from radscribe.errors import RadScribeError, warn

if TYPE_CHECKING:
    from radscribe.text.observation_labeller import ObservationLabels


def label(
    file: str,
    *,
    against: Path | None = None,
    labeller: Literal["rules", "chexbert"] = "rules",
    models: Path | None = None,
    json: bool = False,
) -> None:
    """State the 14 CheXpert observations of report texts: present, absent, uncertain or not mentioned.

    Reports must be in English. A text with too few known English words is unreadable, and is not labelled.

    Args:
        file: A file with one report per line; - reads standard input.
        against: Labels of the same texts, in the same order, by another labeller: a CSV file of CheXpert or
            CheXbert, or JSON as CAMANet released it. Prints how the two agree instead of the labels.
        labeller: RadScribe's own rules, or chexbert, which needs --models.
        models: Folder with CheXbert's published chexbert.pth and the folder bert-base-uncased.
        json: Print one JSON object per report: its states, and the words that decided each of them; with
            --against one object with the agreement.
    """
    from radscribe.files import read_lines

    if (labeller == "chexbert") != (models is not None):
        raise RadScribeError(
            "--models has no effect without --labeller chexbert"
            if models
            else "--labeller chexbert needs --models",
            "Type: radscribe label FILE --labeller chexbert --models FOLDER",
        )
    lines = read_lines(file, "Write one report per line")
    found = _by_chexbert(list(lines), models) if models else _by_rules(lines)
    if against is None:
        for labels in found:
            print(dumps(labels.to_json()) if json else labels)
        return
    from radscribe.evaluation.label_agreement import label_agreement
    from radscribe.text.label_files import read_label_file

    agreement = label_agreement(list(found), list(read_label_file(against).values()))
    if json:
        print_json(agreement.to_json())
    else:
        print(agreement)


def _by_rules(lines: Iterator[str]) -> Iterator[ObservationLabels]:
    """Labels by RadScribe's rules, and a warning if there are unreadable texts."""
    from radscribe.text.observation_labeller import label_report

    texts = unreadable = 0
    for line in lines:
        labels = label_report(line)
        yield labels
        texts += 1
        unreadable += labels.unreadable
    if unreadable:
        warn(
            f"{unreadable} of {texts} texts are unreadable: they have too few known English words",
            "They are not labelled, for the labeller knows English only",
        )


def _by_chexbert(texts: list[str], models: Path) -> Iterator[ObservationLabels]:
    """Labels by CheXbert, which gives no evidence and finds no text unreadable."""
    from radscribe.evaluation.chexbert import CheXbert
    from radscribe.evaluation.metric_files import MetricFiles
    from radscribe.text.observation_labeller import ObservationLabels

    read = CheXbert.load(MetricFiles(models)).read(texts, progress=True)
    return (ObservationLabels(text, read[text].states, {}, False) for text in texts)

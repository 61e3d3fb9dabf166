"""What disease queries recalled, for the explanation page: regions and reports behind the rows of banks.

A bank only names the studies of its rows. Their views and reports are in the store that the run learnt from;
where that store is no longer there, the page names the studies alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from radscribe.errors import RadScribeError
from radscribe.pages.page_parts import jpeg_source
from radscribe.studies.store import PreparedStore
from radscribe.text.observation_labeller import label_report
from radscribe.vision.transforms import evaluation_view, stored_view

if TYPE_CHECKING:
    from radscribe.runs.config import RunConfig
    from radscribe.runs.explanation import QueryRecall, Recall, RecalledEntry

#: Queries whose probability is lower are folded away, unless all are.
_SHOWN = 0.5
#: Longest text of a report that is shown, in characters.
_LONGEST = 400


@dataclass(slots=True)
class RecalledSource:
    """Finds what the rows of banks are of in the store of a run.

    Attributes:
        config: Configuration of the run.
        problem: Why the store cannot be read; empty if it can.
    """

    config: RunConfig
    problem: str = ""
    _store: PreparedStore | None = field(default=None, init=False)
    _pictures: dict[tuple[str, int], str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        try:
            self._store = PreparedStore(self.config.store)
        except RadScribeError as error:
            self.problem = str(error)

    def card(self, recall: Recall) -> list[dict[str, Any]]:
        """What the page shows of each observation's query, the most probable observation first."""
        names = list(next(iter(recall.banks.values())))
        known = recall.probabilities
        names.sort(key=lambda name: -known.get(name, 0.0))
        shown = [name for name in names if known.get(name, 0.0) >= _SHOWN] or names[:1]
        return [
            {
                "name": name,
                "probability": known.get(name),
                "open": name in shown,
                "banks": {kind: self._bank(queries[name]) for kind, queries in recall.banks.items()},
            }
            for name in names
        ]

    def _bank(self, recalled: QueryRecall) -> dict[str, Any]:
        return {
            "perplexity": recalled.perplexity,
            "entries": [self._entry(entry) for entry in recalled.entries],
        }

    def _entry(self, entry: RecalledEntry) -> dict[str, Any]:
        of = entry.of
        found = {"weight": entry.weight, "observation": of["observation"], "study": of.get("study", "")}
        return found | {"picture": "", "box": None, "text": ""} | self._looked_up(of)

    def _looked_up(self, of: Mapping[str, Any]) -> dict[str, Any]:
        """Picture, box and text of a row, as far as the store has them."""
        if self._store is None or not of.get("study"):
            return {}
        try:
            study = self._store.study(of["study"])
            report = study.report(self.config.data.section)
            if "view" not in of:
                begin, end = of.get("span", (0, len(report)))
                return {"text": _shortened(report[begin:end])}
            place = study.id, int(of["view"])
            if place not in self._pictures:
                transform = self.config.data.transform
                pixels = stored_view(study.views[place[1]], transform).pixels
                self._pictures[place] = jpeg_source(evaluation_view(pixels, transform).numpy())
        except (RadScribeError, IndexError, KeyError) as error:
            return {"text": f"({error})"}
        return {
            "picture": self._pictures[place],
            "box": (of["left"], of["top"], of["side"]),
            "text": _sentence_about(report, of["observation"]),
        }


def _sentence_about(report: str, observation: str) -> str:
    """The sentence of a report in which an observation is decided, or else the whole report."""
    labels = label_report(report)
    if found := labels.evidence.get(observation):
        return labels.words(found.sentence)
    return _shortened(report)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(" ", 1)[0] + " …"

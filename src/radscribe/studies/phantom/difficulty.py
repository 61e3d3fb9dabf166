"""How hard the phantom is, in numbers that the drawing of studies, images and reports follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radscribe.errors import unknown_name


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a phantom is. Each default changes nothing, so that the defaults are the easy phantom.

    Attributes:
        contrast: Range of the factor by which a finding is fainter; the factor of each is drawn from it.
        hidden: Probability that a finding of the lung lies at the hilum and the border of the heart.
        spread: Factor of the differences between bodies, positions and exposures.
        bones: Factor of the contrast of bones.
        noise: Factor of the noise.
        blur: Largest standard deviation of the blur in pixels.
        overlays: Probability of each thing that lies over the chest and is no finding (`overlays.OVERLAYS`).
        collimation: Largest width of the dark border at each side, in half image widths.
        crowding: Factor of the probability of incidental findings.
        most_findings: Largest number of findings, devices aside.
        most_airspace: Largest number of opacities, consolidations and pneumonias, which look alike.
        rarity: Exponent of the share of findings that stay, which is below 1 for those that are rare.
        phrasings: Number of further phrasings of each fact, beside the usual ones.
        evenness: Frequency of a phrasing, relative to the one before it.
        remarks: Mean number of sentences that say nothing of observations.
        comparisons: Probability that the sentence of a finding compares it with an earlier examination.
    """

    contrast: tuple[float, float] = (1.0, 1.0)
    hidden: float = 0.0
    spread: float = 1.0
    bones: float = 1.0
    noise: float = 1.0
    blur: float = 0.0
    overlays: float = 0.0
    collimation: float = 0.0
    crowding: float = 1.0
    most_findings: int = 4
    most_airspace: int = 1
    rarity: float = 0.0
    phrasings: int = 0
    evenness: float = 0.55
    remarks: float = 0.0
    comparisons: float = 0.0


EASY = Difficulty()
#: Difficulties by the names in `PhantomDifficulty`.
DIFFICULTIES: Mapping[str, Difficulty] = {
    "easy": EASY,
    "medium": Difficulty(
        contrast=(0.5, 0.9),
        hidden=0.2,
        spread=1.3,
        bones=1.25,
        noise=1.6,
        blur=0.8,
        overlays=0.12,
        collimation=0.1,
        crowding=1.5,
        most_findings=5,
        most_airspace=2,
        rarity=0.5,
        phrasings=2,
        evenness=0.75,
        remarks=1.0,
        comparisons=0.15,
    ),
    "hard": Difficulty(
        contrast=(0.3, 0.65),
        hidden=0.4,
        spread=1.6,
        bones=1.5,
        noise=2.2,
        blur=1.3,
        overlays=0.25,
        collimation=0.16,
        crowding=2.0,
        most_findings=6,
        most_airspace=2,
        rarity=1.0,
        phrasings=6,
        evenness=0.95,
        remarks=2.0,
        comparisons=0.3,
    ),
}


def difficulty_of(name: str) -> Difficulty:
    """The difficulty of a name.

    Raises:
        RadScribeError: there is none of this name.
    """
    if name not in DIFFICULTIES:
        raise unknown_name("value of --difficulty", name, DIFFICULTIES)
    return DIFFICULTIES[name]

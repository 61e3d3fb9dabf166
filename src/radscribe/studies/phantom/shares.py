"""The shares from which phantom studies are drawn: how often each finding, side, place and size occurs."""

from __future__ import annotations

from collections.abc import Mapping

from radscribe.studies.phantom.study import Severity, Side, Zone

#: Range of `Finding.size` from which each severity is drawn; gaps between the ranges keep the words
#: learnable.
SEVERITY_SIZES: Mapping[Severity, tuple[float, float]] = {
    "mild": (0.10, 0.30),
    "moderate": (0.42, 0.60),
    "severe": (0.74, 1.00),
}
SEVERITY_SHARES: Mapping[Severity, float] = {"mild": 0.4, "moderate": 0.37, "severe": 0.23}

SIDE_SHARES: Mapping[str, Mapping[Side, float]] = {
    "Enlarged Cardiomediastinum": {"midline": 1.0},
    "Cardiomegaly": {"midline": 1.0},
    "Edema": {"bilateral": 1.0},
    "Lung Opacity": {"right": 0.42, "left": 0.36, "bilateral": 0.22},
    "Lung Lesion": {"right": 0.55, "left": 0.45},
    "Consolidation": {"right": 0.5, "left": 0.38, "bilateral": 0.12},
    "Pneumonia": {"right": 0.5, "left": 0.38, "bilateral": 0.12},
    "Atelectasis": {"right": 0.32, "left": 0.36, "bilateral": 0.32},
    "Pneumothorax": {"right": 0.52, "left": 0.48},
    "Pleural Effusion": {"right": 0.33, "left": 0.31, "bilateral": 0.36},
    "Pleural Other": {"right": 0.45, "left": 0.40, "bilateral": 0.15},
    "Fracture": {"right": 0.5, "left": 0.5},
}
DEVICE_SIDE_SHARES: Mapping[str, Mapping[Side, float]] = {
    "central venous catheter": {"right": 0.75, "left": 0.25},
    "pacemaker": {"left": 0.85, "right": 0.15},
    "endotracheal tube": {"midline": 1.0},
    "sternotomy wires": {"midline": 1.0},
    "chest tube": {"right": 0.5, "left": 0.5},
}

ZONE_SHARES: Mapping[str, Mapping[Zone, float]] = {
    "Lung Opacity": {"lower": 0.5, "middle": 0.28, "upper": 0.22},
    "Lung Lesion": {"upper": 0.42, "middle": 0.33, "lower": 0.25},
    "Consolidation": {"lower": 0.52, "middle": 0.22, "upper": 0.26},
    "Pneumonia": {"lower": 0.55, "middle": 0.22, "upper": 0.23},
    "Atelectasis": {"lower": 1.0},
    "Fracture": {"upper": 0.25, "middle": 0.45, "lower": 0.3},
}

UNCERTAIN_SHARES: Mapping[str, float] = {
    "Enlarged Cardiomediastinum": 0.2,
    "Cardiomegaly": 0.1,
    "Lung Opacity": 0.12,
    "Lung Lesion": 0.2,
    "Edema": 0.15,
    "Consolidation": 0.12,
    "Pneumonia": 0.45,
    "Atelectasis": 0.2,
    "Pneumothorax": 0.1,
    "Pleural Effusion": 0.12,
    "Pleural Other": 0.2,
    "Fracture": 0.15,
    "Support Devices": 0.0,
}

# Share of each scenario, then the probability of each finding in it. The first finding is the scenario's
# lead: the study has it if nothing else was drawn.
SCENARIOS: tuple[tuple[float, Mapping[str, float]], ...] = (
    (0.235, {}),
    (0.20, {"Cardiomegaly": 0.8, "Edema": 0.65, "Pleural Effusion": 0.65, "Support Devices": 0.2}),
    (0.19, {"Pneumonia": 0.45, "Consolidation": 0.5, "Lung Opacity": 0.35, "Pleural Effusion": 0.3}),
    (0.09, {"Lung Lesion": 0.85, "Enlarged Cardiomediastinum": 0.4, "Pleural Effusion": 0.25}),
    (0.11, {"Fracture": 0.62, "Pneumothorax": 0.55, "Lung Opacity": 0.3, "Enlarged Cardiomediastinum": 0.15}),
    (0.07, {"Pleural Other": 0.85, "Atelectasis": 0.3, "Lung Opacity": 0.25}),
    (0.105, {"Support Devices": 0.75, "Atelectasis": 0.65, "Pleural Effusion": 0.4, "Pneumothorax": 0.2}),
)  # fmt: skip
INCIDENTAL: Mapping[str, float] = {
    "Cardiomegaly": 0.10,
    "Atelectasis": 0.12,
    "Lung Opacity": 0.07,
    "Enlarged Cardiomediastinum": 0.04,
    "Pneumothorax": 0.025,
    "Lung Lesion": 0.03,
    "Pleural Other": 0.02,
}
INCIDENTAL_DEVICES = 0.07

# Share of an observation's findings that stay in a phantom of rarity 1; the common ones all stay.
RARE_SHARES: Mapping[str, float] = {
    "Enlarged Cardiomediastinum": 0.35,
    "Lung Lesion": 0.5,
    "Edema": 0.7,
    "Consolidation": 0.6,
    "Pneumonia": 0.6,
    "Pneumothorax": 0.35,
    "Pleural Other": 0.25,
    "Fracture": 0.3,
}
# Outlines that differ from the normal one: they cannot be fainter, for a second border would be seen.
OUTLINES = ("Cardiomegaly", "Enlarged Cardiomediastinum")
# Findings that may lie at the hilum.
OF_THE_LUNG = ("Lung Opacity", "Lung Lesion", "Consolidation", "Pneumonia")

# These look the same when they lie over each other: an easy study has at most one of them, a harder one has a
# second in the other lung.
AIRSPACE = ("Pneumonia", "Consolidation", "Lung Opacity")


ANATOMY_RANGES: Mapping[str, tuple[float, float]] = {
    "habitus": (0.0, 1.0),
    "thorax_width": (0.72, 0.82),
    "chest_depth": (0.92, 1.06),
    "apex": (-0.84, -0.76),
    "dome": (0.36, 0.48),
    "dome_step": (0.03, 0.08),
    "heart_ratio": (0.40, 0.47),
    "heart_tilt": (0.35, 0.6),
    "aortic_knob": (0.03, 0.075),
    "mediastinum": (0.125, 0.15),
    "rib_spacing": (0.15, 0.175),
    "rib_phase": (0.0, 1.0),
    "rib_slope": (0.22, 0.36),
    "bone_density": (0.13, 0.21),
    "clavicle": (-0.74, -0.66),
    "spine_curve": (-0.025, 0.025),
    "kyphosis": (0.08, 0.2),
    "gastric_bubble": (0.0, 1.0),
}
ACQUISITION_RANGES: Mapping[str, tuple[float, float]] = {
    "rotation": (-0.05, 0.05),
    "shift_x": (-0.03, 0.03),
    "shift_y": (-0.03, 0.03),
    "zoom": (0.95, 1.05),
    "inspiration": (0.0, 0.06),
    "exposure": (0.54, 0.66),
    "contrast": (3.6, 4.6),
    "noise": (1.5, 4.5),
}

DRAWING_ORDER = (
    "Cardiomegaly",
    "Enlarged Cardiomediastinum",
    "Pneumothorax",
    "Edema",
    "Pleural Effusion",
    "Pleural Other",
    "Atelectasis",
    "Lung Opacity",
    "Consolidation",
    "Pneumonia",
    "Lung Lesion",
    "Fracture",
    "Support Devices",
)

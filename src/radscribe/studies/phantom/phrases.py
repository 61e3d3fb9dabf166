"""The sentences that the phantom's reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Fields of the sentences: {severity} {adverb} {size} {texture} {extent} are words for the finding's size;
# {side} is the side as an adjective; {place} is a part of the lung as an adjective, {location} is that part
# with its article; {basilar} is a side of the lung bases; {zone} is a third of the chest; {lesion} is nodule
# or mass; {is}, {a} and {s} agree in number with the sides.
SENTENCES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "Cardiomegaly": {
        "present": (
            "The heart is {adverb} enlarged.",
            "There is {severity} cardiomegaly.",
            "{severity} enlargement of the cardiac silhouette.",
        ),
        "uncertain": (
            "Possible mild cardiomegaly.",
            "The heart may be mildly enlarged.",
            "Borderline heart size, mild cardiomegaly cannot be excluded.",
        ),
        "noun": ("{severity} cardiomegaly",),
    },
    "Enlarged Cardiomediastinum": {
        "present": (
            "The mediastinum is {adverb} widened.",
            "There is {severity} widening of the mediastinum.",
            "{severity} mediastinal widening is seen.",
        ),
        "uncertain": (
            "The mediastinum may be mildly widened.",
            "Possible mild widening of the mediastinum.",
        ),
        "noun": ("{severity} mediastinal widening",),
    },
    "Lung Opacity": {
        "present": (
            "There {is} {a}{texture} {opacity} in {location}.",
            "{texture} {place} {opacity} {is} seen.",
            "{texture} airspace {opacity} in {location}.",
        ),
        "uncertain": (
            "There {is} {a}possible faint {opacity} in {location}.",
            "{a}faint {opacity} in {location} cannot be excluded.",
        ),
        "noun": ("{texture} {place} {opacity}",),
    },
    "Lung Lesion": {
        "present": (
            "There {is} {a}{lesion} in {location}.",
            "{a}{lesion} {is} seen in {location}.",
            "{a}{lesion} {is} projected over {location}.",
        ),
        "uncertain": (
            "Possible {lesion} in {location}.",
            "{a}{lesion} in {location} cannot be excluded.",
            "Questionable {lesion} in {location}.",
        ),
        "noun": ("{lesion} in {location}",),
    },
    "Edema": {
        "present": (
            "There is {severity} pulmonary edema.",
            "Perihilar haze, consistent with {severity} pulmonary edema.",
            "Pulmonary vascular congestion with {severity} interstitial edema.",
        ),
        "uncertain": (
            "Possible mild pulmonary edema.",
            "Mild pulmonary edema cannot be excluded.",
        ),
        "noun": ("{severity} pulmonary edema",),
    },
    "Consolidation": {
        "present": (
            "There is {extent} consolidation in {location}.",
            "{extent} {place} consolidation.",
            "{extent} consolidation is present in {location}.",
        ),
        "uncertain": (
            "Possible {extent} consolidation in {location}.",
            "{extent} consolidation in {location} cannot be excluded.",
        ),
        "noun": ("{extent} {place} consolidation",),
    },
    "Pneumonia": {
        "present": (
            "There is {extent} consolidation in {location}, consistent with pneumonia.",
            "{extent} {place} consolidation, compatible with pneumonia.",
        ),
        "uncertain": (
            "There {is} {a}{opacity} in {location}, which may represent pneumonia.",
            "{place} {opacity}, possibly pneumonia.",
        ),
        "noun": ("{place} pneumonia",),
    },
    "Atelectasis": {
        "present": (
            "There is {severity} {basilar} atelectasis.",
            "{severity} bandlike {basilar} atelectasis.",
            "{severity} atelectasis is seen at {bases}.",
        ),
        "uncertain": (
            "Possible {basilar} atelectasis.",
            "Faint linear densities at {bases} may represent atelectasis.",
        ),
        "noun": ("{severity} {basilar} atelectasis",),
    },
    "Pneumothorax": {
        "present": (
            "There {is} {a}{size} {side} pneumothorax.",
            "{a}{size} {side} pneumothorax is seen.",
            "{size} {side} apical pneumothorax.",
        ),
        "uncertain": (
            "Possible tiny {side} pneumothorax.",
            "{a}tiny {side} apical pneumothorax cannot be excluded.",
        ),
        "noun": ("{size} {side} pneumothorax",),
    },
    "Pleural Effusion": {
        "present": (
            "There {is} {a}{size} {side} pleural effusion{s}.",
            "{size} {side} pleural effusion{s}.",
            "{a}{size} {side} pleural effusion{s} {is} present.",
        ),
        "uncertain": (
            "Possible small {side} pleural effusion{s}.",
            "{side} costophrenic blunting, {a}small pleural effusion{s} cannot be excluded.",
        ),
        "noun": ("{size} {side} pleural effusion{s}",),
    },
    "thickening": {
        "present": (
            "There is {severity} {side} pleural thickening.",
            "{severity} {side} pleural thickening is noted.",
        ),
        "uncertain": (
            "Possible {side} pleural thickening.",
            "There may be mild {side} pleural thickening.",
        ),
        "noun": ("{severity} {side} pleural thickening",),
    },
    "plaque": {
        "present": (
            "There are calcified {side} pleural plaques.",
            "Calcified {side} pleural plaques are noted.",
        ),
        "uncertain": (
            "Possible {side} pleural plaques.",
            "There may be {side} pleural plaques.",
        ),
        "noun": ("{side} pleural plaques",),
    },
    "Fracture": {
        "present": (
            "There {is} {a}displaced {side} {zone} rib fracture{s}.",
            "{a}displaced {side} {zone} rib fracture{s} {is} seen.",
            "Displaced fracture{s} of {a}{side} {zone} rib{s}.",
        ),
        "uncertain": (
            "Possible {side} {zone} rib fracture{s}.",
            "Questionable {side} {zone} rib fracture{s}.",
        ),
        "noun": ("{side} {zone} rib fracture{s}",),
    },
    "central venous catheter": {
        "present": (
            "There is a {side} central venous catheter with its tip in the superior vena cava.",
            "{side} central venous catheter tip overlies the superior vena cava.",
            "{side} central line is in place.",
        ),
        "noun": ("{side} central venous catheter",),
    },
    "pacemaker": {
        "present": (
            "There is a {side} chest pacemaker with its lead in the right ventricle.",
            "{side} chest pacemaker is in place.",
        ),
        "noun": ("{side} chest pacemaker",),
    },
    "endotracheal tube": {
        "present": (
            "There is an endotracheal tube above the carina.",
            "Endotracheal tube is in place.",
        ),
        "noun": ("endotracheal tube in place",),
    },
    "sternotomy wires": {
        "present": (
            "Median sternotomy wires are present.",
            "There are intact sternotomy wires.",
        ),
        "noun": ("sternotomy wires",),
    },
    "chest tube": {
        "present": (
            "There is a {side} chest tube.",
            "{side} chest tube is in place.",
        ),
        "noun": ("{side} chest tube in place",),
    },
}

LOBES = {"upper": "upper lobe", "middle": "middle lobe", "lower": "lower lobe"}
LUNG_ZONES = {"upper": "upper lung", "middle": "mid lung", "lower": "lung base"}

INDICATIONS: Mapping[str, Sequence[str]] = {
    "Fracture": ("Chest pain after a fall.", "Trauma.", "Motor vehicle accident."),
    "Pneumothorax": ("Sudden chest pain.", "Chest pain.", "Shortness of breath."),
    "Pneumonia": ("Cough and fever.", "Fever.", "Productive cough."),
    "Consolidation": ("Cough and fever.", "Fever.", "Productive cough."),
    "Edema": ("Shortness of breath.", "Dyspnea.", "Leg swelling."),
    "Cardiomegaly": ("Dyspnea.", "Shortness of breath.", "Hypertension."),
    "Lung Lesion": ("Weight loss.", "Cough.", "History of smoking."),
    "Pleural Other": ("Cough.", "History of smoking.", "Occupational exposure."),
    "Support Devices": ("Postoperative evaluation.", "Follow-up.", "Intensive care."),
}
GENERAL_INDICATIONS = ("Cough.", "Chest pain.", "Preoperative evaluation.", "Shortness of breath.")

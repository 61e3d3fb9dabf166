"""The further wording of harder phantoms: more phrasings of each fact, comparisons, and remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Fields as in `phrases.SENTENCES`. The phrasings of a fact stand in the order in which a harder phantom takes
# them up.
FURTHER_SENTENCES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "Cardiomegaly": {
        "present": (
            "The cardiac silhouette is {adverb} enlarged.",
            "{severity} cardiomegaly is present.",
            "The heart appears {adverb} enlarged.",
            "Heart is {adverb} enlarged.",
            "The cardiac silhouette appears {adverb} enlarged.",
            "Cardiomegaly, {severity} in degree.",
        ),
        "uncertain": (
            "The cardiac silhouette may be mildly enlarged.",
            "Heart size is borderline.",
            "Questionable mild cardiomegaly.",
            "The heart is borderline enlarged.",
        ),
        "noun": ("{severity} enlargement of the heart", "{adverb} enlarged heart"),
    },
    "Enlarged Cardiomediastinum": {
        "present": (
            "{severity} widening of the superior mediastinum, mediastinal widening.",
            "The mediastinal contours are {adverb} widened.",
            "The mediastinal silhouette is {adverb} widened.",
            "{severity} widened mediastinum.",
        ),
        "uncertain": (
            "Questionable mild mediastinal widening.",
            "The mediastinum is possibly widened.",
        ),
        "noun": ("{adverb} widened mediastinum",),
    },
    "Lung Opacity": {
        "present": (
            "{texture} {opacity} in {location} {is} noted.",
            "{a}{texture} infiltrate{s} {is} present in {location}.",
            "{texture} airspace disease in {location}.",
            "Increased opacity in {location}, {texture} in appearance.",
            "{location} show{verb} {texture} opacification.",
            "{a}{texture} {place} infiltrate{s}.",
        ),
        "uncertain": (
            "Questionable {opacity} in {location}.",
            "Faint {opacity} in {location} may be present.",
            "{a}subtle infiltrate{s} in {location} cannot be excluded.",
        ),
        "noun": ("{texture} {place} infiltrate{s}", "{opacity} in {location}"),
    },
    "Lung Lesion": {
        "present": (
            "{a}{lesion} {is} noted in {location}.",
            "{a}{lesion} {is} identified in {location}.",
            "{a}well-defined {lesion} in {location}.",
            "{a}{lesion} {is} present, located in {location}.",
            "{place} {lesion}.",
            "{location} contain{verb} {a}{lesion}.",
        ),
        "uncertain": (
            "There may be {a}{lesion} in {location}.",
            "{a}{lesion} in {location} may be present.",
            "Suspected {lesion} in {location}.",
        ),
        "noun": ("{place} {lesion}",),
    },
    "Edema": {
        "present": (
            "{severity} pulmonary edema is present.",
            "Findings of {severity} pulmonary edema.",
            "{severity} pulmonary vascular congestion and edema.",
            "There is {severity} vascular congestion.",
            "Cephalization and perihilar haze indicate {severity} edema.",
            "Central vascular engorgement, {severity} in degree.",
        ),
        "uncertain": (
            "There may be mild pulmonary edema.",
            "Questionable mild vascular congestion.",
            "Mild vascular congestion is possible.",
        ),
        "noun": ("{severity} vascular congestion", "{severity} edema"),
    },
    "Consolidation": {
        "present": (
            "{extent} airspace consolidation in {location}.",
            "{extent} consolidation is noted in {location}.",
            "{location} show{verb} {extent} consolidation.",
            "{extent} consolidation involving {location}.",
            "{extent} consolidation of {location}.",
        ),
        "uncertain": (
            "There may be {extent} consolidation in {location}.",
            "Questionable {extent} consolidation in {location}.",
        ),
        "noun": ("{extent} consolidation in {location}",),
    },
    "Pneumonia": {
        "present": (
            "{extent} consolidation in {location} representing pneumonia.",
            "Pneumonia with {extent} consolidation in {location}.",
            "{extent} {place} consolidation due to pneumonia.",
            "{place} pneumonia with {extent} consolidation.",
        ),
        "uncertain": (
            "There {is} {a}{opacity} in {location}, pneumonia cannot be excluded.",
            "{place} {opacity}, which could represent pneumonia.",
            "There {is} {a}{place} {opacity}, questionable pneumonia.",
        ),
        "noun": ("pneumonia of {location}",),
    },
    "Atelectasis": {
        "present": (
            "{severity} {basilar} atelectasis is noted.",
            "{severity} atelectatic changes at {bases}.",
            "{severity} subsegmental atelectasis at {bases}.",
            "Bandlike {basilar} densities consistent with {severity} atelectasis.",
            "There is {severity} volume loss at {bases} with atelectasis.",
            "{severity} platelike atelectasis at {bases}.",
        ),
        "uncertain": (
            "There may be {basilar} atelectasis.",
            "Questionable {basilar} atelectasis.",
            "{basilar} bandlike densities, possibly atelectasis.",
        ),
        "noun": ("{severity} atelectasis at {bases}",),
    },
    "Pneumothorax": {
        "present": (
            "{a}{size} pneumothorax is noted on the {side}.",
            "{a}{size} {side} pneumothorax {is} identified.",
            "A visceral pleural edge is seen, {size} {side} pneumothorax.",
            "{side} pneumothorax, {size} in size.",
            "{a}{size} apical pneumothorax is present on the {side}.",
        ),
        "uncertain": (
            "Questionable tiny {side} pneumothorax.",
            "There may be a tiny {side} pneumothorax.",
        ),
        "noun": ("{side} pneumothorax, {size}",),
    },
    "Pleural Effusion": {
        "present": (
            "{a}{size} {side} effusion{s} {is} noted.",
            "{size} {side} pleural fluid.",
            "{side} pleural effusion{s}, {size} in size.",
            "{side} costophrenic blunting from {a}{size} effusion{s}.",
            "{a}{size} {side} pleural effusion{s} {is} seen.",
            "{a}{size} amount of {side} pleural fluid.",
        ),
        "uncertain": (
            "There may be {a}small {side} pleural effusion{s}.",
            "{a}small {side} effusion{s} {is} possible.",
            "Questionable trace {side} pleural fluid.",
        ),
        "noun": ("{size} {side} effusion{s}",),
    },
    "thickening": {
        "present": (
            "{severity} pleural thickening, {side}.",
            "{severity} {side} pleural thickening is present.",
            "{severity} {side} pleural scarring.",
        ),
        "uncertain": ("Questionable {side} pleural thickening.",),
        "noun": ("{severity} {side} pleural scarring",),
    },
    "plaque": {
        "present": (
            "{side} pleural plaques are seen.",
            "{side} pleural calcifications.",
            "There are {side} pleural plaques with calcification.",
        ),
        "uncertain": ("Questionable {side} pleural plaques.",),
        "noun": ("calcified {side} pleural plaques",),
    },
    "Fracture": {
        "present": (
            "{a}displaced {side} {zone} rib fracture{s} {is} noted.",
            "{side} {zone} rib fracture{s} with displacement.",
            "{a}{side} {zone} rib {is} fractured and displaced.",
            "{a}displaced {zone} rib fracture{s} {is} present on the {side}.",
        ),
        "uncertain": (
            "There may be {a}{side} {zone} rib fracture{s}.",
            "{a}{side} {zone} rib fracture{s} cannot be excluded.",
        ),
        "noun": ("displaced {side} {zone} rib fracture{s}",),
    },
    "central venous catheter": {
        "present": (
            "{side} central venous line terminates in the superior vena cava.",
            "{side} jugular catheter tip is in the superior vena cava.",
            "A {side} central catheter ends near the cavoatrial junction.",
            "{side} venous catheter in standard position.",
        ),
        "noun": ("{side} central line",),
    },
    "pacemaker": {
        "present": (
            "A {side} chest pacer is present.",
            "{side} pacemaker lead projects over the right ventricle.",
            "{side} chest wall pacemaker in standard position.",
        ),
        "noun": ("{side} pacemaker",),
    },
    "endotracheal tube": {
        "present": (
            "The endotracheal tube tip is above the carina.",
            "The tip of the endotracheal tube projects over the mid trachea.",
            "Endotracheal tube in standard position.",
        ),
        "noun": ("endotracheal tube in standard position",),
    },
    "sternotomy wires": {
        "present": (
            "Sternotomy wires are intact and aligned.",
            "Median sternotomy wires are noted.",
            "Sternal wires are in place.",
        ),
        "noun": ("median sternotomy wires",),
    },
    "chest tube": {
        "present": (
            "A {side} chest tube is noted.",
            "{side} thoracostomy tube in place.",
            "{side} pleural drain is in place.",
        ),
        "noun": ("{side} thoracostomy tube",),
    },
}

# Normal sentences of each structure, with the observations that they deny by name.
FURTHER_NORMAL: Mapping[str, Mapping[str, Sequence[str]]] = {
    "heart and mediastinum": {
        "Cardiomediastinal silhouette is within normal limits.": (
            "Cardiomegaly",
            "Enlarged Cardiomediastinum",
        ),
        "The cardiomediastinal contours are normal.": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        "Heart size within normal limits.": ("Cardiomegaly",),
        "Cardiac and mediastinal contours are unremarkable.": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        "Heart and mediastinum are normal.": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        "There is no cardiomegaly.": ("Cardiomegaly",),
    },
    "heart": {
        "Heart size is within normal limits.": ("Cardiomegaly",),
        "The heart is not enlarged.": ("Cardiomegaly",),
        "No cardiomegaly.": ("Cardiomegaly",),
    },
    "mediastinum": {
        "No mediastinal widening.": ("Enlarged Cardiomediastinum",),
        "The mediastinum is not widened.": ("Enlarged Cardiomediastinum",),
    },
    "lungs": {
        "No focal consolidation.": ("Consolidation",),
        "No acute infiltrate or edema.": ("Lung Opacity", "Edema"),
        "No focal airspace disease.": ("Lung Opacity",),
        "No suspicious pulmonary nodule or mass.": ("Lung Lesion",),
        "Lungs are grossly clear.": (),
        "The lungs are free of focal consolidation, edema, or nodule.": (
            "Consolidation",
            "Edema",
            "Lung Lesion",
        ),
    },
    "pleura": {
        "No effusion or pneumothorax.": ("Pleural Effusion", "Pneumothorax"),
        "No focal consolidation, pleural effusion, or pneumothorax.": (
            "Consolidation",
            "Pleural Effusion",
            "Pneumothorax",
        ),
        "No large pleural effusion or pneumothorax.": ("Pleural Effusion", "Pneumothorax"),
        "The costophrenic angles are sharp.": (),
        "There is no evidence of pneumothorax or effusion.": ("Pleural Effusion", "Pneumothorax"),
        "No pneumothorax, effusion, or edema.": ("Pleural Effusion", "Pneumothorax", "Edema"),
    },
    "bones": {
        "No displaced rib fracture.": ("Fracture",),
        "Bony thorax is intact.": (),
        "No acute osseous findings.": (),
        "Mild degenerative changes of the thoracic spine.": (),
        "Osseous structures are grossly intact.": (),
        "No fracture is identified.": ("Fracture",),
    },
}
# Frames of the denial of one observation.
FURTHER_DENIALS: Sequence[str] = (
    "There is no evidence of {words}.",
    "No evidence of {words}.",
    "No {words} is identified.",
    "Negative for {words}.",
)

# Sentences that mention no observation, and that no image explains.
REMARKS: Sequence[str] = (
    "The trachea is midline.",
    "The aorta is tortuous.",
    "The visualized upper abdomen is unremarkable.",
    "Degenerative changes are present in the spine.",
    "There are mild degenerative changes of the thoracic spine.",
    "Atherosclerotic calcification of the aortic arch.",
    "The hilar contours are unremarkable.",
    "No free air under the diaphragm.",
    "The patient is rotated.",
    "The examination is limited by body habitus.",
    "Low lung volumes are present.",
    "Bowel gas pattern is unremarkable.",
    "Calcified hilar lymph nodes are noted.",
    "Mild scoliosis is noted.",
    "The soft tissues are unremarkable.",
    "Clinical correlation is recommended.",
    "Follow-up is suggested as clinically indicated.",
    "Osteopenia is present.",
    "The diaphragms are in normal position.",
)
OPENINGS: Sequence[str] = (
    "Radiographs of the chest were obtained.",
    "Comparison is made to the prior examination.",
    "Comparison is made with the study from one week ago.",
)
# What takes the place of the full stop of a sentence about a finding.
COMPARISONS: Sequence[str] = (
    ", unchanged from the prior examination.",
    ", similar to the prior study.",
    ", slightly increased since the previous examination.",
    ", new since the previous examination.",
    ", slightly decreased compared to the prior study.",
    ", as seen on the prior radiograph.",
)

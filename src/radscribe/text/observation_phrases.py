"""Phrases of the observation labeller: those that name an observation, deny it, or leave it open.

The phrases are in the spirit of the CheXpert labeller's. A blank in a phrase stands for blanks, line breaks
or hyphens. Phrases are lower case, begin and end at word boundaries, and the longest of a group comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SIZE_WORDS = (
    r"(?:silhouettes?|shadows?|contours?|sizes?|outlines?|borders?|margins?|structures|configuration)"
)

#: Phrases that name something abnormal, by the observations that they mention. Phrases under `()` look like a
#: mention and are none. A phrase that begins further left in the sentence hides those within it.
FINDINGS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    (): (
        r"pericardial (?:effusions?|fluid|thickening)",
        r"joint effusions?",
        r"(?:soft tissue|subcutaneous|pedal|leg|peripheral|lower extremity|bone marrow) (?:edema|infection)",
        r"(?:bladder|breast|muscle|body|soft tissue|abdominal|renal|adrenal|hepatic|thyroid|"
        r"bone) mass(?:es)?",
        r"mass effect",
        r"(?:vertebral|vertebral body) collapse",
        r"(?:surgical|skin|operative) scars?",
        r"fractured? (?:\w+ ){0,2}(?:wires?|leads?|catheter|hardware|screws?)",
        r"(?:right|left) heart borders?",
        r"heart (?:rate|disease|valves?|transplant\w*|surgery|sounds?|murmur)",
        r"(?:behind|overlying|over|obscur\w+|posterior to|adjacent to|projecting over) the (?:heart|cardiac"
        r"(?: silhouette| shadow)?|mediastinum)",
        r"(?:paratracheal|paraspinal|fissure|fissural|pleural|mediastinal|junction|septal) lines?",
        r"(?:eustachian|fallopian) tubes?",
        r"(?:granulomatous|histoplasmosis|tuberculo\w+|urinary tract|sinus) infections?",
        r"infection control",
        r"(?:radiation|hypersensitivity|interstitial) pneumonitis",
    ),
    ("Pleural Effusion", "Pneumothorax"): (r"(?:hydro|hemo|haemo|pyo)-?pneumothora(?:x|xes|ces)",),
    ("Pleural Effusion", "Pleural Other"): (
        r"pleural (?:effusions?|fluid) (?:and/or|and|or|versus|vs\.?) (?:\w+ )?(?:thickening|scar(?:ring)?)",
    ),
    ("Cardiomegaly",): (r"cardiomegaly",),
    ("Lung Opacity", "Lung Lesion"): (
        r"(?:nodular|mass ?like|round(?:ed)?) (?:opacit(?:y|ies)|opacification|infiltrates?)",
        r"masslike (?:opacit(?:y|ies)|opacification)",
    ),
    ("Consolidation", "Lung Opacity"): (r"consolidat(?:ive|ing) (?:opacit(?:y|ies)|infiltrates?)",),
    ("Atelectasis", "Lung Opacity"): (r"atelectatic (?:opacit(?:y|ies)|infiltrates?)",),
    ("Lung Opacity", "Pleural Other"): (
        r"(?:pleuro ?parenchymal|pleuroparenchymal|parenchymal pleural|pleural(?:/| and)? ?parenchymal)"
        r" (?:scar\w*|thickening|fibrosis)",
    ),
    ("Pleural Other",): (
        r"pleural(?: (?!effusions?\b|fluid\b|versus\b|vs\b|or\b)\w+){0,2}"
        r" (?:thickening|plaques?|scar(?:ring|s)?|fibrosis|calcifications?)",
        r"(?:thickening|calcifications?|scarring) of (?:the )?(?:\w+ ){0,2}pleura",
        r"pleural (?:reaction|calcifications?|disease|tumou?rs?|based mass\w*)",
        r"apical(?: pleural)? (?:capping|cap|caps|thickening)",
        r"fibrothorax",
        r"calcified pleura",
    ),
    ("Pleural Effusion",): (
        r"pleural(?:,? (?:or|and|and/or) pericardial)? (?:fluid|effusions?|collections?)",
        r"(?:fluid|effusions?) (?:with)?in (?:the )?(?:\w+ ){0,2}(?:fissures?|pleural space)",
        r"(?:intra)?fissural fluid",
        r"effusions?",
        r"(?:hemo|haemo|hydro)thora(?:x|ces)",
        r"empyemas?",
    ),
    ("Pneumothorax",): (r"pneumothora(?:x|xes|ces)", r"ptx", r"pleural (?:space )?air(?: collections?)?"),
    ("Atelectasis",): (
        r"atelecta\w+",
        r"collapsed? (?:of (?:the )?)?(?:\w+ ){0,3}(?:lobe|lung)s?",
        r"collapsed?",
    ),
    ("Pneumonia",): (
        r"(?:broncho)?pneumon(?:ias?|itis)",
        r"pneumonic",
        r"infections?",
        r"infectious(?: process(?:es)?| etiolog(?:y|ies)| infiltrates?)?",
    ),
    ("Consolidation",): (r"consolidat\w+", r"air ?space consolidat\w+"),
    ("Edema",): (
        r"(?:o)?edema(?:tous)?",
        r"(?:congestive )?(?:heart|cardiac) failure",
        r"congestive (?:failure|changes?)",
        r"chf",
        r"(?:vascular|pulmonary(?: vascular| venous)?|venous|perihilar|central|interstitial) congestion",
        r"(?:vascular|venous) (?:engorgement|redistribution|prominence|indistinctness|cephali[sz]ation)"
        r"(?! (?:is|are|appears?) (?:within|normal))",
        r"(?:fluid|volume) overload",
        r"kerley b? ?lines?",
        r"cephali[sz]ation",
    ),
    ("Lung Lesion",): (
        r"nodular (?:densit(?:y|ies)|foc(?:us|i)|lesions?|shadows?)",
        r"(?:micro)?nodul(?:es?|arity)",
        r"mass(?:es)?",
        r"(?:lung|pulmonary|parenchymal|cavitary|cavitating|mass) lesions?",
        r"(?:lung|pulmonary|bronchogenic) (?:cancers?|malignanc(?:y|ies)|metastas[ei]s)",
        r"carcinomas?",
        r"neoplas(?:ms?|ia|tic process)",
        r"tumou?rs?",
    ),
    ("Lung Opacity",): (
        r"opacit(?:y|ies)",
        r"opacifi\w+",
        r"(?:air ?space|alveolar|parenchymal|interstitial(?: lung)?) (?:diseases?|process(?:es)?|changes?|"
        r"infiltrates?|infiltration|abnormalit(?:y|ies)|patterns?|thickening|prominence|fibrosis)",
        r"infiltrat(?:es?|ions?|ive)",
        r"(?:increased|prominent|prominence of|coarse|coarsened|coarsening of|accentuated|thickened)"
        r"(?: the)?(?: \w+)? interstitial(?: lung)?(?: markings?)?",
        r"interstitial(?: lung)? markings? (?:is|are|appear) (?:\w+ )?(?:increased|prominent|coarse\w*|"
        r"thickened)",
        r"(?:increased|decreased) (?:lung )?(?:density|densities|translucency)",
        r"reticul(?:ar|onodular)(?: \w+)? (?:patterns?|markings?|changes?|densit(?:y|ies)|infiltrates?)",
        r"reticulations?",
        r"peribronchial (?:thickening|cuffing)",
        r"bronchial wall thickening",
        r"(?:pulmonary|lung|parenchymal) fibrosis",
        r"scar(?:s|ring)?",
        r"ground glass",
    ),
    ("Fracture",): (r"fractur(?:es?|ed|ing)",),
    ("Support Devices",): (
        r"(?:lines?|tubes?) (?:and|or|/) (?:tubes?|lines?)",
        r"(?:central(?: venous)?|venous|arterial|picc|ij|jugular|subclavian|femoral|support|vascular|"
        r"intravenous|"
        r"iv|indwelling|dialysis|infusion)(?: access)?(?: \w+)? (?:lines?|catheters?)",
        r"central lines?",
        r"picc",
        r"(?:\w*catheters?)",
        r"(?:endotracheal|nasogastric|orogastric|enteric|feeding|chest|pleural|tracheostomy|thoracostomy|"
        r"drainage|gastric|nasoenteric|ng|og|et|dobb?hoff) tubes?",
        r"tubes?",
        r"tracheostomy",
        r"port(?: a)? ?caths?",
        r"(?:medi|porta)ports?",
        r"(?:infusion|chest|venous access) ports?",
        r"port",
        r"(?:pace ?makers?|pacemakers?|pacers?|pacing)(?: (?:wires?|leads?|device|generator))?",
        r"(?:aicds?|icds?|defibrillators?)",
        r"(?:ekg|ecg|monitor(?:ing)?|cardiac|ventricular|atrial|telemetry) (?:leads?|wires?|electrodes?)",
        r"(?:implanted|implantable|medical|support|assist|cardiac|stimulator|monitoring) devices?",
        r"support apparatus",
        r"(?:intra ?aortic )?balloon pump",
        r"(?:sternotomy|sternal|cerclage|median sternotomy) (?:wires?|sutures?|xxxx)",
        r"(?:prosthetic|artificial|mechanical|replacement|replaced)(?: \w+){0,2} valves?",
        r"(?:mitral|aortic|tricuspid|cardiac|heart)? ?valv(?:e|ular) (?:replacements?|prosthes[ie]s)",
        r"(?:orthopedic|surgical|spinal|fixation|fusion) (?:hardware|plates?|screws?|rods?|device)",
        r"hardware",
        r"arthroplast(?:y|ies)",
        r"prosthes[ie]s",
        r"drains?",
        r"cannulas?",
        r"stents?",
        r"stimulators?",
    ),
}

#: Structures by the observations that they mention; they do so only together with a word for their size.
STRUCTURES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    (): (
        r"(?:behind|overlying|over|posterior to|adjacent to|projecting over|obscur\w+) the (?:heart|cardiac"
        r"(?: silhouette| shadow)?|mediastinum)",
        r"(?:right|left) heart(?: borders?)?",
        r"heart (?:rate|disease|valves?|transplant\w*|surgery|failure|sounds?|murmur)",
        r"cardiac (?:devices?|leads?|valves?|failure|surgery|monitor\w*|pacemaker|pacer)",
    ),
    ("Cardiomegaly", "Enlarged Cardiomediastinum"): (
        rf"cardio ?mediastin\w*(?: and hilar)?(?: {_SIZE_WORDS})?",
        rf"(?:cardiac|heart),?(?: (?:and|&))?(?: superior)? mediastin(?:al|"
        rf"um)(?: and hilar)?(?: {_SIZE_WORDS})?",
        rf"mediastinal(?: and| &)? cardiac(?: {_SIZE_WORDS})?",
    ),
    ("Cardiomegaly",): (
        rf"heart(?: {_SIZE_WORDS})*",
        rf"cardi(?:ac|o ?pericardial)(?: {_SIZE_WORDS})+",
        r"cardiac(?= (?:enlargement|prominence)| and (?:hilar|aortic))",
    ),
    ("Enlarged Cardiomediastinum",): (
        r"mediastinum",
        rf"mediastinal(?:,?(?: and)? hilar)?(?: {_SIZE_WORDS})+",
        r"mediastinal(?= (?:widening|enlargement|prominence))",
    ),
}

#: Words for the size of a structure.
SIZES: Mapping[str, tuple[str, ...]] = {
    "borderline": (
        r"(?:upper|top|high)(?: (?:limits?|range|of|the))* normal(?: limits?)? (?:or|to) (?:\w+ )?enlarged",
        r"borderline(?: (?:enlarge\w+|prominent|widened|normal))?",
    ),
    "normal": (
        r"(?:upper|top|high)(?: (?:limits?|range|of|the|limit of the))* normal(?: limits?| range)?",
        r"upper limits?",
        r"(?:within )?normal limits?",
        r"within limits of normal",
        r"normal",
        r"unremarkable",
        r"wnl",
        r"non ?enlarged",
    ),
    "enlarged": (
        r"enlarge(?:d|ment)",
        r"increased? in (?:transverse )?size",
        r"increased?(?= in (?:the )?(?:heart|cardiac))",
        r"larger?(?! hiatal| hernia)",
        r"widen(?:ed|ing)",
        r"prominen(?:t|ce)",
    ),
}

# A cue at the end of its clause applies to the words before it; elsewhere it applies to the words after it.
_CLAUSE_ENDS = (
    r"(?=\s*(?:$|[,:)(]|(?:in|at|on|given|but|and|due|by|based|without|from|because|as|if|there|however|"
    r"although|though|no)\b))"
)
_SEEN = (
    r"(?:seen|identified|visuali[sz]ed|noted|present|evident|demonstrated|detected|appreciated|observed|"
    r"apparent|visible|found|shown|suspected|included)"
)
_BE = r"(?:is|are|was|were|has|have|had|has been|have been|had been|appears?|remains?)"
_NOT_POSSIBLE = (
    r"(?:can ?not|can't|cant|could not|couldn't|may not|not|difficult to|hard to|unable to|impossible to)"
)

#: Cues by their effect, in the order in which they are tried at one place:
#: `none` hides cues within it; `denied_before` and `open_before` deny what comes before them or leave it
#: open; `excluded_before` leaves open what comes before it, even if that was denied; `denied_after` and
#: `open_after` deny what comes after them or leave it open; `either` joins alternatives; `ends` closes every
#: scope; `verb` closes scopes that run forward; `seen` closes scopes that run forward and have met a mention.
CUES: Mapping[str, tuple[str, ...]] = {
    "none": (
        r"(?:no|not|without|nor)(?: (?:any|significant(?:ly)?|substantial(?:ly)?|interval|definite|"
        r"appreciabl[ey]|"
        r"relevant|marked(?:ly)?|major|gross(?:ly)?|evident|overall|much|great(?:ly)?|acute|new|"
        r"radiographic|the|"
        r"been|really|further|complete(?:ly)?|entire(?:ly)?|yet|or|convincing|been|fully))*"
        r" (?:chang(?:e|ed|es(?! of| consistent))|increas(?:e|ed|ing)|decreas(?:e|ed|ing)|improve(?:d|ment)|"
        r"worsen(?:ed|ing)|progress(?:ed|ion)|differen(?:t|ce)|resolv(?:ed|ing)|resolution|clear(?:ed|ing)|"
        r"removed|regress(?:ed|ion))",
        r"(?:near(?:ly)?|almost|partial(?:ly)?|incomplete(?:ly)?)(?: complete(?:ly)?)? (?:resolved|"
        r"resolution(?: of)?|"
        r"clear(?:ed|ing)(?: of)?)",
        r"not (?:only|just|merely|simply)",
        r"no (?:doubt|question|longer than)",
        r"not well (?:seen|evaluated|visuali[sz]ed|assessed|defined|demonstrated)",
        r"without (?:doubt|question)",
        r"no comparison\w*",
        r"(?:consistent|compatible|in keeping) with",
    ),
    "excluded_before": (
        rf"{_NOT_POSSIBLE}(?: (?:\w+ly|be|been|to))* (?:excluded?|ruled? out){_CLAUSE_ENDS}",
        r"(?:is|are) not (?:\w+ly )?(?:excluded|ruled out)",
    ),
    "denied_before": (
        rf"(?:{_BE} )?(?:no longer|not)(?: (?:\w+ly|be|been|clearly|any longer))* {_SEEN}",
        rf"(?:{_BE} )?(?:since |now |interval |interval(?:ly)? |completely |fully |otherwise |also )*"
        r"(?:resolved|cleared|disappeared|been removed|ruled out|excluded|absent|gone)",
        rf"(?:{_BE} )?(?:very |highly |considered |thought )*unlikely",
        rf"(?:{_BE} )?not (?:likely|suspected|favored)",
        r"(?:is |are )?(?:none|no|negative|absent)(?=\s*(?:$|,))",
        r"(?:was|were|been|is) removed",
        r"removal",
    ),
    "open_before": (
        rf"(?:{_BE} |would be |may be |might be |could be )?(?:\w+ly )?(?:less |more |most )?(?:likely|"
        rf"possible|"
        rf"probable|suspected|questioned|questionable|suggested|equivocal|indeterminate|"
        rf"(?:an?|another) (?:consideration|possibility|concern)|"
        rf"in the differential(?: diagnosis)?){_CLAUSE_ENDS}",
        r"(?:may|might|could)(?: also)? (?:be (?:present|there|seen|considered)|exist|have (?:this|"
        r"a similar)|"
        r"give|produce|cause|account|explain|contribute|appear|look|mimic)",
        r"(?:should|to) be considered",
        r"if any",
    ),
    "open_after": (
        rf"{_NOT_POSSIBLE}(?: (?:\w+ly|be|completely))* (?:excluded?|ruled? out|exclusion of)",
        r"(?:can ?not|could not|may not|unable to|difficult to|hard to|would not) (?:\w+ )?(?:excluded?|"
        r"rule out)",
        r"(?:may|might|could) (?:\w+ly |also )?(?:represent\w*|reflect\w*|indicate|suggest|relate to|be|have)"
        r"(?: (?:due|related|secondary) to)?",
        r"(?:may|might|could)(?! not\b)",
        r"(?:most |less |more |very )?(?:likely|probabl[ey]|presumabl[ey]|possibl[ey]|potential(?:ly)?)"
        r"(?: (?:is|are|be))?(?: (?:represent\w*|reflect\w*|(?:due|related|secondary) to))?",
        r"presumed",
        r"(?:raises? |raising )?(?:the )?possibility (?:of|for)",
        r"suspect(?:ed|s)?",
        r"suspici(?:ous|on) (?:for|of)",
        r"suggest\w*(?: of)?",
        r"question(?:able|ed)?(?: of)?",
        r"\?",
        r"equivocal",
        r"concern(?:ing|s|ed)?(?: for| of| about)",
        r"worrisome (?:for|of)",
        r"(?:please )?consider(?:ation)?(?: of)?",
        r"(?:rule|r/o|to exclude|exclude|ruling|excluding)(?: out)?",
        r"(?:evaluat\w+|assess\w*|screen\w*|check\w*|correlat\w+)(?: clinically)? (?:for|of|as to)",
        r"perhaps",
        r"borderline",
        r"(?:the )?differential(?: diagnosis| considerations?)?(?: includes?| include| would include)?",
        r"favou?r(?:s|ed|ing)?",
    ),
    "denied_after": (
        r"(?:no|without|absence of|lack of|absent|devoid of|negative for)(?: \w+){0,2} (?:evidence|sign|"
        r"signs|"
        r"indication|suggestion|suspicion|features?|findings?)(?: \w+)? (?:of|for|to suggest|suggest\w+)",
        r"not? longer",
        r"no",
        r"without",
        r"neither",
        r"nor",
        r"never",
        r"(?:clear|free|devoid|absence|lack) (?:of|from)",
        r"negative (?:for|of)",
        r"denies",
        r"(?:resolution|clearing|disappearance|removal) of",
        r"(?:do|does|did) not(?: appear(?: to)?(?: be)?| \w+)?",
        r"not (?:a|an|any|have|show|demonstrate|see|identify|evidence|represent|suggest\w*|consistent with|"
        r"compatible with|due to|related to)",
        r"(?:rather than|as opposed to|instead of)",
        r"(?:are|is|were|was)n['o]?t (?:a|an|any)",
    ),
    "either": (r"versus", r"vs", r"v"),
    "ends": (
        r"but",
        r"however",
        r"although",
        r"though",
        r"except(?:ing)?(?: for)?",
        r"(?:aside|apart) from",
        r"other than",
        r"besides",
        r"while",
        r"whereas",
        r"yet",
        r"despite",
        r"otherwise",
        r"there(?: (?:is|are|has|have|was|were|appears?|remains?))?",
        r"which",
        r"again (?:seen|noted)",
        r"status post",
        r"s/p",
        r"following",
        r"after",
        r"in (?:the )?setting of",
        r"superimposed on",
    ),
    "verb": (
        r"(?:is|are|was|were|has|have|had|remains?|appears?|shows?|demonstrates?|overl(?:ies|ying)|projects?|"
        r"terminates?|persists?)",
        r"(?:associated )?with",
    ),
    "seen": (rf"{_SEEN}(?! (?:or|nor)\b)",),
}

#: Words that open a new statement after a comma: a denied finding is rarely called small, left or stable.
AFFIRMATIVE = (
    r"a|an|the|small|tiny|trace|mild|mildly|moderate|moderately|severe|minimal|minimally|slight|"
    r"slightly|left|"
    r"right|bilateral|bibasilar|biapical|stable|unchanged|persistent|chronic|old|healed|healing|remote|some|"
    r"scattered|linear|patchy|streaky|low|lower|mid|status|interval|increasing|increased|worsening|improved|"
    r"improving|calcified|minor|prior|previous|probable|partially|subsegmental|bandlike|discoid|residual"
)


def compile_phrases(groups: Iterable[Iterable[str]]) -> re.Pattern[str]:
    """One pattern whose group n (from 1) is the n-th group of phrases; phrases have no groups themselves."""
    alternatives = "|".join(f"({'|'.join(phrases)})" for phrases in groups)
    return re.compile(
        rf"(?<!\w)(?:{alternatives})(?:(?!\w)|(?<=\?))".replace(" ?", r"[\s-]*").replace(" ", r"[\s-]+")
    )

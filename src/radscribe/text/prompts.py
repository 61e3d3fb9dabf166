"""The prompts of language models: for a report from images, and for visual features from a report."""

from __future__ import annotations

#: R2GenGPT's prompt: the text before and the text after the visual tokens. The two halves and the report are
#: tokenized separately and then joined, so that the tokens at the joints do not depend on what is between
#: them.
REPORT_PROMPT = (
    "Human: <Img>",
    "</Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. \nAssistant:",
)

#: The prompt of the other direction: the text before and the text after the report. The visual embeddings
#: follow.
VISION_PROMPT = (
    "Human: <Report>",
    "</Report> Generate the visual features of the chest xray image of this report. \nAssistant: <Img>",
)

#: CmEAA's prompt (appendix A.3), with the comma that is printed there.
CMEAA_PROMPT = (
    "Human: <Img>",
    "</Img>, Generate a comprehensive and detailed radiology report for this chest X-ray image.\nAssistant:",
)

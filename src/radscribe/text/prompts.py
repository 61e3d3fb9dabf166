"""What a language model is told before it writes a report."""

from __future__ import annotations

#: R2GenGPT's prompt, before and after the visual tokens. The two halves and the report are tokenized apart
#: and put side by side, so that the tokens at their seams are the same whatever stands between them.
REPORT_PROMPT = (
    "Human: <Img>",
    "</Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. \nAssistant:",
)

#: For the other direction: before and after what is made of a report. The visual embeddings follow.
VISION_PROMPT = (
    "Human: <Report>",
    "</Report> Generate the visual features of the chest xray image of this report. \nAssistant: <Img>",
)

#: CmEAA's prompt (appendix A.3), with the comma that is printed there.
CMEAA_PROMPT = (
    "Human: <Img>",
    "</Img>, Generate a comprehensive and detailed radiology report for this chest X-ray image.\nAssistant:",
)

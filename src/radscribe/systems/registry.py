"""The published systems that RadScribe has, by name; nothing here imports torch until a system is built."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from radscribe.errors import unknown_name

if TYPE_CHECKING:
    from radscribe.systems.system import System


@dataclass(frozen=True, slots=True)
class SystemEntry:
    """One published method.

    Attributes:
        name: The name that users type.
        title: The paper's title.
        published: Authors, place and year of publication.
        summary: What the method does, in one line.
        variants: Published ablations, by recipe suffix.
        docs: The page of the documentation that describes the system.
        module: The module that has its classes.
        class_name: The system's class in that module; its configuration is `class_name + "Config"`.
    """

    name: str
    title: str
    published: str
    summary: str
    variants: tuple[str, ...]
    docs: str
    module: str
    class_name: str

    def config(self, **fields: Any) -> Any:
        """The system's configuration; fields that are not given have the paper's values."""
        return getattr(import_module(self.module), f"{self.class_name}Config")(**fields)

    def build(self, config: Any, vocabulary: Any, maximum_length: int) -> System:
        """Build the system, with the weights that its configuration asks for.

        Args:
            config: The configuration, made by the method `config`.
            vocabulary: Vocabulary of the training reports; systems with a language model use only its
                cleaning rules.
            maximum_length: Training reports are cut to this many tokens.

        Raises:
            RadScribeError: weights or a language model are not there, or do not fit.
        """
        return getattr(import_module(self.module), self.class_name)(config, vocabulary, maximum_length)


#: Language models that AM-MRG compares, as text encoders and as writers.
_COMPARED_LANGUAGE_MODELS = ("llama-2", "vicuna", "orca-2", "yi-1.5", "gpt2-medium")

SYSTEMS: dict[str, SystemEntry] = {
    entry.name: entry
    for entry in [
        SystemEntry(
            name="r2gen",
            title="Generating Radiology Reports via Memory-driven Transformer",
            published="Chen, Song, Chang, Wan. EMNLP 2020",
            summary="A relational memory drives the decoder's layer normalisations.",
            variants=("base", "released"),
            docs="systems/r2gen.md",
            module="radscribe.systems.r2gen",
            class_name="R2Gen",
        ),
        SystemEntry(
            name="r2gen-cmn",
            title="Cross-modal Memory Networks for Radiology Report Generation",
            published="Chen, Shen, Song, Wan. ACL-IJCNLP 2021",
            summary="A shared memory matrix aligns image and text in front of a plain Transformer.",
            variants=("base", "separate-memories", "released"),
            docs="systems/r2gen-cmn.md",
            module="radscribe.systems.r2gen_cmn",
            class_name="R2GenCMN",
        ),
        SystemEntry(
            name="camanet",
            title="CAMANet: Class Activation Map Guided Attention Network for Radiology Report Generation",
            published="Wang, Bhalerao, Yin, See, He. IEEE J-BHI 2024",
            summary="Class activation maps enrich the encoder and supervise where the decoder looks.",
            variants=("base", "vdmae", "clip-0.1", "clip-0.25", "released"),
            docs="systems/camanet.md",
            module="radscribe.systems.camanet",
            class_name="CAMANet",
        ),
        SystemEntry(
            name="r2gen-gpt",
            title="R2GenGPT: Radiology Report Generation with Frozen LLMs",
            published="Wang, Liu, Wang, Zhou. Meta-Radiology 2023",
            summary="A linear layer maps visual tokens into the prompt of a frozen language model.",
            variants=("delta", "deep"),
            docs="systems/r2gen-gpt.md",
            module="radscribe.systems.r2gen_gpt",
            class_name="R2GenGPT",
        ),
        SystemEntry(
            name="bidirectional",
            title="Bidirectional Learning for the Visual Representation in Radiology Report Generation "
            "with Frozen LLMs",
            published="Anonymous, under review",
            summary="A frozen language model reads visual embeddings and must generate them from the report.",
            variants=(
                "v2t",
                "v2t-clip",
                "v2t-t2v",
                "r2gen-gpt",
                "r2gen-gpt/v2t",
                "r2gen-gpt-shallow",
                "r2gen-gpt-shallow/v2t",
            ),
            docs="systems/bidirectional.md",
            module="radscribe.systems.bidirectional",
            class_name="Bidirectional",
        ),
        SystemEntry(
            name="cmeaa",
            title="CmEAA: Cross-modal Enhancement and Alignment Adapter for Radiology Report Generation",
            published="Huang, Han, Li, Li, Wu, Zhang. COLING 2025",
            summary="An adapter reads phrases of train reports, and is aligned with whole reports.",
            variants=("linear", "cfe", "nmia", "k-32", "k-64", "k-128", "k-512", "stable", "paper"),
            docs="systems/cmeaa.md",
            module="radscribe.systems.cmeaa",
            class_name="CmEAA",
        ),
        SystemEntry(
            name="am-mrg",
            title="Activating Associative Disease-Aware Vision Token Memory for LLM-Based X-ray Report "
            "Generation",
            published="Wang, Wang, Wang, Jiang, Li, Wang, Tian, Tang. arXiv 2025",
            summary="Disease queries recall regions and reports from memory banks by Hopfield layers.",
            variants=(
                *("baseline", "visual", "report", "released"),
                *(f"regions-{rows}" for rows in (100, 250, 750, 1000)),
                *(f"reports-{rows}" for rows in (500, 1000, 3000, 10000)),
                *(f"beta-{beta}" for beta in ("0.5", 1, 2, 8, 16)),
                *(f"maps-{maps}" for maps in ("hires", "xgrad", "eigen", "grad++")),
                *(f"encoder-{model}" for model in _COMPARED_LANGUAGE_MODELS),
                *(f"llm-{model}" for model in _COMPARED_LANGUAGE_MODELS if model != "llama-2"),
            ),
            docs="systems/am-mrg.md",
            module="radscribe.systems.am_mrg",
            class_name="AMMRG",
        ),
    ]
}


def get_system(name: str) -> SystemEntry:
    """Find a system by its name.

    Raises:
        RadScribeError: there is none; the error lists what exists.
    """
    if name not in SYSTEMS:
        raise unknown_name("system", name, SYSTEMS)
    return SYSTEMS[name]

"""Planning memory and time of a recipe with a frozen language model, for a GPU that is not available yet.

The system is built with parts of full size and random weights, but with only one or two layers of the
language model, and is trained for one step on one study. The tensors that autograd keeps and the operations
are counted, not estimated; both grow by the same amount with every further layer and study. The rest is
computed from the numbers of frozen and trained parameters.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from radscribe.bench.recall import ROWS
from radscribe.bench.timing import kept_bytes, rounded
from radscribe.decoding.search import beams_of
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.phrase_table import POLARITIES, Phrase, PhraseList, PhraseTable
from radscribe.ranges import WIDTH, Range, check_options
from radscribe.runs.config import RunConfig
from radscribe.systems.am_mrg import AMMRG
from radscribe.systems.bidirectional import BidirectionalConfig
from radscribe.systems.cmeaa import CmEAA
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.systems.registry import get_system
from radscribe.systems.study_observations import StudyObservations, StudyObserver
from radscribe.systems.system import Batch
from radscribe.text.byte_level_tokenizer import SMALLEST_VOCABULARY, train_tokenizer
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.prompts import REPORT_PROMPT, VISION_PROMPT
from radscribe.text.vocabulary import Vocabulary
from radscribe.weights import without_bars

#: Shapes of the language model that the recipes name, from its published config.json, so that it can be
#: planned for without a download.
_LLAMA_2_7B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
}
_KNOWN = {"meta-llama/Llama-2-7b-chat-hf": _LLAMA_2_7B, "meta-llama/Llama-2-7b-hf": _LLAMA_2_7B}
#: Phrases of a full list of a phrase table.
_PHRASES = 30
#: A word that is one token for every tokenizer here.
_WORD = "a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """The GPU that a plan is for; the defaults are from the data sheet of an NVIDIA A100.

    Attributes:
        memory_gb: Memory in 10^9 bytes.
        bandwidth_tb: Bandwidth of the memory in 10^12 bytes per second.
        teraflops: Speed in the format of the language model, in 10^12 operations per second.
    """

    memory_gb: float = 80.0
    bandwidth_tb: float = 2.04
    teraflops: float = 312.0

    def __post_init__(self) -> None:
        above_0 = Range(0, above=True)
        check_options({f"--{name}": (value, above_0) for name, value in asdict(self).items()})


class _Counted(NamedTuple):
    """Counts for one training step on one study, with some layers of the language model."""

    trained: dict[str, int]
    trained_bytes: int
    frozen: int
    frozen_bytes: int
    language_model_bytes: int
    kept_bytes: int
    operations: int
    prompt: int

    def further(self, other: _Counted, layers: int) -> _Counted:
        """The counts with `layers` more layers, where `other` has the counts with one more layer."""
        numbers = {
            name: mine + layers * (getattr(other, name) - mine)
            for name, mine in self._asdict().items()
            if isinstance(mine, int)
        }
        return self._replace(**numbers)


def is_known(name: str) -> bool:
    """Whether the shapes of a language model are known without its files."""
    return name in _KNOWN


def bench_plan(
    config: RunConfig, accelerator: Accelerator, *, language_model: Path | None = None
) -> dict[str, Any]:
    """Plan training and drafting of a configuration.

    Args:
        config: Configuration with a frozen language model.
        accelerator: GPU to plan for.
        language_model: Folder whose config.json gives the shapes of the language model; by default the shapes
            of the recipe's model.

    Returns:
        Parameters, memory in GB (10^9 bytes) and bounds of the time, as JSON values.

    Raises:
        RadScribeError: the recipe has no language model, or its shapes are not known.
    """
    model = config.system.language_model
    if model is None:
        raise RadScribeError(
            f"the recipe '{config.recipe}' has no language model to plan for",
            "Measure it: radscribe bench train, or plan one such as bidirectional/iu-xray",
        )
    shapes = _shapes(model.name, language_model)
    layers, heads = shapes.num_hidden_layers, shapes.num_attention_heads
    key_value_width = (
        (getattr(shapes, "num_key_value_heads", None) or heads)
        * (getattr(shapes, "head_dim", None) or shapes.hidden_size // heads)
    )  # fmt: skip
    one, two = (_count(config, shapes, number) for number in (1, 2))
    whole = one.further(two, layers - 1)

    training, decoding = config.training, config.decoding
    trained = sum(whole.trained.values())
    gb = {
        "frozen_weights": whole.frozen_bytes / 1e9,
        "trained_weights": whole.trained_bytes / 1e9,
        "gradients": whole.trained_bytes / 1e9,
        "optimiser": 2 * whole.trained_bytes / 1e9,
        "activations": training.batch_size * whole.kept_bytes / 1e9,
    }
    rows = training.batch_size * beams_of(decoding)
    bytes_per_token = 2 * layers * key_value_width * getattr(torch, model.dtype).itemsize
    cache = rows * (whole.prompt + decoding.maximum_length) * bytes_per_token
    # Each step of drafting reads all weights of the language model, and the cache of every row so far.
    seconds_per_token = (whole.language_model_bytes + cache / 2) / (accelerator.bandwidth_tb * 1e12)
    operations = training.batch_size * whole.operations
    return {
        "recipe": config.recipe,
        "language_model": str(language_model or model.name),
        "layers": layers,
        "batch": training.batch_size,
        "views": config.data.views,
        "report_tokens": config.data.maximum_length,
        "prompt_tokens": whole.prompt,
        "parameters": {"frozen": whole.frozen, "trained": trained, "trained_parts": whole.trained},
        "training_gb": {
            **{part: rounded(size) for part, size in gb.items()},
            "all": rounded(sum(gb.values())),
        },
        "fits": sum(gb.values()) < accelerator.memory_gb,
        "training_step": {
            "tera_operations": rounded(operations / 1e12),
            "seconds_at_least": rounded(operations / (accelerator.teraflops * 1e12)),
        },
        "drafting": {
            "beams": beams_of(decoding),
            "tokens": decoding.maximum_length,
            "key_value_cache_gb": rounded(cache / 1e9),
            "language_model_gb": rounded(whole.language_model_bytes / 1e9),
            "tokens_per_second_at_most": rounded(training.batch_size / seconds_per_token),
            "seconds_per_batch_at_least": rounded(decoding.maximum_length * seconds_per_token),
        },
        "accelerator": asdict(accelerator),
    }


def _shapes(name: str, folder: Path | None) -> Any:
    from transformers import AutoConfig

    if folder is None and name in _KNOWN:
        return AutoConfig.for_model(**_KNOWN[name])
    place = Path(folder or name)
    if not (place / "config.json").is_file():
        raise RadScribeError(
            f"the shapes of the language model '{name}' are not known here",
            "Pass a folder that holds its config.json with --language_model FOLDER; known without one: "
            + ", ".join(_KNOWN),
        )
    try:
        shapes = AutoConfig.from_pretrained(place)
        sizes = [shapes.num_hidden_layers, shapes.num_attention_heads, shapes.hidden_size]
    except Exception as error:  # a damaged file may raise any exception
        raise RadScribeError(
            f"'{place / 'config.json'}' does not give the shapes of a language model "
            f"({' '.join(str(error).split())[:150]})",
            "Pass a folder with the config.json of a causal language model",
        ) from error
    check_options(
        {f"a size in '{place / 'config.json'}'": (size, WIDTH) for size in sizes if size not in WIDTH}
    )
    return shapes


def _count(config: RunConfig, shapes: Any, layers: int) -> _Counted:
    """Build the system with some layers of the language model, and count one step of one study."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    system_config, data = copy.deepcopy(config.system), config.data
    language_model = system_config.language_model
    assert language_model
    with tempfile.TemporaryDirectory(prefix="radscribe-plan-") as folder:
        cut = type(shapes).from_dict({**shapes.to_dict(), "num_hidden_layers": layers})
        model = AutoModelForCausalLM.from_config(cut, dtype=getattr(torch, language_model.dtype))
        with without_bars():
            model.save_pretrained(folder)
        del model
        train_tokenizer([*REPORT_PROMPT, *VISION_PROMPT, _WORD], SMALLEST_VOCABULARY + 200).save_pretrained(
            folder
        )
        language_model.name = folder
        system_config.start_from_nothing()
        vocabulary = Vocabulary((UNKNOWN_TOKEN,), cleaning=data.cleaning, minimum_count=1)
        system = get_system(config.system_name).build(system_config, vocabulary, data.maximum_length).train()
        if isinstance(system_config, BidirectionalConfig):
            # The report encoder's embedding is built at full size. Its own tokenizer is not available, so the
            # tokenizer above reads the reports.
            system_config.report_encoder.words = 0
    assert isinstance(system, LanguageModelSystem)
    if isinstance(system, CmEAA) and system.config.enhancement:
        system.read(_full_table())
        system.observer = _NothingObserved()
    if isinstance(system, AMMRG):
        for kind in system.config.banks:
            system.memory(kind).fill(torch.randn(ROWS[kind], system.queries.size(1)))
    batch = _study(config, system)
    counter = FlopCounterMode(display=False)
    half = torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16-mixed")
    with _WithoutProducts(), counter, half:
        own = [*system.parameters(), *system.buffers()]
        kept, loss = kept_bytes(lambda: system(batch).total, own)
        loss.backward()
    trained: dict[str, int] = {}
    for name, parameter in system.named_parameters():
        if parameter.requires_grad:
            part = name.partition(".")[0]
            trained[part] = trained.get(part, 0) + parameter.numel()
    frozen = [parameter for parameter in system.parameters() if not parameter.requires_grad]
    with torch.no_grad(), _WithoutProducts():
        prompt = system.prompt(system.visual_embeddings(batch.views, batch.view_mask))
    return _Counted(
        trained=trained,
        trained_bytes=_bytes(parameter for parameter in system.parameters() if parameter.requires_grad),
        frozen=sum(parameter.numel() for parameter in frozen),
        frozen_bytes=_bytes(frozen),
        language_model_bytes=_bytes(system.language_model.parameters()),
        kept_bytes=kept,
        operations=counter.get_total_flops(),
        prompt=prompt.length,
    )


class _WithoutProducts(TorchDispatchMode):
    """Makes zeros of every matrix product, whose values do not matter here: only sizes are counted.

    The products of a large language model take minutes on a CPU, in 16 bits above all.
    """

    _sizes: ClassVar[dict[Any, Callable[..., tuple[int, ...]]]] = {
        torch.ops.aten.mm.default: lambda a, b: (a.size(0), b.size(1)),
        torch.ops.aten.addmm.default: lambda _, a, b, **scales: (a.size(0), b.size(1)),
        torch.ops.aten.bmm.default: lambda a, b: (a.size(0), a.size(1), b.size(2)),
    }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation; see `TorchDispatchMode`."""
        size = self._sizes.get(func)
        if size is None:
            return func(*args, **(kwargs or {}))
        return args[-1].new_zeros(size(*args, **(kwargs or {})))


def _full_table() -> PhraseTable:
    """A phrase table whose lists are all as long as they may be, without a phrase in common."""
    lists = {
        (name, polarity): PhraseList(
            1, tuple(Phrase(f"{name} {polarity} {number}", 0.0, 1, 1) for number in range(_PHRASES))
        )
        for name in OBSERVATIONS
        for polarity in POLARITIES
    }
    return PhraseTable("reports", lists)


class _NothingObserved(StudyObserver):
    """Finds no observation; the parts that find them run once for each study, and are not planned."""

    def __init__(self) -> None:
        pass

    def observe(self, views: Tensor, view_mask: Tensor) -> list[StudyObservations]:
        """See `StudyObserver.observe`."""
        return [StudyObservations({}, {}, {}) for _ in views]


def _study(config: RunConfig, system: LanguageModelSystem) -> Batch:
    """A batch of one study with random views and a report of full length."""
    views, side = config.data.views, config.data.transform.crop
    (word,) = system.language_model.tokenizer.encode(_WORD)
    tokens = torch.full((1, config.data.maximum_length + 1), word + 1)
    tokens[:, 0] = tokens[:, -1] = 0
    return Batch(
        ["study"],
        torch.randint(0, 256, (1, views, side, side), dtype=torch.uint8),
        torch.ones(1, views, dtype=torch.bool),
        tokens,
        torch.zeros(1, len(OBSERVATIONS)),
    )


def _bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)

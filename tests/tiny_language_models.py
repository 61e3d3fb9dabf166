"""Language models of a few kilobytes, with random weights and real tokenizers, in `transformers` format."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from made_once import made_once

TEXTS = [
    "the heart is normal in size . there is a small left pleural effusion .",
    "no pneumothorax . the lungs are clear . the mediastinum is unremarkable .",
    "Human: <Img></Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. \n",
    "Assistant: findings impression cardiomegaly atelectasis right lower lobe opacity degenerative changes",
]
#: Each does something that the others do not.
FAMILIES = ("llama", "gpt2", "qwen2")
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}


@functools.cache
def tiny_language_model(family: str = "llama") -> Path:
    """The folder of a model with random weights; the same weights in every process.

    `llama` has Llama-2's SentencePiece-like tokenizer and grouped queries, `gpt2` a byte-level one without
    padding whose end is its begin, and `qwen2` a byte-level one without a begin, with a bias in attention.
    """
    return made_once(f"language-model-{family}", lambda folder: _make(family, folder))


def _make(family: str, folder: Path) -> None:
    import transformers as hf

    tokenizer = {"llama": _llama_tokenizer, "gpt2": _gpt2_tokenizer, "qwen2": _qwen2_tokenizer}[family]()
    ids: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    rope = {"max_position_embeddings": 512}
    configs: dict[str, Any] = {
        "llama": lambda: hf.LlamaConfig(**SIZES, num_key_value_heads=2, **rope, **ids),
        "gpt2": lambda: hf.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=512, tie_word_embeddings=False, **ids
        ),
        "qwen2": lambda: hf.Qwen2Config(**SIZES, num_key_value_heads=4, **rope, **ids),
    }
    torch.manual_seed(5)
    model = hf.AutoModelForCausalLM.from_config(configs[family]())
    with torch.no_grad():
        # Random logits are flat, and beams of near ties would compare rounding errors.
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(12 if "lm_head" in name else 8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _byte_level(specials: list[str]) -> Any:
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXTS, vocab_size=360, min_frequency=1, special_tokens=specials)
    return tokenizer


def _vocabulary_and_merges(tokenizer: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _gpt2_tokenizer() -> Any:
    import transformers as hf

    vocabulary, merges = _vocabulary_and_merges(_byte_level(["<|endoftext|>"]))
    return hf.GPT2Tokenizer(vocab=vocabulary, merges=merges)


def _qwen2_tokenizer() -> Any:
    import transformers as hf

    vocabulary, merges = _vocabulary_and_merges(_byte_level(["<|endoftext|>", "<|im_end|>"]))
    return hf.Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def _llama_tokenizer() -> Any:
    """Words with a leading underscore, and bytes for what is not among them."""
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=420, min_frequency=1, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    vocabulary, merges = _vocabulary_and_merges(tokenizer)
    return hf.LlamaTokenizer(vocab=vocabulary, merges=merges)

"""The files of a language model, in a folder or by a name on the Hugging Face hub, and what they hold."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from radscribe.errors import RadScribeError

#: Files of weights; if there are both kinds, the first is loaded, as `transformers` does.
_WEIGHTS = ("*.safetensors", "*.bin")
#: Files of the tokenizer, which decide which ids a text has.
_TEXT_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
_CONFIGURATION = ("config.json", "generation_config.json", "*.index.json")
_NAMING = (
    "Give a folder in transformers format or a name on the Hugging Face hub, such as "
    "--system.language_model.name meta-llama/Llama-2-7b-chat-hf"
)
_MAKING = (
    "Make a small one with radscribe pretrain language-model STORE --out language-model, and pass "
    "--system.language_model.name language-model"
)


@dataclass(frozen=True, slots=True)
class LanguageModelRecord:
    """What a run keeps about a language model, whose weights it does not hold.

    Attributes:
        name: Folder, or name on the hub.
        revision: Commit on the hub; empty for a folder.
        sha256: Hash of the weights, the configuration and the tokenizer.
    """

    name: str
    revision: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LanguageModelFiles:
    """A language model on this machine.

    Attributes:
        name: Folder or name on the hub, as the caller gave it.
        folder: Folder that holds the files.
    """

    name: str
    folder: Path

    @classmethod
    def find(cls, name: str, revision: str = "main", *, tokenizer_only: bool = False) -> LanguageModelFiles:
        """Find a language model; missing files of a model on the hub are downloaded.

        Args:
            name: Folder, or name on the hub.
            revision: Branch, tag or commit on the hub.
            tokenizer_only: Only the tokenizer is needed, so do not download weights.

        Raises:
            RadScribeError: no name is given, there is no such folder, or the download failed.
        """
        if not name:
            raise RadScribeError("no language model is named (system.language_model.name is empty)", _MAKING)
        if Path(name).is_dir():
            if not (Path(name) / "config.json").is_file() and not tokenizer_only:
                raise RadScribeError(f"'{name}' holds no language model: it has no config.json", _NAMING)
            return cls(name, Path(name))
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise RadScribeError(f"there is no language model in '{name}'", f"{_MAKING}. {_NAMING}")
        return cls(name, _download(name, revision, tokenizer_only))

    def weights(self) -> list[Path]:
        """The files that hold the weights.

        Raises:
            RadScribeError: there are none.
        """
        for pattern in _WEIGHTS:
            if found := sorted(self.folder.glob(pattern)):
                return found
        raise RadScribeError(f"the language model '{self.name}' has no weights", _NAMING)

    def record(self) -> LanguageModelRecord:
        """The record of this model: its name, its revision and the hash of its content.

        Raises:
            RadScribeError: the model has no weights.
        """
        text = [self.folder / name for name in ("config.json", *_TEXT_FILES)]
        digest = hashlib.sha256()
        for path in [*self.weights(), *(path for path in text if path.is_file())]:
            stat = path.stat()
            digest.update(f"{path.name} {_sha256(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
        on_hub = self.folder != Path(self.name)
        return LanguageModelRecord(self.name, self.folder.name if on_hub else "", digest.hexdigest())


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """SHA-256 of a file's content; a file is read once per process while its size and time do not change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, revision: str, tokenizer_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*_CONFIGURATION, *_TEXT_FILES]
    try:
        if tokenizer_only:
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        for weights in _WEIGHTS:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*patterns, weights]))
            if any(folder.glob(weights)):
                break
        return folder
    except Exception as error:  # every hub client fails in its own way
        raise RadScribeError(
            f"there is no folder '{name}', and the language model of that name could not be downloaded "
            f"({type(error).__name__})",
            f"Some models need their licence accepted first, and hf auth login. {_NAMING}. {_MAKING}",
        ) from error

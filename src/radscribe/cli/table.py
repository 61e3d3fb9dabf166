"""The table of commands: a new command is one entry here and one function in the file of its group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from radscribe.cli import (
    drafting,
    interop,
    labelling,
    listing,
    measuring,
    observing,
    pretraining,
    regions,
    reproducing,
    scoring,
    studies,
    training,
)
from radscribe.cli.parsing import Parser
from radscribe.pretraining.registry import PRETRAININGS


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the command line.

    Attributes:
        name: One or two words, as they are typed after `radscribe`.
        function: Function that runs the command. Its parameters are the options, and its docstring is the
            help.
        example: Words after the name in the command line that the help shows.
        read: Takes the parser and the arguments after the name, and returns the given values. It differs from
            `Parser.parse` if some options depend on others.
        settings: Dataclass whose fields are further options; None if there are none.
    """

    name: str
    function: Callable[..., None]
    example: str
    read: Callable[[Parser, list[str]], dict[str, Any]] = Parser.parse
    settings: type | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the name."""
        return tuple(self.name.split())

    def parser(self) -> Parser:
        """The parser of the command's options."""
        words = f"radscribe {self.name}"
        return Parser(self.function, words, f"{words} {self.example}".rstrip(), self.settings)

    def parse(self, arguments: list[str]) -> dict[str, Any]:
        """Parse arguments to the values with which the function is called.

        Args:
            arguments: Words after the name.

        Raises:
            RadScribeError: see `Parser.parse`.
        """
        parser = self.parser()
        defaults = parser.defaults()  # before `read` adds fields, which get no defaults here
        return defaults | self.read(parser, arguments)


_COMMANDS = (
    Command("prepare", studies.prepare, "my_studies/reports.csv --out stores/mine"),
    Command(
        "train", training.train, "r2gen-cmn/phantom --store stores/mine --out runs/mine", training.read_train
    ),
    *(
        Command(
            f"pretrain {name}",
            pretraining.PRETRAIN[name],
            f"stores/mine --out parts/{name}",
            settings=entry.settings,
        )
        for name, entry in PRETRAININGS.items()
    ),
    Command("reproduce", reproducing.reproduce, "camanet --store stores/phantom --out reproductions/camanet"),
    Command("generate", drafting.generate, "runs/mine my_studies/images --out drafts.jsonl"),
    Command("retrieve", drafting.retrieve, "parts/retriever my_studies/images"),
    Command("observe", observing.observe, "parts/observation-classifier my_studies/images"),
    Command("regions", regions.regions, "parts/disease-queries my_studies/images --out regions.html"),
    Command("evaluate", scoring.evaluate, "runs/mine --split test"),
    Command("compare", scoring.compare, "base=runs/base-1,runs/base-2 mine=runs/mine-1,runs/mine-2"),
    Command("label", labelling.label, "reports.txt --json"),
    Command("page", scoring.page, "runs/mine --out page.html"),
    Command("embeddings", scoring.embeddings, "runs/mine --out distances.png"),
    Command("explain", drafting.explain, "runs/mine --images chest-pa.png --out where"),
    Command("unlike", drafting.unlike, "runs/mine my_studies/images"),
    Command("check", studies.check, "runs/mine"),
    Command("audit", studies.audit, "stores/mine --json audit.json"),
    Command("export", studies.export, "stores/mine --format r2gen --out exports/mine"),
    Command("recipes", listing.recipes, "r2gen-cmn/phantom --print_config"),
    Command("systems", listing.systems, ""),
    Command("phrases", listing.phrases, "parts/phrases --observation Cardiomegaly"),
    Command("bench", measuring.bench, "decode --system r2gen --no_paper_size", measuring.read_bench),
    Command("bench plan", measuring.plan, "bidirectional/iu-xray"),
    Command("interop check", interop.check, "golden.safetensors"),
    Command(
        "interop import",
        interop.import_checkpoint,
        "r2gen model.pth --annotation annotation.json --out runs/x",
    ),
    Command("interop import-bank", interop.import_bank, "CAM.pkl --kind visual-bank --out banks/regions"),
)
#: All commands by their words, in the order of the overview.
COMMANDS: dict[tuple[str, ...], Command] = {command.words: command for command in _COMMANDS}

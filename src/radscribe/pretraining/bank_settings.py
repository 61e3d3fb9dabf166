"""The settings of memory banks, which are made and not trained; see `settings`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from radscribe.device import Device
from radscribe.errors import RadScribeError
from radscribe.pretraining.settings import check_labels, recorded_labels
from radscribe.ranges import BATCH, COUNT, LENGTH, SEED, WIDTH, check_options


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSettings:
    """The settings that both kinds of memory banks have.

    Attributes:
        split: Split of the store to take from: a bank is made from train alone, and every other is refused.
        width: Width of the bank. Features of another width pass a random projection, which is kept.
        labels: Source of the labels: `report` labels the section by rules, `store` takes the labels that the
            data set itself has, and a path names a label file: CSV as CheXpert and CheXbert write it, or JSON
            as CAMANet's authors released it.
        section: Report section that is labelled; several sections are joined by ' + '.
        uncertain: What an uncertain observation counts as.
        missing: What an observation that is not mentioned counts as.
        batch: Number of views or texts that are encoded at once.
        seed: Random seed of what is drawn, and of the projection: the same seed gives the same bank.
        device: Device to compute on; `auto` takes a GPU where there is one.
    """

    split: str = "train"
    width: int = 768
    labels: str = "report"
    section: str = "findings"
    uncertain: Literal["as_present", "as_absent", "ignore"] = "as_absent"
    missing: Literal["as_absent", "ignore"] = "as_absent"
    batch: int = 16
    seed: int = 0
    device: Device = "auto"

    def check(self) -> None:
        """Check the split and the numbers.

        Raises:
            RadScribeError: the split is not train, or a number is out of its range.
        """
        if self.split != "train":
            raise RadScribeError(
                f"a memory bank is made from the train split alone, not from '{self.split}'",
                "Leave out --split: what a bank holds is given to the system when it drafts",
            )
        check_labels(self.labels)
        check_options(
            {
                "--width": (self.width, WIDTH),
                "--batch": (self.batch, BATCH),
                "--seed": (self.seed, SEED),
            }
        )

    def recorded(self) -> dict[str, Any]:
        """The settings as they are kept with the bank, with the hash of a label file."""
        recorded = {name: value for name, value in asdict(self).items() if name != "device"}
        return recorded | recorded_labels(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualBankSettings(BankSettings):
    """Settings of a disease-aware visual bank (AM-MRG).

    Attributes:
        queries: Directory that `radscribe pretrain disease-queries` wrote; its maps find the regions.
        with_queries: Let the queries themselves be the first rows, one for each observation, as in the
            released code.
        encoder: Backbone that encodes the regions, by its name in timm; or `transformers`, for any image
            model in the format of transformers. Without it the backbone of the disease queries encodes them.
        encoder_weights: Weights of this encoder: the tag of published weights, or a file. With the encoder
            `transformers`, a folder, or a name on the Hugging Face hub.
        most_rows: Largest number of rows of an observation.
        form: What the backbone is shown: `crop` (each patch that is kept, enlarged; a row each) or `masked`
            (the view with all else black; a row for each cell of the backbone's grid that holds a patch).
        maps: Way of making the activation maps: Grad-CAM, Grad-CAM++, HiResCAM, XGrad-CAM, Eigen-CAM or
            LayerCAM.
        threshold: A patch is kept if its mean activation, from 0 to 1, exceeds this.
        most: Largest number of patches that are kept of a map.
        patch: Side of a patch in pixels.
    """

    queries: str = ""
    with_queries: bool = False
    encoder: str = ""
    encoder_weights: str = ""
    most_rows: int = 500
    form: Literal["crop", "masked"] = "crop"
    maps: Literal["grad", "grad++", "hires", "xgrad", "eigen", "layer"] = "grad"
    threshold: float = 0.75
    most: int = 6
    patch: int = 16

    def check(self) -> None:
        """See `BankSettings.check`; it checks that there are queries too."""
        BankSettings.check(self)  # classes with slots have no super() without arguments
        if not self.queries:
            raise RadScribeError(
                "a visual bank needs disease queries, which find its regions",
                "Train them (radscribe pretrain disease-queries STORE --out DIR), and give --queries DIR",
            )
        if bool(self.encoder) != (self.encoder_weights not in ("", "none")):
            raise RadScribeError(
                "--encoder and --encoder_weights belong together: random weights tell no regions apart",
                "Give both, such as --encoder swin_large_patch4_window7_224 --encoder_weights ms_in22k, or "
                "neither",
            )
        check_options({"--most_rows": (self.most_rows, COUNT)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportBankSettings(BankSettings):
    """Settings of a report memory (AM-MRG).

    Attributes:
        encoder: Text encoder or language model in transformers format: a name on the Hugging Face hub, or a
            folder; or all-MiniLM-L6-v2, a small one that comes with radscribe[sentences] (give it --pooling
            mean).
        rows: Number of rows, which are divided among the observations in proportion to their frequency.
        form: What a row is of: a whole report, or a sentence, which has the observations of its report.
        pooling: What the features of a text are: `first` (last layer, first token, as BERT is trained),
            `mean` (last layer, mean of the tokens), or `embeddings` (mean of the input embeddings, with which
            a language model reads).
        maximum_length: Number of tokens that texts are cut to.
    """

    encoder: str = "emilyalsentzer/Bio_ClinicalBERT"
    rows: int = 6000
    form: Literal["report", "sentence"] = "report"
    pooling: Literal["first", "mean", "embeddings"] = "first"
    maximum_length: int = 256

    def check(self) -> None:
        """See `BankSettings.check`; it checks the further numbers too."""
        BankSettings.check(self)
        check_options({"--rows": (self.rows, COUNT), "--maximum_length": (self.maximum_length, LENGTH)})

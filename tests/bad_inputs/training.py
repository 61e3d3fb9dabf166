"""Bad inputs to `train`, the trainings of parts, `bench` and `interop`."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from bad_inputs.rows import Row, Workshop
from radscribe.observations import OBSERVATIONS
from radscribe.studies.prepare import prepare

#: Of the size of the shared store.
_SMALL = "--data.transform.short_side 64 --data.transform.crop 56"
_TRAIN = f"train r2gen-cmn/phantom --store {{store}} --out new --no_progress {_SMALL}"
_RESUME = "train r2gen-cmn/phantom --out run --resume --no_progress"
_VIEWS = "pretrain view-classifier {store} --out new --architecture test_resnet --no_progress"
_OBSERVATIONS = "pretrain observation-classifier {store} --out new --no_progress"
_QUERIES = (
    "pretrain disease-queries {store} --out new --no_progress --architecture test_resnet --weights none"
)
_VISUAL_BANK = "pretrain visual-bank {store} --out new --no_progress"
_REPORT_BANK = "pretrain report-bank {store} --out new --no_progress --encoder ./nowhere"
_OF_THE_STORE = " --short_side 64 --crop 56"
_AUTOENCODER = "pretrain masked-autoencoder {store} --out new --no_progress"
_RETRIEVER = "pretrain retriever {store} --out new --no_progress"
_LANGUAGE_MODEL = "pretrain language-model {store} --out new --no_progress"
_PHRASES = "pretrain phrases {store} --out new --no_progress"
_BANK = "interop import-bank CAM.pkl --kind visual-bank --out new"
_IMPORT = "interop import r2gen-cmn model.pth --annotation annotation.json --out new"


def _into(command: str, out: str) -> str:
    """The command with another place to write to."""
    return command.replace("--out new", f"--out {out}")


def _nothing_new(workshop: Workshop) -> None:
    assert not (workshop.path / "new").exists()


def _names(option: str) -> str:
    return "_".join(character for character in option.split() if character)


#: A field of a recipe with a value that it cannot have, and what is said of it.
_FIELDS = [
    ("training.epochs=-1", "training.epochs must be at least 1 and at most 1,000,000, not -1"),
    ("training.epochs=0", "training.epochs must be at least 1"),
    ("training.epochs=1.5", "training.epochs"),
    ("training.batch_size=0", "training.batch_size must be at least 1"),
    ("training.batch_size=10000000000", "training.batch_size must be at least 1 and at most 65,536"),
    ("training.accumulate=0", "training.accumulate must be at least 1"),
    ("training.learning_rate=nan", "training.learning_rate"),
    ("training.learning_rate=inf", "training.learning_rate"),
    ("training.learning_rate=-0.1", "training.learning_rate must be above 0, not -0.1"),
    ("training.learning_rate=0", "training.learning_rate must be above 0, not 0"),
    ("training.backbone_learning_rate=-1", "training.backbone_learning_rate must be at least 0"),
    ("training.weight_decay=-1", "training.weight_decay must be at least 0"),
    ("training.decay=0", "training.decay must be above 0 and at most 1"),
    ("training.decay_every=0", "training.decay_every must be at least 1"),
    ("training.floor=2", "training.floor must be at least 0 and at most 1"),
    ("training.warm_up_epochs=-1", "training.warm_up_epochs must be at least 0"),
    ("training.clip_norm=-1", "training.clip_norm must be at least 0"),
    ("training.validate_every=0", "training.validate_every must be at least 1"),
    ("training.validate_every=1000", "must not exceed training.epochs 12"),
    ("training.patience=0", "training.patience must be at least 1"),
    ("training.checkpoint_every=0", "training.checkpoint_every must be at least 1"),
    ("training.workers=-1", "training.workers must be at least 0"),
    ("training.workers=100000", "training.workers must be at least 0 and at most 1,024"),
    ("training.threads=-1", "training.threads must be at least 0"),
    ("training.seed=-1", "training.seed must be at least 0"),
    ("training.device=gpu", "one of auto, cpu, cuda"),
    ("training.optimizer=sgd", "one of adam, adamw"),
    ("training.precision=fp8", "one of 32-true, bf16-mixed"),
    ("training.select_by=accuracy", "BLEU-4, "),
    ("data.views=0", "data.views must be at least 1"),
    ("data.minimum_count=0", "data.minimum_count must be at least 1"),
    ("data.maximum_length=1", "data.maximum_length must be at least 2"),
    ("data.maximum_length=10000000000", "data.maximum_length must be at least 2 and at most 8,192"),
    ("data.section=", "data.section"),
    ("data.cleaning=all", "one of iu_xray"),
    ("data.labels.source=", "data.labels.source"),
    ("data.transform.crop=0", "data.transform.crop must be at least 8"),
    ("data.transform.crop=9000", "data.transform.crop must be at least 8 and at most 8,192"),
    ("data.transform.crop=400", "data.transform.crop 400 is larger than data.transform.short_side"),
    ("system.width=0", "system.width must be at least 1"),
    ("system.width=10000000000", "system.width must be at least 1 and at most 65,536"),
    ("system.layers=10000000000", "system.layers must be at least 1 and at most 256"),
    ("system.layers=-2", "system.layers must be at least 1"),
    ("system.heads=7", "system.width 128 must be divisible by system.heads 7"),
    ("system.heads=0", "system.heads must be at least 1"),
    ("system.threads=3", "system.width 128 must be divisible by system.threads 3"),
    ("system.top_k=0", "system.top_k 0 must be between 1 and system.memory_size"),
    ("system.memory_size=0", "system.memory_size must be at least 1"),
    ("system.dropout=1", "system.dropout must be at least 0 and at most 0.999"),
    ("system.visual_dropout=-0.5", "system.visual_dropout must be at least 0"),
    ("system.width=65536", "needs at least"),
    ("system.layers=256 --system.width=16384", "of memory for its weights"),
    ("system.backbone.architecture=resnet999", "unknown backbone architecture 'resnet999'"),
    ("system.backbone.weights=nowhere.pth", "are neither a file nor a published tag"),
    (
        "system.backbone.architecture=arm_base_pz16 --system.backbone.weights=nowhere.pth",
        "the weights 'nowhere.pth' of arm_base_pz16 are neither a file nor a published tag",
    ),
    ("data.view_classifier=nowhere", "no view classifier in 'nowhere'"),
    ("data.labels.source=nowhere.csv", "nowhere.csv"),
    ("data.section=comparison", "has a section 'comparison'"),
]
_FIELDS_OF_OTHERS = [
    ("r2gen/phantom", "system.memory_slots=0", "system.memory_slots must be at least 1"),
    ("r2gen/phantom", "system.memory_heads=7", "must be divisible by system.memory_heads 7"),
    ("camanet/phantom", "system.word_share=0", "system.word_share must be above 0"),
    ("camanet/phantom", "system.consistency_weight=-1", "system.consistency_weight must be at least 0"),
    ("bidirectional/phantom", "system.vision.heads=7", "must be divisible by system.vision.heads 7"),
    ("bidirectional/phantom", "system.vision.layers=0", "system.vision.layers must be at least 1"),
    ("bidirectional/phantom", "system.vision.patch_size=15", "divisible by system.vision.patch_size 15"),
    ("bidirectional/phantom", "system.report_encoder.width=0", "system.report_encoder.width must be"),
    ("bidirectional/phantom", "system.clip_weight=-1", "system.clip_weight must be at least 0"),
    ("r2gen-gpt/phantom", "system.adapters.rank=-1", "adapters.rank must be at least 0"),
    ("r2gen-gpt/phantom", "system.language_model.name=nowhere", "no language model in 'nowhere'"),
]
#: Another command with an option that cannot be so.
_OPTIONS = [
    (_VIEWS, "--epochs 0", "--epochs must be at least 1"),
    (_VIEWS, "--batch 0", "--batch must be at least 1"),
    (_VIEWS, "--learning_rate 0", "--learning_rate must be above 0, not 0"),
    (_VIEWS, "--learning_rate=-1", "--learning_rate must be above 0"),
    (_VIEWS, "--threads=-1", "--threads must be at least 0"),
    (_VIEWS, "--seed=-1", "--seed must be at least 0"),
    (_VIEWS, "--device gpu", "one of auto, cpu, cuda"),
    (_VIEWS, "--weights nowhere.pth", "neither a file nor a published tag"),
    (_OBSERVATIONS + _OF_THE_STORE, "--epochs 0", "--epochs must be at least 1"),
    (_OBSERVATIONS, "--short_side 64 --crop 4", "--crop must be at least 8"),
    (_OBSERVATIONS, "--short_side 64 --crop 65", "--crop 65 is larger than --short_side 64"),
    (
        _OBSERVATIONS,
        "--short_side 80 --crop 56",
        ("of 64 pixels; 80 are needed", "--short_side 80"),
    ),
    (_OBSERVATIONS + _OF_THE_STORE, "--uncertain maybe", "one of as_present, as_absent, ignore"),
    (_OBSERVATIONS + _OF_THE_STORE, "--labels nowhere.csv", "nowhere.csv"),
    (_OBSERVATIONS + _OF_THE_STORE, "--labels=", "--labels is empty"),
    (_OBSERVATIONS + _OF_THE_STORE, "--section comparison", ("in a section 'comparison'", "--section")),
    (_OBSERVATIONS + _OF_THE_STORE, "--architecture resnet999", "unknown backbone architecture 'resnet999'"),
    (_OBSERVATIONS + _OF_THE_STORE, "--resume", "there is no training to resume in 'new'"),
    (_QUERIES + _OF_THE_STORE, "--epochs=-3", "--epochs must be at least 1"),
    (_QUERIES + _OF_THE_STORE, "--head pooled", "--head needs one of per-query, pooled-mlp, not 'pooled'"),
    (_QUERIES + _OF_THE_STORE, "--loss sum", "--loss needs one of paper, released, not 'sum'"),
    (_QUERIES + _OF_THE_STORE, "--orthogonality=-1", "--orthogonality must be at least 0"),
    (_QUERIES + _OF_THE_STORE, "--width 0", "--width must be at least 1"),
    (_QUERIES + _OF_THE_STORE, "--layers 0", "--layers must be at least 1"),
    (_QUERIES + _OF_THE_STORE, "--attention_heads 0", "--attention_heads must be at least 1"),
    (
        _QUERIES + _OF_THE_STORE,
        "--attention_heads 7",
        ("--width 768 is no multiple of --attention_heads 7", "such as 763"),
    ),
    (_QUERIES + _OF_THE_STORE, "--labels nowhere.csv", "nowhere.csv"),
    (_QUERIES + _OF_THE_STORE, "--section comparison", ("in a section 'comparison'", "--section")),
    (_QUERIES + _OF_THE_STORE, "--resume", "there is no training to resume in 'new'"),
    (_QUERIES, "--batch 8", ("of 64 pixels; 256 are needed", "--short_side 256")),
    (_AUTOENCODER, "--epochs=-3", "--epochs must be at least 1"),
    (_AUTOENCODER, "--batch 10000000000", "--batch must be at least 1 and at most 65,536"),
    (_AUTOENCODER, "--recipe r2gen-cmn/phantom", "has no masked autoencoder"),
    (_AUTOENCODER, "--weights ./nowhere", ("'./nowhere' could not be loaded", "--weights none")),
    (_RETRIEVER, "--epochs 0", "--epochs must be at least 1"),
    (_RETRIEVER, "--width 0", "--width must be at least 1"),
    (_RETRIEVER, "--maximum_length 1", "--maximum_length must be at least 2"),
    (_RETRIEVER, "--crop 4", "--crop must be at least 8"),
    (_RETRIEVER, "--crop 128", "--crop 128 is larger than --short_side 108"),
    (_RETRIEVER, "--section history", "no two studies that differ in their section 'history'"),
    (_RETRIEVER, "--text_encoder ./nowhere", ("'./nowhere' could not be loaded", "--text_encoder")),
    (_RETRIEVER, "--architecture resnet999", "unknown backbone architecture 'resnet999'"),
    (_RETRIEVER, "--weights nowhere.pth", "neither a file nor a published tag"),
    (_RETRIEVER, "--resume", "there is no training to resume in 'new'"),
    (_LANGUAGE_MODEL, "--epochs 0", "--epochs must be at least 1"),
    (_LANGUAGE_MODEL, "--batch 0", "--batch must be at least 1"),
    (_LANGUAGE_MODEL, "--learning_rate 0", "--learning_rate must be above 0"),
    (_LANGUAGE_MODEL, "--size 7b", "--size needs one of 1m, 8m, 30m, not '7b'"),
    (_LANGUAGE_MODEL, "--vocabulary_size 3", "--vocabulary_size 3 is too small"),
    (_LANGUAGE_MODEL, "--vocabulary_size 10000000000", "--vocabulary_size must be at least 1"),
    (_LANGUAGE_MODEL, "--threads=-1", "--threads must be at least 0"),
    (_LANGUAGE_MODEL, "--section comparison", "has a section 'comparison'"),
    (_LANGUAGE_MODEL, "--cleaning all", "'all'"),
    (_LANGUAGE_MODEL, "--text nowhere.txt", "nowhere.txt"),
    (_LANGUAGE_MODEL, "--resume", "there is no training to resume in 'new'"),
    (_VIEWS, "--resume", "there is no training to resume in 'new'"),
    (_AUTOENCODER, "--resume", "there is no training to resume in 'new'"),
    (_PHRASES, "--minimum_count=-1", "--minimum_count must be at least 0"),
    (
        _PHRASES,
        "--minimum_count 999",
        ("occurs more than 999 times in the 28 reports", "lower --minimum_count"),
    ),
    (_PHRASES, "--top=-1", "--top must be at least 0"),
    (_PHRASES, "--seed=-1", "--seed must be at least 0"),
    (_PHRASES, "--form table6", "--form needs one of paper, table5, not 'table6'"),
    (_PHRASES, "--polarity negative", "--polarity needs one of both, positive, not 'negative'"),
    (_PHRASES, "--cleaning all", "'all'"),
    (_PHRASES, "--section comparison", ("has a section 'comparison'", "--section")),
    (_PHRASES, "--resume", "radscribe pretrain phrases has no option --resume"),
    (_VISUAL_BANK, "--split test", ("from the train split alone, not from 'test'", "Leave out --split")),
    (_VISUAL_BANK, "--width 24", ("needs disease queries", "radscribe pretrain disease-queries STORE")),
    (_VISUAL_BANK, "--queries nowhere", ("nowhere/part.json", "radscribe pretrain disease-queries STORE")),
    (_VISUAL_BANK, "--queries nowhere --most_rows 0", "--most_rows must be at least 1"),
    (_VISUAL_BANK, "--queries nowhere --form whole", "--form needs one of crop, masked, not 'whole'"),
    (_VISUAL_BANK, "--queries nowhere --maps cam", "--maps needs one of grad, grad++, hires"),
    (_VISUAL_BANK, "--queries nowhere --encoder resnet18", "--encoder and --encoder_weights belong together"),
    (_VISUAL_BANK, "--resume", "radscribe pretrain visual-bank has no option --resume"),
    (_REPORT_BANK, "--split all", ("from the train split alone, not from 'all'", "Leave out --split")),
    (_REPORT_BANK, "--rows 0", "--rows must be at least 1"),
    (_REPORT_BANK, "--rows 10000", ("10,000 rows need more texts than the train split has", "--rows")),
    (_REPORT_BANK, "--rows 5", ("the encoder './nowhere' could not be loaded", "--encoder")),
    (_REPORT_BANK, "--maximum_length 1", "--maximum_length must be at least 2"),
    (_REPORT_BANK, "--width 0", "--width must be at least 1"),
    (_REPORT_BANK, "--labels=", "--labels is empty"),
    (_REPORT_BANK, "--section comparison", ("has an observation by its labels", "--section")),
    (_REPORT_BANK, "--pooling last", "--pooling needs one of first, mean, embeddings, not 'last'"),
    ("phrases {run}", "", ("part.json", "radscribe pretrain phrases STORE --out DIR")),
    (
        "phrases nowhere",
        "",
        ("cannot read 'nowhere/part.json'", "pretrain phrases STORE --out DIR"),
    ),
    ("phrases nowhere", "--observation Edma", "Did you mean 'Edema'?"),
    ("phrases nowhere", "--polarity unknown", "--polarity needs one of both, positive, negative"),
    ("bench train", "--batch 0", "--batch must be at least 1"),
    ("bench train", "--repeats 0", "--repeats must be at least 1"),
    ("bench decode", "--threads 0", "--threads must be at least 1"),
    ("bench decode", "--length 0", "--length must be at least 2"),
    ("bench decode", "--beam 0", "--beam must be at least 1"),
    ("bench decode", "--views 0", "--views must be at least 1"),
    ("bench train", "--system r2", "unknown system 'r2'"),
    ("bench train", "--variant nothing", "unknown recipe 'r2gen-cmn/iu-xray/nothing'"),
    ("bench memory", "--repeats=-1", "--repeats must be at least 1"),
    ("bench score", "--pairs 0", "--pairs must be at least 1"),
    ("bench sleep", "", "sleep"),
    ("bench plan bidirectional/iu-xray", "--memory_gb=0", "--memory_gb must be above 0"),
    ("bench plan bidirectional/iu-xray", "--teraflops=-1", "--teraflops must be above 0"),
    ("bench plan r2gen-cmn/phantom", "", "has no language model to plan for"),
    ("bench plan nothing", "", "unknown recipe 'nothing'"),
    ("bench recall", "--batch 0", "--batch must be at least 1"),
    ("bench recall", "--length 10", "--length does nothing here: recall does not use it"),
    ("bench plan bidirectional/iu-xray", "--language_model nowhere", "--language_model FOLDER"),
]


def _file(name: str, content: str | bytes):
    return lambda workshop: workshop.write(name, content)


def _damaged_run(change):
    """A run of one's own with one checkpoint, changed by a function of its folder."""

    def arrange(workshop: Workshop) -> None:
        run = workshop.copy_run()
        (run / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
        change(run)

    return arrange


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _both_checkpoints(content: bytes):
    def change(run: Path) -> None:
        for name in ("last.ckpt", "previous.ckpt"):
            (run / "checkpoints" / name).write_bytes(content)

    return change


def _another_pickle(run: Path) -> None:
    torch.save({"state_dict": {}}, run / "checkpoints" / "last.ckpt")


def _flipped_byte(run: Path) -> None:
    """One byte of a tensor differs: torch itself would read it without a word."""
    path = run / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + largest.file_size // 2] ^= 1
    path.write_bytes(bytes(content))


class _Runs:
    """A pickle that would run code when it is read."""

    def __reduce__(self):
        return print, ("this must not run",)


def _pickle_with_code(workshop: Workshop) -> None:
    workshop.write("model.pth", pickle.dumps({"state_dict": _Runs()}))
    workshop.write("annotation.json", "{}")


def _bank_with_code(workshop: Workshop) -> None:
    workshop.write("CAM.pkl", pickle.dumps({"Edema": _Runs()}))


def _released_bank(workshop: Workshop) -> None:
    features = {name: np.zeros((2, 768), np.float32) for name in OBSERVATIONS}
    workshop.write("CAM.pkl", pickle.dumps(features))
    workshop.write("folder/mine.txt", "x")


def _tensors_of_another(workshop: Workshop) -> None:
    torch.save({"state_dict": {"conv.weight": torch.zeros(3)}}, workshop.path / "model.pth")
    workshop.write("annotation.json", '{"train": [{"report": "clear"}]}')


def _no_tensors(workshop: Workshop) -> None:
    torch.save({"state_dict": [1, 2]}, workshop.path / "model.pth")
    workshop.write("annotation.json", "{}")


def _broken_tensors(workshop: Workshop) -> None:
    torch.save({"encoder_decoder.x": torch.full((3,), torch.nan)}, workshop.path / "model.pth")
    workshop.write("annotation.json", "{}")


def _golden(metadata: dict[str, str], **tensors: torch.Tensor):
    return lambda workshop: save_file(tensors, workshop.path / "golden.safetensors", metadata)


def _store(*splits: str):
    """A store whose studies are in these splits, one after the other."""

    def arrange(workshop: Workshop) -> None:
        images = workshop.images("source")
        rows = [f"{number}.png,the lungs are clear,{split}" for number, split in enumerate(splits)]
        (images / "table.csv").write_text("\n".join(["image,findings,split", *rows]))
        prepare(images / "table.csv", workshop.path / "split", short_side=64, workers=1, progress=False)

    return arrange


_SPLIT = f"train r2gen-cmn/phantom --store split --out new --no_progress {_SMALL}"


def no_run(workshop: Workshop) -> None:
    """Nothing is left that a second try would stumble over."""
    assert not (workshop.path / "out").exists()


def labels(workshop: Workshop, values: object) -> None:
    """A label file in JSON with the same values for a study that is not in the store."""
    workshop.write("labels.json", json.dumps({"CXR1_IM-0001": values}))


#: A recipe with a stage: its language model.
_IN_STAGES = f"train r2gen-gpt/phantom --store {{store}} --out out --no_progress {_SMALL}"
_LANGUAGE_MODEL_STAGE = "out/parts/language-model"

ROWS: list[Row] = [
    Row(
        "a stage that the recipe does not have",
        f"{_IN_STAGES} --stages language-model,phrases",
        ("r2gen-gpt/phantom has no stage 'phrases'", "Its stages: language-model"),
        check=no_run,
    ),
    Row(
        "a stage of a recipe that has none",
        "train r2gen-cmn/phantom --store {store} --out out --stages language-model",
        ("r2gen-cmn/phantom has no stage 'language-model'", "Its stages: none"),
        check=no_run,
    ),
    Row(
        "stages without a store",
        "train r2gen-gpt/phantom --out out",
        ("r2gen-gpt/phantom needs a prepared store", "--store STORE"),
        check=no_run,
    ),
    Row(
        "stages of a run that there is not",
        "train r2gen-gpt/phantom --out out --resume",
        ("there is no run to resume in 'out'", "Leave out --resume"),
        check=no_run,
    ),
    Row(
        "a section that is not there, before any stage",
        f"{_IN_STAGES} --data.section comparison",
        ("no study of the train split has a section 'comparison'", "--data.section"),
        check=no_run,
    ),
    Row(
        "files in the directory of a stage",
        _IN_STAGES,
        (f"something in '{_LANGUAGE_MODEL_STAGE}' that no stage made, such as 'notes.txt'", "Remove it"),
        arrange=_file(f"{_LANGUAGE_MODEL_STAGE}/notes.txt", "mine"),
    ),
    Row(
        "a stage whose facts are damaged",
        _IN_STAGES,
        (f"'{_LANGUAGE_MODEL_STAGE}/pretraining.json' is damaged", "remove its directory"),
        arrange=_file(f"{_LANGUAGE_MODEL_STAGE}/pretraining.json", '{"kind": "language-model"}'),
    ),
    Row(
        "files beside the stages",
        _IN_STAGES,
        ("something in 'out' already, such as 'notes.txt'", "another --out"),
        arrange=_file("out/notes.txt", "mine"),
    ),
    Row(
        "nothing of AM-MRG that would train",
        "train am-mrg/phantom --store {store} --out out --system.trained hopfield"
        " --system.visual_memory false --system.report_memory false",
        ("system.trained hopfield needs a Hopfield layer with weights",),
        check=no_run,
    ),
    Row(
        "a recall without any sharpness",
        "train am-mrg/phantom --store {store} --out out --system.hopfield.beta 0",
        ("system.hopfield.beta must be above 0",),
        check=no_run,
    ),
    Row(
        "an order of what is recalled that there is not",
        "train am-mrg/phantom --store {store} --out out --system.order sideways",
        ("system.order", "interleaved"),
        check=no_run,
    ),
    Row(
        "AM-MRG with a bank that is none",
        f"train am-mrg/phantom --store {{store}} --out out {_SMALL} --system.disease_queries nowhere"
        " --system.visual_bank nowhere --system.report_bank nowhere --system.language_model.name nowhere",
        ("'nowhere/part.json'", "radscribe pretrain"),
        check=no_run,
    ),
    Row(
        "a warm-up that begins above the learning rate",
        "train r2gen-cmn/phantom --store {store} --out out --training.warm_up_epochs 1"
        " --training.warm_up_from 0.1",
        ("training.warm_up_from 0.1", "--training.warm_up_from 0"),
        check=no_run,
    ),
    Row(
        "a label file in JSON with 13 values for a study",
        f"train camanet/phantom --store {{store}} --out out {_SMALL} --data.labels.source labels.json",
        ("labels.json", "study 'CXR1_IM-0001' has 13 values", "Atelectasis"),
        arrange=lambda workshop: labels(workshop, [0] * 13),
        check=no_run,
    ),
    Row(
        "a label file in JSON with an unknown value",
        f"train camanet/phantom --store {{store}} --out out {_SMALL} --data.labels.source labels.json",
        ("labels.json", "study 'CXR1_IM-0001': 'Atelectasis' is 7"),
        arrange=lambda workshop: labels(workshop, [7] * 14),
        check=no_run,
    ),
    Row(
        "a label file in JSON without the studies",
        f"train camanet/phantom --store {{store}} --out out {_SMALL} --data.labels.source labels.json",
        ("labels.json", "have no labels in", "the first is 'phantom", "--data.labels.source report"),
        arrange=lambda workshop: labels(workshop, [0] * 14),
        check=no_run,
    ),
    Row(
        "observations of a label file without the studies",
        f"{_OBSERVATIONS}{_OF_THE_STORE} --labels labels.json",
        ("labels.json", "have no labels in", "the first is 'phantom", "with --labels report"),
        arrange=lambda workshop: labels(workshop, [0] * 14),
        check=_nothing_new,
    ),
    *(
        Row(
            f"train with {option}",
            f"{_TRAIN.replace(_SMALL, '') if 'transform' in option else _TRAIN} --{option}",
            says,
            check=_nothing_new,
        )
        for option, says in _FIELDS
    ),
    *(
        Row(
            f"train {recipe} with {option}",
            f"train {recipe} --store {{store}} --out new {_SMALL} --{option}",
            says,
            check=_nothing_new,
        )
        for recipe, option, says in _FIELDS_OF_OTHERS
    ),
    *(
        Row(_names(f"{command} {option}"), f"{command} {option}", says, check=_nothing_new)
        for command, option, says in _OPTIONS
    ),
    # Where to write.
    Row("train into a file", _into(_TRAIN, "file"), "'file' is a file", arrange=_file("file", "x")),
    Row("train below a file", _into(_TRAIN, "file/run"), "'file' is a file", arrange=_file("file", "x")),
    Row(
        "train into a folder of other things",
        _into(_TRAIN, "folder"),
        "there is something in 'folder' already, such as 'mine.txt'",
        arrange=_file("folder/mine.txt", "x"),
    ),
    Row("train into a run", _into(_TRAIN, "{run}"), ("there is a run in", "--resume")),
    Row("retriever into a file", _into(_RETRIEVER, "file"), "'file' is a file", arrange=_file("file", "")),
    Row("retriever of views that are too small", _RETRIEVER, "108 are needed"),
    Row("view classifier into a file", _into(_VIEWS, "file"), "'file' is a file", arrange=_file("file", "")),
    Row(
        "masked autoencoder below a file",
        _into(_AUTOENCODER, "file/x"),
        "'file' is a file",
        arrange=_file("file", ""),
    ),
    Row(
        "language model into a folder of other things",
        _into(_LANGUAGE_MODEL, "folder"),
        "there is something in 'folder' already",
        arrange=_file("folder/mine.txt", "x"),
    ),
    Row("phrases into a file", _into(_PHRASES, "file"), "is a file", arrange=_file("file", "")),
    Row(
        "phrases into a folder of other things",
        _into(_PHRASES, "folder"),
        "there is something in 'folder' already, such as 'mine.txt'",
        arrange=_file("folder/mine.txt", "x"),
    ),
    Row("phrases of no store", "pretrain phrases nowhere --out new", "no prepared store", check=_nothing_new),
    Row(
        "phrases without a train split",
        "pretrain phrases split --out new",
        "no study of the train split has a section 'findings'",
        arrange=_store("val", "test"),
        check=_nothing_new,
    ),
    Row("language model into a file", _into(_LANGUAGE_MODEL, "file"), "is a file", arrange=_file("file", "")),
    # Stores.
    Row("train without a store", "train r2gen-cmn/phantom --out new", "--store STORE", check=_nothing_new),
    Row(
        "train on no store",
        "train r2gen-cmn/phantom --store nowhere --out new",
        "no prepared store at",
        check=_nothing_new,
    ),
    Row("train without a train split", _SPLIT, "of the train split", arrange=_store("val", "test")),
    Row("train without a val split", _SPLIT, "of the val split", arrange=_store("train", "test")),
    Row(
        "language model without a val split",
        "pretrain language-model split --out new",
        "of the val split",
        arrange=_store("train", "test"),
    ),
    # Resuming.
    Row(
        "resume nothing", "train r2gen-cmn/phantom --out new --resume", "no run to resume", check=_nothing_new
    ),
    Row(
        "resume with another recipe",
        "train r2gen/phantom --out {run} --resume",
        "was begun with the recipe r2gen-cmn/phantom, not r2gen/phantom",
    ),
    Row(
        "resume with another batch size",
        f"{_RESUME} --training.batch_size 8 --training.seed 3",
        ("training.batch_size was 4, not 8", "training.seed was 0, not 3"),
        arrange=_damaged_run(lambda run: None),
    ),
    Row(
        "resume with a higher rate",
        f"{_RESUME} --training.learning_rate 1",
        "may only become lower, not 1",
        arrange=_damaged_run(lambda run: None),
    ),
    Row(
        "resume on another store",
        f"{_RESUME} --store split",
        "has changed since the run began",
        arrange=lambda workshop: (workshop.copy_run(), _store("train", "val", "test")(workshop)),
    ),
    Row(
        "resume from damaged checkpoints",
        _RESUME,
        ("last.ckpt' is damaged", "previous.ckpt' is damaged", "begin anew"),
        arrange=_damaged_run(_both_checkpoints(b"")),
    ),
    Row(
        "resume from random bytes",
        _RESUME,
        "last.ckpt' is damaged",
        arrange=_damaged_run(_both_checkpoints(bytes(range(256)) * 40)),
    ),
    Row(
        "resume from a checkpoint cut short",
        _RESUME,
        "last.ckpt' is damaged",
        arrange=_damaged_run(lambda run: _cut(run / "checkpoints" / "last.ckpt")),
    ),
    Row(
        "resume from a checkpoint with a changed byte",
        _RESUME,
        ("last.ckpt' is damaged", "checksum"),
        arrange=_damaged_run(_flipped_byte),
    ),
    Row(
        "resume from a pickle of something else",
        _RESUME,
        "it is no checkpoint of this kind of training: it has no optimizer_states",
        arrange=_damaged_run(_another_pickle),
    ),
    Row(
        "resume a finished run without checkpoints",
        _RESUME,
        "has no checkpoint to go on from",
        arrange=_damaged_run(lambda run: (run / "checkpoints" / "last.ckpt").unlink()),
    ),
    Row(
        "resume without a vocabulary",
        _RESUME,
        "vocabulary.json",
        arrange=_damaged_run(lambda run: (run / "vocabulary.json").unlink()),
    ),
    Row(
        "resume with a cut configuration",
        _RESUME,
        "config.yaml",
        arrange=_damaged_run(lambda run: _cut(run / "config.yaml")),
    ),
    Row(
        "resume without run.json",
        _RESUME,
        "run.json",
        arrange=_damaged_run(lambda run: (run / "run.json").unlink()),
    ),
    Row(
        "resume with a cut run.json",
        _RESUME,
        "run.json",
        arrange=_damaged_run(lambda run: _cut(run / "run.json")),
    ),
    Row(
        "resume without the best weights",
        _RESUME,
        ("weights.safetensors", "missing or damaged"),
        arrange=_damaged_run(lambda run: (run / "weights.safetensors").unlink()),
    ),
    # Released checkpoints and golden files.
    Row("import no checkpoint", _IMPORT, "no checkpoint 'model.pth'", check=_nothing_new),
    Row(
        "import an empty file", _IMPORT, "could not be read as a checkpoint", arrange=_file("model.pth", b"")
    ),
    Row(
        "import random bytes",
        _IMPORT,
        "could not be read as a checkpoint",
        arrange=_file("model.pth", bytes(range(256))),
    ),
    Row(
        "import a pickle with code",
        _IMPORT,
        ("could not be read as a checkpoint", "nothing that runs"),
        arrange=_pickle_with_code,
        check=_nothing_new,
    ),
    Row("import what is no state dict", _IMPORT, "holds no state dict", arrange=_no_tensors),
    Row(
        "import what is not finite",
        _IMPORT,
        "encoder_decoder.x holds a number that is not finite",
        arrange=_broken_tensors,
    ),
    Row("import weights of another", _IMPORT, "is no checkpoint of r2gen-cmn", arrange=_tensors_of_another),
    Row(
        "import into a folder that is there",
        _into(_IMPORT, "folder"),
        "'folder' exists already",
        arrange=_file("folder/mine.txt", "x"),
    ),
    Row(
        "import AM-MRG without its banks",
        "interop import am-mrg model.pth --out new --language_model lm",
        ("a checkpoint of am-mrg needs --visual_bank and --report_bank too",),
    ),
    Row(
        "import R2Gen without its annotation",
        "interop import r2gen model.pth --out new",
        ("a checkpoint of r2gen needs --annotation too",),
    ),
    Row(
        "import AM-MRG with an annotation",
        "interop import am-mrg model.pth --out new --language_model lm --visual_bank a --report_bank b "
        "--annotation annotation.json",
        ("--annotation does nothing here", "Leave it out"),
    ),
    Row(
        "import R2Gen with a bank",
        "interop import r2gen model.pth --out new --annotation annotation.json --visual_bank CAM.pkl",
        ("--visual_bank does nothing here", "Leave it out"),
    ),
    Row(
        "import AM-MRG with one released bank",
        "interop import am-mrg model.pth --out new --language_model lm --visual_bank a --report_bank R.pkl",
        ("draws from CAM.pkl before", "--visual_bank CAM.pkl"),
        arrange=_file("R.pkl", b""),
        check=_nothing_new,
    ),
    Row(
        "import no bank",
        _BANK,
        ("there is no released bank 'CAM.pkl'", "Give the CAM.pkl"),
        check=_nothing_new,
    ),
    Row(
        "import an empty bank", _BANK, "could not be read as a bank (EOFError)", arrange=_file("CAM.pkl", b"")
    ),
    Row(
        "import a bank with code",
        _BANK,
        ("'CAM.pkl' is refused: it holds", "nothing in it was run"),
        arrange=_bank_with_code,
        check=_nothing_new,
    ),
    Row(
        "import a bank without observations",
        _BANK,
        "does not hold features under the names of the 14 observations, but under edema",
        arrange=_file("CAM.pkl", pickle.dumps({"edema": np.zeros((2, 768), np.float32)})),
        check=_nothing_new,
    ),
    Row(
        "import a bank into a folder with something",
        _into(_BANK, "folder"),
        "there is something in 'folder' already",
        arrange=_released_bank,
    ),
    Row(
        "recover reports without the regions that are drawn first",
        "interop import-bank R.pkl --kind report-bank --out new --recover",
        ("CAM.pkl is needed", "--visual_bank CAM.pkl"),
    ),
    Row("import below a file", _into(_IMPORT, "file/x"), "'file' is a file", arrange=_file("file", "")),
    Row("check no golden file", "interop check golden.safetensors", "no golden file 'golden.safetensors'"),
    Row(
        "check an empty golden file",
        "interop check golden.safetensors",
        "is not a safetensors file",
        arrange=_file("golden.safetensors", b""),
    ),
    Row(
        "check weights that are no golden file",
        "interop check golden.safetensors",
        "is not a golden file",
        arrange=_golden({}, x=torch.zeros(3)),
    ),
    Row(
        "check a golden file with a cut configuration",
        "interop check golden.safetensors",
        "its metadata 'config' is damaged",
        arrange=_golden({"config": '{"d_vf": '}, **{"output.logprobs": torch.zeros(3)}),
    ),
    Row(
        "check a golden file without weights",
        "interop check golden.safetensors",
        "architecture that RadScribe does not know",
        arrange=_golden(
            {"config": json.dumps({"d_vf": 4, "vocab_tokens": 3, "max_seq_length": 4})},
            **{"output.logprobs": torch.zeros(3)},
        ),
    ),
    Row(
        "check a golden file with half of its weights",
        "interop check golden.safetensors",
        "is no whole golden file of r2gen-cmn",
        arrange=_golden(
            {"config": json.dumps({"d_vf": 4, "vocab_tokens": 3, "max_seq_length": 4})},
            **{"output.logprobs": torch.zeros(3), "weights.memory_matrix": torch.zeros(3, 4)},
        ),
    ),
]

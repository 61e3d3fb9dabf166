"""Bad inputs to the command line itself: commands, options, fields, and the lists."""

from __future__ import annotations

from bad_inputs.rows import Row, Workshop

_DEEP = "[" * 3000
_HUGE = "9" * 5000


def _nothing_new(workshop: Workshop) -> None:
    """The command stopped before it wrote anything."""
    assert not (workshop.path / "new").exists()


#: What is typed behind `radscribe`, and what is said of it. Every row of this table writes to `new`.
_LINES: list[tuple[str, str | tuple[str, ...]]] = [
    # Commands.
    ("", ("radscribe needs a command", "prepare")),
    ("''", "radscribe needs a command"),
    ("trian", ("unknown command 'trian'", "Did you mean 'train'")),
    ("Train", "Did you mean 'train'"),
    ("evalute runs/a", "Did you mean 'evaluate'"),
    ("view-classifier --store a --out new", "unknown command 'view-classifier'"),
    ("interop", ("radscribe interop needs a command", "check, import")),
    ("interop improt r2gen", "Did you mean 'import'"),
    ("--verison", ("radscribe has no option --verison", "Did you mean --version")),
    ("-v", "radscribe has no option -v"),
    ("--out new", "radscribe has no option --out"),
    ("—help", ("'—help' begins with a long dash", "Type --help")),
    # What must be given.
    ("prepare", ("radscribe prepare needs SOURCE and --out", "Example: radscribe prepare")),
    ("prepare phantom", ("radscribe prepare needs --out", "Example: radscribe prepare")),
    ("train", ("radscribe train needs RECIPE", "Example: radscribe train")),
    ("train --store s --out new", "radscribe train needs RECIPE"),
    ("pretrain", ("radscribe pretrain needs a command", "masked-autoencoder")),
    ("pretrain classifier s --out new", ("unknown command 'classifier'", "view-classifier")),
    ("pretrain view-classifier", "radscribe pretrain view-classifier needs STORE and --out"),
    ("pretrain masked-autoencoder s", "radscribe pretrain masked-autoencoder needs --out"),
    ("pretrain retriever s", "radscribe pretrain retriever needs --out"),
    ("retrieve", "radscribe retrieve needs RETRIEVER and SOURCE"),
    ("pretrain language-model", "radscribe pretrain language-model needs STORE and --out"),
    ("pretrain language-model s --out new --arch x", "language-model has no option --arch"),
    ("reproduce", "radscribe reproduce needs PAPER and --store and --out"),
    # A paper that cannot be reproduced as it was typed.
    ("reproduce camnet --store {store} --out new", ("unknown paper 'camnet'", "Did you mean 'camanet'")),
    ("reproduce camanet --store missing --out new", "missing"),
    ("reproduce camanet --store {store} --out new --data iu-xray", "is of the phantom, not of IU X-Ray"),
    ("reproduce camanet --store {store} --out new", "short side"),
    (
        "reproduce camanet --store {store} --out new --only table-4/bse",
        ("there is no table or row 'table-4/bse'", "table-4/base"),
    ),
    ("reproduce camanet --store {store} --out new --set training.epochs", "is no NAME=VALUE"),
    (
        "reproduce camanet --store {store} --out new --set training.seed=3",
        "Pass the number of seeds with --seeds",
    ),
    ("reproduce camanet --store {store} --out new --set training.threads=3", "with --cpus"),
    (
        "reproduce camanet --store {store} --out new --set training.epoch=3",
        ("has no field 'training.epoch'", "training.epochs"),
    ),
    ("reproduce camanet --store {store} --out new --set training.epochs=x", "training.epochs"),
    ("reproduce camanet --store {store} --out new --seeds 0", "--seeds"),
    ("reproduce camanet --store {store} --out new --gpus 1", "--gpus does nothing with the engine local"),
    ("reproduce camanet --store {store} --out new --engine ray --workers 2", "--workers does nothing"),
    (
        "reproduce bidirectional --store {store} --out new --only table-4",
        "none of these rows has a recipe for the phantom",
    ),
    # Names that commands had earlier.
    ("train view-classifier --store s --out new", "Type radscribe pretrain view-classifier STORE --out DIR"),
    ("train masked-autoencoder", "Type radscribe pretrain masked-autoencoder STORE --out DIR"),
    ("pretrain-lm s --out new", "Type radscribe pretrain language-model STORE --out DIR"),
    ("generate", "radscribe generate needs RUN and SOURCE"),
    ("generate runs/a", "radscribe generate needs SOURCE"),
    ("compare", "radscribe compare needs GROUPS"),
    ("label", "radscribe label needs FILE"),
    ("page runs/a", "radscribe page needs --out"),
    ("embeddings", "radscribe embeddings needs RUNS"),
    ("explain runs/a --study A", "radscribe explain needs --out"),
    ("bench", "radscribe bench needs TASK"),
    ("bench plan", "radscribe bench plan needs RECIPE"),
    ("interop check", "radscribe interop check needs GOLDEN"),
    ("interop import r2gen model.pth", "radscribe interop import needs --out"),
    ("check", "radscribe check needs PATH"),
    # Options that are not there.
    ("prepare phantom --out new --studis 3", ("has no option --studis", "Did you mean --studies?")),
    ("prepare phantom --output new", "Did you mean --out?"),
    ("prepare phantom -o new", ("has no option -o", "Did you mean --out?")),
    ("prepare phantom -out new", "Did you mean --out?"),
    ("prepare phantom —out new", ("'—out' begins with a long dash", "Type --out")),
    ("prepare phantom –out new", "Type --out"),
    ("generate {run} {store} --num_beams 3", "radscribe generate has no option --num_beams"),
    ("generate {run} {store} --batch_size 3", "Did you mean --batch?"),
    ("evaluate {run} --protocl raw", "Did you mean --protocol?"),
    ("evaluate --refs a --preds b", ("has no option --refs", "Did you mean --references?")),
    ("recipes --nmae x", "Did you mean --name?"),
    ("systems --jsn", "Did you mean --json?"),
    ("bench plan bidirectional/iu-xray --memory 80", "Did you mean --memory_gb?"),
    ("train r2gen-cmn/phantom --lr 3", "Did you mean --training.learning_rate?"),
    ("train r2gen-cmn/phantom --training.lr 3", "Did you mean --training.learning_rate?"),
    ("train r2gen-cmn/phantom --trainig.epochs 3", "Did you mean --training.epochs?"),
    ("train r2gen-cmn/phantom --training.beam 3", "Did you mean --decoding.beams?"),
    ("train r2gen-cmn/phantom --foo.bar 3", "See radscribe train r2gen-cmn/phantom --help"),
    ("train r2gen-cmn/phantom --=3", "has no option --"),
    ("train r2gen/phantom --system.top_k 3", "has no option --system.top_k"),
    # Words that have no place.
    ("prepare phantom other --out new", "'other' is one word too many for radscribe prepare"),
    ("evaluate runs/a runs/b", "'runs/b' is one word too many for radscribe evaluate"),
    ("recipes r2gen-cmn/phantom r2gen/phantom", "'r2gen/phantom' is one word too many"),
    ("systems r2gen", "'r2gen' is one word too many for radscribe systems"),
    ("train r2gen-cmn/phantom my store", "'my' is one word too many for radscribe train"),
    ("prepare -- phantom --out new", ("'--' is not used here", "./-NAME")),
    ("bench decode --no_paper_size 3", "'3' is one word too many for radscribe bench"),
    # Given twice.
    ("prepare phantom --out new --out other", "--out is given twice"),
    ("explain {run} --study A --study B --out new", "--study is given twice"),
    ("evaluate runs/a --run runs/b", "RUN is given twice"),
    ("prepare phantom --out new --short-side 64 --short_side 128", "--short_side is given twice"),
    ("recipes --json --no-json", "--no-json is given twice"),
    ("train r2gen/phantom --training.seed 1 --training.seed 2", "--training.seed is given twice"),
    # Without a value.
    ("prepare phantom --out", "--out needs a path"),
    ("prepare phantom --out=", "--out needs a path, not ''"),
    ("prepare phantom --out ''", "--out needs a path, not ''"),
    ("prepare '' --out new", "SOURCE is empty"),
    ("generate {run} '' --out new", "SOURCE is empty"),
    ("generate '' {store} --out new", "RUN needs a path, not ''"),
    ("recipes ''", "NAME is empty"),
    ("train '' --out new", "unknown recipe ''"),
    ("prepare phantom --out new --studies", "--studies needs a whole number"),
    ("compare runs/a runs/b --scores", "--scores needs one value or more"),
    ("explain {run} --out new --study", "--study needs one value or more"),
    ("prepare phantom --out --studies 3", "--out needs a path"),
    ("train r2gen-cmn/phantom --training", "--training needs a JSON object"),
    ("train r2gen-cmn/phantom --training.epochs", "--training.epochs needs a whole number"),
    ("train r2gen-cmn/phantom --out", "--out needs a path"),
    # Values of another type.
    ("prepare phantom --out new --studies many", "--studies needs a whole number, not 'many'"),
    ("prepare phantom --out new --studies 3.5", "--studies needs a whole number, not '3.5'"),
    ("prepare phantom --out new --seed ''", "--seed needs a whole number, not ''"),
    (
        "prepare phantom --out new --split_fractions 0.5 0.5",
        "--split_fractions needs 3 values, each a number",
    ),
    ("prepare phantom --out new --split_fractions 1 b 0", "--split_fractions needs a number, not 'b'"),
    ("prepare phantom --out new --columns report=notes", "--columns needs a JSON object, such as"),
    ("prepare phantom --out new --columns '[\"a\"]'", "--columns needs a JSON object, such as"),
    ("generate {run} {store} --device gpu", "--device needs one of auto, cpu, cuda, not 'gpu'"),
    ("evaluate {run} --resamples 1e3", "--resamples needs a whole number, not '1e3'"),
    (
        "evaluate {run} --protocol clean",
        "--protocol needs one of r2gen, r2gengpt, clean_full, raw, not 'clean'",
    ),
    ("evaluate {run} --json=yes", "--json takes no value"),
    ("evaluate {run} --no-meteor=3", "--no-meteor takes no value"),
    ("systems --no-json=3", "--no-json takes no value"),
    ("systems --help=3", "--help takes no value"),
    ("explain {run} --out new --study A --layer two", "--layer needs a whole number, not 'two'"),
    ("bench foo", "TASK needs one of decode, train, memory, scan, recall, score, not 'foo'"),
    ("bench decode --paper-size=no", "--paper-size takes no value"),
    ("bench plan r2gen-gpt/iu-xray --teraflops fast", "--teraflops needs a number, not 'fast'"),
    ("train r2gen-cmn/phantom --training.learning_rate nan", "--training.learning_rate needs a number"),
    ("train r2gen-cmn/phantom --training.betas 0.9", "--training.betas needs 2 values, each a number"),
    ("train r2gen-cmn/phantom --training.amsgrad maybe", "--training.amsgrad needs true or false"),
    ("train r2gen-cmn/phantom --decoding.beams null", "--decoding.beams needs a whole number, not 'null'"),
    ("train r2gen-cmn/phantom --training.optimizer sgd", "needs one of adam, adamw, not 'sgd'"),
    (f"train r2gen-cmn/phantom --training.epochs {_HUGE}", "--training.epochs needs a whole number"),
    # Several fields at once.
    ("train r2gen-cmn/phantom --training 3", "--training needs a JSON object, such as"),
    ("train r2gen-cmn/phantom --decoding '[1, 2]'", "--decoding needs a JSON object, such as"),
    ("train r2gen-cmn/phantom --decoding '\"x\"'", "--decoding needs a JSON object, such as"),
    ("train r2gen-cmn/phantom --training '{{\"lr\": 3}}'", ("no field 'training.lr'", "learning_rate")),
    ('train r2gen-cmn/phantom --training \'{{"epochs": "x"}}\'', "training.epochs needs a whole number"),
    ("train r2gen-cmn/phantom --system '{{\"backbone\": 3}}'", "system.backbone needs a JSON object"),
    ("train r2gen-cmn/phantom --data '{{\"section\": 3}}'", "data.section needs text, not '3'"),
    ("train r2gen-cmn/phantom --training '{{\"epochs\": 3'", "--training needs a JSON object"),
    (f"train r2gen-cmn/phantom --decoding '{_DEEP}'", "--decoding needs a JSON object, such as"),
    (f"generate {{run}} {{store}} --decoding '{_DEEP}'", "--decoding needs a JSON object, such as"),
    ("generate {run} {store} --decoding '[1]'", "--decoding needs a JSON object, such as"),
    ("generate {run} {store} --decoding beams=3", "--decoding needs a JSON object, such as"),
    ("generate {run} {store} --decoding ''", "--decoding needs a JSON object, such as"),
    # Options that would do nothing.
    ("prepare images --out new --studies 5", ("--studies does nothing here", "--limit")),
    ("bench score --system r2gen", ("--system does nothing here", "score does not use it")),
    ("bench memory --views 1", "--views does nothing here"),
    ("bench train --beam 2", "--beam does nothing here"),
    ("bench decode --pairs 2", "--pairs does nothing here"),
    ("evaluate {run} --cleaning none", "--cleaning has no effect on a run"),
    ("evaluate {run} --maximum-length 3", "--maximum_length has no effect on a run"),
    (
        "evaluate --predictions a --references b --protocol raw --split val",
        "--split has no effect with --predictions",
    ),
    (
        "evaluate --predictions a --references b --protocol raw --drafts new",
        "--drafts has no effect with --predictions",
    ),
    ("explain {run} --images a.png --store {store} --out new", "--store goes with --study"),
    ("explain {run} --study a --together --out new", "--together goes with --images"),
    # Recipes and systems.
    ("recipes x", ("unknown recipe 'x'", "Known: ")),
    ("recipes r2gen-cmn", ("unknown recipe 'r2gen-cmn'", "r2gen-cmn/phantom")),
    ("recipes r2gen-cmn/fantom", "Did you mean 'r2gen-cmn/phantom'"),
    ("train --store {store} r2gen-cmn/phantom", "the recipe must be the first word after train"),
    ("train r2gen_cmn/phantom", "Did you mean 'r2gen-cmn/phantom'"),
]

ROWS: list[Row] = [Row(f"typed: {line[:70]}", line, says, check=_nothing_new) for line, says in _LINES] + [
    Row("a NUL character in a path", "label 'a\0b'", "an argument holds a NUL character"),
    Row(
        "a folder where a file of texts belongs",
        "label texts",
        "texts",
        arrange=lambda w: (w.path / "texts").mkdir(),
    ),
    Row(
        "a store in a path that is a file",
        "prepare phantom --studies 1 --out file/new",
        "file",
        arrange=lambda w: w.write("file", ""),
    ),
    Row(
        "drafts that cannot be written", "evaluate {run} --no_meteor --drafts no/folder/new", "no/folder/new"
    ),
    Row(
        "a page in a folder that is a file",
        "page {run} --out file/new",
        "file",
        arrange=lambda w: w.write("file", ""),
    ),
    Row(
        "a reproduction in a folder of other things",
        "reproduce camanet --store {store} --out mine --set data.transform.short_side=64 "
        "data.transform.crop=56",
        "'mine' holds something that is no reproduction, such as 'notes.txt'",
        arrange=lambda w: w.write("mine/notes.txt", ""),
    ),
]

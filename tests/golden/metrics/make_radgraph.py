"""Write the golden files of RadGraph: what the package `radgraph` 0.1.18 and its source of 2026-07 compute.

    python make_radgraph.py PACKAGE SOURCE     # an unpacked radgraph-0.1.18.tar.gz; a checkout at 87f11a1

`radgraph.safetensors` holds a tiny checkpoint with random weights, texts, and the entities and relations that
the package finds in them by it. `radgraph_rewards.json` holds random graphs, and the three rewards of both
versions. The package runs with transformers 4.48.3. Nothing of RadScribe is imported.
"""

import importlib.metadata
import importlib.util
import json
import random
import re
import sys
import tempfile
from pathlib import Path

import torch

MODELS = ("radgraph", "radgraph-xl")
ENCODER = "tiny-encoder"
LABELS = {
    "radgraph": ("OBS-DP", "OBS-DA", "OBS-U", "ANAT-DP"),
    "radgraph-xl": (
        "Observation::definitely present",
        "Observation::uncertain",
        "Anatomy::definitely present",
    ),
}
HEADS = r"_ner\._ner_scorers\.[^.]+\.1\.|_relation\._relation_scorers\.|_relation\..+\._scorer\.1\."
RELATIONS = ("modify", "located_at", "suggestive_of")
WORDS = (
    "no acute cardio ##pulmonary process heart size is normal small left pleural effusion the lungs are "
    "clear there ##s a right lower lobe opacity moderate hiatal hernia none / - : . , ! ? ( ) % 2 5 cm ##al `"
)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
TEXTS = [
    "no acute cardiopulmonary process",
    "Heart size is normal. Small left pleural effusion; there's a RIGHT lower-lobe opacity (2.5 cm).",
    # longer than a piece of the encoder's input, with a word that one cut goes through and a blank word
    "the lungs are clear , there is no small effusion cardiopulmonary cardiopulmonary cardiopulmonary "
    "cardiopulmonary moderate hiatal hernia \u200b heart size is normal. opacity/. left/right? 5%, (clear).",
    "Clear.\nLungs\\nclear.",
    "effusion",
    "",
]
CONFIG = {
    "dataset_reader": {
        "type": "dygie",
        "max_span_width": 4,
        "token_indexers": {"bert": {"model_name": f"published/{ENCODER}", "max_length": 16}},
    },
    "model": {
        "type": "dygie",
        "embedder": {
            "token_embedders": {"bert": {"model_name": f"published/{ENCODER}", "max_length": 16}},
        },
        "initializer": {},
        "module_initializer": {},
        "loss_weights": {"ner": 0.2, "relation": 1.0, "coref": 0.0, "events": 0.0},
        "feature_size": 3,
        "max_span_width": 4,
        "target_task": "relation",
        "feedforward_params": {"num_layers": 2, "hidden_dims": 6, "dropout": 0.4},
        "modules": {
            "coref": {"spans_per_word": 0.3, "max_antecedents": 5, "coref_prop": 0},
            "ner": {},
            "relation": {"spans_per_word": 0.5},
            "events": {
                "trigger_spans_per_word": 0.3,
                "argument_spans_per_word": 0.8,
                "loss_weights": {"trigger": 0.2, "arguments": 1.0},
            },
        },
    },
}


def write_folder(folder: Path) -> dict[str, str]:
    """Write a model's folder without weights, and its encoder without weights; returns the vocabulary."""
    from transformers import BertConfig, BertTokenizerFast

    encoder = folder / ENCODER
    encoder.mkdir()
    BertConfig(
        vocab_size=len(PIECES),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
    ).save_pretrained(encoder)
    (encoder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    BertTokenizerFast(str(encoder / "vocab.txt"), do_lower_case=True).save_pretrained(encoder)
    vocabulary = {"non_padded_namespaces": "*tags\n*labels\n"}
    for model in MODELS:
        vocabulary[f"{model}__ner_labels"] = "\n" + "".join(f"{label}\n" for label in LABELS[model])
        vocabulary[f"{model}__relation_labels"] = "".join(f"{name}\n" for name in RELATIONS)
    for model in MODELS:
        (folder / model / "vocabulary").mkdir(parents=True)
        for name, content in vocabulary.items():
            (folder / model / "vocabulary" / f"{name}.txt").write_text(content)
        (folder / model / "config.json").write_text(
            json.dumps(CONFIG).replace(f"published/{ENCODER}", str(encoder))
        )
    return vocabulary


def fill(network: torch.nn.Module, seed: int) -> None:
    """Give a network random weights, which two bytes each hold, so that it finds something but not all."""
    torch.manual_seed(seed)
    for _, weight in sorted(network.model.named_parameters()):
        weight.data = (torch.randn(weight.shape) * 0.5).half().float()
    heads = [
        module
        for name, module in network.model.named_modules()
        if isinstance(module, torch.nn.Linear) and re.match(HEADS, name)
    ]
    seen: dict[torch.nn.Module, list[torch.Tensor]] = {head: [] for head in heads}
    hooks = [head.register_forward_hook(lambda head, _, output: seen[head].append(output)) for head in heads]
    for network.model_type in MODELS:
        for text in TEXTS:
            found(network, text)
    for head, hook in zip(heads, hooks, strict=True):
        hook.remove()
        if seen[head]:  # most scores get below 0, which is the score of no label
            scores = torch.cat([part.reshape(-1, head.out_features) for part in seen[head]])
            lowered = head.bias.data - scores.quantile(0.5 if head.out_features == 1 else 0.9, dim=0)
            head.bias.data = lowered.half().float()


@torch.no_grad()
def found(network: torch.nn.Module, text: str) -> dict:
    """What the package finds in a text: its annotation, and its spans and relations with their scores."""
    from radgraph.allennlp.data.dataloader import PyTorchDataLoader
    from radgraph.allennlp.data.dataset_readers import AllennlpDataset
    from radgraph.utils import preprocess_reports

    (document,) = preprocess_reports([text or "None"], network.model_type)
    data = AllennlpDataset([network.reader.text_to_instance(document)])
    data.index_with(network.model.vocab)
    (batch,) = PyTorchDataLoader(batch_size=1, dataset=data)
    (sentence,) = network.model.make_output_human_readable(network.model(**batch))
    return {
        "annotation": network([text])["0"],
        "entities": [
            [*entity.span.span_sent, entity.label, entity.raw_score, entity.softmax_score]
            for entity in sentence.predicted_ner
        ],
        "relations": [
            [*pair[0].span_sent, *pair[1].span_sent, relation.label, relation.raw_score]
            for relation in sentence.predicted_relations
            for pair in [relation.pair]
        ],
    }


def make_model() -> None:
    """Write `radgraph.safetensors`."""
    from radgraph.radgraph import RadGraph
    from safetensors.torch import save_file

    outputs = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = write_folder(folder)
        load = torch.nn.Module.load_state_dict
        torch.nn.Module.load_state_dict = lambda *_, **__: None  # there are no weights to load yet
        torch.save({}, folder / MODELS[0] / "weights.th")
        network = RadGraph(model_type=MODELS[0], model_cache_dir=name, cuda=-1)
        torch.nn.Module.load_state_dict = load
        fill(network, 30)
        weights = network.model.state_dict()
        for model in MODELS:
            torch.save(weights, folder / model / "weights.th")
            network = RadGraph(model_type=model, model_cache_dir=name, cuda=-1)
            # The rounding of single precision differs between processors.
            torch.set_default_dtype(torch.float64)
            network.model.double()
            outputs[model] = [found(network, text) for text in TEXTS]
            torch.set_default_dtype(torch.float32)
        encoder = {
            file.name: file.read_text()
            for file in sorted((folder / ENCODER).iterdir())
            if file.name != "vocab.txt"
        }
    metadata = {
        "config": json.dumps(CONFIG),
        "vocabulary": json.dumps(vocabulary),
        "encoder": json.dumps(encoder),
        "texts": json.dumps(TEXTS),
        "outputs": json.dumps(outputs),
    }
    halved = {name: weight.half() for name, weight in weights.items() if weight.is_floating_point()}
    save_file(halved, Path(__file__).with_name("radgraph.safetensors"), metadata)
    for model, texts in outputs.items():
        print(model, [(len(text["entities"]), len(text["relations"])) for text in texts])


def random_graph(draw: random.Random) -> dict:
    """An annotation of up to seven entities from few words, so that two graphs share some."""
    number = draw.randrange(8)
    return {
        "entities": {
            str(place): {
                "tokens": draw.choice(["effusion", "Effusion", "left", "heart", "HEART", "lower lobe"]),
                "label": draw.choice(LABELS["radgraph"][:3]),
                "relations": [
                    [draw.choice(RELATIONS), str(draw.randrange(1, number + 1))]
                    for _ in range(draw.choice([0, 0, 1, 2]))
                ],
            }
            for place in range(1, number + 1)
        }
    }


def rewards_of(path: Path):
    """The function `compute_reward` of a file `rewards.py`."""
    spec = importlib.util.spec_from_file_location("rewards", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compute_reward


def make_rewards(package: str, source: str) -> None:
    """Write `radgraph_rewards.json`."""
    draw = random.Random(50)
    versions = {
        "0.1.18": rewards_of(Path(package, "radgraph", "rewards.py")),
        "87f11a1": rewards_of(Path(source, "radgraph", "rewards.py")),
    }
    pairs = []
    for _ in range(50):
        draft, reference = random_graph(draw), random_graph(draw)
        values = {name: reward(draft, reference, "all") for name, reward in versions.items()}
        pairs.append({"draft": draft, "reference": reference, "rewards": values})
    content = json.dumps(pairs, separators=(",", ":"))
    Path(__file__).with_name("radgraph_rewards.json").write_text(content + "\n")


if __name__ == "__main__":
    _, package, source = sys.argv
    sys.path.insert(0, package)
    version = importlib.metadata.version
    importlib.metadata.version = lambda name: "0.1.18" if name == "radgraph" else version(name)
    make_rewards(package, source)
    make_model()

"""Released memory banks of AM-MRG: what their pickles may hold, which rows are taken, and what is written."""

import json
import os
import pickle
import random
import sys

import numpy as np
import pytest
import torch

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.interop.bank_import import import_bank
from radscribe.interop.released_banks import all_rows, read_released_bank, recovered
from radscribe.observations import OBSERVATIONS
from radscribe.parts.memory_bank import MemoryBank
from radscribe.parts.part import Part
from radscribe.recipes import get_recipe
from radscribe.runs.run_parts import check_origin
from radscribe.studies.store import PreparedStore

#: The order of the released code, which is CheXbert's.
CHEXBERT = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)


def features(rows, width=4, first=0):
    """Features by observation, each row different from all others; `rows` are their numbers."""
    total = sum(rows.values())
    numbers = np.arange(first, first + total * width, dtype=np.float32).reshape(total, width)
    parts = np.split(numbers, np.cumsum(list(rows.values()))[:-1])
    return dict(zip(rows, parts, strict=True))


def counts(usual=3, **others):
    """The number of rows of each observation; underscores stand for blanks in their names."""
    named = {name.replace("_", " "): count for name, count in others.items()}
    return {name: named.get(name, usual) for name in reversed(OBSERVATIONS)}


def write(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("name", [str, np.str_], ids=["str", "numpy"])
def test_every_pickle_of_numbers_is_read(tmp_path, protocol, name):
    content = features(counts(Edema=5))
    content["Fracture"] = np.asfortranarray(content["Fracture"].astype(">f8"))
    content["Pneumonia"] = np.empty((0, 4))  # as the released script writes what no report has
    named = {name(observation): rows for observation, rows in content.items()}
    found = read_released_bank(write(tmp_path / "bank.pkl", named, protocol), 4)
    assert list(found) == list(content)
    for observation, rows in content.items():
        assert type(observation) is str
        assert found[observation].dtype == np.float32
        assert np.array_equal(found[observation], rows)


def test_the_names_of_older_numpy_are_read(tmp_path):
    content = features(counts())
    old = pickle.dumps(content, 2).replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in old
    (tmp_path / "bank.pkl").write_bytes(old)
    assert np.array_equal(read_released_bank(tmp_path / "bank.pkl", 4)["Edema"], content["Edema"])


class Writes:
    """A pickle of it writes a file as soon as it is read by `pickle.load`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


class Calls:
    """A pickle of it calls a function."""

    def __init__(self, function, *arguments):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path):
    ran = tmp_path / "ran"
    content = features(counts()) | {"Edema": Writes(ran)}
    path = write(tmp_path / "bank.pkl", content)
    with pytest.raises(RadScribeError, match=r"is refused: it holds '\w*io.open'.*nothing in it was run"):
        read_released_bank(path, 4)
    assert not ran.exists()
    pickle.loads(path.read_bytes())  # the file does what is said of it
    assert ran.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Calls(os.getcwd), r"it holds '\w+.getcwd'"),
        (Calls(np.load, "x.npy"), "it holds 'numpy.load'"),
        (Calls(sys.getrefcount, 1), "it holds 'sys.getrefcount'"),
        (np.array([{"a": 1}], dtype=object), "an array of the format 'O8'"),
        (np.zeros(2, dtype=[("a", "O")]), "an array of the format 'V8'"),
        (np.zeros(2, dtype="M8[s]"), "an array of the format 'M8'"),
        (Calls(str.encode, "text"), "it holds 'builtins.getattr'"),
        (np.random.default_rng(0), "it holds 'numpy.random"),
        (torch.zeros(2), "it holds 'torch"),
    ],
    ids=["os", "load", "sys", "objects", "fields", "dates", "method", "generator", "tensor"],
)
def test_anything_but_numbers_is_refused(tmp_path, value, message):
    path = write(tmp_path / "bank.pkl", features(counts()) | {"Edema": value})
    with pytest.raises(RadScribeError, match=message):
        read_released_bank(path, 4)


def test_no_state_of_numpy_is_set_by_the_pickle(tmp_path):
    """A forged number format can make NumPy take numbers for addresses; here it changes nothing."""
    content = features(counts())
    forged = pickle.dumps(content, 2)
    usual = pickle.dumps(np.dtype("<f4"), 2)
    flags = usual[usual.index(b"J\xff\xff\xff\xff") :][:12]
    assert flags.endswith(b"K\x00")
    (tmp_path / "bank.pkl").write_bytes(forged.replace(flags, flags[:-1] + b"\x3f"))
    assert b"\x3f" in (tmp_path / "bank.pkl").read_bytes()
    found = read_released_bank(tmp_path / "bank.pkl", 4)
    assert np.array_equal(found["Edema"], content["Edema"])


def without(name):
    return {key: value for key, value in features(counts()).items() if key != name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without("Edema"), "does not hold features under the names of the 14 observations, but under Atel"),
        (features(counts()) | {"Hernia": np.zeros((2, 4))}, "names of the 14 observations"),
        ([1, 2], "names of the 14 observations"),
        (features(counts()) | {"Edema": "text"}, "names of the 14 observations"),
        (features(counts(), width=5), r"has for Support Devices float32 of shape \(3, 5\), and not"),
        (features(counts()) | {"Edema": np.zeros(4)}, r"has for Edema float64 of shape \(4,\)"),
        (features(counts()) | {"Edema": np.array([["a"] * 4])}, "has for Edema <U1"),
        (features(counts()) | {"Edema": np.full((1, 4), np.nan)}, "Edema holds a number that is not finite"),
        (features(counts(0)), "has no row"),
    ],
    ids=["missing", "strange", "list", "text", "width", "flat", "characters", "nan", "empty"],
)
def test_other_content_is_refused_by_name(tmp_path, content, message):
    with pytest.raises(RadScribeError, match=message):
        read_released_bank(write(tmp_path / "bank.pkl", content), 4)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(features(counts()))[:-40]])
def test_a_broken_file(tmp_path, content):
    (tmp_path / "bank.pkl").write_bytes(content)
    with pytest.raises(RadScribeError, match=r"could not be read as a bank .*Give the CAM.pkl"):
        read_released_bank(tmp_path / "bank.pkl", 4)


# --- which rows ---------------------------------------------------------------------------------------------


def drawn_as_released(regions, reports):
    """The rows as the released code draws them: lists of vectors, and the generator of the whole process."""
    state = random.getstate()
    random.seed(42)
    chosen = []
    for vectors in regions.values():
        chosen += random.sample(list(vectors), 500) if len(vectors) > 500 else list(vectors)
    sizes = {label: len(reports[label]) for label in CHEXBERT}
    weights = {label: size / sum(sizes.values()) for label, size in sizes.items()}
    wanted = {label: int(weight * 6000) for label, weight in weights.items()}
    wanted[max(weights, key=weights.get)] += 6000 - sum(wanted.values())
    texts = [
        row for label, number in wanted.items() for row in random.sample(reports[label].tolist(), number)
    ]
    random.setstate(state)
    return np.stack(chosen), np.array(texts, dtype=np.float32)


def test_recovered_rows_are_those_of_the_released_draws():
    """More than 500 rows in some classes, and shares of reports that are no whole numbers."""
    regions = features(counts(443, Edema=750, Atelectasis=501, No_Finding=9000, Fracture=500))
    reports = features(counts(37, Edema=5000, Pneumonia=611, Lung_Lesion=1, No_Finding=4999), first=7)
    expected = drawn_as_released(regions, reports)
    for content, rows, vectors in zip((regions, reports), recovered(regions, reports), expected, strict=True):
        found = np.stack([content[row.observation][row.number] for row in rows])
        assert np.array_equal(found, vectors)
        assert len(set(rows)) == len(rows)
    assert len(expected[1]) == 6000
    assert recovered(regions)[0] == recovered(regions, reports)[0]


def test_the_generator_of_the_process_is_left_alone():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    recovered(features(counts(600)), features(counts(600)))
    assert random.random() == expected


def test_too_few_reports_are_refused():
    with pytest.raises(RadScribeError, match=r"draws 6,000 reports, and there are 42: .*leave out --recover"):
        recovered(features(counts()), features(counts()))


def test_all_rows_in_the_order_of_the_file():
    content = features(counts(2, Edema=0))
    rows = all_rows(content)
    assert np.array_equal(np.concatenate(list(content.values())), [content[name][n] for name, n in rows])


# --- directories --------------------------------------------------------------------------------------------


def test_an_imported_bank_is_a_bank(tmp_path, capsys):
    content = features(counts(2, Edema=5), width=768)
    path = write(tmp_path / "CAM.pkl", content)
    main(f"interop import-bank {path} --kind visual-bank --out {tmp_path / 'bank'}".split())
    printed = capsys.readouterr().out
    bank = MemoryBank.load(tmp_path / "bank", "visual-bank")
    assert torch.equal(bank.patterns, torch.from_numpy(np.concatenate(list(content.values()))))
    assert bank.rows[0] == {"observation": "Support Devices", "number": 0}
    assert [row["number"] for row in bank.rows if row["observation"] == "Edema"] == list(range(5))
    part = Part.read(tmp_path / "bank", "visual-bank")
    assert (part.store_source, part.split) == ("released file CAM.pkl", "unknown")
    assert part.settings == {"released_file": "CAM.pkl", "chosen": "all"}
    facts = json.loads((tmp_path / "bank" / "pretraining.json").read_text())
    assert facts["store_content_hash"] == part.store_content_hash
    assert facts["finished"]
    card = (tmp_path / "bank" / "MODEL_CARD.md").read_text()
    assert "train split only" not in card
    assert "Nothing says which images or reports the rows are of" in card
    assert "recovered" not in card + printed
    assert "released file CAM.pkl" in printed
    assert "31 of width 768" in printed
    assert "not for clinical diagnosis" in printed


def released_files(folder, width=4):
    """A CAM.pkl, a Report_Memory.pkl and a Stage1ckpt.pth with queries."""
    folder.mkdir(exist_ok=True)
    write(folder / "CAM.pkl", features(counts(4, Edema=510), width))
    write(folder / "Report_Memory.pkl", features(counts(500), width))
    tokens = torch.arange(14.0 * width).view(1, 14, width)
    state = {"norm.weight": torch.ones(3), "disease_tokens": tokens}
    torch.save({"model": state, "epoch": 3}, folder / "Stage1ckpt.pth")
    return folder


def test_recovered_banks_say_so(tmp_path):
    folder = released_files(tmp_path / "released")
    cam, reports = folder / "CAM.pkl", folder / "Report_Memory.pkl"
    expected = drawn_as_released(read_released_bank(cam, 4), read_released_bank(reports, 4))
    for kind, file, options, vectors in (
        ("visual-bank", cam, {}, expected[0]),
        ("report-bank", reports, {"visual_bank": cam}, expected[1]),
    ):
        out = tmp_path / kind
        printed = import_bank(file, kind, out, recover=True, width=4, **options)
        assert np.array_equal(MemoryBank.load(out, kind).patterns, vectors)
        assert "recovered, unverified" in printed
        assert "recovered, unverified" in (out / "MODEL_CARD.md").read_text()
        settings = Part.read(out, kind).settings
        assert (settings["chosen"], settings["seed"]) == ("recovered, unverified", 42)


def test_the_queries_of_stage_1_are_the_first_rows(tmp_path):
    folder = released_files(tmp_path / "released")
    cam, checkpoint = folder / "CAM.pkl", folder / "Stage1ckpt.pth"
    import_bank(cam, "visual-bank", tmp_path / "bank", recover=True, stage_1=checkpoint, width=4)
    bank = MemoryBank.load(tmp_path / "bank", "visual-bank")
    assert bank.patterns.shape == (14 + 13 * 4 + 500, 4)
    assert torch.equal(bank.patterns[:14], torch.arange(14.0 * 4).view(14, 4))
    assert [row["observation"] for row in bank.rows[:14]] == list(CHEXBERT)
    assert not any("number" in row or "study" in row for row in bank.rows[:14])
    assert "none stands for its observation alone" in (tmp_path / "bank" / "MODEL_CARD.md").read_text()


def test_training_with_a_released_bank_warns(tmp_path, store, capsys):
    folder = released_files(tmp_path / "released")
    import_bank(folder / "CAM.pkl", "visual-bank", tmp_path / "bank", width=4)
    config = get_recipe("am-mrg/iu-xray/visual").build()
    config.system.visual_bank = str(tmp_path / "bank")
    config.system.query_former = "blip2-fresh"
    check_origin(config, PreparedStore(store))
    assert "nothing says which studies it was made from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("report-bank", {"recover": True}, "CAM.pkl is needed: the released code draws from it first"),
        ("visual-bank", {"visual_bank": "CAM.pkl"}, "--visual_bank is for a report bank"),
        ("report-bank", {"visual_bank": "CAM.pkl"}, "of use with --recover alone"),
        ("report-bank", {"stage_1": "Stage1ckpt.pth"}, "--stage_1 is for a visual bank"),
        ("visual-bank", {"stage_1": "CAM.pkl"}, "could not be read as a checkpoint"),
        ("visual-bank", {"stage_1": "other.pth"}, "has no queries of stage 1: nothing is called disease_tok"),
        ("visual-bank", {"stage_1": "wide.pth"}, r"they are \(1, 14, 8\), not \(1, 14, 4\)"),
        ("visual-bank", {"width": 768}, r"of shape \(4, 4\), and not numbers \[rows, 768\]"),
    ],
    ids=["first", "kind", "recover", "queries", "pickle", "none", "width", "bank"],
)
def test_what_cannot_be_imported_leaves_nothing(tmp_path, kind, options, message):
    folder = released_files(tmp_path / "released")
    torch.save({"model": {"norm.weight": torch.ones(3)}}, folder / "other.pth")
    torch.save({"model": {"disease_tokens": torch.ones(1, 14, 8)}}, folder / "wide.pth")
    given = {name: folder / value if isinstance(value, str) else value for name, value in options.items()}
    file = folder / {"visual-bank": "CAM.pkl", "report-bank": "Report_Memory.pkl"}[kind]
    with pytest.raises(RadScribeError, match=message):
        import_bank(file, kind, tmp_path / "bank", **{"width": 4} | given)
    assert not (tmp_path / "bank").exists()

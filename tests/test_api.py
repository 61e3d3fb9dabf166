"""The interface for Python: what is exported, what can be drafted, and the notebook of the documentation."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config

import radscribe
from radscribe.errors import RadScribeError
from radscribe.studies.given import given_studies
from radscribe.studies.images import original_view, read_image

pytestmark = pytest.mark.usefixtures("without_java")

NOTEBOOK = Path(__file__).parents[1] / "docs/notebook.md"


@pytest.fixture(scope="module")
def trained(finished_run):
    return radscribe.load(finished_run, device="cpu")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two image files in `images`, from the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name, mode in (("a", "L"), ("b", "RGB")):
        Image.radial_gradient("L").rotate(20 * ord(name)).convert(mode).save(f"images/{name}.png")
    return [Path("images/a.png"), Path("images/b.png")]


def test_every_name_is_there():
    for name in radscribe.__all__:
        assert getattr(radscribe, name) is not None
    assert {"prepare", "train", "load", "generate", "evaluate", "explain"} <= set(radscribe.__all__)
    assert {"PreparedStore", "Study", "View"} <= set(radscribe.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'draft'"):
        _ = radscribe.draft


@pytest.mark.slow
def test_names_stay_what_they_are_once_everything_is_imported():
    """No package of ours takes the place of an exported name."""
    code = (
        "import pkgutil, importlib, radscribe\n"
        "for module in pkgutil.walk_packages(radscribe.__path__, 'radscribe.'):\n"
        "    importlib.import_module(module.name)\n"
        "print([name for name in radscribe.__all__ if type(getattr(radscribe, name)).__name__ == 'module'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


class TestGiven:
    @pytest.mark.slow
    def test_one_file_in_every_form_gives_one_draft(self, trained, files):
        forms = [
            files[0],
            str(files[0]),
            radscribe.View(files[0]),
            radscribe.Study("mine", "mine", (radscribe.View("images/a.png", "frontal"),)),
            (files[0],),
            [[files[0]]],
            Image.open(files[0]),
            np.asarray(Image.open(files[0])),
            np.asarray(Image.open(files[0]).convert("RGB")),
            iter([files[0]]),
        ]
        drafts = [draft for form in forms for draft in trained.generate(form)]
        assert len(drafts) == len(forms)
        assert {(draft.text, draft.logprob) for draft in drafts} == {(drafts[0].text, drafts[0].logprob)}
        ids = [draft.id for draft in drafts]
        assert ids == [*["images/a"] * 3, "mine", *["images/a"] * 2, *["study-1"] * 3, "images/a"]

    def test_a_mix_in_order(self, trained, files, store):
        study = radscribe.PreparedStore(store).studies("test")[0]
        picture = Image.open(files[1])
        given = [study, files[1], (picture, files[0]), picture, np.asarray(picture)]
        drafts = list(trained.generate(given))
        assert [draft.id for draft in drafts] == [study.id, "images/b", "images/a", "study-4", "study-5"]
        assert drafts[1].text == drafts[3].text == drafts[4].text
        within = [draft.id for draft in trained.generate([study, "images"])]
        assert within == [study.id, "images/a", "images/b"]

    def test_a_tuple_is_one_study_and_a_list_is_many(self, trained, files):
        (together,) = trained.generate(tuple(files))
        assert together.images == tuple(map(str, files))
        assert [draft.id for draft in trained.generate(files)] == ["images/a", "images/b"]
        (explanation,) = trained.explain(tuple(files))
        assert len(explanation.views) == 2

    def test_a_folder_and_a_store(self, trained, files, store):
        assert [draft.id for draft in trained.generate("images")] == ["a", "b"]
        assert len(list(trained.generate(store, batch_size=8, maximum_length=3))) == 40
        (streamed,) = {draft.id for draft in trained.stream(files[0])}
        assert streamed == "images/a"

    def test_an_id_that_is_given_twice_is_rejected(self, files):
        rejected = []
        studies = list(given_studies([files[0], str(files[0])], rejected.append))
        assert [study.id for study in studies] == ["images/a"]
        assert [(rejection.study_id, rejection.kind) for rejection in rejected] == [
            ("images/a", "duplicate id")
        ]

    @pytest.mark.parametrize("wrong", [None, 3, b"images/a.png", {"image": "images/a.png"}, [[3]]])
    def test_what_is_no_study(self, trained, wrong):
        with pytest.raises(RadScribeError, match="Give studies, paths, PIL images, arrays"):
            list(trained.generate(wrong))

    @pytest.mark.parametrize(
        "array",
        [np.zeros((2, 3, 4, 5)), np.zeros((0, 3), np.uint8), np.array([["a"]]), np.zeros((4, 4), complex)],
        ids=["four dimensions", "empty", "text", "complex"],
    )
    def test_what_is_no_picture_costs_itself(self, trained, files, array):
        with pytest.raises(RadScribeError, match="is no picture"):
            list(trained.generate([array]))
        rejected = []
        drafts = list(trained.generate([array, files[0]], on_rejection=rejected.append))
        assert [draft.id for draft in drafts] == ["images/a"]
        assert rejected[0].study_id == "study-1"

    def test_a_deep_array_is_windowed_as_its_file_is(self, files):
        deep = (np.linspace(0, 4095, 64 * 48).reshape(64, 48)).astype(np.uint16)
        Image.fromarray(deep).save("deep.png")
        (study,) = given_studies(deep)
        np.testing.assert_array_equal(original_view(study.views[0]).pixels, read_image("deep.png"))


class TestFunctions:
    @pytest.mark.slow
    def test_train_generate_explain_evaluate(self, store, files, tmp_path):
        config = tiny_config(store, epochs=1)
        sections = {
            "data": {"minimum_count": 1, "transform": {"short_side": 64, "crop": 56}},
            "system": {
                **{
                    name: getattr(config.system, name) for name in ("width", "feed_forward", "heads", "top_k")
                },
                "backbone": {"architecture": "test_byobnet"},
            },
            "training": {"epochs": 1, "threads": 1, "device": "cpu"},
            "decoding": {"maximum_length": 10},
        }
        run = radscribe.train(
            "r2gen-cmn/phantom", store=store, out=tmp_path / "run", progress=False, **sections
        )
        assert run.read_facts()["finished"]
        (draft,) = radscribe.generate(run.path, files[0])
        (explanation,) = radscribe.explain(run.path, files[0])
        assert explanation.draft.text == draft.text
        evaluation = radscribe.evaluate(run.path, meteor=False, resamples=10, progress=False)
        assert evaluation.rows["system"].scores["BLEU-1"].value > 0

    def test_what_is_wrong_is_said(self, store, tmp_path):
        with pytest.raises(RadScribeError, match="unknown recipe 'r2gen-cmn/fantom'"):
            radscribe.train("r2gen-cmn/fantom", store=store, out=tmp_path / "run")
        with pytest.raises(RadScribeError, match="no field 'training.epoch'"):
            radscribe.train("r2gen-cmn/phantom", store=store, out=tmp_path / "run", training={"epoch": 1})


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    """The blocks of the documentation's notebook, from top to bottom, in an empty folder."""
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", NOTEBOOK.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    for block in blocks:
        exec(compile(block, str(NOTEBOOK), "exec"), names)
    assert Path("word.png").stat().st_size > 0
    assert "nearest neighbour" in capsys.readouterr().out

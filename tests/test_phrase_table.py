"""The phrase table: both forms by hand and on real reports, what is read and refused, and the commands."""

import csv
import itertools
import json
import resource
import shutil
from collections import Counter
from dataclasses import replace
from math import log2
from pathlib import Path

import pytest

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.part import content_hash
from radscribe.parts.phrase_table import POLARITIES, Phrase, PhraseList, PhraseTable, polarities
from radscribe.pretraining import phrase_table
from radscribe.pretraining.phrase_candidates import candidates, occurrences, sentences
from radscribe.pretraining.phrase_table import count_phrases
from radscribe.pretraining.settings import PhraseTableSettings
from radscribe.studies import store_files
from radscribe.studies.store import PreparedStore
from radscribe.text.cleaning import clean_iu_xray
from radscribe.text.observation_labeller import label_report
from radscribe.text.stop_words import stop_words

NO_FINDING = ("No Finding", "negative")
FILES = {"phrases.json", "phrases.csv", "part.json", "pretraining.json", "MODEL_CARD.md"}


def settings(**options):
    return PhraseTableSettings(**{"minimum_count": 3, "top": 0} | options).settled()


_NUMBERS = itertools.count()


def ending() -> str:
    """A word that stands nowhere else."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{next(_NUMBERS):05}")


def report(*phrases: str):
    """A report with a sentence for each phrase, and a last word that is cut off as it stands nowhere else."""
    return [(*phrase.split(), ending()) for phrase in phrases]


#: Further reports, of nothing, by which words that stand together do so more often than by chance.
OTHERS = [(report("stable old scar"), {}) for _ in range(20)]


def scores(table, observation, polarity):
    found = table.lists.get((observation, polarity))
    return {phrase.phrase: phrase.pmi for phrase in found.phrases} if found else {}


# --- candidates --------------------------------------------------------------------------------------------


def test_sentences_end_at_full_stops():
    assert sentences("heart is big .  . lungs clear .") == [("heart", "is", "big"), ("lungs", "clear")]


def found(*phrases: str, minimum_count=3):
    """The candidates among phrases, each in four sentences, and in others that keep its words together."""
    reports = [report(*phrases) for _ in range(4)] + [words for words, _ in OTHERS]
    every = candidates(reports, minimum_count)
    return {" ".join(words): count for words, count in every.items() if words != ("stable", "old", "scar")}


def test_a_segment_is_what_occurs_together():
    assert found("big heart", "effusion") == {"big heart": 4, "effusion": 4}


def test_the_last_segment_of_a_sentence_does_not_count():
    assert found("big heart", "effusion").keys() == {"big heart", "effusion"}
    reports = [[("big", "heart"), ("effusion",)]] * 4 + [words for words, _ in OTHERS]
    assert candidates(reports, 3).keys() == {("stable", "old", "scar")}


def test_segments_have_four_words_at_most():
    assert found("one two three four") == {"one two three four": 4}
    assert found("one two three four five") == {}


def test_stop_words_are_stripped_at_both_ends():
    assert found("the big heart of", "big heart") == {"big heart": 8}
    # What is left must be a segment itself.
    assert found("the big heart") == {}
    assert found("xx big heart", "big heart") == {"big heart": 8}
    assert found("no", "and of") == {}


@pytest.mark.parametrize("phrase", ["size of the heart", "t6 heart", "heart - lung", "12"])
def test_what_tells_nothing_is_no_candidate(phrase):
    """Half of it are stop words, or it has a digit or a word without a letter."""
    assert found(phrase) == {}


def test_neighbours_that_meet_by_chance_are_cut():
    """In 50 sentences 'a' and 'b' are neighbours 10 times, which is what chance gives."""
    apart = [("left", f"right{'x' * number}") for number in range(25)]
    reports = [[("left", "lung", *pair)] for pair in apart] + [[("left", "heart", *pair)] for pair in apart]
    assert candidates(reports, 0) == {("left",): 100} | {(word,): 25 for word in ("heart", "lung")}


def test_the_count_must_be_exceeded():
    assert found("big heart", minimum_count=4) == {}
    assert found("big heart", minimum_count=3) == {"big heart": 4}


def test_occurrences_overlap():
    phrases = {("big",), ("big", "heart"), ("heart",)}
    assert Counter(occurrences(("big", "heart", "big"), phrases)) == {
        ("big",): 2,
        ("big", "heart"): 1,
        ("heart",): 1,
    }


def test_the_stop_words_are_those_of_nltk():
    assert len(stop_words()) == 179
    assert {"i", "the", "no", "shouldn't", "wouldn"} <= stop_words()
    assert not {"left", "normal", "also", "without"} & stop_words()


# --- the two forms by hand ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents():
    """Four reports with Cardiomegaly and a big heart, and four with neither; one of each has both phrases."""
    big, clear = "big heart", "clear lungs"
    reports = [
        report(big, big, clear),
        report(big),
        report(big),
        report(big),
        report(clear, clear, clear, big),
        report(clear),
        report(clear),
        report(clear),
    ]
    return [
        (sentences, {"Cardiomegaly": "positive" if number < 4 else "negative"})
        for number, sentences in enumerate(reports)
    ]


def test_the_form_of_the_paper(documents):
    """Eq. 6: of 8 reports 4 have the observation, 5 the phrase, and 4 both; in the second list 4, 5 and 4."""
    table = count_phrases(documents, settings())
    pmi = pytest.approx(log2((4 / 8) / ((4 / 8) * (5 / 8))), abs=1e-6)
    assert scores(table, "Cardiomegaly", "positive") == {"big heart": pmi}
    assert scores(table, "Cardiomegaly", "negative") == {"clear lungs": pmi}
    assert table.lists.keys() == {("Cardiomegaly", polarity) for polarity in POLARITIES}
    assert table.lists["Cardiomegaly", "positive"] == PhraseList(4, (Phrase("big heart", 0.678072, 4, 5),))
    assert table.counted == "reports"


def test_the_form_of_table_5(documents):
    """Of 6 + 7 occurrences, those with the observation have 5 + 1, and those with its absence 1 + 6."""
    table = count_phrases(documents, settings(form="table5"))
    big = pytest.approx(log2((5 / 6) / ((6 / 13) * (4 / 8))), abs=1e-6)
    clear = pytest.approx(log2((6 / 7) / ((7 / 13) * (4 / 8))), abs=1e-6)
    assert scores(table, "Cardiomegaly", "positive") == {"big heart": big}
    assert scores(table, "Cardiomegaly", "negative") == {"clear lungs": clear}
    assert table.lists["Cardiomegaly", "positive"].phrases == (Phrase("big heart", 1.852443, 5, 6),)
    assert table.counted == "occurrences"


def test_a_pmi_of_zero_is_kept(documents):
    """A phrase of all reports is as frequent with the observation as without."""
    everywhere = [([*sentences, *report("chest")], of_report) for sentences, of_report in documents]
    assert scores(count_phrases(everywhere, settings()), "Cardiomegaly", "negative")["chest"] == 0


def test_of_equal_pmi_more_words_stand_first_then_longer_then_by_name():
    phrases = ("lung", "thorax", "apex", "big heart")
    documents = [(report(*phrases), {"Edema": "positive"}) for _ in range(4)] + OTHERS
    table = count_phrases(documents, settings())
    assert table.phrases("Edema", "positive") == ("big heart", "thorax", "apex", "lung")
    top = count_phrases(documents, settings(top=2))
    assert top.phrases("Edema", "positive") == ("big heart", "thorax")


def test_positive_observations_alone(documents):
    table = count_phrases(documents, settings(polarity="positive"))
    assert table.lists.keys() == {("Cardiomegaly", "positive")}


@pytest.mark.parametrize(("form", "kept"), [("paper", False), ("table5", True)])
def test_what_was_removed_from_reports_is_no_phrase_of_the_paper(form, kept):
    documents = [(report("seen xxxx", "heart"), {"Edema": "positive"}) for _ in range(4)] + OTHERS
    table = count_phrases(documents, settings(form=form))
    assert ("seen xxxx" in table.phrases("Edema", "positive")) == kept
    assert "heart" in table.phrases("Edema", "positive")


def test_each_form_has_its_own_numbers():
    paper, table5 = (PhraseTableSettings(form=form).settled() for form in ("paper", "table5"))
    assert (paper.minimum_count, paper.top) == (20, 30)
    assert (table5.minimum_count, table5.top) == (150, 0)
    assert PhraseTableSettings(form="table5", top=30, minimum_count=0).settled().minimum_count == 0


# --- real reports ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iu_xray(shared):
    """Cleaned report, and polarities by our labeller, of each training study of IU X-Ray."""
    entries = json.loads((shared / "data/iu_xray/annotation.json").read_text())["train"]
    return [
        (clean_iu_xray(entry["report"]), polarities(label_report(entry["report"]).states))
        for entry in entries
    ]


def by_words(table, without=()):
    listed = [p.phrase for key, found in table.lists.items() if key not in without for p in found.phrases]
    return dict(Counter(len(phrase.split()) for phrase in listed))


def about(**counts):
    """Within 3%: the candidates do not depend on the labeller, but which list has them does."""
    return pytest.approx({int(words[1:]): count for words, count in counts.items()}, rel=0.03, abs=2)


def test_table_5_of_iu_xray(iu_xray):
    """Table 5 of the paper has 1183/238/64, counted with CheXbert's labels."""
    documents = [(sentences(text), of_report) for text, of_report in iu_xray]
    table = count_phrases(documents, PhraseTableSettings(form="table5").settled())
    assert by_words(table) == about(n1=1200, n2=241, n3=63)
    assert by_words(table, [NO_FINDING]) == about(n1=1152, n2=231, n3=61)
    assert len(table.distinct) == 61
    assert len(table.lists) == 27
    assert table.phrases("Pleural Other", "negative") == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("minimum_count", "expected"),
    [
        (20, about(n1=1699, n2=551, n3=170, n4=4)),
        (50, about(n1=1152, n2=243, n3=77)),
        (150, about(n1=618, n2=127, n3=29)),
    ],
)
def test_eq_6_on_iu_xray(iu_xray, minimum_count, expected):
    """The numbers were counted before `xxxx` is dropped, and without No Finding that is not mentioned."""
    documents = [(sentences(text.replace("xxxx", "qqqq")), of_report) for text, of_report in iu_xray]
    table = count_phrases(documents, settings(minimum_count=minimum_count))
    assert by_words(table, [NO_FINDING]) == expected
    assert len(table.lists) == 27


def test_phrases_of_iu_xray_tell_a_reader_something(iu_xray):
    documents = [(sentences(text), of_report) for text, of_report in iu_xray]
    table = count_phrases(documents, PhraseTableSettings().settled())
    cardiomegaly = set(table.phrases("Cardiomegaly", "positive")[:10])
    assert {"cardiomegaly", "mild cardiomegaly", "enlarged"} <= cardiomegaly
    assert {"atelectasis", "bibasilar"} <= set(table.phrases("Atelectasis", "positive")[:10])
    assert "small" in table.phrases("Pleural Effusion", "positive")[:3]
    assert "normal" in table.phrases("Cardiomegaly", "negative")[:10]
    assert max(len(found.phrases) for found in table.lists.values()) == 30


# --- use ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    def listed(*phrases):
        return PhraseList(1, tuple(Phrase(phrase, 1.0, 1, 1) for phrase in phrases))

    lists = {
        ("No Finding", "positive"): listed("clear"),
        ("No Finding", "negative"): listed("changes"),
        ("Cardiomegaly", "positive"): listed("enlarged", "big heart"),
        ("Cardiomegaly", "negative"): listed("normal"),
        ("Edema", "positive"): listed("edema", "enlarged"),
    }
    return PhraseTable("reports", lists)


def test_phrases_of_an_observation(table):
    assert table.phrases("Cardiomegaly", "positive") == ("enlarged", "big heart")
    assert table.phrases("Edema", "negative") == ()
    assert table.phrases("Fracture", "positive") == ()
    assert table.distinct == ("big heart", "changes", "clear", "edema", "enlarged", "normal")


def test_phrases_of_a_study_stand_once_and_in_order(table):
    states = {"Edema": "uncertain", "Cardiomegaly": "present", "No Finding": "not_mentioned"}
    assert table.of_states(states) == ("changes", "enlarged", "big heart", "edema")
    assert table.of_states({"Cardiomegaly": "absent", "Fracture": "present"}) == ("changes", "normal")


def test_what_is_not_mentioned_has_no_phrases(table):
    assert table.of_states({}) == ()
    assert table.of_states(dict.fromkeys(OBSERVATIONS, "not_mentioned")) == ()
    assert table.of_states({"Pleural Other": "absent"}) == ()
    assert table.of_states({"No Finding": "present"}) == ("clear",)


def test_no_finding_is_negative_beside_a_finding():
    assert polarities({"Edema": "uncertain"}) == {"No Finding": "negative", "Edema": "positive"}
    assert polarities({"Support Devices": "present"}) == {"Support Devices": "positive"}
    assert polarities({"Edema": "absent", "No Finding": "present"}) == {
        "No Finding": "positive",
        "Edema": "negative",
    }
    # In a labelled report it is always one or the other.
    for text in ("The heart is enlarged.", "The lungs are clear.", "A pacemaker is seen.", "Possible edema."):
        assert "No Finding" in polarities(label_report(text).states)


def test_unknown_names_are_refused(table):
    with pytest.raises(RadScribeError, match="unknown observation 'edema'. Did you mean 'Edema'"):
        table.phrases("edema", "positive")
    with pytest.raises(RadScribeError, match="unknown polarity 'present'"):
        table.phrases("Edema", "present")
    with pytest.raises(RadScribeError, match="unknown observation 'Oedema'"):
        table.of_states({"Oedema": "present"})


# --- how alike studies are ---------------------------------------------------------------------------------


def test_likeness_by_hand():
    measured = phrase_table._likeness([("a", "b"), ("b", "c"), (), ()], seed=0)
    # Of the six pairs, one shares one of three phrases, and the two empty sets are the same.
    assert measured == {
        "mean_phrases": 1.0,
        "without_phrases": 2,
        "compared": 4,
        "mean_jaccard": pytest.approx((1 / 3 + 1) / 6),
    }
    assert phrase_table._likeness([("a",)], seed=0)["mean_jaccard"] is None


def test_many_studies_are_sampled_by_the_seed():
    sets = [("a", "b"), ("a",)] * 2000
    first, again, other = (phrase_table._likeness(sets, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first["compared"] == 3000
    assert first["mean_phrases"] == 1.5
    assert first["mean_jaccard"] == pytest.approx(0.75, abs=0.01)


# --- the part ----------------------------------------------------------------------------------------------


def make(store: Path, out: Path, **options) -> str:
    chosen = PhraseTableSettings(**{"minimum_count": 1} | options)
    return phrase_table.make(PreparedStore(store), out, chosen, progress=False)


@pytest.fixture(scope="module")
def part(store, tmp_path_factory) -> Path:
    """The phrase table of the phantom. A test that changes it works on a copy."""
    out = tmp_path_factory.mktemp("parts") / "phrases"
    make(store, out)
    return out


@pytest.fixture
def copy(part, tmp_path) -> Path:
    return shutil.copytree(part, tmp_path / "part")


def test_the_part_is_complete_and_says_what_it_is_for(part, store):
    assert {path.name for path in part.iterdir()} == FILES
    loaded = PhraseTable.load(part)
    described, facts = (json.loads((part / name).read_text()) for name in ("part.json", "pretraining.json"))
    assert loaded.content_hash == described["content_hash"] == content_hash("phrases", described["files"])
    assert described["split"] == "train"
    assert described["store_content_hash"] == PreparedStore(store).manifest["content_hash"]
    assert described["settings"]["minimum_count"] == 1
    assert described["settings"]["top"] == 30
    assert facts["reports"] == {"read": 28, "unreadable": 0, "without_section": 0}
    assert facts["lists"] == len(loaded.lists)
    assert facts["phrases"] == sum(facts["phrases_by_words"].values())
    assert facts["distinct_phrases"] == len(loaded.distinct) > 3
    assert facts["finished"]
    card = (part / "MODEL_CARD.md").read_text()
    assert "research use, not for clinical diagnosis" in card
    assert "mean Jaccard index of all pairs of 28 studies" in card


def test_csv_and_json_say_the_same(part):
    with (part / "phrases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    loaded = PhraseTable.load(part)
    assert len(rows) == sum(len(found.phrases) for found in loaded.lists.values())
    for row in rows:
        phrase = loaded.lists[row["observation"], row["polarity"]].phrases[int(row["rank"]) - 1]
        assert phrase == Phrase(
            row["phrase"], float(row["pmi"]), int(row["count_with_observation"]), int(row["count"])
        )


def test_the_phrases_of_the_phantom_fit_its_reports(part, store):
    """PMI counted anew for every phrase of the part, from the sentences of the reports."""
    studies = PreparedStore(store).studies("train")
    reports = [sentences(clean_iu_xray(study.sections["findings"])) for study in studies]
    states = [polarities(label_report(study.sections["findings"]).states) for study in studies]
    for (observation, polarity), listed in PhraseTable.load(part).lists.items():
        having = [of_study.get(observation) == polarity for of_study in states]
        assert listed.reports == sum(having)
        for phrase in listed.phrases:
            text = f" {phrase.phrase} "
            has = [any(text in f" {' '.join(words)} " for words in report) for report in reports]
            both = sum(a and b for a, b in zip(having, has, strict=True))
            assert (phrase.count_with_observation, phrase.count) == (both, sum(has))
            expected = log2(both * len(reports) / (sum(having) * sum(has)))
            assert phrase.pmi == pytest.approx(expected, abs=1e-6)
        assert [p.pmi for p in listed.phrases] == sorted((p.pmi for p in listed.phrases), reverse=True)


def with_reports(store: Path, out: Path, splits: set[str], text: str, most: int = 1000) -> Path:
    """A copy of a store in which the findings of some splits, of so many studies, have another text."""
    shutil.copytree(store, out)
    records = [json.loads(line) for line in (out / store_files.STUDIES).read_text().splitlines()]
    for record in [record for record in records if record["split"] in splits][:most]:
        record["sections"]["findings"] = text
    (out / store_files.STUDIES).write_text("".join(json.dumps(record) + "\n" for record in records))
    manifest = json.loads((out / store_files.MANIFEST).read_text())
    manifest["content_hash"] = store_files.content_hash(out)
    (out / store_files.MANIFEST).write_text(json.dumps(manifest))
    return out


def test_only_the_train_split_is_read(store, part, tmp_path):
    text = "The heart is enlarged today. There is a large pleural effusion today."
    others = with_reports(store, tmp_path / "others", {"val", "test"}, text)
    make(others, tmp_path / "part")
    assert (tmp_path / "part/phrases.json").read_bytes() == (part / "phrases.json").read_bytes()
    assert PhraseTable.load(tmp_path / "part").content_hash == PhraseTable.load(part).content_hash
    changed = with_reports(store, tmp_path / "changed", {"train"}, text, most=1)
    make(changed, tmp_path / "another")
    assert (tmp_path / "another/phrases.json").read_bytes() != (part / "phrases.json").read_bytes()


def test_reports_that_the_labeller_cannot_read_are_left_out(store, tmp_path, capsys):
    text = "Das Herz ist nicht vergrößert, kein Erguss beiderseits."
    one = with_reports(store, tmp_path / "one", {"train"}, text, most=1)
    assert "27 of the train split; left out: 1 unreadable" in make(one, tmp_path / "part")
    assert "1 of 28 reports are unreadable to the labeller" in capsys.readouterr().err
    every = with_reports(store, tmp_path / "every", {"train"}, text)
    with pytest.raises(RadScribeError, match="cannot read any of the 28 reports"):
        make(every, tmp_path / "another")
    assert not (tmp_path / "another").exists()


def test_a_full_disk_leaves_nothing(store, tmp_path):
    """A limit on the size of files stands for a full disk: phrases.json does not fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(RadScribeError, match="give the same command again"):
            make(store, tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "part").exists()
    make(store, tmp_path / "part")


@pytest.mark.parametrize("name", ["phrases.json", "phrases.csv"])
def test_a_changed_file_is_refused(copy, name):
    (copy / name).write_text((copy / name).read_text().replace("mild", "wild"))
    with pytest.raises(RadScribeError, match=f"{name}' is not the file that was written"):
        PhraseTable.load(copy)


@pytest.mark.parametrize("name", ["phrases.json", "phrases.csv", "part.json"])
def test_a_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(RadScribeError, match=f"{name}.*radscribe pretrain phrases STORE --out DIR"):
        PhraseTable.load(copy)


def test_a_part_of_another_kind_is_refused(copy):
    text = (copy / "part.json").read_text()
    (copy / "part.json").write_text(text.replace('"kind": "phrases"', '"kind": "view-classifier"'))
    with pytest.raises(RadScribeError, match="is of kind view-classifier, not phrases"):
        PhraseTable.load(copy)


# --- the commands ------------------------------------------------------------------------------------------


def test_pretrain_phrases_prints_what_it_found(store, tmp_path, capsys):
    main(
        f"pretrain phrases {store} --out {tmp_path / 'part'} --form table5 --minimum_count 1 --top 5 "
        "--polarity positive --no_progress".split()
    )
    printed = capsys.readouterr().out
    assert "form table5" in printed
    assert "28 of the train split" in printed
    assert "of 14 (an observation and a polarity each)" in printed
    assert "phrases on average" in printed
    assert "mean Jaccard index of all pairs of 28 studies" in printed
    assert "research use, not for clinical diagnosis" in printed
    loaded = PhraseTable.load(tmp_path / "part")
    assert {polarity for _, polarity in loaded.lists} == {"positive"}
    assert max(len(found.phrases) for found in loaded.lists.values()) == 5


def test_phrases_are_shown(part, capsys):
    loaded = PhraseTable.load(part)
    main(["phrases", str(part)])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == sum(1 + len(found.phrases) for found in loaded.lists.values())
    main(["phrases", str(part), "--observation", "Cardiomegaly", "--polarity", "positive"])
    first, *rest = capsys.readouterr().out.splitlines()
    found = loaded.lists["Cardiomegaly", "positive"]
    assert first == f"Cardiomegaly, positive, {found.reports} reports:"
    for phrase, line in zip(found.phrases, rest, strict=True):
        pmi, *words, count_with, _, count = line.split()
        shown_phrase = Phrase(" ".join(words), float(pmi), int(count_with), int(count))
        assert shown_phrase == replace(phrase, pmi=round(phrase.pmi, 3))


def test_phrases_are_shown_as_json(part, capsys):
    main(["phrases", str(part), "--json"])
    assert json.loads(capsys.readouterr().out) == json.loads((part / "phrases.json").read_text())
    main(["phrases", str(part), "--json", "--observation", "Pleural Other", "--polarity", "negative"])
    values = json.loads(capsys.readouterr().out)["observations"]
    assert values == {"Pleural Other": {"negative": {"reports": 0, "phrases": []}}}


def test_an_observation_without_phrases_is_said(part, capsys):
    main(["phrases", str(part), "--observation", "Pleural Other", "--polarity", "negative"])
    assert capsys.readouterr().out == "Pleural Other, negative: no phrases\n"

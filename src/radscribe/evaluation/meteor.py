"""METEOR 1.5 as in published tables, computed by the jar file that `pycocoevalcap` contains.

The jar runs once per scoring. It aligns the texts and writes statistics of each study; the corpus score is
METEOR's formula on their sums, so METEOR has bootstrap intervals like every other metric. Without Java or the
package there is no METEOR: other implementations, such as NLTK's, give other numbers under the same name.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from radscribe.evaluation.metrics import Scores, StudyStatistics

_COLUMNS = 23
# Parameters of METEOR 1.5 for English (`-l en`, ranking task): exact, stem, synonym, paraphrase matches.
_MODULE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_SECONDS_TO_START, _SECONDS_PER_STUDY = 300.0, 0.2


class MeteorUnavailableError(Exception):
    """METEOR cannot be computed on this machine; the message is the reason to print."""


def meteor_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> StudyStatistics:
    """METEOR (`-l en -norm`) of drafts against one reference each, computed in one Java process.

    Texts are passed in files, not pipes, and the process has a time limit, so it cannot wait for ever.

    Args:
        hypotheses: Drafts, one for each study.
        references: Reference reports, in the same order.

    Raises:
        MeteorUnavailableError: Java or `pycocoevalcap` is missing, or the jar failed.
    """
    java = shutil.which("java")
    if java is None:
        raise MeteorUnavailableError("Java is not installed")
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        raise MeteorUnavailableError("pycocoevalcap is not installed (pip install 'radscribe[meteor]')")
    jar = Path(package.submodule_search_locations[0]) / "meteor" / "meteor-1.5.jar"
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, texts in (("hypotheses", hypotheses), ("references", references)):
            file = Path(folder) / name
            file.write_text(
                "".join(" ".join(text.split()) + "\n" for text in texts), encoding="utf-8", errors="replace"
            )
            files.append(str(file))
        # The jar reads its files in Java's default encoding, which is not UTF-8 in every locale.
        command = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", str(jar), *files, "-l", "en", "-norm"]
        limit = _SECONDS_TO_START + _SECONDS_PER_STUDY * len(references)
        try:
            done = subprocess.run([*command, "-ssOut"], capture_output=True, timeout=limit, cwd=folder)
        except subprocess.TimeoutExpired as error:
            raise MeteorUnavailableError(f"the METEOR process did not end within {limit:.0f} s") from error
        except OSError as error:
            raise MeteorUnavailableError(f"Java did not start: {error.strerror}") from error
    values = done.stdout.split()
    if done.returncode or len(values) != _COLUMNS * len(references):
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise MeteorUnavailableError(
            f"the METEOR process failed: {reason[0] if reason else 'incomplete output'}"
        )
    columns = np.array(values, dtype=np.float64).reshape(-1, _COLUMNS)
    # The jar counts 0 chunks, not 1, for a draft that repeats its reference: it gets no penalty.
    matches = columns[:, 4:20].reshape(-1, 8, 2).sum(axis=1)
    columns[(matches == columns[:, 0:2]).all(axis=1) & (columns[:, 20] == 1), 20] = 0
    return StudyStatistics(columns, _meteor_scores)


def _meteor_scores(sums: np.ndarray) -> Scores:
    """The METEOR 1.5 score of summed statistics [..., 23]; their columns are in the order of the jar."""
    lengths, function_words = sums[..., 0:2], sums[..., 2:4]
    # Each of four modules has: content words of draft and reference, function words of draft and reference.
    stages = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)
    content, function = np.moveaxis(np.einsum("...mkt,m->...kt", stages, _MODULE_WEIGHTS), -2, 0)
    weighted_matches = _DELTA * content + (1 - _DELTA) * function
    weighted_lengths = _DELTA * (lengths - function_words) + (1 - _DELTA) * function_words
    chunks, matched_words = sums[..., 20], sums[..., 21:23]

    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(weighted_matches / weighted_lengths, -1, 0)
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragmentation = chunks / (matched_words.sum(axis=-1) / 2)
        penalty = _GAMMA * fragmentation**_BETA
        score = np.maximum(mean * (1 - penalty), 0.0)
    return {"METEOR": np.where(np.isnan(score), 0.0, score)}

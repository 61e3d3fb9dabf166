"""Bad inputs to every command: each ends in time, with its exit code and one line that says what to do."""

import io
import shlex
import shutil
import signal
import sys

import pytest
from bad_inputs import auditing, command_line, drafting, observing, pixels, preparing, scoring, training
from bad_inputs.rows import Row, Workshop

from radscribe.cli import main

pytestmark = pytest.mark.usefixtures("without_java")

ROWS: list[Row] = [
    *command_line.ROWS,
    *preparing.ROWS,
    *auditing.ROWS,
    *pixels.ROWS,
    *training.ROWS,
    *drafting.ROWS,
    *observing.ROWS,
    *scoring.ROWS,
]
#: A command that takes longer on so little data hangs.
SECONDS = 120


@pytest.fixture(scope="session")
def run(finished_run, tmp_path_factory):
    return shutil.copytree(finished_run, tmp_path_factory.mktemp("bad_inputs") / "run")


@pytest.fixture
def workshop(tmp_path, store, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path, store, run)


@pytest.fixture
def in_time():
    """Fail a test that hangs, where the alarm can interrupt it."""

    def stop(*_):
        pytest.fail(f"hangs: it is not done after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_names_are_unique():
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_input(row, workshop, in_time, capsys, monkeypatch):
    row.arrange(workshop)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(row.standard_input.encode())))
    words = shlex.split(row.command.format(store=workshop.store, run=workshop.run))
    code: object = 0
    capsys.readouterr()
    try:
        main(words)
    except SystemExit as end:
        code = end.code or 0
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    wanted = (row.says,) if isinstance(row.says, str) else row.says
    if row.code:
        (line,) = [line for line in printed.err.splitlines() if line.startswith("radscribe: ")] or [""]
        assert printed.err.endswith(f"{line}\n"), "something follows the line that says what to do"
    else:
        line = printed.out + printed.err
    assert [text for text in wanted if text not in line] == [], printed.err
    assert code == row.code
    row.check(workshop)

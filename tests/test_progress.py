"""How far a command is: lines where there is no terminal, a bar where there is one."""

import io
import sys

import pytest

from radscribe import progress
from radscribe.progress import Progress, track


def test_without_a_terminal_there_is_a_line_at_the_end(capsys):
    assert list(track(range(1200), 1200, "drafting", "studies")) == list(range(1200))
    assert capsys.readouterr().err == "drafting: 1,200 of 1,200 studies (100%), 0 s\n"


def test_without_a_terminal_lines_come_after_some_time(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with Progress(4, "training", "steps", done=1) as shown:
        assert shown.due
        shown.note = "loss 0.5"
        shown.update(2)
        shown.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 3 of 4 steps (75%), loss 0.5, 0 s"
    assert lines[1:] == ["training: 4 of 4 steps (100%), loss 0.5, 0 s"]  # and not twice at the end


def test_nothing_is_shown_where_nobody_asks(capsys):
    with Progress(2, "training", "steps", show=False) as shown:
        assert not shown.due
        shown.update()
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(track(range(3), 3, "drafting", "studies"))
    assert "drafting" in terminal.getvalue()
    assert "\r" in terminal.getvalue()


def test_work_that_fails_shows_where(capsys):
    def items():
        yield 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(track(items(), 3, "drafting", "studies"))
    assert "1 of 3 studies (33%)" in capsys.readouterr().err

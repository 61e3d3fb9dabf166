"""How a process of the command line ends: its exit code, and the one line on standard error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "radscribe"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "RADSCRIBE_TRACEBACK"}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which `radscribe` is the program, without RADSCRIBE_TRACEBACK."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; radscribe() {{ "{PROGRAM}" "$@"; }}; {line}'],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def only_line(text: str) -> str:
    (line,) = text.splitlines()
    assert line.startswith("radscribe: ")
    return line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("radscribe systems >&-", "standard output is closed"),
        ("radscribe systems > /dev/full", "No space left on device"),
        ("radscribe label - <&-", "standard input is closed"),
        ("radscribe label /proc/self/mem", "/proc/self/mem"),
    ],
)
def test_streams_and_files_that_do_not_work(line, says):
    done = shell(line)
    assert says in only_line(done.stderr)
    assert done.returncode == 2


def test_a_reader_that_has_seen_enough():
    done = shell("yes 'No effusion.' | head -20000 | radscribe label - | head -1")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_interrupted():
    process = subprocess.Popen(
        [PROGRAM, "label", "-"],
        # Tests that run in the background ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("No effusion.\n" * 5000)  # enough for its answers to come while it waits for more
    process.stdin.flush()
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert only_line(error) == "radscribe: interrupted"
    assert process.returncode == 130


REPLACE = (
    "from radscribe.cli import main, table; "
    "table.COMMANDS['systems',] = table.Command('systems', lambda: {}, ''); main(['systems'])"
)


def test_a_fault_of_the_program():
    line = f'"{sys.executable}" -c "{REPLACE.format("1 / 0")}"'
    done = shell(line)
    assert "internal error (ZeroDivisionError: division by zero)" in only_line(done.stderr)
    assert "RADSCRIBE_TRACEBACK=1" in done.stderr
    assert done.returncode == 70
    assert "Traceback" in shell(line, RADSCRIBE_TRACEBACK="1").stderr


def test_what_a_terminal_cannot_show():
    code = REPLACE.format("print('\u03bb')")
    done = shell(f'"{sys.executable}" -c "{code}"', PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout == "\\u03bb\n"

"""The program behind `make run`, as a process: its figures, its words, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

STORY = [sys.executable, "-m", "sparekey.testing.story"]
REASONS = ["NO_ACTIVE_KEY", "ACTIVE_IS_SUBSCRIPTION", "TYPE_MISMATCH", "EDITION_MISMATCH"]
LAST_LINE = "Ctrl-C ends it."


def children(parent: int) -> set[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = (line.split() for line in listed.splitlines())
    return {int(pid) for pid, ppid in pairs if int(ppid) == parent}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def suggested_commands(text: str) -> list[str]:
    """The commands that are to be pasted, with their broken lines joined."""
    joined = text[text.index("Look around") :].replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.startswith("  ")]


def test_for_programs_standard_output_is_one_object_with_the_figures(tmp_path: Path) -> None:
    finished = subprocess.run(
        [*STORY, "--once", "--output", "json", "--folder", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(finished.stdout)
    assert set(figures) == {
        "svms",
        "activated",
        "reserves_added",
        "refused",
        "promoted",
        "lapsed_with_valid_reserve",
        "renewed_by_code",
        "events",
        "seconds",
    }
    assert figures["svms"] >= 12
    assert figures["activated"] == figures["svms"] - 1
    assert set(REASONS) <= set(figures["refused"])
    assert 0 < figures["promoted"] <= figures["reserves_added"]
    assert figures["lapsed_with_valid_reserve"] == 0
    assert figures["renewed_by_code"] == 1
    assert figures["events"] > 100
    assert 0 < figures["seconds"] < 60


def test_for_people_it_tells_everything_serves_and_ends_with_all_its_programs(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [*STORY, "--folder", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    ) as story:
        assert story.stdout is not None
        assert story.stderr is not None
        lines = []
        for line in story.stdout:
            lines.append(line)
            if line.strip() == LAST_LINE:
                break
        programs = children(story.pid)
        text = "".join(lines)
        commands = suggested_commands(text)
        answers = [
            subprocess.run(
                command, shell=True, capture_output=True, text=True, timeout=30, check=False
            )
            for command in commands
        ]
        story.send_signal(signal.SIGTERM)
        assert story.wait(20) == 0
        assert story.stderr.read() == ""
    for reason in REASONS:
        assert reason in text
    assert "No SVM that had a valid reserve key ran out of its license." in text
    assert "\x1b" not in text, "a pipe gets no colours"
    assert not [line for line in lines if len(line.rstrip("\n")) > 80]
    assert len(commands) >= 5
    for command, answer in zip(commands, answers, strict=True):
        assert answer.returncode == 0, (command, answer.stderr)
    assert len(programs) == 3
    assert not [pid for pid in programs if is_running(pid)]


def test_it_does_not_empty_a_folder_of_somebody_else(tmp_path: Path) -> None:
    kept = tmp_path / "letter.txt"
    kept.write_text("dear")
    finished = subprocess.run(
        [*STORY, "--once", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 1
    (sentence,) = finished.stderr.splitlines()
    assert sentence.startswith(f"sparekey-story: will not empty {tmp_path}")
    assert kept.read_text() == "dear"


def test_what_does_not_start_is_said_in_one_sentence(tmp_path: Path) -> None:
    finished = subprocess.run(
        [*STORY, "--once", "--output", "json", "--folder", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SPAREKEY_SERVER_HEARTBEAT": "0"},
    )
    assert finished.returncode == 1
    assert finished.stdout == ""
    last = finished.stderr.splitlines()[-1]
    assert last.startswith("sparekey-story: sparekey-server did not become ready")
    assert "Traceback" not in finished.stderr

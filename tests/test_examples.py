"""Every example runs as it stands, against the embedded model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.edge.espeak import needs_espeak

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def lines_of(example: str, models: Path) -> list[str]:
    """What an example prints; models: an empty folder of installed bundles."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGE_MODELS": str(models)}
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=models, env=environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "example",
    [pytest.param(path.stem, marks=[needs_espeak] if "Speaker" in path.read_text() else []) for path in EXAMPLES],
)
def test_example_runs_and_answers(example: str, tmp_path: Path) -> None:
    assert all(lines_of(example, tmp_path))


def test_single_turn_says_what_it_can_do(tmp_path: Path) -> None:
    assert "shapes" in lines_of("single_turn", tmp_path)[0]


def test_a_name_is_remembered(tmp_path: Path) -> None:
    greeting, name, thanks = lines_of("several_turns", tmp_path)
    assert "Max" in greeting and "Max" in name and "welcome" in thanks


def test_streamed_chunks_make_one_answer(tmp_path: Path) -> None:
    (line,) = lines_of("stream", tmp_path)
    assert line.startswith("I am Reka Edge Tiny") and line.count("Reka") == 1


def test_gathered_answers_stand_beside_their_questions(tmp_path: Path) -> None:
    lines = lines_of("many_at_once", tmp_path)
    assert len(lines) == 6
    assert "Reka Edge Tiny" in lines[1] and "circle" in lines[3]


def test_a_file_and_its_data_url_are_the_same_image(tmp_path: Path) -> None:
    by_file, by_data = lines_of("picture", tmp_path)
    assert by_file == by_data and "red circle" in by_file


def test_the_completed_list_begins_as_it_was_begun(tmp_path: Path) -> None:
    (line,) = lines_of("complete_a_list", tmp_path)
    assert line.startswith("red, orange, yellow") and line.count("orange") == 1


def test_the_decode_loop_answers_with_ids_and_their_text(tmp_path: Path) -> None:
    counts, text = lines_of("decode_loop", tmp_path)
    assert " ids in, " in counts and text.startswith("I am Reka Edge Tiny")


def test_what_is_in_each_of_two_images_is_said(tmp_path: Path) -> None:
    (line,) = lines_of("several_pictures", tmp_path)
    first, second = line.split("; ")
    assert first.startswith("first picture: ") and "red circle" in first
    assert second == "second picture: a red square"


@needs_espeak
def test_a_spoken_answer_is_in_its_file(tmp_path: Path) -> None:
    first, second = lines_of("speak", tmp_path)
    assert first.endswith(" s: It is in answer.wav.") and second.endswith(" s: That was 1 answer.")
    assert 2 < soundfile.info(tmp_path / "answer.wav").duration < 10

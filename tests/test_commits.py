"""The subjects of commits that can still be reworded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUBJECT_CHARACTERS = 60
LAST_COMMITS = 20


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints about a folder, None where it fails."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def unpublished_subjects(folder: Path) -> list[str]:
    """The subjects of the last commits that no remote branch has, merges aside; none where the folder is no checkout.

    What is published stays as it is, so it is not looked at: a test that nobody can mend helps nobody.
    """
    top = git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != folder.resolve():
        return []
    arguments = ("log", "--no-merges", f"--max-count={LAST_COMMITS}", "--format=%s", "HEAD", "--not", "--remotes")
    return (git(folder, *arguments) or "").splitlines()


def too_long(subjects: list[str]) -> list[str]:
    return [subject for subject in subjects if len(subject) > SUBJECT_CHARACTERS]


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def commit(folder: Path, subject: str) -> None:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    assert git(folder, *author, "commit", "--no-verify", "--allow-empty", "-m", subject) is not None


@needs_git
def test_subjects_of_commits_fit_in_60_characters() -> None:
    assert not too_long(unpublished_subjects(ROOT)), "reword them: git commit --amend, or git rebase"


@needs_git
def test_commits_of_a_checkout_without_remotes_are_read(tmp_path: Path) -> None:
    git(tmp_path, "init")
    commit(tmp_path, "x" * 61)
    commit(tmp_path, "y" * 60)
    assert too_long(unpublished_subjects(tmp_path)) == ["x" * 61]


@needs_git
def test_published_commits_are_left_alone(tmp_path: Path) -> None:
    origin, clone, shallow = tmp_path / "origin", tmp_path / "clone", tmp_path / "shallow"
    git(tmp_path, "init", str(origin))
    commit(origin, "p" * 61)
    commit(origin, "q" * 61)
    git(tmp_path, "clone", str(origin), str(clone))
    git(tmp_path, "clone", "--depth=1", origin.as_uri(), str(shallow))
    for folder in (clone, shallow):
        assert unpublished_subjects(folder) == []
        commit(folder, "n" * 61)
        assert unpublished_subjects(folder) == ["n" * 61]


@needs_git
def test_a_folder_that_is_no_checkout_has_no_commits(tmp_path: Path) -> None:
    git(tmp_path, "init")
    commit(tmp_path, "z" * 61)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    assert unpublished_subjects(unpacked) == []

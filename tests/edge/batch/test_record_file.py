"""A file of records: only whole lines, only our own, one writer at a time."""

import errno
import os
from pathlib import Path

import pytest

from edge.batch import record_file
from edge.batch.lines import answered, read_line
from edge.batch.record_file import RecordFile, rewrite
from edge.errors import ParameterError
from edge.limits import Limits
from tests.edge.batch.batches import SETTLED, ids, line

WHOLE = [answered(read_line(line(name), Limits()), SETTLED, 200, {"n": i}).data for i, name in enumerate("abc")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def read(path: Path) -> list[str | None]:
    file = RecordFile(path)
    try:
        return [record.custom_id for record in file.records()]
    finally:
        file.close()


def test_what_is_appended_is_read_again(path: Path) -> None:
    file = RecordFile(path)
    for data in WHOLE:
        file.append(data)
    file.close()
    assert read(path) == ["a", "b", "c"] and path.read_bytes() == b"".join(data + b"\n" for data in WHOLE)


@pytest.mark.parametrize("n_kept", [1, 20, len(WHOLE[2]) - 1])
def test_a_torn_last_line_is_cut_away(path: Path, n_kept: int) -> None:
    whole = WHOLE[0] + b"\n" + WHOLE[1] + b"\n"
    path.write_bytes(whole + WHOLE[2][:n_kept])
    file = RecordFile(path)
    assert [record.custom_id for record in file.records()] == ["a", "b"] and file.torn
    file.append(WHOLE[2])
    file.close()
    assert ids(path) == ["a", "b", "c"]


def test_zeros_that_a_loss_of_power_leaves_are_cut_away(path: Path) -> None:
    path.write_bytes(WHOLE[0] + b"\n" + bytes(4096))
    assert read(path) == ["a"] and path.read_bytes() == WHOLE[0] + b"\n"


def test_a_whole_last_line_without_its_end_is_kept(path: Path) -> None:
    path.write_bytes(WHOLE[0] + b"\n" + WHOLE[1])
    file = RecordFile(path)
    assert [record.custom_id for record in file.records()] == ["a", "b"] and not file.torn
    file.append(WHOLE[2])
    file.close()
    assert ids(path) == ["a", "b", "c"]


@pytest.mark.parametrize("data", [line("a") + b"\n", b"notes\n" + WHOLE[0] + b"\n", b"\n"])
def test_a_file_of_something_else_is_not_touched(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(ParameterError, match="line 1: expected one that edge batch wrote"):
        read(path)
    assert path.read_bytes() == data


def test_a_second_writer_is_sent_away(path: Path) -> None:
    first, second = RecordFile(path), RecordFile(path)
    first.lock()
    with pytest.raises(ParameterError, match="another edge batch is writing"):
        second.lock()
    first.close()
    second.lock()
    second.close()


def test_a_write_that_fails_leaves_nothing_of_its_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RecordFile(path)
    file.append(WHOLE[0])
    write = os.write
    left = [10]

    def until_full(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: left.pop()]) + (left.append(0) or 0)  # type: ignore[func-returns-value]

    monkeypatch.setattr(record_file.os, "write", until_full)
    with pytest.raises(OSError, match="No space left") as caught:
        file.append(WHOLE[1])
    assert caught.value.filename == str(path)
    monkeypatch.undo()
    assert path.read_bytes() == WHOLE[0] + b"\n"
    file.append(WHOLE[1])
    file.close()
    assert ids(path) == ["a", "b"]


def test_a_file_that_was_removed_is_told(path: Path) -> None:
    file = RecordFile(path)
    file.append(WHOLE[0])
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        file.append(WHOLE[1])
    path.write_bytes(b"")
    with pytest.raises(OSError, match="was replaced"):
        file.append(WHOLE[1])
    file.close()


def test_a_folder_or_a_device_is_no_output(tmp_path: Path) -> None:
    for place in (tmp_path, Path(os.devnull)):
        with pytest.raises(ParameterError, match="expected a file"):
            RecordFile(place)


def test_a_file_is_rewritten_in_one_step(path: Path) -> None:
    rewrite(path, WHOLE)
    before = path.stat().st_ino
    rewrite(path, WHOLE[:1])
    assert ids(path) == ["a"] and path.stat().st_ino != before and list(path.parent.iterdir()) == [path]
    rewrite(path, [])
    rewrite(path, [])
    assert not path.exists()


def test_lines_that_cannot_be_put_in_place_leave_the_old_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    rewrite(path, WHOLE)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edge.batch.record_file.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*out.jsonl"):
        rewrite(path, WHOLE[:1])
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]

"""Where lines come from: files however they are written, and images however they are named."""

import base64
import json
import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from edge.batch.lines import LineError, read_line
from edge.batch.sources import Entry, Images, LinesFile, images_of, readable
from edge.limits import Limits
from tests.edge.batch.batches import SETTLED, line


def entries(path: Path, limits: Limits | None = None) -> list[Entry]:
    return list(LinesFile(str(path), limits or Limits()).entries(SETTLED))


def named(found: list[Entry]) -> list[tuple[int, str | None, str | None]]:
    return [(entry.number, entry.custom_id, entry.error and entry.error.code) for entry in found]


def png(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path, "PNG")
    return path


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [b"", b"\n", b"\n\n \n"])
def test_lines_are_read_again_where_they_are(tmp_path: Path, end: bytes, mark: bytes, last: bytes) -> None:
    path = tmp_path / "in.jsonl"
    whole = [line("a"), line("ü", "Wie viele?")]
    path.write_bytes(mark + whole[0] + end + end + whole[1] + last)
    found = entries(path)
    assert named(found) == [(1, "a", None), (3, "ü", None)]
    source = LinesFile(str(path), Limits())
    assert [source.read(entry).strip() for entry in found] == whole
    assert all(entry.id for entry in found)


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    limits = Limits(body_bytes=1000)
    path = tmp_path / "in.jsonl"
    long = line("long", "x" * 3_000_000)
    path.write_bytes(line("a") + b"\n" + long + b"\n" + line("b") + b"\n" + long)
    found = entries(path, limits)
    assert named(found) == [
        (1, "a", None),
        (2, None, "invalid_json_line"),
        (3, "b", None),
        (4, None, "invalid_json_line"),
    ]
    assert found[1].error is not None and "expected at most" in found[1].error.message
    assert LinesFile(str(path), limits).read(found[2]).strip() == line("b")


def test_of_lines_with_one_custom_id_the_first_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join([line("a"), line("a"), b'{"custom_id": "b"}', line("b"), line("a", "other")]))
    found = entries(path)
    assert named(found) == [
        (1, "a", None), (2, "a", "duplicate_custom_id"), (3, "b", "missing_required_parameter"), (4, "b", None),
        (5, "a", "duplicate_custom_id"),
    ]  # fmt: skip
    assert "line 1" in str(found[1].error and found[1].error.message)


def test_what_can_be_read_only_once_is_copied(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(line("a") + b"\n" + line("b"),))
    writer.start()
    with readable(str(pipe)) as path:
        assert [entry.custom_id for entry in entries(Path(path))] == ["a", "b"]
        assert [entry.custom_id for entry in entries(Path(path))] == ["a", "b"]
    writer.join()
    assert not Path(path).exists()
    file = tmp_path / "in.jsonl"
    file.write_bytes(line("a"))
    with readable(str(file)) as path:
        assert path == str(file)


def test_an_image_is_a_chat_about_it(tmp_path: Path) -> None:
    data = png(tmp_path / "a.png").read_bytes()
    source = Images(("a.png",), str(tmp_path), "Describe this.", "Be short.", 9, 0.5)
    (entry,) = source.entries(SETTLED)
    assert (entry.number, entry.custom_id, entry.id) == (1, "a.png", None)
    asked = read_line(source.read(entry), Limits())
    assert (asked.custom_id, asked.url) == ("a.png", "/v1/chat/completions")
    system, user = asked.body["messages"]  # type: ignore[misc]
    assert system == {"role": "system", "content": "Be short."}
    assert user["content"][1] == {"type": "text", "text": "Describe this."}
    assert base64.b64decode(user["content"][0]["image_url"]["url"].partition(",")[2]) == data
    assert (asked.body["max_tokens"], asked.body["temperature"]) == (9, 0.5)
    plain = json.loads(Images(("a.png",), str(tmp_path), "What?").read(entry))
    assert plain["body"].keys() == {"messages"} and len(plain["body"]["messages"]) == 1


def test_an_image_that_cannot_be_read_is_a_failure_of_its_line(tmp_path: Path) -> None:
    source = Images(("gone.png",), str(tmp_path), "What?")
    (entry,) = source.entries(SETTLED)
    with pytest.raises(LineError, match=r"gone\.png") as caught:
        source.read(entry)
    assert (caught.value.code, caught.value.custom_id) == ("invalid_image", "gone.png")


def test_a_glob_names_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.png", "a.png", "sub/c.png", ".hidden.png"):
        png(tmp_path / "photos" / name)
    (tmp_path / "photos" / "z.png").mkdir()
    monkeypatch.chdir(tmp_path)
    assert images_of("photos/*.png") == (["photos/a.png", "photos/b.png"], [])
    assert images_of("photos/**/*.png") == (["photos/a.png", "photos/b.png", "photos/sub/c.png"], [])
    assert images_of(f"{tmp_path}/photos/a*")[0] == [f"{tmp_path}/photos/a.png"]
    assert images_of("photos/b.png") == (["photos/b.png"], []) and images_of("*.jpg") == ([], [])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert images_of("~/photos/a.png")[0] == [f"{tmp_path}/photos/a.png"]


def test_a_name_with_the_signs_of_a_glob_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    path = png(tmp_path / "a[1].png")
    assert images_of(str(path)) == ([str(path)], [])


def test_what_is_no_image_is_left_out_of_a_folder(tmp_path: Path) -> None:
    png(tmp_path / "a")
    (tmp_path / "notes.txt").write_text("Not an image, and said so.\n" * 9)
    (tmp_path / "sub").mkdir()
    (tmp_path / ".thumbs").write_bytes(b"x")
    assert images_of(str(tmp_path)) == ([str(tmp_path / "a")], [str(tmp_path / "notes.txt")])


def test_a_name_that_is_no_utf8_has_a_custom_id(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xffa.png")
    try:
        png(tmp_path / name)
    except OSError:
        pytest.skip("this file system wants UTF-8")
    source = Images((name,), str(tmp_path), "What?")
    (entry,) = source.entries(SETTLED)
    assert entry.custom_id == r"\xffa.png"
    assert read_line(source.read(entry), Limits()).custom_id == r"\xffa.png"

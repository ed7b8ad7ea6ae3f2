"""Files of conversations and running text are read strictly; what is wrong is named with file, line and key."""

import json
from pathlib import Path

import pytest
from PIL import Image

from edge.chat.messages import MediaPart
from export.errors import TextsError
from export.texts import read as reader
from export.texts.read import Conversation, Text, read

HELLO = {"role": "user", "content": "Hello!"}
SCENE = {"type": "image_url", "image_url": "scene:7"}


def file_of(folder: Path, *lines: object, name: str = "texts.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return path


def with_image(url: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]}


def test_each_line_is_a_conversation_or_a_text(tmp_path: Path) -> None:
    tool = {"name": "add", "parameters": {"type": "object"}}
    call = {"role": "assistant", "tool_calls": [{"id": "1", "name": "add", "parameters": {"a": 1}}]}
    output = {"role": "tool_output", "content": [{"tool_call_id": "1", "output": "2"}]}
    path = file_of(
        tmp_path,
        {"messages": [HELLO, call, output], "tools": [tool]},
        "",
        {"text": "Rain.", "source": "A. Author, Weather (1900)"},
        {"text": "Snow."},
    )
    conversation, rain, snow = read(path)
    assert isinstance(conversation, Conversation)
    assert [message.role for message in conversation.messages] == ["user", "assistant", "tool_output"]
    assert conversation.tools[0].name == "add" and conversation.has_tools
    assert rain == Text("Rain.", f"{path}, line 3", "A. Author, Weather (1900)")
    assert snow == Text("Snow.", f"{path}, line 4", None)


def test_a_text_file_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "book.TXT"
    path.write_bytes(b"\xef\xbb\xbfOne.\n\nTwo.\n")
    assert read(path) == [Text("One.\n\nTwo.\n", str(path))]


def test_byte_order_mark_and_carriage_returns_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "One."}\r\n\r\n{"text": "Two."}\r\n')
    assert [entry.text for entry in read(path) if isinstance(entry, Text)] == ["One.", "Two."]


def test_images_are_paths_beside_the_file_data_urls_and_scenes(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / "a.png")
    urls = ["pictures/a.png", str(tmp_path / "pictures" / "a.png"), "data:image/png;base64,AAAA", "scene:12"]
    for entry, url in zip(read(file_of(tmp_path, *map(with_image, urls))), urls, strict=True):
        assert isinstance(entry, Conversation) and not entry.has_tools
        assert [image.source for image in entry.images] == [url]


def test_an_image_in_a_tools_result_is_found(tmp_path: Path) -> None:
    output = {"role": "tool_output", "content": [{"tool_call_id": "1", "output": [SCENE]}]}
    (entry,) = read(file_of(tmp_path, {"messages": [HELLO, output]}))
    assert isinstance(entry, Conversation)
    assert [type(image) for image in entry.images] == [MediaPart]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not a JSON document"),
        ("[1]", "line 2: expected a JSON object, got list"),
        ('{"text": "a", "text": "b"}', "line 2: key 'text' is given twice"),
        ({}, "line 2: expected either messages or text, got keys none"),
        ({"prompt": "a"}, "line 2: expected either messages or text, got keys 'prompt'"),
        ({"text": "a", "messages": [HELLO]}, "line 2: expected either messages or text, got both"),
        ({"text": "a", "lang": "en"}, "line 2: unknown key 'lang'; known are source, text"),
        ({"text": "a", "tools": []}, "line 2: unknown key 'tools'; known are source, text"),
        ({"text": 1}, "line 2: text: expected a string, got 1"),
        ({"text": " \n"}, "line 2: text: is empty"),
        ('{"text": "\\ud800"}', "line 2: text: expected Unicode text, got half a surrogate pair"),
        ({"text": "a", "source": 3}, "line 2: source: expected a string, got 3"),
        ({"messages": []}, "line 2: messages: expected 1 to 256 messages, got 0"),
        ({"messages": "Hello"}, "line 2: messages: expected a list of messages, got 'Hello'"),
        ({"messages": ["Hello"]}, "line 2: messages.0: expected a message, got 'Hello'"),
        ({"messages": [{"role": "user", "content": ""}]}, "line 2: messages: all of them are empty"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "line 2: messages.0.role: expected one of user, assistant"),
        ({"messages": [HELLO, {"role": "system", "content": "a"}]}, "line 2: messages.1.role: expected a system"),
        ({"messages": [{**HELLO, "name": "Ann"}]}, "line 2: messages.0: unknown key 'name'; known are content, role"),
        ({"messages": [{"role": "user"}]}, "line 2: messages.0.content: field required"),
        ({"messages": [{"role": "user", "content": [{"text": "a", "detail": 1}]}]},
         "line 2: messages.0.content.0: unknown key 'detail'"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}]},
         "line 2: messages.0.tool_calls.0: unknown key 'function'; known are id, name, parameters"),
        ({"messages": [{"role": "tool_output", "content": [{"tool_call_id": "1", "result": "a"}]}]},
         "line 2: messages.0.content.0: unknown key 'result'"),
        ({"messages": [HELLO], "tools": [{"type": "function"}]}, "line 2: tools.0: unknown key 'type'"),
        ({"messages": [HELLO], "tools": [{"name": "a b"}]}, "line 2: tools.0.name: expected 1 to 64 letters"),
        ('{"messages": [{"role": "user", "content": "\\udc00"}]}', "line 2: messages.0.content: expected Unicode text"),
        (with_image("scene:x"), "line 2: messages.0.content.0.image_url: expected scene: and a number"),
        (with_image("gone.png"), "line 2: messages.0.content.0.image_url: 'gone.png': no such file in"),
        (with_image("a\0b.png"), "line 2: messages.0.content.0.image_url"),
        (with_image("https://example.org/a.png"), "expected a path, a data: URL or scene:NUMBER, got 'https://"),
        ({"messages": [{"role": "user", "content": [{"video_url": "a.mp4"}]}]},
         "line 2: messages.0.content.0.video_url: video is not supported here; expected text and images"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, line: object, message: str) -> None:
    path = file_of(tmp_path, {"text": "One."}, line)
    with pytest.raises(TextsError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}, line 2: ")
    assert message in str(raised.value)


def test_deeply_nested_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextsError, match="line 1: not a JSON document"):
        read(file_of(tmp_path, '{"messages": ' + "[" * 200_000))


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TextsError, match="is empty"):
        read(file_of(tmp_path, text))
    with pytest.raises(TextsError, match="is empty"):
        read(file_of(tmp_path, text, name="book.txt"))


def test_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextsError, match="no such file"):
        read(tmp_path / "gone.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(TextsError, match="expected a file"):
        read(tmp_path / "folder.jsonl")


def test_other_kinds_of_file_are_refused_with_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(TextsError, match=r"expected a \.jsonl file .* or a \.txt file"):
        read(file_of(tmp_path, "a", name="texts.csv"))


def test_text_file_that_is_not_utf8_is_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(TextsError, match="expected UTF-8, got byte 0xe9 at 3"):
        read(tmp_path / "book.txt")


def test_files_lines_and_texts_have_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(tmp_path, {"text": "One."}, {"text": "Two and three."})
    monkeypatch.setattr(reader, "MAX_TEXT_BYTES", 8)
    with pytest.raises(TextsError, match="line 2: text: expected at most 8 bytes, got 14 or more"):
        read(path)
    with pytest.raises(TextsError, match="expected at most 8 bytes"):
        read(file_of(tmp_path, "Two and three.", name="book.txt"))
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 20)
    with pytest.raises(TextsError, match="line 2: expected at most 20 bytes in a line"):
        read(path)
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 30)
    with pytest.raises(TextsError, match="bytes, expected at most 30"):
        read(path)

"""Pictures by file, drop, paste and camera, the voice by microphone, and other files: each arrives as documented."""

import base64
import io
import json
import re
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Request, expect

from tests.conformance.conftest import serving
from tests.page.chatting import answers, ask, attached, done, drop, endless, ready
from tests.page.conftest import PICTURE, Visit, edge_process

pytestmark = pytest.mark.slow


@contextmanager
def asking(page: Page, text: str) -> Iterator[list[dict[str, str]]]:
    """Ask, and give the parts that were sent."""
    parts: list[dict[str, str]] = []
    with page.expect_request("**/v1/chat") as asked:
        ask(page, text)
    parts.extend(content(asked.value))
    yield parts


def content(request: Request) -> list[dict[str, str]]:
    return list(json.loads(request.post_data or "")["messages"][-1]["content"])


def media_of(part: dict[str, str]) -> tuple[str, bytes]:
    head, _, data = part[part["type"]].partition(",")
    return head, base64.b64decode(data)


def test_a_picture_by_drop_is_sent_byte_for_byte(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    drop(page, PICTURE, "image/png")
    attached(page, PICTURE.name)
    expect(page.locator("#drop")).to_be_hidden()
    with asking(page, "What is this?") as parts:
        assert [part["type"] for part in parts] == ["image_url", "text"]
        assert media_of(parts[0]) == ("data:image/png;base64", PICTURE.read_bytes())
    assert done(page)


def test_a_picture_by_paste(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.evaluate(
        """async (data) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const blob = new Blob([bytes], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        base64.b64encode(PICTURE.read_bytes()).decode(),
    )
    page.focus("#text")
    page.keyboard.press("Control+V")
    expect(page.locator(".chip.image")).to_have_count(1)
    with asking(page, "What is this?") as parts:
        head, data = media_of(parts[0])
        assert head == "data:image/png;base64"
        assert Image.open(io.BytesIO(data)).size == (480, 480)
    assert done(page)


def test_a_picture_by_camera(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.click("#camera")
    expect(page.locator("#camera-dialog")).to_be_visible()
    expect(page.get_by_role("button", name="Take the picture")).to_be_focused()
    page.get_by_role("button", name="Take the picture").click()
    attached(page, "camera.jpg")
    expect(page.locator("#camera-dialog")).to_be_hidden()
    assert page.evaluate("() => document.querySelector('#camera-dialog video').srcObject") is None
    with asking(page, "What is this?") as parts:
        head, data = media_of(parts[0])
        picture = Image.open(io.BytesIO(data))
        assert head == "data:image/jpeg;base64"
        assert picture.format == "JPEG" and min(picture.size) >= 240
        assert np.asarray(picture).std() > 5  # the camera's test picture, not a black one
    assert done(page)


@pytest.fixture
def slow_devices(visit: Visit, edge_serve: str) -> Page:
    """The page in a browser that takes half a second to open a camera or a microphone; `tracks` are what it gave."""
    page = visit(edge_serve)
    page.add_init_script("""
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.tracks = [];
        window.nOpening = 0;
        navigator.mediaDevices.getUserMedia = async (wanted) => {
            nOpening += 1;
            await new Promise((resolve) => setTimeout(resolve, 500));
            const stream = await open(wanted);
            tracks.push(...stream.getTracks());
            nOpening -= 1;
            return stream;
        };
    """)
    page.reload()
    ready(page)
    return page


def opened(page: Page) -> None:
    """Wait until every device that was asked for was given."""
    page.wait_for_function("() => nOpening === 0 && tracks.length > 0")


def let_go(page: Page) -> None:
    """Wait until everything that was given is let go; what stays on fails."""
    opened(page)
    page.wait_for_function("() => nOpening === 0 && tracks.every((track) => track.readyState === 'ended')")


def test_a_camera_opened_with_two_clicks_is_let_go_and_takes_one_picture(slow_devices: Page) -> None:
    page = slow_devices
    page.dblclick("#camera")
    expect(page.locator("#camera-dialog")).to_be_visible()
    opened(page)
    expect(page.locator("#camera-dialog .take")).to_be_focused()
    # Both at once: the second comes before the picture is made.
    page.locator("#camera-dialog .take").evaluate("(button) => { button.click(); button.click(); }")
    attached(page, "camera.jpg")
    let_go(page)
    attached(page, "camera.jpg")


def test_a_camera_that_opens_after_the_dialog_was_closed_does_not_stay_on(slow_devices: Page) -> None:
    page = slow_devices
    page.click("#camera")
    expect(page.locator("#camera-dialog")).to_be_visible()
    page.locator("#camera-dialog .other").evaluate("(button) => button.click()")
    page.keyboard.press("Escape")
    expect(page.locator("#camera-dialog")).to_be_hidden()
    let_go(page)


def test_a_microphone_opened_with_two_clicks_is_let_go(slow_devices: Page) -> None:
    page = slow_devices
    page.dblclick("#mic")
    expect(page.locator("#recording")).to_be_visible()
    opened(page)
    page.click("#discard")
    expect(page.locator("#recording")).to_be_hidden()
    let_go(page)


def test_the_voice_by_microphone_is_16_bit_wav(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.click("#mic")
    expect(page.locator("#recording")).to_be_visible()
    expect(page.locator("#tools")).to_be_hidden()
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"^0:(0[2-9]|[1-5]\d)$"))  # a busy browser skips some
    page.click("#keep")
    attached(page, "voice.wav")
    expect(page.locator("#tools")).to_be_visible()
    with asking(page, "What do you hear?") as parts:
        assert [part["type"] for part in parts] == ["audio_url", "text"]
        head, data = media_of(parts[0])
        assert head == "data:audio/wav;base64"
        with wave.open(io.BytesIO(data)) as audio:
            form = (audio.getnchannels(), audio.getsampwidth(), audio.getframerate())
            samples = np.frombuffer(audio.readframes(audio.getnframes()), np.int16)
        assert form == (1, 2, 16000)
        assert 1.5 < len(samples) / 16000 < 61
        assert np.abs(samples).max() > 500  # the microphone's beeps
    expect(answers(page)).to_have_count(1)
    page.click("#mic")
    expect(page.locator("#recording")).to_be_visible()
    page.click("#discard")
    expect(page.locator("#tools")).to_be_visible()
    expect(page.locator(".chip")).to_have_count(0)


def test_escape_throws_a_recording_away(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.fill("#text", "What do you hear?")
    page.click("#mic")
    expect(page.locator("#elapsed")).not_to_have_text("0:00")
    page.keyboard.press("Escape")
    expect(page.locator("#tools")).to_be_visible()
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator(".chip")).to_have_count(0)
    expect(page.locator("#text")).to_have_value("What do you hear?")


def test_escape_stops_an_answer_before_it_throws_a_recording_away(
    visit: Visit, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless(monkeypatch, int8_bundle)
    with serving(int8_bundle) as served:
        page = visit(served.address)
        ready(page)
        ask(page, "Talk.")
        expect(answers(page).locator(".markdown")).not_to_be_empty()
        page.click("#mic")
        expect(page.locator("#recording")).to_be_visible()
        page.keyboard.press("Escape")
        expect(answers(page).locator(".facts")).to_contain_text("Stopped.")
        expect(page.locator("#recording")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#recording")).to_be_hidden()
        page.context.close()


def test_a_message_sent_while_recording_takes_the_recording_along(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.click("#mic")
    expect(page.locator("#elapsed")).not_to_have_text("0:00")
    with asking(page, "What do you hear?") as parts:
        assert [part["type"] for part in parts] == ["audio_url", "text"]
    expect(page.locator("#recording")).to_be_hidden()
    expect(page.locator(".chip")).to_have_count(0)
    expect(answers(page)).to_have_count(1)


@pytest.mark.parametrize(("name", "kind"), [("paper.pdf", "pdf"), ("film.mp4", "video")])
def test_other_files_are_sent_and_a_refusal_is_told(
    name: str, kind: str, visit: Visit, edge_serve: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(b"nothing that could be decoded")
    page = visit(edge_serve)
    ready(page)
    page.set_input_files("#any-file", file)
    attached(page, name)
    with asking(page, "What is this?") as parts:
        assert parts[0]["type"] == f"{kind}_url"
        assert media_of(parts[0])[1] == file.read_bytes()
    failure = answers(page).locator(".failure")
    expect(failure).to_contain_text("The server did not accept this")
    expect(failure).to_contain_text(re.compile(rf"The server says: {kind}: "))
    failure.get_by_role("button", name="Change the message").click()
    expect(page.locator("#text")).to_have_value("What is this?")
    attached(page, name)
    page.get_by_role("button", name=f"Remove {name}").click()
    page.press("#text", "Enter")
    assert done(page)


def test_what_cannot_be_attached_is_told_at_once(visit: Visit, edge_serve: str, tmp_path: Path) -> None:
    page = visit(edge_serve)
    ready(page)
    for name, data, said in [
        ("notes.txt", b"text", "neither a picture, a video, audio nor a PDF"),
        ("empty.png", b"", "the file is empty"),
        ("broken.png", b"no picture", "cannot open it as a picture"),
        ("long.mp4", bytes(31 << 20), "it has 32.5 MB; the server accepts at most 30.4 MB"),
    ]:
        (tmp_path / name).write_bytes(data)
        page.set_input_files("#any-file", tmp_path / name)
        expect(page.locator("#notice")).to_contain_text(said)
        expect(page.locator(".chip")).to_have_count(0)


def test_a_large_picture_is_made_smaller_and_says_so(visit: Visit, edge_serve: str, tmp_path: Path) -> None:
    Image.new("RGB", (6000, 4500), "teal").save(tmp_path / "large.png")
    page = visit(edge_serve)
    ready(page)
    page.set_input_files("#any-file", tmp_path / "large.png")
    expect(page.locator(".chip small")).to_contain_text("3072 × 2304, made smaller from 6000 × 4500")
    with asking(page, "Which colour?") as parts:
        head, data = media_of(parts[0])
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(data)).size == (3072, 2304)
    assert done(page)


def test_an_insecure_page_says_why_and_takes_files(visit: Visit, tmp_path: Path) -> None:
    with edge_process(tmp_path, "--allowed-host", "elsewhere.test") as address:
        page = visit(address.replace("127.0.0.1", "elsewhere.test"))
        ready(page)
        assert page.evaluate("() => isSecureContext") is False
        for button, kind, capture in [("#camera", "image/*", "environment"), ("#mic", "audio/*", "user")]:
            with page.expect_file_chooser() as chooser:
                page.click(button)
            expect(page.locator("#notice")).to_contain_text("only to secure pages")
            element = chooser.value.element
            assert (element.get_attribute("accept"), element.get_attribute("capture")) == (kind, capture)
        with page.expect_file_chooser() as chooser:
            page.click("#camera")
        chooser.value.set_files(PICTURE)
        attached(page, PICTURE.name)
        ask(page, "What is this?")
        assert done(page)
        answers(page).get_by_role("button", name="Copy the text").click()
        expect(page.locator("#live")).to_have_text("Copied.")


def test_a_message_whose_attachment_failed_is_not_sent(visit: Visit, edge_serve: str, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page = visit(edge_serve)
    ready(page)
    page.set_input_files("#any-file", tmp_path / "broken.png")
    expect(page.locator("#notice")).to_contain_text("cannot open it as a picture")
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    for _ in range(2):
        ask(page, "What is this?")
        expect(page.locator("#notice")).to_contain_text("Not sent: broken.png could not be attached")
    expect(page.locator("article.user")).to_have_count(0)
    expect(page.locator("#text")).to_have_value("What is this?")
    page.get_by_role("button", name="Send without broken.png").click()
    expect(page.locator("#notice")).to_be_empty()
    with page.expect_request("**/v1/chat") as asked:
        page.press("#text", "Enter")
    parts = json.loads(asked.value.post_data or "")["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text"]
    assert done(page)
    expect(page.locator(".missed")).to_have_count(0)


def test_a_message_sent_while_a_file_is_read_that_fails_is_not_sent(
    visit: Visit, edge_serve: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page = visit(edge_serve)
    ready(page)
    page.evaluate(
        """() => {
            const open = window.createImageBitmap;
            window.createImageBitmap = async (blob) => {
                await new Promise((resolve) => (window.goOn = resolve));
                return open(blob);
            };
        }"""
    )
    page.set_input_files("#any-file", tmp_path / "broken.png")
    page.wait_for_function("() => window.goOn")
    ask(page, "What is this?")
    expect(page.locator("#notice")).to_contain_text("One moment")
    page.evaluate("() => window.goOn()")
    expect(page.locator("#notice")).to_contain_text("cannot open it as a picture")
    expect(page.locator("article.user")).to_have_count(0)
    expect(page.locator("#text")).to_have_value("What is this?")


def test_a_recording_that_cannot_be_read_does_not_send_what_was_written(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.evaluate("() => { window.OfflineAudioContext = class { constructor() { throw new Error('no'); } }; }")
    page.click("#mic")
    expect(page.locator("#recording")).to_be_visible()
    expect(page.locator("#level")).not_to_have_js_property("value", 0)
    ask(page, "What do you hear?")
    expect(page.locator(".missed b")).to_have_text("voice.wav")
    expect(page.locator("article.user")).to_have_count(0)
    expect(page.locator("#text")).to_have_value("What do you hear?")

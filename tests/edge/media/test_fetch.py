"""Fetching: data: URLs to the byte, local files only where allowed, and nothing that can hang or lead out."""

import base64
import os
import random
import socket
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import MediaError
from edge.media.fetch import MAX_BYTES, read_url, shown


def data_url(data: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(data).decode()


def refused(url: str, *, files: bool | Path = False, max_bytes: int = MAX_BYTES) -> str:
    with pytest.raises(MediaError) as caught:
        read_url(url, files=files, max_bytes=max_bytes)
    return str(caught.value)


# --- data: --------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=300))
def test_data_urls_come_back_byte_for_byte(data: bytes) -> None:
    assert read_url(data_url(data), files=False) == data


@pytest.mark.parametrize(
    "head",
    ["data:image/png;base64,", "data:;base64,", "DATA:Image/JPEG;BASE64,", "data:application/octet-stream;base64,",
     "data:text/plain;charset=utf-8;base64,", "data:video/mp4;base64,"],
)  # fmt: skip
def test_the_declared_type_is_ignored(head: str) -> None:
    assert read_url(data_url(b"abc", head), files=False) == b"abc"


def test_a_long_data_url_is_decoded_across_its_chunks() -> None:
    data = random.Random(0).randbytes(3_000_001)
    assert read_url(data_url(data), files=False) == data


GOOD = base64.b64encode(b"some bytes here").decode()


@pytest.mark.parametrize(
    "url",
    [
        "data:", "data:,", "data:,abc", "data:image/png", "data:image/png,abc", "data:image/png;base64",
        "data:image/png;base64,", f"data:image/png;base65,{GOOD}", "data:image/png;base64, \n",
        f"data:image/png;base64;x,{GOOD}", f"data:{'x' * 300};base64,{GOOD}", "data:image/png;base64,A",
        "data:image/png;base64,AAAAA", "data:image/png;base64,=", "data:image/png;base64,AA=",
        "data:image/png;base64,====", "data:image/png;base64,AAAA=", "data:image/png;base64,AAAA%3D",
        "data:image/png;base64,A===", "data:image/png;base64,AA=A", "data:image/png;base64,AA==AAAA",
        "data:image/png;base64,AAA=AAA=", "data:image/png;base64,AAAA====", "data:image/png;base64,A%",
        "data:image/png;base64,AAA%4", "data:image/png;base64,AAA%zz", "data:image/png;base64,AAA%00",
        "data:image/png;base64,AAA\\x41", "data:image/png;base64,%\\41A", "data:image/png;base64,AAA\u00e9",
        "data:image/png;base64,AAA\ud800", "data:image/png;base64,AAA\x00", "data:image/png;base64,AAAA,AAAA",
        f"data:video/jpeg;base64,{GOOD},{GOOD}", "data:image/png;base64,\uff21\uff21\uff21\uff21",
    ],
)  # fmt: skip
def test_malformed_data_urls_are_refused(url: str) -> None:
    message = refused(url)
    assert "base64" in message or "data:<type>" in message
    assert len(message) < 300


BYTES = b"\xfb\xef\xbe\xff\xff\xff byte"
PLAIN = base64.b64encode(BYTES).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64 ,{PLAIN}", f"data:image/png; base64,{PLAIN}", f" data:image/png;base64,{PLAIN}\n",
        f"data:image/png;base64,{PLAIN.rstrip('=')}", f"data:image/png;base64, {' '.join(PLAIN)} ",
        "data:image/png;base64," + "\r\n".join(PLAIN[at : at + 5] for at in range(0, len(PLAIN), 5)) + "\r\n",
        f"data:image/png;base64,{PLAIN[:5]}\t\f{PLAIN[5:]}", f"data:image/png;base64,{PLAIN}#top",
        "data:image/png;base64," + PLAIN.replace("=", "%3D").replace("+", "%2B").replace("/", "%2f"),
        "data:image/png;base64,%0A" + "".join(f"%{ord(c):02x}" for c in PLAIN) + "%20",
        f"data:image/png;base64,{base64.urlsafe_b64encode(BYTES).decode()}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(BYTES).decode().rstrip('=')}",
    ],
)  # fmt: skip
def test_data_urls_are_decoded_as_browsers_do(url: str) -> None:
    assert "=" in PLAIN and "+" in PLAIN and "/" in PLAIN
    assert read_url(url, files=False) == BYTES


@given(st.binary(min_size=1, max_size=200), st.integers(0, 10**9))
def test_spelling_of_base64_changes_nothing(data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    letters = base64.b64encode(data).decode()
    letters = letters if rng.random() < 0.5 else letters.rstrip("=")
    spelt = "".join(rng.choice((c, c, f"%{ord(c):02X}", f" {c}", f"{c}\n")) for c in letters)
    assert read_url(f"data:;base64,{spelt}", files=False) == data


@pytest.mark.parametrize("shift", range(4))
def test_escapes_and_spaces_at_the_borders_of_chunks_change_nothing(shift: int) -> None:
    data = random.Random(shift).randbytes(1_700_001)
    lines = base64.encodebytes(data).decode().replace("+", "%2B").replace("\n", "\r\n")
    assert read_url(f"data:;base64,{' ' * shift}{lines}", files=False) == data


def test_the_length_cap_counts_bytes_however_they_are_spelt() -> None:
    spelt = base64.encodebytes(bytes(300)).decode()
    escaped = "".join(f"%{ord(c):02x}" for c in base64.b64encode(bytes(300)).decode())
    for url in (f"data:;base64,{spelt}", f"data:;base64,{escaped}"):
        assert read_url(url, files=False, max_bytes=300) == bytes(300)
        assert "expected at most 299 bytes, got 300" in refused(url, max_bytes=299)


def test_padding_inside_a_long_url_is_refused_at_a_chunk_border() -> None:
    inner = "A" * ((1 << 20) - 2) + "=="
    assert "padding" in refused(f"data:;base64,{inner}AAAA")


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_length_cap_holds_at_its_limit_and_before_decoding(padding: int) -> None:
    data = bytes(300 - padding)
    for max_bytes in (len(data), len(data) + 1):
        assert read_url(data_url(data), files=False, max_bytes=max_bytes) == data
    message = refused(data_url(data), max_bytes=len(data) - 1)
    assert f"expected at most {len(data) - 1} bytes, got {len(data)}" in message


def test_a_data_url_over_the_cap_costs_nothing_and_one_within_it_less_than_its_body() -> None:
    url = "data:;base64," + "A" * (8 << 20)
    tracemalloc.start()
    refused(url, max_bytes=1 << 20)
    refused_peak = tracemalloc.get_traced_memory()[1]
    read_url(url, files=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused_peak < 1 << 20
    assert peak < 1.5 * len(url)


# --- schemes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://example.com/a.png", "https://example.com/a.png", "HTTPS://x", "http:", "https:x"]
)
@pytest.mark.parametrize("files", [True, False])
def test_remote_media_is_off(url: str, files: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", opened)
    assert "remote media is off here" in refused(url, files=files)


@pytest.mark.parametrize(
    "url",
    ["ftp://x/y", "gopher://x", "blob:abc", "javascript:alert(1)", "x-y+z.1:abc", "C:\\a.png", "rtsp://x",
     "about:blank", "ws://x", "jar:file:///etc/passwd!/a", "view-source:file:///etc/passwd"],
)  # fmt: skip
def test_other_schemes_are_refused(url: str) -> None:
    assert "got scheme" in refused(url, files=True)


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with media in it, and a secret beside it."""
    inside = tmp_path / "media"
    (inside / "sub").mkdir(parents=True)
    (inside / "a b.png").write_bytes(b"picture")
    (inside / "sub" / "c#d?.png").write_bytes(b"other")
    (inside / "gr\u00fcn.png").write_bytes(b"green")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "media-too").mkdir()
    (tmp_path / "media-too" / "x").write_bytes(b"secret")
    return inside


def test_files_are_read_by_path_and_by_url(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for files in (True, folder, folder.parent):
        assert read_url(str(folder / "a b.png"), files=files) == b"picture"
        assert read_url(f"file://{folder}/a%20b.png", files=files) == b"picture"
        assert read_url(f"FILE://localhost{folder}/a b.png", files=files) == b"picture"
        assert read_url(f"file:{folder}/sub/c%23d%3F.png", files=files) == b"other"
        assert read_url((folder / "gr\u00fcn.png").as_uri(), files=files) == b"green"
    assert read_url("a b.png", files=True) == b"picture"
    assert read_url("./sub/c#d?.png", files=True) == b"other"


def test_files_whose_names_are_no_utf8_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    name = os.fsdecode(b"caf\xe9.png")
    (folder / name).write_bytes(b"coffee")
    for files in (True, folder):
        assert read_url(name, files=files) == b"coffee"
        assert read_url((folder / name).as_uri(), files=files) == b"coffee"
        assert read_url(f"file://{folder}/{name}", files=files) == b"coffee"
    assert "No such file" in refused("file:///%ff%fe", files=True)
    assert "not a path" in refused("file:///\ud800", files=True)


def test_relative_paths_belong_to_the_folder(folder: Path) -> None:
    assert read_url("a b.png", files=folder) == b"picture"
    assert read_url("sub/../sub/c#d?.png", files=folder) == b"other"


def test_local_files_are_refused_where_not_allowed(folder: Path) -> None:
    for url in (str(folder / "a b.png"), f"file://{folder}/a b.png", "a b.png", "", "/nowhere"):
        assert "local files are not allowed here" in refused(url)


def test_nothing_outside_the_folder_is_read_or_told_apart(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "loop").symlink_to(folder.parent)
    (folder / "far").symlink_to("/etc/passwd")
    (folder / "back").symlink_to("../secret")
    outside = [
        "../secret", "sub/../../secret", "link", "loop/secret", "far", "back", "/etc/passwd", "/nowhere/at/all",
        str(folder.parent / "secret"), f"{folder}-too/x", "../media-too/x", f"file://{folder}/../secret",
        f"file://{folder}/%2e%2e/secret", "file:///etc/passwd", "/proc/self/environ", "/dev/zero", "../nowhere",
        "/proc/self/cwd", "..", "/",
    ]  # fmt: skip
    messages = {refused(url, files=folder).removeprefix(shown(url)) for url in outside}
    assert messages == {": expected a file inside the folder that is allowed here"}


def test_links_that_stay_inside_are_followed(folder: Path) -> None:
    (folder / "link").symlink_to("sub/c#d?.png")
    (folder / "too").symlink_to(folder / "sub")
    for url in ("link", "too/c#d?.png"):
        assert read_url(url, files=folder) == b"other"
    alias = folder.parent / "alias"
    alias.symlink_to(folder)
    assert read_url("a b.png", files=alias) == b"picture"
    assert read_url(str(alias / "a b.png"), files=folder) == b"picture"


def test_a_link_swapped_in_while_looking_never_leads_out(folder: Path) -> None:
    target, stop = folder / "swap", threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (folder / "new").symlink_to("../secret")
            (folder / "new").rename(target)
            (folder / "new").write_bytes(b"inside")
            (folder / "new").rename(target)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    for _ in range(2000):
        try:
            seen.add(read_url("swap", files=folder))
        except MediaError:
            seen.add(b"")
    stop.set()
    thread.join()
    assert seen <= {b"inside", b""}


@pytest.mark.parametrize("allowed", ["all", "folder"])
def test_only_regular_files_are_opened(folder: Path, allowed: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "to-pipe").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    (folder / "circle").symlink_to("circle")
    for name in (  # to open the pipe would have no end
        "pipe",
        "to-pipe",
        "sub",
        ".",
        "socket",
        "missing",
        "circle",
        "a b.png/x",
        "x\0y",
        "x" * 300,
        "\ud800",
    ):
        url = f"{folder}/{name}"
        message = refused(url, files=True if allowed == "all" else folder)
        assert message.removeprefix(shown(url)).startswith(": cannot be read: ")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty", "/dev/stdin/x", "/proc/self/fd"])
def test_devices_are_refused_at_once(device: str) -> None:
    assert "cannot be read" in refused(device, files=True)


@pytest.mark.parametrize("allowed", ["all", "folder"])
def test_the_size_cap_holds_at_its_limit(folder: Path, allowed: str) -> None:
    files = True if allowed == "all" else folder
    url = str(folder / "a b.png")
    for max_bytes in (7, 8):
        assert read_url(url, files=files, max_bytes=max_bytes) == b"picture"
    assert refused(url, files=files, max_bytes=6).endswith("expected at most 6 bytes, got 7")


def test_a_large_file_is_refused_without_being_read(folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(1 << 40)
    assert f"expected at most {MAX_BYTES} bytes, got {1 << 40}" in refused("large", files=folder)


def test_a_file_that_says_it_is_empty_is_still_capped() -> None:
    assert refused("/proc/self/maps", files=True, max_bytes=10).endswith("expected at most 10 bytes, got 11 or more")


@pytest.mark.parametrize("url", ["file://host/a", "file://127.0.0.1/a", "file://../a"])
def test_odd_file_urls_are_refused(url: str) -> None:
    refused(url, files=True)


def test_unreadable_files_name_the_request_and_no_other_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", "/srv/elsewhere")

    monkeypatch.setattr(os, "open", denied)
    for files in (True, folder):
        message = refused(str(folder / "a b.png"), files=files)
        assert message.endswith("cannot be read: Permission denied")
        assert "elsewhere" not in message
    assert str(folder) not in refused("a b.png", files=folder)


# --- messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["x" * 100_000, "\n" * 1000, "http://" + "\x1b" * 300, "ftp://" + "\u2028" * 300])
def test_messages_are_one_short_line(url: str) -> None:
    message = refused(url)
    assert len(message) < 400
    assert message.isprintable()


def test_a_value_is_shown_whole_up_to_200_characters() -> None:
    assert shown("gr\u00fcn") == "'gr\u00fcn'"
    assert shown("a\nb") == "'a\\nb'"
    assert shown("x" * 198) == f"'{'x' * 198}'"
    assert shown("x" * 199) == f"'{'x' * 196}..."
    assert len(shown("\x00" * 500)) == 200

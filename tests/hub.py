"""A model hub of our own on loopback: the HTTP that huggingface_hub speaks, with every failure that tests ask for."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK = 1 << 16
LFS = (".safetensors", ".bin", ".onnx", ".gguf")  # what a repository of weights keeps in LFS


@dataclass
class Commit:
    """One commit of a repository: the content of every file; lfs: how the names of those end that LFS keeps."""

    files: Mapping[str, bytes]
    lfs: tuple[str, ...] = LFS

    @property
    def sha(self) -> str:
        state = hashlib.sha1()
        for name, data in sorted(self.files.items()):
            state.update(f"{name} {len(data)}\0".encode() + data)
        return state.hexdigest()

    def is_lfs(self, name: str) -> bool:
        return name.endswith(self.lfs)

    def etag(self, name: str) -> str:
        data = self.files[name]
        if self.is_lfs(name):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@dataclass
class Repo:
    """Commits by the names of branches and tags; token: without it the repository is not shown, or (gated) not read."""

    refs: dict[str, Commit]
    token: str | None = None
    is_gated: bool = False

    def commit(self, revision: str) -> Commit | None:
        return self.refs.get(revision) or next((each for each in self.refs.values() if each.sha == revision), None)


@dataclass
class Hub:
    """A hub: repositories by their names, what it was asked, and how it is to fail.

    corrupted: content that is sent in the place of a file's, by name; cut_after: how many bytes of a file are sent
    before the connection breaks, by name, once for each number; has_sizes: whether listings give sizes and hashes;
    cdn: whether files of LFS are somewhere else; status: every request is answered with it; ranges: whether parts are
    sent where parts are asked for; pause_after: how many bytes of a file are sent, by name, before `paused` is set and
    `resume` is waited for.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    corrupted: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    has_sizes: bool = True
    cdn: bool = False
    ranges: bool = True
    pause_after: dict[str, int] = field(default_factory=dict)
    paused: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    status: int | None = None
    body: bytes | None = None
    url: str = ""
    cdn_url: str = ""
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, folder: Path, *, revision: str = "main", **extra: bytes) -> Commit:
        """Have a folder's files as a repository's revision, and more files."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        commit = Commit({**files, **extra})
        self.repos.setdefault(name, Repo({})).refs[revision] = commit
        return commit

    def names(self, method: str = "GET") -> list[str]:
        """The files that were asked for, in order."""
        paths = [path for asked, path, *_ in self.asked if asked == method]
        return [path.rpartition("/")[2] for path in paths if "/resolve/" in path or path.startswith("/cdn/")]


class Handler(BaseHTTPRequestHandler):
    """Answers as a hub does."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.hub.asked.append((self.command, path, self.headers.get("Authorization"), self.headers.get("Range")))
        if self.hub.status is not None or self.hub.body is not None:
            return self.send(self.hub.status or 200, self.hub.body or b"")
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            return self.send_file("/".join(parts[1:3]), parts[3], "/".join(parts[4:]), linked=True)
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[:2])
        repo = self.hub.repos.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repo is None or (repo.token not in (None, token) and not repo.is_gated):
            return self.send(401, b"", **{"X-Error-Code": "RepoNotFound"})
        if is_api:
            return self.send_info(name, repo, "/".join(parts[5:]) or "main")
        if repo.token not in (None, token):
            return self.send(403, b"", **{"X-Error-Code": "GatedRepo"})
        return self.send_file(name, parts[3], "/".join(parts[4:]), linked=False)

    def send_info(self, name: str, repo: Repo, revision: str) -> None:
        commit = repo.commit(revision)
        if commit is None:
            return self.send(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        siblings: list[dict[str, object]] = [{"rfilename": file} for file in commit.files]
        if self.hub.has_sizes:
            for each, (file, data) in zip(siblings, commit.files.items(), strict=True):
                each |= {"size": len(data), "blobId": "0" * 40 if commit.is_lfs(file) else commit.etag(file)}
                if commit.is_lfs(file):
                    each["lfs"] = {"size": len(data), "sha256": commit.etag(file), "pointerSize": 130}
        info = {"id": name, "sha": commit.sha, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
        return self.send(200, json.dumps(info).encode(), **{"Content-Type": "application/json"})

    def send_file(self, name: str, revision: str, file: str, *, linked: bool) -> None:
        commit = self.hub.repos[name].commit(revision)
        if commit is None:
            return self.send(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        if file not in commit.files:
            return self.send(404, b"", **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.sha})
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{commit.etag(file)}"', "Accept-Ranges": "bytes"}
        if self.hub.cdn and commit.is_lfs(file) and not linked:
            moved = {"X-Linked-Size": str(len(commit.files[file])), "X-Linked-ETag": headers["ETag"], "ETag": '"other"'}
            location = f"{self.hub.cdn_url}/cdn/{name}/{commit.sha}/{file}"
            return self.send(302, b"", **headers | moved | {"Location": location})
        data = self.hub.corrupted.get(file, commit.files[file])
        start = 0
        if self.hub.ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.send(206 if "Content-Range" in headers else 200, data[start:], name=file, **headers)

    def send(self, status: int, data: bytes, *, name: str | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.hub.cut_after.get(name or "", [])
        part = data[: cuts.pop(0)] if cuts else data
        for at in range(0, len(part), CHUNK):
            if at >= self.hub.pause_after.get(name or "", len(part)):
                self.hub.paused.set()
                self.hub.resume.wait(120)
            self.wfile.write(part[at : at + CHUNK])
            self.hub.sent[name or ""] = self.hub.sent.get(name or "", 0) + len(part[at : at + CHUNK])
        if len(part) < len(data):
            self.close_connection = True


class Server(ThreadingHTTPServer):
    """Says nothing of clients that are killed."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on a free port, and its CDN on another."""
    handler = type("OneHub", (Handler,), {"hub": hub})
    servers = [Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.cdn_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    try:
        for thread in threads:
            thread.start()
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()

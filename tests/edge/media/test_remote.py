"""Fetching over https: from allowed hosts, at public addresses, the ones that were checked; never long, never much."""

import base64
import contextlib
import dataclasses
import ipaddress
import itertools
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpcore
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import MediaError, ParameterError
from edge.media import dial, remote
from edge.media.dial import connect, is_public
from edge.media.fetch import read_url
from edge.media.remote import Remote
from tests.edge.media.network import PUBLIC, Network, answer, redirect

T = TypeVar("T")
HOST = "pictures.example.com"
URL = f"https://{HOST}/a.png"


def net(serve: object = None, **more: object) -> Network:
    return Network({HOST: serve or answer(), **more})  # type: ignore[dict-item]


def over(network: Network, *hosts: str, **options: object) -> Remote:
    return Remote(hosts or (HOST,), resolve=network.resolve, connect=network.connect, **options)  # type: ignore[arg-type]


def fetch(url: str, allowed: Remote) -> bytes:
    return read_url(url, files=False, remote=allowed)


def refused(url: str, allowed: Remote) -> str:
    with pytest.raises(MediaError) as caught:
        fetch(url, allowed)
    message = str(caught.value)
    assert PUBLIC not in message and ("127.0.0.1" in url or "127.0.0.1" not in message)
    return message


# --- addresses ----------------------------------------------------------------------------------------------------

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.1.2.3 169.254.169.254 169.254.0.1
172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.171 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1
198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::7f00:1
64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:10::1 2001:20::1 2001:db8::1
2002:7f00:1:: 2002:808:808::1 3fff::1 3fff:fff:ffff::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 fe80::1%eth0
fec0::1 feff::1 ff00::1 ff02::1 ff0e::1 4000::1 8000::1 1::1 2606:4700::1111%eth0
127.1 0177.0.0.1 0x7f.0.0.1 2130706433 localhost 127.0.0.1:443 [::1] 1.2.3 256.1.1.1 １２７.0.0.1
""".split()  # noqa: SIM905
GLOBAL = """
1.1.1.1 8.8.8.8 9.9.9.9 93.184.215.14 99.255.255.255 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1
169.253.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 223.255.255.254 2606:4700:4700::1111 2a00:1450:4001::1
2001:4860:4860::8888 2400:cb00::1 2600::1 3ffe::1 ::ffff:8.8.8.8
""".split()  # noqa: SIM905


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_never_dialled(address: str) -> None:
    assert not is_public(address)
    network = net()
    network.names[HOST] = [[address]]
    assert "public addresses only" in refused(URL, over(network))
    assert network.dialled == []


@pytest.mark.parametrize("address", GLOBAL)
def test_addresses_that_may_be_dialled(address: str) -> None:
    network = net()
    network.names[HOST] = [[address]]
    assert fetch(URL, over(network)) == b"picture"
    assert network.dialled == [(address, 443)]


@given(st.ip_addresses(v=4))
def test_nothing_that_python_calls_private_is_public(address: ipaddress.IPv4Address) -> None:
    assert not is_public(str(address)) or (address.is_global and not address.is_multicast)


@pytest.mark.parametrize("others", [["10.0.0.1"], ["::1"], ["8.8.8.8", "127.0.0.1"]])
def test_one_address_that_is_not_public_is_one_too_many(others: list[str]) -> None:
    for addresses in itertools.permutations([PUBLIC, *others]):
        network = net()
        network.names[HOST] = [list(addresses)]
        assert "public addresses only" in refused(URL, over(network))
        assert network.dialled == []


def test_the_address_that_was_checked_is_the_one_dialled() -> None:
    for _ in range(50):
        network = net()
        network.names[HOST] = [[PUBLIC], ["127.0.0.1"]]
        assert fetch(URL, over(network)) == b"picture"
        assert network.dialled == [(PUBLIC, 443)]


def test_a_name_that_rebinds_between_two_hops_is_caught_at_the_second() -> None:
    network = net(redirect("/again"))
    network.names[HOST] = [[PUBLIC], ["127.0.0.1"]]
    refused(URL, over(network, redirects=3))
    assert {address for address, _ in network.dialled} == {PUBLIC}


def test_the_host_is_asked_for_by_its_name() -> None:
    network = net()
    fetch(URL, over(network))
    assert network.greeted == [HOST]
    assert f"Host: {HOST}".encode() in network.asked[0]


def test_every_address_of_a_host_is_tried() -> None:
    network = net()
    network.names[HOST] = [["8.8.8.8", "1.1.1.1", PUBLIC]]
    dial = network.connect

    def flaky(address: str, port: int, limit_s: float) -> httpcore.NetworkStream:
        if address != PUBLIC:
            raise httpcore.ConnectError
        return dial(address, port, limit_s)

    assert fetch(URL, Remote((HOST,), resolve=network.resolve, connect=flaky)) == b"picture"


# --- hosts and URLs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "host", "port", "verdict"),
    [
        ("example.com", "example.com", 443, True), ("example.com", "a.example.com", 443, False),
        ("example.com", "example.com", 8443, False), ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False), ("Example.COM", "example.com", 443, True),
        ("example.com.", "example.com", 443, True), ("*.example.com", "a.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True), ("*.example.com", "example.com", 443, False),
        ("*.example.com", "badexample.com", 443, False), ("*", "anything.test", 443, True),
        ("*", "anything.test", 444, False), ("*:444", "anything.test", 444, True),
        ("example.com", "example.com.evil.test", 443, False), ("example.com", "evil-example.com", 443, False),
    ],
)  # fmt: skip
def test_the_list_of_hosts(allowed: str, host: str, port: int, verdict: bool) -> None:
    assert Remote((allowed,)).allows(host, port) is verdict


@pytest.mark.parametrize(
    "host",
    ["", "https://example.com", "example.com/path", "a b", "*.*.com", "a*", "user@host", "exa\nmple.com", "[::1]"],
)
def test_a_host_that_is_none_is_refused_when_it_is_allowed(host: str) -> None:
    with pytest.raises(ParameterError, match="allow_media: expected a host"):
        Remote((host,))


def test_media_from_other_hosts_are_not_allowed() -> None:
    network = net()
    said = refused("https://other.example.com/a", over(network))
    assert "media from 'other.example.com' are not allowed here" in said
    assert said.endswith("allow_media=['other.example.com'] or --allow-media other.example.com")
    assert network.dialled == []


ODD = [
    r"https://127.0.0.1\@pictures.example.com/", r"https://pictures.example.com\@127.0.0.1/",
    "https://pictures.example.com@127.0.0.1/", "https://user:pass@pictures.example.com/a", "https:///a", "https://",
    "https:pictures.example.com/a", "https:/pictures.example.com/a", "https://pictures.example.com:443:80/",
    "https://pictures.example.com:/a", "https://pictures.example.com:99999999/", "https://pictures.example.com:-1/",
    "https://127.0.0.%31/", "https://pictures%2eexample.com/", "https://pictures.example.com /a",
    "https://pictures.example.com/a b", "https://pictures.example.com/\x00", "https://pictures.example.com/\r\nX: y",
    "https://pictures.example.com\t/", "https://pictures.example.com/\u00e9", "https://p\u00edctures.example.com/",
    "https://pictures\u3002example\u3002com/", "https://[::1]/", "https://[pictures.example.com]/", "https://.../",
    "https://-/", "https://pictures.example.com/" + "a" * 9000, "https://pictures.example.com\\.evil.test/",
    "https://pictures.example.com;evil.test/", "https://pictures.example.com&evil.test/", "https://a,b/",
]  # fmt: skip


@pytest.mark.parametrize("url", ODD)
def test_odd_urls_are_refused_before_anything_is_looked_up(url: str) -> None:
    network = net()
    message = refused(url, over(network, "*"))
    assert "expected an https URL" in message
    assert network.dialled == [] and len(message) < 400


@settings(max_examples=500, deadline=None)
@given(st.text("abc.:/\\@?#[]%0127\t \n-_;,&=\u3002é", max_size=40))
def test_the_host_that_was_checked_is_the_host_that_is_dialled(rest: str) -> None:
    checked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        checked.append(host)
        return []

    allowed = Remote(("a.b", "*.a.b"), resolve=resolve)
    for url in (f"https://{rest}", f"https://a.b{rest}", f"https://{rest}a.b/"):
        with pytest.raises(MediaError):
            fetch(url, allowed)
    assert all(host == "a.b" or host.endswith(".a.b") for host in checked)


@pytest.mark.parametrize("tail", ["", "/", "?q=1", "/a?b=c&d=%20", "#part", "/a#b?c"])
def test_plain_urls_are_fetched_with_their_query_and_without_their_fragment(tail: str) -> None:
    network = net()
    assert fetch(f"HTTPS://Pictures.Example.com{tail}", over(network)) == b"picture"
    target = tail.partition("#")[0]
    expected = target if target.startswith("/") else f"/{target}"
    assert network.asked[0].startswith(f"GET {expected} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("url", ["http://pictures.example.com/a", "HTTP://x", "http:"])
def test_plain_http_is_never_fetched(url: str) -> None:
    network = net()
    assert "expected https, got plain http" in refused(url, over(network, "*"))
    assert network.dialled == []


# --- redirects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    other = "files.example.com"
    network = net(redirect(f"https://{other}/b?x=1", status), **{other: answer(b"there")})
    assert fetch(URL, over(network, HOST, other)) == b"there"
    assert network.greeted == [HOST, other]


@pytest.mark.parametrize("hops", [2, 3, 4])
def test_three_redirects_are_followed_and_no_more(hops: int) -> None:
    names = [f"h{i}.example.com" for i in range(hops + 1)]
    servers = {name: redirect(f"https://{after}/") for name, after in itertools.pairwise(names)}
    network = Network({**servers, names[-1]: answer(b"there")})
    if hops <= 3:
        assert fetch(f"https://{names[0]}/", over(network, "*.example.com")) == b"there"
    else:
        assert "expected at most 3 redirects, got 4 or more" in refused(
            f"https://{names[0]}/", over(network, "*.example.com")
        )
        assert len(network.dialled) == 4


@pytest.mark.parametrize(
    "to",
    ["http://pictures.example.com/a", "file:///etc/passwd", "ftp://pictures.example.com/a", "data:,x", "//evil.test/a",
     "https://evil.test/", "https://127.0.0.1/", "https://[::1]/", "gopher://x", "https://user@pictures.example.com/",
     "https://pictures.example.com:22/", "https://pictures.example.com\\@evil.test/", "\\\\evil.test\\a", "https://[/"],
)  # fmt: skip
def test_every_hop_is_checked_anew(to: str) -> None:
    network = net(redirect(to))
    message = refused(URL, over(network))
    assert "redirects to " in message
    assert {port for _, port in network.dialled} == {443}
    assert set(network.greeted) == {HOST}


def test_a_redirect_to_a_private_address_is_refused() -> None:
    network = net(redirect("https://inner.example.com/"), **{"inner.example.com": answer()})
    network.names["inner.example.com"] = [["192.168.1.1"]]
    assert "public addresses only" in refused(URL, over(network, "*.example.com"))
    assert network.dialled == [(PUBLIC, 443)]


# --- what is sent -------------------------------------------------------------------------------------------------


def test_nothing_about_the_user_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine {HOST} login me password secret\n", "utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    other = "files.example.com"
    cookie = answer(b"", status="302 Found", headers=[f"Location: https://{other}/", "Set-Cookie: a=b"])
    network = net(cookie, **{other: answer()})
    assert fetch(URL, over(network, HOST, other)) == b"picture"
    for asked in network.asked:
        names = {line.partition(b":")[0].lower() for line in asked.split(b"\r\n")[1:] if line}
        assert names == {b"host", b"accept", b"accept-encoding", b"user-agent"}


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["204 None", "206 Part", "304 Same", "404 No", "500 Oh", "300 Many"])
def test_other_answers_than_200_are_named(status: str) -> None:
    assert f"expected status 200, got {status[:3]}" in refused(URL, over(net(answer(b"", status=status))))


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "x"])
def test_compressed_bodies_are_refused(coding: str) -> None:
    serve = answer(b"\x1f\x8b", headers=[f"Content-Encoding: {coding}"])
    assert "not compressed" in refused(URL, over(net(serve)))


@pytest.mark.parametrize("chunked", [True, False])
def test_the_bytes_are_limited_at_their_limit(chunked: bool) -> None:
    def serve(n_bytes: int) -> object:
        if not chunked:
            return answer(bytes(n_bytes))
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        return lambda _: [head, b"%x\r\n" % n_bytes, bytes(n_bytes), b"\r\n0\r\n\r\n"]

    for n_bytes in (999, 1000):
        assert len(fetch(URL, over(net(serve(n_bytes)), max_bytes=1000))) == n_bytes
    assert "expected at most 1000 bytes, got" in refused(URL, over(net(serve(1001)), max_bytes=1000))


def test_the_limits_are_those_that_are_documented() -> None:
    defaults = Remote((HOST,))
    assert (defaults.redirects, defaults.connect_s, defaults.total_s, defaults.max_bytes) == (3, 10.0, 30.0, 32 << 20)


def test_a_length_over_the_limit_is_refused_before_the_body() -> None:
    taken = []

    def serve(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
        taken.append(1)
        yield bytes(1 << 20)

    assert "got 99999999999" in refused(URL, over(net(serve)))
    assert taken == []


def test_an_endless_body_costs_no_more_than_the_limit() -> None:
    def serve(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield bytes(1 << 16)

    tracemalloc.start()
    message = refused(URL, over(net(serve), max_bytes=8 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "expected at most 8388608 bytes, got " in message
    assert peak < 24 << 20


LIARS = {
    "longer than told": answer(b"picture", length=3),
    "cut off": answer(b"pic", length=7),
    "nothing": lambda _: [b""],
    "no HTTP": lambda _: [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "endless headers": lambda _: itertools.chain(
        [b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X: " + b"y" * 4000 + b"\r\n")
    ),
    "two lengths": lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc"],
    "odd length": lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc"],
    "odd chunk": lambda _: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
    "odd status": lambda _: [b"HTTP/1.1 abc OK\r\n\r\n"],
}


@pytest.mark.parametrize("serve", LIARS.values(), ids=LIARS)
def test_lying_servers_are_refused_or_cut(serve: object) -> None:
    network = net(serve)
    said = b""
    with contextlib.suppress(MediaError):
        said = fetch(URL, over(network))
    assert said in (b"", b"pic")
    assert network.closed == 1


class Clock:
    """A clock that goes on when it is told to."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def slowed(self, act: Callable[..., T], taken_s: float) -> Callable[..., T]:
        """Have something take so long."""

        def slow(*arguments: object) -> T:
            self.now_s += taken_s
            return act(*arguments)

        return slow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (dial, remote):
        monkeypatch.setattr(module, "time", clock)
    return clock


TOO_LONG = "cannot be fetched within 10 s to connect, 30 s in all"


@pytest.mark.parametrize("taken_s", [9, 10, 11])
@pytest.mark.parametrize("what", ["resolve", "connect"])
def test_ten_seconds_to_connect(what: str, taken_s: int, clock: Clock) -> None:
    allowed = over(net())
    allowed = dataclasses.replace(allowed, **{what: clock.slowed(getattr(allowed, what), taken_s)})
    if taken_s < 10:
        assert fetch(URL, allowed) == b"picture"
    else:
        assert TOO_LONG in refused(URL, allowed)


@pytest.mark.parametrize("taken_s", [29, 30, 31])
def test_thirty_seconds_for_a_body(taken_s: int, clock: Clock) -> None:
    def serve(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
        clock.now_s += taken_s
        yield b"pict"
        yield b"ure"

    if taken_s < 30:
        assert fetch(URL, over(net(serve))) == b"picture"
    else:
        assert TOO_LONG in refused(URL, over(net(serve)))


@pytest.mark.parametrize("taken_s", [29, 30, 31])
def test_thirty_seconds_for_all_hops(taken_s: int, clock: Clock) -> None:
    names = [f"h{i}.example.com" for i in range(4)]
    hops = {name: redirect(f"https://{after}/") for name, after in itertools.pairwise(names)}
    network = Network({**hops, names[-1]: answer()})
    allowed = over(network, "*.example.com")
    allowed = dataclasses.replace(allowed, connect=clock.slowed(allowed.connect, taken_s / 4))
    if taken_s < 30:
        assert fetch(f"https://{names[0]}/", allowed) == b"picture"
    else:
        assert TOO_LONG in refused(f"https://{names[0]}/", allowed)


def slowly(head: bytes, part: bytes, every_s: float) -> object:
    def serve(_: bytes) -> Iterator[bytes]:
        yield head
        while True:
            time.sleep(every_s)
            yield part

    return serve


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 302 Found\r\nLocation: /a\r\n", b"X: y\r\n"),
    ],
)
def test_a_server_that_drips_ends_with_the_time_there_is(head: bytes, part: bytes) -> None:
    message = refused(URL, over(net(slowly(head, part, 0.05)), total_s=0.6, connect_s=0.5))  # or it has no end
    assert "cannot be fetched" in message


def test_a_resolver_that_hangs_ends_with_the_time_there_is() -> None:
    release, resolving = threading.Event(), threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        resolving.set()
        release.wait(600)
        return [PUBLIC]

    message = refused(URL, Remote((HOST,), resolve=resolve, connect_s=0.3))
    assert not release.is_set() and resolving.is_set()
    release.set()
    assert "cannot be fetched within 0.3 s to connect, 30 s in all" in message


@pytest.mark.parametrize("failure", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_without_an_address_is_said_to_have_none(failure: Exception) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise failure

    assert "its host has no address" in refused(URL, Remote((HOST,), resolve=resolve))
    assert "its host has no address" in refused(URL, Remote((HOST,), resolve=lambda *_: []))


def test_every_failure_of_httpcore_is_taken_care_of() -> None:
    raised = [
        kind
        for kind in vars(httpcore).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__.startswith("httpcore")
    ]
    assert len(raised) > 10
    assert not [kind for kind in raised if not issubclass(kind, remote.FAILURES)]


# --- a real server ------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[int, trustme.CA]]:
    """A TLS server on this machine that answers one request."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture")
            except (OSError, ssl.SSLError):
                pass  # the client did not like the certificate

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], authority
        thread.join()


@pytest.mark.parametrize("trusted", [True, False])
def test_certificates_are_checked(
    server: tuple[int, trustme.CA], trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, authority = server
    context = ssl.create_default_context()
    if trusted:
        authority.configure_trust(context)
    monkeypatch.setattr(remote, "_trusted", lambda: context)
    allowed = Remote((HOST,), resolve=lambda *_: [PUBLIC], connect=lambda _, __, s: connect("127.0.0.1", port, s))
    if trusted:
        assert fetch(URL, allowed) == b"picture"
    else:
        assert "its certificate is not trusted" in refused(URL, allowed)


def test_data_urls_need_no_host() -> None:
    data = f"data:;base64,{base64.b64encode(b'abc').decode()}"
    assert fetch(data, over(net())) == b"abc"

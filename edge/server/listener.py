"""The socket that a server listens at, and the certificate that it serves with."""

import errno
import socket
import ssl
from pathlib import Path

from edge.errors import ParameterError

BACKLOG = 128  # connections that wait to be accepted
_REFUSALS = {
    errno.EADDRINUSE: "another program uses the port: choose another one, or --port 0 for one that is free",
    errno.EACCES: "this user may not use the port: choose one of 1024 or more",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    socket.EAI_NONAME: "there is no such name or address",
}


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises: ParameterError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=False)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = _REFUSALS.get(getattr(error, "errno", None) or 0) or getattr(error, "strerror", None) or str(error)
        raise ParameterError(f"{host} port {port}: cannot be bound: {reason}", field="port") from error


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the certificate and key to serve with, None for plain HTTP. Raises: ParameterError."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ParameterError("TLS needs both --tls-cert and --tls-key", field="tls_cert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "not a certificate and its key"
        raise ParameterError(f"--tls-cert and --tls-key cannot be used: {reason}", field="tls_cert") from error
    return context

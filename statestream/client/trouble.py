"""Why a server cannot be reached, as the end of a sentence for people.

Invariants: pure. Errors of drivers are distinguished by what the user has to do. Their own texts are not shown, because
these name sockets, classes and TLS contexts.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final

import aiohttp

NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")


def trouble(error: BaseException) -> str:
    """The problem, and the remedy if it is known: `nothing listens there (connection refused)`."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _untrusted(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unreachable(error.os_error)
    if isinstance(error, TimeoutError):
        return "nothing was received in time"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer (a server with TLS needs https://)"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the response was cut off"
    if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)):
        return "the program that answered does not speak HTTP"
    if isinstance(error, OSError):
        return _unreachable(error)
    return type(error).__name__


def _unreachable(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error)
    if isinstance(error, ssl.SSLError):
        if any(word in str(error.reason) for word in NOT_TLS):
            return "the server does not speak TLS; try http://"
        return f"TLS failed: {str(error.reason).lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return "its host name is not known"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else type(error).__name__


def _untrusted(error: Exception) -> str:
    reason = getattr(error, "verify_message", "") or "it cannot be verified"
    return f"its certificate is not trusted: {reason} (set SSL_CERT_FILE to use an authority of your own)"

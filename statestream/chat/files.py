"""Which files a person may post, and which names a person may give to things.

A file is stored by the server, or is on a public host of the web. Pages display it as a picture or a link, and the
model's provider may fetch what is on the web from its own network. So a file is accepted only if it is known to be
harmless in both places: browsers do not execute files of its type, and its host is public.

Invariants: this is an allowlist: anything unknown is refused. No name is resolved and nothing is fetched here, so a
public name can still resolve to a private address. If the provider could reach such an address, set `hosts`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from statestream.chat.file_urls import file_of
from statestream.core.errors import Refused
from statestream.core.values import check_settings

REFUSED: Final = "file_refused"
MAX_URL: Final = 2_048
MAX_FILENAME: Final = 255
MAX_TYPE: Final = 127
TYPE: Final = "Files of this type cannot be posted here."

MEDIA_TYPES: Final = frozenset(
    {
        *(f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp", "avif", "heic", "heif", "bmp", "tiff")),
        *(f"audio/{kind}" for kind in ("mpeg", "mp4", "aac", "ogg", "opus", "flac", "wav", "x-wav", "webm", "x-m4a")),
        *(f"video/{kind}" for kind in ("mp4", "mpeg", "ogg", "webm", "quicktime")),
        *(f"text/{kind}" for kind in ("plain", "csv", "markdown")),
        *(f"application/{kind}" for kind in ("pdf", "json", "zip", "rtf", "msword", "octet-stream")),
        *(
            f"application/vnd.openxmlformats-officedocument.{kind}"
            for kind in ("wordprocessingml.document", "spreadsheetml.sheet", "presentationml.presentation")
        ),
    }
)
"""Types that browsers do not execute: no HTML, SVG, XML or scripts."""

_MEDIA_TYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9.+_-]*/(?:[a-z0-9][a-z0-9.+_-]*|\*)(?:; ?[a-z0-9_-]+=[\w.+-]+)*", re.ASCII | re.IGNORECASE
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)
_HOST: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])", re.ASCII)
_PRIVATE: Final = (
    ".localhost",
    ".local",
    ".localdomain",
    ".internal",
    ".intranet",
    ".private",
    ".lan",
    ".home",
    ".corp",
)
"""Suffixes of names that are never public. `.home.arpa` is the only other one."""
_OVERRIDES: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the order in which the text around them is displayed: "gpj.exe" as "exe.jpg"."""


class Files(Struct, frozen=True, kw_only=True):
    """Which files people may post, and agents may send.

    `media_types`: of the files that the server stores. `size`: the characters of the `data:` URLs in one message.
    `upload_size`: the bytes of a file that is uploaded, or that an agent sends. `chat_size`: the bytes of all files of
    a chat. `hosts`: the hosts that an `https:` URL may name; None: all that have a public name.
    """

    media_types: AbstractSet[str] = MEDIA_TYPES
    size: int = 1 << 20
    upload_size: int = 25 << 20
    chat_size: int = 1 << 30
    hosts: AbstractSet[str] | None = None

    def __post_init__(self) -> None:
        check_settings(size=self.size, upload_size=self.upload_size, chat_size=self.chat_size)

    def check_new(self, media_type: str, filename: str | None) -> None:
        """Raises Refused unless a file of that type and name may be stored."""
        _check_described(media_type, "-" if filename is None else filename)
        if media_type.partition(";")[0].strip().lower() not in self.media_types:
            raise Refused(REFUSED, TYPE)

    def check(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """Raises Refused unless all parts of a message may be posted."""
        size = 0
        for part in parts:
            if part["type"] == "file":
                self._check_file(part)
                size += len(part["url"])
            elif part["type"] != "text" and not is_name(part["type"], MAX_TYPE):
                raise Refused(REFUSED, f"The type of a part must be one line of at most {MAX_TYPE} characters.")
        if size > self.size:
            raise Refused(REFUSED, f"The files of a message can have {self.size} characters in total, encoded as URLs.")

    def _check_file(self, part: Mapping[str, Any]) -> None:
        media_type, url = part["mediaType"], part["url"]
        _check_described(media_type, part.get("filename", "-"))
        if url.startswith("data:"):
            self._check_data(url, media_type)
        elif file_of(url) is None:
            self._check_address(url)

    def _check_data(self, url: str, media_type: str) -> None:
        head, comma, data = url.removeprefix("data:").partition(",")
        kind, *parameters = head.lower().split(";")
        if not comma or parameters[-1:] != ["base64"] or not _BASE64.fullmatch(data):
            raise Refused(REFUSED, "A file in a `data:` URL must be encoded in base64.")
        if kind != media_type.partition(";")[0].strip().lower():
            raise Refused(REFUSED, "The media type of a file must be the one in its `data:` URL.")
        if kind not in self.media_types:
            raise Refused(REFUSED, TYPE)

    def _check_address(self, url: str) -> None:
        if url[:8].lower() != "https://":
            raise Refused(REFUSED, "A file must have an `https:` or a `data:` URL.")
        if len(url) > MAX_URL:
            raise Refused(REFUSED, f"The URL of a file can have at most {MAX_URL} characters.")
        host = _host(url)
        if host is None or not (_is_public(host) if self.hosts is None else host in self.hosts):
            raise Refused(REFUSED, "The URL of a file must have a public host name; this one does not.")


def _check_described(media_type: str, filename: str) -> None:
    """Raises Refused."""
    if len(media_type) > MAX_TYPE or not _MEDIA_TYPE.fullmatch(media_type):
        raise Refused(REFUSED, "A file needs a media type, such as image/png.")
    if not is_name(filename, MAX_FILENAME):
        raise Refused(REFUSED, f"The name of a file must be one line of at most {MAX_FILENAME} characters.")


def _host(url: str) -> str | None:
    """The host of the URL; None if programs may disagree about it, or if the URL contains a login."""
    if any(character <= " " or character == "\\" or not character.isprintable() for character in url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # a port that is none, or half an IPv6 address
        return None
    if "@" in parts.netloc or not parts.netloc.isascii():
        return None
    return (parts.hostname or "").removesuffix(".") or None


def _is_public(host: str) -> bool:
    """Whether a host is a name with a top-level domain: no address in any notation, and no name of a local network."""
    return len(host) <= 253 and bool(_HOST.fullmatch(host)) and not host.endswith((*_PRIVATE, ".home.arpa"))


def is_name(text: str, most: int) -> bool:
    """Whether a text can be shown as a name: one line that is not empty, in the order in which it is written."""
    return 0 < len(text) <= most and not any(
        character in _OVERRIDES or unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text
    )

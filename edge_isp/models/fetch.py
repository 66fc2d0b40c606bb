"""Fetches models over HTTPS into the user's folder: what a list names, if it is what the list says.

A list is a TOML file that its user trusts:

    [models.NAME]
    url = "https://example.org/models/NAME.toml"
    sha256 = "..."

The address is that of the model's card. The model's file and its variants are fetched from beside it, and the card has
their SHA-256, so that one checksum covers all of them.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge_isp.errors import ModelError, did_you_mean, shortened
from edge_isp.files import LARGEST_MODEL_BYTES, read_file, replace_files
from edge_isp.models.card import read_card
from edge_isp.toml_file import LARGEST_FILE_BYTES, read_toml

# Between two packets.
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that can be fetched.

    Attributes:
        name: of the model.
        url: of its card.
        sha256: of its card, hexadecimal.
    """

    name: str
    url: str
    sha256: str


def read_list(path: Path) -> dict[str, ListedModel]:
    """The models of a list, by name.

    Args:
        path: of the list.

    Raises:
        ModelError: it cannot be read, an address is not one of HTTPS, or a checksum is none.
    """
    document = read_toml(path, ModelError)
    document.check_keys(("models",), required=("models",))
    models = document.table("models")
    found = {}
    for name in models.values:
        entry = models.table(name)
        entry.check_keys(("url", "sha256"), required=("url", "sha256"))
        url, sha256 = entry.text("url"), entry.text("sha256")
        if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", name):
            models.fail(f"[{models.key_path(name)}] must be named with letters, digits, '-', '_' and '.' only")
        if not url.startswith("https://") or not url.endswith(".toml"):
            entry.refuse("url", "the https:// address of a card, which ends in .toml", url)
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            entry.refuse("sha256", "64 hexadecimal digits", sha256)
        found[name] = ListedModel(name, url, sha256)
    return found


def fetch_model(listed: ListedModel, folder: Path) -> Path:
    """Fetches a model with its variants, whole or not at all.

    Args:
        listed: the model.
        folder: that it is written into; it is made if needed.

    Returns:
        The path of the card.

    Raises:
        ModelError: something cannot be fetched or is not what it must be, or another file has its name.
    """
    content = _download(listed.url, LARGEST_FILE_BYTES)
    _verify(listed.url, content, listed.sha256)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"{listed.name}.toml")
        path.write_bytes(content)
        card = read_card(path)
    if card.name != listed.name:
        raise ModelError(f"{listed.url}: must be the card of '{listed.name}', is that of '{shortened(card.name)}'")
    contents = {}
    for file, sha256 in card.checksums.items():
        url = urllib.parse.urljoin(listed.url, urllib.parse.quote(file.name))
        contents[folder / file.name] = _download(url, LARGEST_MODEL_BYTES)
        _verify(url, contents[folder / file.name], sha256)
    contents[folder / f"{listed.name}.toml"] = content  # the last: a card without its files is no model
    _write(folder, contents)
    return folder / f"{listed.name}.toml"


def choose(listed: dict[str, ListedModel], names: Sequence[str], path: Path) -> list[ListedModel]:
    """The models of some names; all where there are no names.

    Args:
        listed: the models of the list.
        names: that are wanted.
        path: of the list, for messages.

    Raises:
        ModelError: one is not in the list.
    """
    for name in names:
        if name not in listed:
            raise ModelError(
                f"{path}: has no model '{shortened(name)}', but {', '.join(listed) or 'none'}"
                f"{did_you_mean(name, listed)}"
            )
    return [listed[name] for name in names] or list(listed.values())


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections that stay with HTTPS."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise ModelError(f"{req.full_url}: leads to {shortened(newurl)}, and only https:// is fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, largest_bytes: int) -> bytes:
    opener = urllib.request.build_opener(_HttpsOnly)
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read(largest_bytes + 1)
            expected = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer as well
        raise ModelError(f"{url}: cannot be fetched: {error}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ModelError(f"{url}: cannot be fetched: {reason}") from error
    if len(content) > largest_bytes:
        raise ModelError(f"{url}: larger than {largest_bytes} bytes")
    if expected is not None and expected.strip() != str(len(content)):
        raise ModelError(f"{url}: ended after {len(content)} of {expected} bytes")
    return content


def _verify(url: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(f"{url}: is not the file that was listed: expected SHA-256 {sha256}, found {found}")


def _write(folder: Path, contents: dict[Path, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            if path.exists() and read_file(path, ModelError, LARGEST_MODEL_BYTES) != content:
                raise ModelError(
                    f"{path}: is there already and is another file; remove it, or fetch into another folder"
                )
        replace_files(contents)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror}") from error

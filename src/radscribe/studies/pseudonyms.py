"""Pseudonyms: keyed hashes in the place of ids, which nobody without the key can link to a patient.

The same key and the same id give the same pseudonym, in every store. Without the key, trying out all possible
ids tells nothing, for HMAC-SHA256 (RFC 2104) cannot be computed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError, warn
from radscribe.studies.store_files import MANIFEST

_KEY_BYTES = 32
#: Number of hexadecimal digits of a pseudonym: 64 bits, of which two agree once in some billions of ids.
_DIGITS = 16
#: What is added to the name of a store to name the file with its key.
_SUFFIX = ".pseudonym_key"


class Pseudonyms:
    """The pseudonyms under one key.

    Args:
        key: Secret key. Without one, a new key is drawn and forgotten with this object.
    """

    def __init__(self, key: bytes | None = None):
        self._key = secrets.token_bytes(_KEY_BYTES) if key is None else key

    def of(self, kind: str, identifier: str) -> str:
        """The pseudonym of an id, 16 hexadecimal digits; the same id of another kind has another one."""
        message = f"{kind}\0{identifier}".encode(errors="surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:_DIGITS]


def with_key(reader_options: dict[str, Any], store: Path) -> dict[str, Any]:
    """Options of a reader, with the file of the key to pseudonyms unless ids are kept.

    The file is `pseudonym_key`, or `STORE.pseudonym_key` beside the store.

    Raises:
        RadScribeError: the file would lie in the store, or the key of a store that is there has gone.
    """
    if reader_options.get("keep_ids"):
        return reader_options
    key = Path(reader_options.get("pseudonym_key") or store.with_name(f"{store.name}{_SUFFIX}"))
    if key.resolve().is_relative_to(store.resolve()):
        raise RadScribeError(
            f"the key {key} would lie in the store, and whoever gets the store must not have it",
            "Give another --pseudonym_key",
        )
    if (store / MANIFEST).is_file() and not key.exists():
        raise RadScribeError(
            f"the key {key} is gone, without which the studies of the store {store} cannot be known again",
            "Put it back, or use another --out",
        )
    return reader_options | {"pseudonym_key": key}


def pseudonyms_of(file: Path) -> Pseudonyms:
    """The pseudonyms under the key in a file; a new key is drawn and written if the file is not there.

    Raises:
        RadScribeError: the file cannot be read or written, or holds no key.
    """
    try:
        if not file.exists():
            _draw(file)
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except OSError as error:
        raise RadScribeError(
            f"cannot read or write the key {file}: {error.strerror}", "Name a file with --pseudonym_key"
        ) from error
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise RadScribeError(
            f"{file} holds no key of pseudonyms",
            "Name a file that is not there yet, and a key is drawn for it",
        )
    return Pseudonyms(key)


def _draw(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as written:
        written.write(f"{secrets.token_hex(_KEY_BYTES)}\n")
    warn(
        f"ids and file names are replaced by hashes, under a new secret key in {file}",
        "Keep it to update the store, and away from whom you give the store to; --keep_ids keeps the ids",
    )

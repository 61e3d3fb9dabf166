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

from radscribe.errors import RadScribeError, warn

_KEY_BYTES = 32
#: Number of hexadecimal digits of a pseudonym: 64 bits, of which two agree once in some billions of ids.
_DIGITS = 16


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

"""Sealing of what a device store keeps, with a key that the app holds.

AES-256-GCM with a random nonce of 96 bits for each row. The key that seals is
derived from the app's key and a random salt of the store, so that one app key
may serve several stores.

Source: NIST SP 800-38D (GCM, random nonces of section 8.2.2); RFC 5869 (HKDF).
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from pocketrank.errors import ExtraMissingError, InputError

KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class Clear:
    """Keeps bytes as they are."""

    def seal(self, data: bytes, place: str) -> bytes:  # noqa: ARG002  (as ``Sealed`` has it)
        """``data`` itself."""
        return data

    def unseal(self, kept: bytes, place: str) -> bytes:  # noqa: ARG002  (as ``Sealed`` has it)
        """``kept`` itself."""
        return kept

    def tag(self, text: str) -> bytes:
        """Sixteen bytes that are the same for the same text, to look a row up by."""
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_TAG_BYTES).digest()


class Sealed:
    """Keeps bytes as nonce, ciphertext and tag; ``place`` is authenticated with them."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        """Derive the store's own keys.

        Raises:
            InputError: The key is not ``KEY_BYTES`` bytes.
            ExtraMissingError: cryptography is not installed.
        """
        check_key(key)
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        except ImportError as error:
            raise ExtraMissingError(
                'an encrypted store needs cryptography: pip install "pocketrank[encryption]"'
            ) from error
        derived = HKDF(SHA256(), 2 * KEY_BYTES, salt, b"pocketrank device store").derive(key)
        self._rows = AESGCM(derived[:KEY_BYTES])
        self._tags = derived[KEY_BYTES:]
        self._invalid = InvalidTag

    def seal(self, data: bytes, place: str) -> bytes:
        """Encrypt ``data`` for ``place``."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._rows.encrypt(nonce, data, place.encode())

    def unseal(self, kept: bytes, place: str) -> bytes:
        """Decrypt what ``seal`` gave for the same ``place``.

        Raises:
            ValueError: The bytes were changed, moved from another place or sealed with another key.
        """
        try:
            return self._rows.decrypt(kept[:_NONCE_BYTES], kept[_NONCE_BYTES:], place.encode())
        except self._invalid as error:
            raise ValueError(f"{place}: the sealed bytes are not authentic") from error

    def tag(self, text: str) -> bytes:
        """A keyed hash of ``text``."""
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_TAG_BYTES, key=self._tags).digest()


Cipher = Clear | Sealed
"""How bytes are kept in a file."""


def check_key(key: bytes) -> None:
    """Refuse what is no key.

    Raises:
        InputError: The key is not ``KEY_BYTES`` bytes.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        found = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise InputError(f"key: expected {KEY_BYTES} random bytes, got {found}; take them from the system's key store")

"""Reading signed keys, each content once.

In a simulation the same key goes to a thousand SVMs of one process. Its signature is checked for
the first of them and the checked key is shared by all.
"""

from __future__ import annotations

from functools import lru_cache

from sparekey.licensing.key_files import TrustedSigners
from sparekey.licensing.keys import LicenseKey


@lru_cache(maxsize=512)
def read_verified(trusted: TrustedSigners, content: bytes) -> LicenseKey:
    """The key of a signed key file, as `TrustedSigners.read` gives it (R80).

    Cached by signers (the object itself) and content; a refusal is not cached.

    Raises:
        InvalidKeyFile: a trusted signer did not sign this.
    """
    return trusted.read(content)

"""One short hash for everything that decides a value: inputs, code version, model, prompt, parameters.

Here belongs only the hashing. What goes into it is said by the assets.
"""

import hashlib
import json
from typing import Any


def fingerprint(parts: Any) -> str:
    """The same 24 hex digits for the same parts, whatever the order of their keys."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()

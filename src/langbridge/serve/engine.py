"""What every engine is asked, and what it answers with."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def fingerprint(settings: Mapping[str, Any]) -> str:
    """A short hash of settings: the same for the same values, whatever their order."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Addresses in a recipe that hold a secret: all that a recipe says is published with its release."""

import re
from typing import Any
from urllib.parse import unquote

CURE = "which lock and release would publish; give an address that needs none or, for a text, the path of a file"
_USER = r"://[^/?#\s]*@"  # patterns that most recipes never need
_PARAMETER = r"[?&;#]([^=&;#?\s]*)="  # a name in a query or a fragment
_SECRET = (
    r"(?i)token(?!s|iz)|secret|passw|credential|signature|(?:api|access).?(?:key|id)|^x-(?:amz|goog)-"
    r"|(?:^|[-_.])(?:key|sig|pwd|pass|auth|authorization|jwt|sas|session|sid)$"
)


def secret(value: Any) -> str | None:
    """What an address in a recipe's value holds that is nobody else's business, in words that do not repeat it."""
    text = value if isinstance(value, str) else repr(value)
    if "://" not in text:
        return None
    if re.search(_USER, text):
        return "a user's name or password"
    named = next((name for name in map(unquote, re.findall(_PARAMETER, text)) if re.search(_SECRET, name)), None)
    return named and f"the parameter {named[:40]!r}, a secret by its name"

"""The errors that a user can fix.

Everything a user can get wrong (a missing folder, a language model given as an encoder, widths that do not
fit) raises `LangBridgeError` with a message that says what was got, what was expected, where, and what to do.
The command line prints the message and exits with 2. Anything else that escapes is our bug.
"""

import re

_FROM_WORKER = re.compile(
    r"\ACaught \w+ in DataLoader worker process \d+\.\n.*^[\w.]+: (.*)\Z", re.DOTALL | re.MULTILINE
)


class LangBridgeError(ValueError):
    """A mistake in the input, with its remedy in the message."""

    def __init__(self, message: str = "") -> None:
        # A loader's worker hands an error over as its type and, for a message, the text of its whole traceback.
        found = _FROM_WORKER.search(message)
        super().__init__(found[1].rstrip() if found else message)

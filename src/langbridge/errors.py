"""The one family of errors that are the user's to mend.

Everything a user can get wrong (a missing folder, a language model given as an encoder, widths that do not
fit) raises `LangBridgeError` with a message that says what was got, what was expected, where, and what to do.
The command line prints the message and exits with 2. Anything else that escapes is our bug.
"""


class LangBridgeError(ValueError):
    """A mistake in the input, with its remedy in the message."""

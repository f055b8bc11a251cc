"""The one error that a user can cause."""


class LangBridgeError(ValueError):
    """Something the user can put right; the message says what was got and what was expected."""

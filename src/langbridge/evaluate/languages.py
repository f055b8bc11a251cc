"""The groups of `langbridge.languages`, under the name that this room's users know."""

from langbridge.languages import LANGUAGE_GROUPS, LLAMA2_PERCENT, LOW_BELOW_PERCENT, group_of

__all__ = ["LANGUAGE_GROUPS", "LLAMA2_PERCENT", "LOW_BELOW_PERCENT", "group_of"]

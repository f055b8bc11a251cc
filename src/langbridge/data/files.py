"""The readers and writers of `langbridge.files`, under the name that this room's users know."""

from langbridge.files import existing_file, json_lines, read_jsonl, text_field, write_atomically, write_jsonl

__all__ = ["existing_file", "json_lines", "read_jsonl", "text_field", "write_atomically", "write_jsonl"]

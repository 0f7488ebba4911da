r"""Text from elsewhere, as a terminal may show it. Pure.

Names of groups, clients and hosts, reasons that brokers give, data of znodes, lines of logs: others
may have put into them what a terminal obeys (colours, a new title, lines that look like ours, text
that runs backwards). Such characters are shown as \n, \x1b, \u202e; what is to be read stays as it
is, in every language. A backslash stays one: this is for reading, not for reading back.
"""

from __future__ import annotations

import re

# C0, DEL and C1; marks and overrides of direction; separators of lines; halves of pairs, which
# cannot be written at all.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ALL = re.compile(f"[{_CONTROLS}]")
_BUT_NEWLINES = re.compile(f"(?!\n)[{_CONTROLS}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escaped(text: str) -> str:
    """One line, whatever it was: for a name, a cell, a value."""
    return _ALL.sub(_code, text)


def escaped_lines(text: str) -> str:
    """For what has lines of its own, such as a message of ours that quotes others."""
    return _BUT_NEWLINES.sub(_code, text)


def escaped_json(text: str) -> str:
    """For a JSON document that was written without escapes: it stays the same document. (In its
    strings JSON allows no control below U+0020; between them are newlines only.)"""
    return _BUT_NEWLINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _code(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")

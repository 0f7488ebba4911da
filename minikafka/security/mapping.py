"""ssl.principal.mapping.rules (KIP-371): from the distinguished name of a certificate to the name
of a principal.

    DEFAULT                          the name as it is
    RULE:pattern/replacement/[L|U]   where the pattern fits the whole name: the replacement, in
                                     which $1 is what the first parentheses hold; in lower or upper
                                     case

Rules have commas between, and the first that fits counts; a / in a part is written \\/. A name that
none fits is refused, and so is a rule that Kafka would read in part: what stands behind the flag,
or $3 where there are two parentheses. A pattern replaces the whole name, once (Kafka lets `.*`
replace the empty end as well).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from minikafka.security.certificate import read_certificate
from minikafka.security.principal import (
    ANONYMOUS,
    EVERYBODY,
    MAX_NAME_CHARACTERS,
    USER,
    Principal,
)

DEFAULT = "DEFAULT"
EXPECTED = "DEFAULT, or RULE:pattern/replacement/ with L or U behind it, commas between"
_MAX_RULES_CHARACTERS = 65_536
_PART = r"((?:\\.|[^\\/])*)"
_RULE = re.compile(rf"\s*(?:DEFAULT|RULE:{_PART}/{_PART}/([LU]?))\s*(?:,|$)", re.DOTALL)
_REFERENCE = re.compile(r"\\(.)|\$(\d+)|\$", re.DOTALL)


class _Rule(NamedTuple):
    """`pattern` None: DEFAULT. `parts`: texts, and numbers of groups."""

    pattern: re.Pattern[str] | None
    parts: tuple[str | int, ...] = ()
    case: str = ""

    def apply(self, name: str) -> str | None:
        if self.pattern is None:
            return name
        match = self.pattern.fullmatch(name)
        if match is None:
            return None
        result = "".join(
            each if isinstance(each, str) else match[each] or "" for each in self.parts
        )
        return {"L": result.lower(), "U": result.upper()}.get(self.case, result)


class PrincipalMapping:
    """ValueError, with what would be right, if the rules cannot be read."""

    def __init__(self, rules: str = DEFAULT) -> None:
        if len(rules) > _MAX_RULES_CHARACTERS:
            raise ValueError(f"expected at most {_MAX_RULES_CHARACTERS} characters")
        self._rules = _read_rules(rules)

    def of_certificate(self, der: bytes | None) -> Principal:
        """Of whom TLS has believed it; ANONYMOUS where none was shown. ValueError as `principal`,
        and if the certificate cannot be read."""
        if der is None:
            return ANONYMOUS
        return self.principal(read_certificate(der).distinguished_name)

    def principal(self, distinguished_name: str) -> Principal:
        """ValueError if no rule fits, or what comes out is no name."""
        if not distinguished_name:
            raise ValueError("the certificate has an empty subject: nobody is named")
        for rule in self._rules:
            name = rule.apply(distinguished_name)
            if name is None:
                continue
            if not 0 < len(name) <= MAX_NAME_CHARACTERS - len(USER) - 1:
                raise ValueError(f"the name of a certificate maps to one of {len(name)} characters")
            principal = Principal(USER, name)
            if principal in (ANONYMOUS, EVERYBODY):
                raise ValueError(f"the name of a certificate maps to {principal}, which is nobody")
            return principal
        raise ValueError("no rule in ssl.principal.mapping.rules fits the name of the certificate")


def _read_rules(text: str) -> tuple[_Rule, ...]:
    rules: list[_Rule] = []
    position = 0
    while position < len(text):
        match = _RULE.match(text, position)
        if match is None:
            rest = text[position:].strip()[:80]
            raise ValueError(f"expected {EXPECTED}: '{rest}' is none")
        rules.append(_Rule(None) if match[1] is None else _read_rule(*match.groups()))
        position = match.end()
    if not rules:
        raise ValueError(f"expected {EXPECTED}")
    return tuple(rules)


def _read_rule(pattern: str, replacement: str, case: str) -> _Rule:
    try:
        compiled = re.compile(pattern, re.ASCII)  # as Java: \w is of ASCII
    except (re.error, OverflowError, RecursionError) as failure:
        raise ValueError(f"the pattern {pattern[:80]} cannot be read: {failure}") from None
    return _Rule(compiled, tuple(_parts(replacement, compiled.groups)), case)


def _parts(replacement: str, groups: int) -> list[str | int]:
    parts: list[str | int] = []
    position = 0
    for match in _REFERENCE.finditer(replacement):
        parts.append(replacement[position : match.start()])
        position = match.end()
        if match[1] is not None:
            parts.append(match[1])
            continue
        number = int(match[2]) if match[2] is not None and len(match[2]) <= 3 else -1
        if not 0 <= number <= groups:
            raise ValueError(
                f"{match[0]} in the replacement {replacement[:80]} stands for nothing: the pattern "
                f"has {groups} parentheses (a dollar sign is \\$)"
            )
        parts.append(number)
    return [*parts, replacement[position:]]

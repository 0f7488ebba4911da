"""The text of Kafka's sasl.jaas.config: which login module, and its options. Nothing is loaded.

org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="b";
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minikafka.security.secret import Secret

MODULES = {
    "org.apache.kafka.common.security.plain.PlainLoginModule": "PLAIN",
    "org.apache.kafka.common.security.scram.ScramLoginModule": "SCRAM",
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule": "OAUTHBEARER",
}
_FLAGS = ("required", "requisite", "sufficient", "optional")
_USER = "user_"
_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s="\';]+)|([=;]))', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Login:
    """`module`: PLAIN, SCRAM or OAUTHBEARER. All options are secrets: some are."""

    module: str
    options: dict[str, Secret]

    @property
    def users(self) -> dict[str, Secret]:
        """Whom a server's PLAIN knows: its options user_NAME="password"."""
        found = {
            name.removeprefix(_USER): password
            for name, password in self.options.items()
            if name.startswith(_USER)
        }
        return {name: password for name, password in found.items() if name}


def parse_jaas(text: str) -> Login:
    """ValueError, which shows nothing of the text but a module's name."""
    tokens = _tokens(text)
    if len(tokens) < 3 or tokens[-1] != ("mark", ";"):
        raise ValueError('sasl.jaas.config is: MODULE required name="value" …;')
    (_, module), (_, flag), *rest = tokens[:-1]
    if module not in MODULES:
        raise ValueError(
            f"the login module '{module[:256]}' is not known: {', '.join(MODULES)} are"
        )
    if flag.lower() not in _FLAGS:
        raise ValueError("what follows the login module in sasl.jaas.config is 'required'")
    options: dict[str, Secret] = {}
    if len(rest) % 3:
        raise ValueError('the options in sasl.jaas.config are name="value"')
    for name, equals, value in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        if name[0] == "mark" or equals != ("mark", "=") or value[0] == "mark":
            raise ValueError('the options in sasl.jaas.config are name="value"')
        if name[1] in options:
            raise ValueError(f"the option {name[1][:256]} stands twice in sasl.jaas.config")
        options[name[1]] = Secret(value[1])
    return Login(MODULES[module], options)


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text): a quoted text, a word, or a mark."""
    text = text.strip()
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError("sasl.jaas.config cannot be read: is a quotation mark missing?")
        quoted, word, mark = match.groups()
        if quoted is not None:
            found.append(("text", re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)))
        elif word is not None:
            found.append(("word", word))
        else:
            found.append(("mark", mark))
        position = match.end()
    return found

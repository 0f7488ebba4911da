"""docs/properties.md, made of the declarations:

python -m tests.helpers.property_docs > docs/properties.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from minikafka.config import BrokerConfig, Property, TopicConfig, as_text, properties
from minikafka.config.properties import INT32_MAX, INT64_MAX

PAGE = Path(__file__).resolve().parents[2] / "docs" / "properties.md"
_HEAD = """\
# Properties

Every property of a topic and of a broker, under Apache Kafka's names; made of their declarations.
What is marked with **no effect** is taken and checked, so that a definition from elsewhere just
works, and changes nothing. The properties of Kafka's brokers that are not here are taken too, and
told as without effect where the broker is started; refused are those that would protect the cluster
and would not do so here (`authorizer.class.name` and the like).

[operating.md](operating.md) tells which of them matter most, and how they are altered while brokers
run.
"""


def page() -> str:
    return "\n".join([_HEAD, *_topics(), "", *_brokers(), ""])


def _topics() -> Iterator[str]:
    yield "## Of a topic"
    yield ""
    yield "All can be altered at any time. The default is that of the broker's property."
    yield ""
    yield "| property | default | broker's property | what it is |"
    yield "|---|---|---|---|"
    for declared in sorted(properties(TopicConfig), key=lambda each: each.name):
        broker = f"`{declared.broker_property}`" if declared.broker_property else ""
        yield f"| `{declared.name}` | {_default(declared)} | {broker} | {_explained(declared)} |"


def _brokers() -> Iterator[str]:
    yield "## Of a broker"
    yield ""
    yield "*Dynamic* ones can be altered while brokers run, others are set where one is started."
    yield ""
    yield "| property | default | dynamic | what it is |"
    yield "|---|---|---|---|"
    for declared in sorted(properties(BrokerConfig), key=lambda each: each.name):
        dynamic = "yes" if declared.dynamic else ""
        yield f"| `{declared.name}` | {_default(declared)} | {dynamic} | {_explained(declared)} |"


def _default(declared: Property) -> str:
    if declared.required:
        return "required"
    if declared.default in (INT32_MAX, INT64_MAX) and not isinstance(declared.default, bool):
        return "unlimited"
    return as_text(declared.default)


def _explained(declared: Property) -> str:
    text = declared.doc
    if declared.no_effect:
        text += f" **No effect**: {declared.no_effect}."
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")

"""The forms of requests fit kio's definitions of them, in every version that is served."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from minikafka.kafka import definitions, requests
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.decoding import Structure
from minikafka.kafka.definitions import Definition, Field
from minikafka.kafka.handlers.cluster import HANDLERS

_TYPES = {"bool": bool, "string": str, "bytes": bytes, "records": bytes, "uuid": uuid.UUID}

Place = tuple[type[Structure], str]  # a field of a form


def faults(
    form: type[Structure], versions: Mapping[int, Definition], seen: set[Place]
) -> Iterator[str]:
    """What does not fit, as sentences; `seen` gets the fields that some version has."""
    for name, hint in get_type_hints(form).items():
        known = {
            version: field
            for version, definition in versions.items()
            for field in definitions.fields_of(definition)
            if field.name == name
        }
        seen |= {(form, name)} if known else set()
        if len(known) < len(versions) and not hasattr(form, name):
            yield f"{form.__name__}.{name}: a version lacks it, and it has no value"
        for version, field in known.items():
            if not _fits(hint, field):
                yield f"{form.__name__}.{name}: {hint} does not hold {field.type} of {version}"
        item = _item(hint)
        if isinstance(item, type) and issubclass(item, Structure):
            parts = {version: field.type for version, field in known.items()}
            yield from faults(item, parts, seen)  # type: ignore[arg-type]


def _fits(hint: Any, field: Field) -> bool:
    may_be_none = field.nullable or field.type == "uuid"
    if may_be_none and NoneType not in get_args(hint):
        return False
    if (get_origin(_without_none(hint)) is Sequence) != field.is_array:
        return False
    item = _item(hint)
    if isinstance(field.type, str):
        return item is _TYPES.get(field.type, int)
    return isinstance(item, type) and issubclass(item, Structure)


def _without_none(hint: Any) -> Any:
    if NoneType not in get_args(hint):
        return hint
    return next(each for each in get_args(hint) if each is not NoneType)


def _item(hint: Any) -> Any:
    hint = _without_none(hint)
    return get_args(hint)[0] if get_origin(hint) is Sequence else hint


def of_api(api: ApiKey, seen: set[Place]) -> list[str]:
    row = APIS[api]
    served = range(row.min_version, row.max_version + 1)
    versions = {version: definitions.request(api, version) for version in served}
    return list(faults(HANDLERS[api].request, versions, seen))


@pytest.mark.parametrize("api", HANDLERS)
def test_a_form_holds_what_every_version_has(api: ApiKey) -> None:
    assert of_api(api, set()) == []


def test_every_field_of_a_form_is_in_a_version_that_is_served() -> None:
    seen: set[Place] = set()
    for api in HANDLERS:
        of_api(api, seen)
    forms = [
        form
        for _, form in inspect.getmembers(requests, inspect.isclass)
        if issubclass(form, Structure)
    ]
    assert {(form, name) for form in forms for name in get_type_hints(form)} == seen


def test_a_form_that_does_not_fit_is_told() -> None:
    class Wrong(Structure):
        topics: Sequence[str]
        validate_onyl: bool
        timeout: str

    versions = {2: definitions.request(ApiKey.CREATE_TOPICS, 2)}
    assert [each.split(":")[0] for each in faults(Wrong, versions, set())] == [
        "Wrong.topics",
        "Wrong.validate_onyl",
        "Wrong.timeout",
    ]

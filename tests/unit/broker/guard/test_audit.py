"""What is said of verdicts: Kafka's sentence and the rule, once, in one line, in bounds."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from minikafka.broker.guard import audit as audit_module
from minikafka.broker.guard import service_for
from minikafka.broker.guard.audit import Audit, Question, question_of
from minikafka.security.acl import Entry, Operation, Pattern, Permission, ResourceType
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller, Principal
from tests.helpers.raw_service import RawService
from tests.unit.broker.guard.test_guard import produce_request
from tests.unit.broker.guard.test_guard_against_the_table import ROWS

ALICE = Caller(Principal("User", "alice"), "10.1.2.3", "INSIDE")
TOPIC = ResourceType.TOPIC


class Ground:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.audit = Audit(lambda: self.now_s)
        self.authorizer = Authorizer()
        raw: Any = RawService()
        self.service: Any = service_for(raw, self.authorizer, ALICE, self.audit)


@pytest.fixture
def ground(caplog: pytest.LogCaptureFixture) -> Ground:
    caplog.set_level(logging.INFO, "minikafka.authorizer")
    return Ground()


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(each.levelname, each.getMessage()) for each in caplog.records]
    caplog.clear()
    return found


DENIED = (
    "Principal = User:alice is Denied Operation = Write from host = 10.1.2.3 on resource = "
    "Topic:LITERAL:orders for request = Produce with resourceRefCount = "
)


async def test_a_denial_is_said_in_kafkas_words_with_the_rule(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    entry = Entry(ALICE.principal, "*", Operation.WRITE, Permission.DENY)
    ground.authorizer.put(Pattern(TOPIC, "orders"), [entry])
    await ground.service.produce(produce_request("orders", "orders"))
    why = "denied by: deny User:alice Write from * on literal Topic orders"
    assert lines(caplog) == [("INFO", f"{DENIED}2: {why}")]


async def test_equal_ones_are_counted(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        await ground.service.produce(produce_request("orders"))
    assert len(lines(caplog)) == 1
    ground.now_s += 10
    await ground.service.produce(produce_request("orders"))
    again, anew = lines(caplog)
    assert again == ("INFO", f"{DENIED}1, and 4 times more in 10 s")
    assert anew == ("INFO", f"{DENIED}1: no entry stands on Topic orders")
    await ground.service.produce(produce_request("orders"))
    assert lines(caplog) == []
    ground.audit.flush()
    ground.audit.flush()
    assert lines(caplog) == [("INFO", f"{DENIED}1, and 1 times more in 10 s")]


async def test_what_is_allowed_or_hidden_is_for_those_who_look(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    entry = Entry(ALICE.principal, "*", Operation.DESCRIBE, Permission.ALLOW)
    ground.authorizer.put(Pattern(TOPIC, "a"), [entry])
    await ground.service.metadata(None, False)
    await ground.service.metadata(["a"], False)
    assert lines(caplog) == []
    caplog.set_level(logging.DEBUG, "minikafka.authorizer")
    await ground.service.metadata(None, False)
    told = lines(caplog)
    assert [level for level, _ in told] == ["DEBUG"] * 3
    assert ["is Allowed" in line for _, line in told] == [True, False, False]
    await ROWS["fetch"].ask(ground.service, ["a"])
    assert [level for level, _ in lines(caplog)] == ["INFO"]


async def test_what_is_allowed_on_the_short_way_is_said_too(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    entry = Entry(ALICE.principal, "*", Operation.WRITE, Permission.ALLOW)
    ground.authorizer.put(Pattern(TOPIC, "orders"), [entry])
    await ground.service.produce(produce_request("orders"))
    caplog.set_level(logging.DEBUG, "minikafka.authorizer")
    await ground.service.produce(produce_request("orders"))
    [(level, line)] = lines(caplog)
    assert level == "DEBUG"
    assert line.endswith(": allowed by: allow User:alice Write from * on literal Topic orders")


async def test_names_are_escaped_and_cut(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    await ground.service.produce(produce_request("evil\nPrincipal = User:root\x1b[2J" + "x" * 9999))
    [(_, line)] = lines(caplog)
    assert "\n" not in line
    assert "\x1b" not in line
    assert "Topic:LITERAL:evil\\nPrincipal = User:root\\x1b[2Jxxx" in line
    assert len(line) < 2000


async def test_a_judge_that_fails_is_told_of_with_its_traceback(
    ground: Ground, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("what\nnow?")

    monkeypatch.setattr(ground.authorizer, "decide", fail)
    for _ in range(3):
        await ground.service.produce(produce_request("orders"))
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.getMessage() == (
        f"{DENIED}1: it could not be judged: RuntimeError('what\\nnow?')"
    )


def test_what_is_remembered_and_said_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "minikafka.authorizer")
    monkeypatch.setattr(audit_module, "MAX_LINES", 3)
    now_s = 0.0
    audit = Audit(lambda: now_s)

    def question(number: int) -> Question:
        return question_of(ALICE, "Fetch", Operation.READ, TOPIC, f"t{number}", allowed=False)

    for number in range(10):
        audit.tell(logging.INFO, question(number), 1, lambda: "why")
    assert len(lines(caplog)) == 3
    audit.tell(logging.ERROR, question(99), 1, lambda: "why")  # other levels have room of their own
    assert [level for level, _ in lines(caplog)] == ["ERROR"]
    now_s = 11.0
    audit.tell(logging.INFO, question(100), 1, lambda: "why")
    told = lines(caplog)
    assert told[0] == ("INFO", "7 verdicts more, which are not listed")
    assert len(told) == 2

"""The clients under test: how each is started, what it can do, and what it lacks on this machine.

Each speaks the small language of programs/common.py, and runs as a process of its own: it can be
asked to end, and it can crash.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from minikafka.errors import UsageError
from tests.helpers import kafka_java
from tests.helpers.fetched import NotFetchedError, fetch, without
from tests.helpers.waiting import happens

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEADLINE_S = 60.0
_PREPARE_TIMEOUT_S = 120
_BUILD_TIMEOUT_S = 600  # all that Go's clients consist of, for the first time

_ENVIRONMENT = {"KAFKAJS_NO_PARTITIONER_WARNING": "1"}

Document = dict[str, Any]


@dataclass(frozen=True)
class Transactions:
    """What a client's errors say, as patterns."""

    fenced: str  # another producer has the id now
    timed_out: str  # the broker has aborted what took too long


@dataclass(frozen=True)
class Client:
    """`command` gives the beginning of a command line (its last argument is the JSON document), or
    raises UsageError with what to install."""

    name: str
    command: Callable[[], list[str]]
    codecs: tuple[str, ...]
    calls: frozenset[str]
    timestamps: bool = True  # of its own choice
    offsets: bool = True  # tells the offset of an acknowledged record
    transactions: Transactions | None = None

    def start(self, what: str, **ask: Any) -> Program:
        return Program(self, {"do": what, **ask})


class Program:
    """A running client. Use it with `with`: what still runs at the end is killed."""

    def __init__(self, client: Client, ask: Document) -> None:
        self.client, self.ask = client, ask
        self.documents: list[Document] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [*_command(client), json.dumps(ask)],
            cwd=ROOT,
            env={
                **os.environ,
                "KAFKAJS_HOME": str(kafkajs_home()),
                "KAFKAJS_NO_PARTITIONER_WARNING": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.crash()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.documents.append(json.loads(line))

    # --- what it is told -------------------------------------------------------------------------

    def send(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Give records to one that produces."""
        assert self._process.stdin is not None
        for record in records:
            self._process.stdin.write(json.dumps(record) + "\n")
        self._process.stdin.flush()

    def finish(self, deadline_s: float = DEADLINE_S) -> list[Document]:
        """No more records: wait until it ends by itself; returns all that it printed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} does not end:\n{self.errors()}") from None
        self._reader.join(DEADLINE_S)
        assert status == 0, f"{self} ended with status {status}:\n{self.errors()}"
        return self.documents

    def answer(self, name: str, /, **ask: Any) -> Document:
        """Ask one that administers, or does transactions: {"result"} or {"error"}."""
        before = len(self.documents)
        self.send([{"call": name, **ask}])
        self.wait_for(lambda: len(self.documents) > before, f"answer to {name}")
        return self.documents[before]

    def call(self, name: str, /, **ask: Any) -> Any:
        """The result; AssertionError if the call fails."""
        answer = self.answer(name, **ask)
        assert "error" not in answer, f"{self}, {name} {ask}: {answer['error']}\n{self.errors()}"
        return answer["result"]

    def leave(self) -> None:
        """SIGTERM, and wait for a proper end."""
        self._process.terminate()
        self.wait_for(lambda: self._process.poll() is not None, "its end")
        self._reader.join(DEADLINE_S)

    def crash(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(DEADLINE_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:
                continue  # nobody reads what was still in the pipe

    # --- what it said ----------------------------------------------------------------------------

    def wait_for(
        self, condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S
    ) -> None:
        if not happens(condition, deadline_s):
            said = f"{self}: no {what} after {deadline_s:g} s; it said {self.documents[-5:]}"
            raise AssertionError(f"{said}\n{self.errors()}")

    def wait_for_records(self, count: int) -> list[Document]:
        self.wait_for(lambda: len(self.records) >= count, f"{count} records ({len(self.records)})")
        return self.records

    def wait_for_assignment(self, condition: Callable[[list[int]], bool]) -> list[int]:
        self.wait_for(lambda: self.assigned is not None and condition(self.assigned), "assignment")
        assert self.assigned is not None
        return self.assigned

    @property
    def records(self) -> list[Document]:
        return [each["record"] for each in self.documents if "record" in each]

    @property
    def values(self) -> list[str]:
        return [record["value"] for record in self.records]

    @property
    def assigned(self) -> list[int] | None:
        """The partitions that a member of a group has now."""
        found = [each["assigned"] for each in self.documents if "assigned" in each]
        return found[-1] if found else None

    @property
    def acknowledged(self) -> list[str]:
        return [each["acknowledged"] for each in self.documents if "acknowledged" in each]

    @property
    def failed(self) -> list[Document]:
        return [each for each in self.documents if "failed" in each]

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-3000:]

    def __str__(self) -> str:
        return f"{self.client.name} {self.ask}"


def missing() -> dict[str, str]:
    """What this machine lacks for which clients; fails the test where none may be missing."""
    found = {}
    for client in CLIENTS:
        try:
            client.command()
        except NotFetchedError as error:
            found[client.name] = str(error)
        except UsageError as error:
            if os.environ.get("MINIKAFKA_REQUIRE_CLIENTS") == "1":
                without(error)
            found[client.name] = str(error)
    return found


# --- where they come from ------------------------------------------------------------------------


@cache
def _command(client: Client) -> tuple[str, ...]:
    """Skips the test where the client is missing, or fails it (`fetched.without`)."""
    try:
        return tuple(client.command())
    except UsageError as error:
        without(error)


def _python(module: str, *needs: str) -> Callable[[], list[str]]:
    def command() -> list[str]:
        for each in needs:
            if importlib.util.find_spec(each) is None:
                raise UsageError(f"the Python package {each} is missing: make test installs it")
        return [sys.executable, "-m", f"tests.clients.programs.{module}"]

    return command


def _kcat() -> list[str]:
    if shutil.which("kcat") is None:
        raise UsageError("there is no kcat on the PATH: apt-get install kcat")
    return _python("kcat")()


def kafkajs_home() -> Path:
    return kafka_java.cache_dir() / "kafkajs"


def _kafkajs() -> list[str]:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise UsageError(f"there is no {program} on the PATH: apt-get install nodejs npm")
    home = kafkajs_home()
    home.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / "kafkajs" / "package.json").read_text()
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / "installed.json"
        if not stamp.exists() or stamp.read_text() != wanted:
            (home / "package.json").write_text(wanted)
            fetch(["npm", "install", "--no-audit", "--no-fund"], home, "KafkaJS")
            stamp.write_text(wanted)
    return ["node", str(HERE / "kafkajs" / "program.js")]


def _java(version: str = kafka_java.VERSION, name: str = "Program") -> list[str]:
    """The program of this name is compiled once a change of it."""
    home = kafka_java.home(version)
    if shutil.which("javac") is None:
        raise UsageError(f"there is no javac on the PATH: {kafka_java.INSTALL}")
    source = HERE / "java" / f"{name}.java"
    classes = kafka_java.cache_dir() / "kafka-java" / f"classes-{version}"
    stamp = classes / source.name
    if not stamp.exists() or stamp.read_text() != source.read_text():
        classes.mkdir(parents=True, exist_ok=True)
        options = ["-cp", f"{home / 'libs'}/*", "-d", str(classes), str(source)]
        _run(["javac", *options], classes, "javac")
        stamp.write_text(source.read_text())
    command = kafka_java.java(name, flags=kafka_java.tool_flags(), version=version)
    where = command.index("-cp") + 1
    command[where] += f":{classes}"
    return command


def _go(package: str, modules: str = "go.mod") -> Callable[[], list[str]]:
    """A program of the folder `go`, built with what this file of modules pins; what was built
    before, Go finds again. Where the machine's Go is too old for them, Go brings a newer one."""

    def command() -> list[str]:
        if shutil.which("go") is None:
            raise UsageError("there is no go on the PATH: make go, and .venv/bin in the PATH")
        source, built = HERE / "go", kafka_java.cache_dir() / "go"
        built.mkdir(parents=True, exist_ok=True)
        program = built / (package if modules == "go.mod" else Path(modules).stem)
        with_modules = f"-modfile={modules}"
        os.environ.setdefault("GOTOOLCHAIN", "auto")
        with (built / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fetch(["go", "mod", "download", with_modules], source, f"{package} for Go")
            build = ["go", "build", "-buildvcs=false", with_modules, "-o", str(program)]
            _run([*build, f"./{package}"], source, "go build", _BUILD_TIMEOUT_S)
        return [str(program)]

    return command


def _run(command: list[str], cwd: Path, what: str, timeout_s: float = _PREPARE_TIMEOUT_S) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode != 0:
        raise UsageError(f"{what} failed: {(done.stdout + done.stderr)[-1500:]}")


_ALL_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_ALL_CALLS = frozenset(
    {
        *("create_topic", "topics", "config", "set_config", "add_partitions", "delete_topic"),
        *("delete_records", "offsets", "groups", "group", "committed", "delete_group"),
        *("broker_config", "set_broker_config", "set_broker_default"),
    }
)

KCAT = Client("kcat", _kcat, _ALL_CODECS, frozenset({"topics", "offsets"}), False, False)
# They take only the number of a broker for its name, so not the nothing that stands for all.
_NO_DEFAULT = frozenset({"set_broker_default"})
CONFLUENT = Client(
    "confluent-kafka",
    _python("librdkafka", "confluent_kafka"),
    _ALL_CODECS,
    _ALL_CALLS - _NO_DEFAULT,
    transactions=Transactions(fenced="_FENCED", timed_out="_FENCED"),
)
KAFKA_PYTHON = Client(
    "kafka-python",
    _python("kafka_python", "kafka"),
    _ALL_CODECS,
    _ALL_CALLS - _NO_DEFAULT,
    transactions=Transactions(fenced="ProducerFenced", timed_out="ProducerFenced"),
)
AIOKAFKA = Client(
    "aiokafka",
    _python("asyncio_client", "aiokafka"),
    _ALL_CODECS,
    _ALL_CALLS - _NO_DEFAULT - {"delete_group"},
    transactions=Transactions(fenced="ProducerFenced", timed_out="timeout occurred"),
)
KAFKAJS = Client(
    "kafkajs",
    _kafkajs,
    ("none", "gzip", "snappy", "lz4"),
    _ALL_CALLS - {"broker_config", "set_broker_config", "set_broker_default"},
    transactions=Transactions(fenced="old epoch", timed_out="old epoch"),
)
JAVA = Client(
    "java",
    _java,
    _ALL_CODECS,
    _ALL_CALLS,
    transactions=Transactions(fenced="ProducerFenced", timed_out="ProducerFenced"),
)
# Who speaks the second version of the protocol of transactions goes on after an abort.
JAVA_4 = replace(
    JAVA,
    name="java-4",
    command=lambda: _java(kafka_java.VERSION_4),
    transactions=Transactions("ProducerFenced", "ProducerFenced|TransactionAbortable"),
)
# They count words (java/Streams.java) and run connectors (java/Worker.java), and speak no more.
STREAMS = Client(
    "kafka-streams", lambda: _java(kafka_java.STREAMS, "Streams"), (), frozenset(), offsets=False
)
CONNECT = Client(
    "kafka-connect", lambda: _java(kafka_java.CONNECT, "Worker"), (), frozenset(), offsets=False
)
FRANZ_GO = Client(
    "franz-go",
    _go("franz"),
    _ALL_CODECS,
    _ALL_CALLS,
    transactions=Transactions("PRODUCER_FENCED", "PRODUCER_FENCED|TRANSACTION_ABORTABLE"),
)
_SARAMA_FENCED = "Error code = 90$"  # PRODUCER_FENCED, which it has no word for
SARAMA = Client(
    "sarama",
    _go("sarama"),
    _ALL_CODECS,
    _ALL_CALLS - _NO_DEFAULT,
    transactions=Transactions(_SARAMA_FENCED, _SARAMA_FENCED),
)
# Before 1.45.1 it leaves the largest timestamp of a batch unset.
SARAMA_OLD = Client(
    "sarama-1.43",
    _go("sarama", "sarama-1.43.mod"),
    _ALL_CODECS,
    _ALL_CALLS - _NO_DEFAULT,
    transactions=SARAMA.transactions,
)
GO_CLIENTS = (FRANZ_GO, SARAMA, SARAMA_OLD)
CLIENTS = (KCAT, CONFLUENT, KAFKA_PYTHON, AIOKAFKA, KAFKAJS, JAVA, *GO_CLIENTS)

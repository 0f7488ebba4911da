"""A broker from start to exit status, over an embedded ZooKeeper and real ports."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from minikafka.app import run
from minikafka.broker.broker import Broker
from minikafka.cli.main import cli
from minikafka.config import BrokerConfig, parse_broker_config
from minikafka.descriptors import descriptor_budget
from minikafka.errors import KafkaStorageError, UsageError
from minikafka.log.store import DiskLogStore
from minikafka.zookeeper.session import ZooKeeperSession
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.waiting import until
from tests.helpers.zookeeper import start_zookeeper

_REQUIRED = {"broker.id": "1", "zookeeper.connect": "h:1", "log.dirs": "/tmp/x"}


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = start_zookeeper("embedded", tmp_path_factory.mktemp("zookeeper"))
    yield running.hosts
    running.stop()


@pytest.fixture
def settings(zookeeper: str, tmp_path: Path) -> dict[str, str]:
    return {
        "broker.id": "1",
        "zookeeper.connect": f"{zookeeper}/{tmp_path.name}",
        "log.dirs": str(tmp_path / "data"),
        "grpc.listener": "127.0.0.1:0",
        "zookeeper.session.timeout.ms": "1000",
    }


@pytest.fixture
def config(settings: dict[str, str]) -> BrokerConfig:
    return parse_broker_config(settings)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[Broker]:
    """Every broker that `app/` makes, in order."""
    made: list[Broker] = []

    class Noted(Broker):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(run, "Broker", Noted)
    return made


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def until_it_serves(
    config: BrokerConfig, capsys: pytest.CaptureFixture[str]
) -> asyncio.Task[int]:
    running = asyncio.create_task(run._run(config))

    def printed() -> bool:
        if running.done():
            running.result()
            raise AssertionError("the broker has ended")
        return "serves gRPC" in capsys.readouterr().out

    await until(printed)
    return running


def closed_clean(config: BrokerConfig) -> bool:
    return (Path(config.log_dirs) / ".clean-shutdown").exists()


async def test_a_broker_says_that_it_serves_and_ends_clean_on_a_signal(
    config: BrokerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    running = await until_it_serves(config, capsys)
    assert not closed_clean(config)
    interrupt()
    assert await running == 0
    assert closed_clean(config)


async def test_a_second_signal_leaves_out_the_handing_over(
    config: BrokerConfig,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handing_over = asyncio.Event()

    async def never(_: Broker) -> None:
        handing_over.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Broker, "shut_down", never)
    running = await until_it_serves(config, capsys)
    interrupt()
    await handing_over.wait()
    interrupt()
    assert await running == 0
    assert "told twice" in caplog.text
    assert closed_clean(config)


async def test_a_broker_that_cannot_go_on_ends_with_status_1_and_is_not_trusted(
    config: BrokerConfig,
    capsys: pytest.CaptureFixture[str],
    brokers: list[Broker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = await until_it_serves(config, capsys)
    brokers[0].fatal.set_exception(RuntimeError("a bug"))
    assert await running == 1
    assert "stopping: a bug" in caplog.text
    assert not closed_clean(config)


async def test_logs_that_cannot_be_closed_are_an_exit_status(
    config: BrokerConfig,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    close = DiskLogStore.close

    async def fail(self: DiskLogStore, clean: bool) -> None:
        await close(self, clean=False)
        if clean:
            raise KafkaStorageError("Input/output error")

    monkeypatch.setattr(DiskLogStore, "close", fail)
    running = await until_it_serves(config, capsys)
    interrupt()
    assert await running == 1
    assert "Input/output error" in caplog.text


async def test_a_broker_id_that_is_taken_is_wrong_usage(
    config: BrokerConfig,
    settings: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("minikafka.zookeeper.stores.registration._EXPIRY_MARGIN_MS", -900)
    running = await until_it_serves(config, capsys)
    second = parse_broker_config({**settings, "log.dirs": str(tmp_path / "second")})
    with pytest.raises(UsageError, match="broker id 1 is taken by the live broker A"):
        await run._run(second)
    assert closed_clean(second)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)  # `second` has taken the handler over
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_signal_while_it_waits_to_be_registered_ends_a_broker_at_once(
    config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    registering = asyncio.Event()

    async def wait(*_: object) -> int:
        registering.set()
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(ZooKeeperStore, "register_broker", wait)
    running = asyncio.create_task(run._run(config))
    await registering.wait()
    interrupt()
    assert await running == 0
    assert closed_clean(config)


async def test_a_signal_while_zookeeper_cannot_be_reached_ends_a_broker_at_once(
    config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting = asyncio.Event()

    async def wait(_: ZooKeeperSession) -> None:
        connecting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ZooKeeperSession, "start", wait)
    running = asyncio.create_task(run._run(config))
    await connecting.wait()
    interrupt()
    assert await running == 0


async def test_a_session_that_is_lost_while_starting_is_exit_status_1(
    config: BrokerConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def lose(_: ZooKeeperStore) -> str:
        raise run.SessionLostError("expired")

    monkeypatch.setattr(ZooKeeperStore, "cluster_id", lose)
    assert await run._run(config) == 1
    assert "lost while starting" in caplog.text


async def test_a_broker_to_which_no_controller_speaks_waits_and_says_so(
    config: BrokerConfig,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(run, "SERVING_WAIT_S", 0.0)
    running = await until_it_serves(config, capsys)
    assert "no controller has spoken" in caplog.text
    interrupt()
    assert await running == 0


async def test_clients_of_kafka_are_let_in_when_the_broker_knows_the_cluster(
    settings: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    brokers: list[Broker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before, it would say of each topic that there is none, and librdkafka gives such a one up."""
    registered, told = asyncio.Event(), asyncio.Event()

    async def wait(_: Broker) -> None:
        registered.set()
        await told.wait()

    monkeypatch.setattr(Broker, "wait_until_serving", wait)
    listening = parse_broker_config({**settings, "listeners": "PLAINTEXT://127.0.0.1:0"})
    serving = asyncio.create_task(until_it_serves(listening, capsys))
    await registered.wait()
    port = brokers[0].info.kafka_listeners[0].port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    told.set()
    running = await serving
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    interrupt()
    assert await running == 0


async def test_a_failure_to_say_that_it_serves_ends_a_broker(
    config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Broker) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(Broker, "wait_until_serving", fail)
    with pytest.raises(AssertionError, match="a bug"):
        await run._run(config)


async def test_an_advertised_address_is_told_as_it_is(
    settings: dict[str, str], capsys: pytest.CaptureFixture[str], brokers: list[Broker]
) -> None:
    advertised = {"grpc.advertised.listener": "127.0.0.1:7777"}
    running = await until_it_serves(parse_broker_config({**settings, **advertised}), capsys)
    assert brokers[0].info.grpc_port == 7777
    interrupt()
    assert await running == 0


@pytest.mark.parametrize("wrong", ["zookeeper", "port", "directory"])
def test_what_cannot_work_as_it_is_configured_is_an_exit_status_without_a_traceback(
    settings: dict[str, str], tmp_path: Path, wrong: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if wrong == "zookeeper":
            settings["zookeeper.connect"] = "127.0.0.1:1"
            settings["zookeeper.connection.timeout.ms"] = "100"
        elif wrong == "port":
            settings["grpc.listener"] = f"127.0.0.1:{port}"
        else:
            (tmp_path / "data").mkdir()
            (tmp_path / "data" / "meta.properties").write_text("version=1\nbroker.id=9\n")
        pairs = [word for item in settings.items() for word in ("--set", "=".join(item))]
        result = CliRunner().invoke(cli, ["broker", *pairs])
    assert result.exit_code == (3 if wrong == "port" else 2), result.output
    assert result.output.startswith("Error: "), result.output
    assert "Traceback" not in result.output
    asyncio.set_event_loop(None)


def test_logs_keep_as_many_files_open_as_is_wanted_and_never_more_than_their_share() -> None:
    share = run._files_of_logs(None)
    assert share == descriptor_budget().files - 16
    assert run._files_of_logs(1) == 1
    assert run._files_of_logs(share + 1) == share
    assert parse_broker_config(_REQUIRED).log_max_open_files is None
    assert parse_broker_config(_REQUIRED | {"log.max.open.files": "7"}).log_max_open_files == 7

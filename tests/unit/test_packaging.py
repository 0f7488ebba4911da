"""The files around the package: what they say of each other holds."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from minikafka.config import BrokerConfig, parse_broker_config

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    ".ci",
    ".dockerignore",
    ".gitignore",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "docker-compose.yml",
    "docs",
    "minikafka",
    "protos",
    "pyproject.toml",
    "tests",
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command in the checkout, without input; its failure is for the test to judge."""
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def requirements(pyproject: dict[str, Any]) -> dict[str, str]:
    """Name -> version specifier, of the package and of its development extra."""
    project = pyproject["project"]
    split = re.compile(r"([A-Za-z0-9._-]+)(.*)")
    found = [split.fullmatch(line) for line in project["dependencies"]]
    found += [split.fullmatch(line) for line in project["optional-dependencies"]["dev"]]
    return {each[1].lower(): each[2] for each in found if each is not None}


# --- The repository -----------------------------------------------------------------------------


def test_the_top_level_holds_what_is_agreed_and_no_more() -> None:
    ignored = [line.rstrip("/") for line in read(".gitignore").splitlines() if line] + [".git"]
    entries = {
        entry.name
        for entry in ROOT.iterdir()
        if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignored)
    }
    assert entries == TOP_LEVEL


def test_the_license_is_the_one_that_pyproject_names(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["license"] == "Apache-2.0"
    text = read("LICENSE")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_dependency_has_its_reason_in_the_decision(pyproject: dict[str, Any]) -> None:
    decision = read("docs/decisions/0002-dependencies.md").lower()
    named = set(re.findall(r"[a-z0-9*-]+", decision))
    without = {
        name
        for name in requirements(pyproject)
        if name not in named and not (name.startswith("types-") and "types-*" in named)
    }
    assert without == set()


def test_every_decision_is_in_the_index() -> None:
    index = read("docs/decisions/README.md")
    decisions = [path.name for path in (ROOT / "docs/decisions").glob("[0-9]*.md")]
    assert decisions
    assert [name for name in decisions if f"({name})" not in index] == []


# --- Make and CI --------------------------------------------------------------------------------


def targets() -> set[str]:
    phony = re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.M)
    assert phony is not None
    return set(phony[1].split())


def test_make_help_lists_every_target() -> None:
    listed = set(re.findall(r"^make (\S+) +\S", run("make", "help").stdout, re.M))
    assert listed == targets()
    assert {"demo", "test", "check", "kazoo-suite", "proto", "bench", "clean"} <= listed


def test_every_script_that_make_runs_is_there() -> None:
    scripts = re.findall(r"\$\(BIN\)/python ([\w/]+\.py)", read("Makefile"))
    assert scripts
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_make_refuses_an_old_python_and_says_what_it_needs(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = run("make", "test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert result.returncode == 2
    assert "minikafka needs Python 3.11 or later" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_ci_runs_the_checks_then_the_tests_with_zookeeper_required() -> None:
    script = read(".ci/run")
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert run("bash", "-n", ".ci/run").stderr == ""
    assert "set -euo pipefail" in script
    assert "export MINIKAFKA_REQUIRE_ZOOKEEPER=1" in script
    assert "export MINIKAFKA_REQUIRE_CLIENTS=1" in script
    assert "export MINIKAFKA_REQUIRE_BROWSER=1" in script
    steps = re.findall(r"^make (\S+)", script, re.M)
    assert steps == ["check", "kazoo-suite", "simulate", "test"]
    assert script.rstrip().endswith("\nmake test")
    assert set(steps) <= targets()


TOOLS = {"make", "ip", "javac", "mvn", "kcat", "openssl", "node", "npm", "chromium"}
CLIENTS = "maven kcat openssl nodejs npm chromium"


def stubbed(folder: Path, stubs: Mapping[str, str]) -> dict[str, str]:
    """An environment in which .ci/run finds these commands and a few of the machine's own."""
    stubs = {"sudo": 'exec "$@"', "git": "echo commit", **stubs}
    for name, body in stubs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    for name in ("bash", "cat", "dirname", "env", "grep", "mktemp", "rm", "sh", "sleep"):
        (folder / name).symlink_to(str(shutil.which(name)))
    (folder / "tmp").mkdir()
    return {"PATH": str(folder), "TMPDIR": str(folder / "tmp")}


def ci_whose_make(folder: Path, body: str) -> dict[str, str]:
    """The environment of .ci/run where everything is there and goes well, and make does this."""
    stubs = dict.fromkeys(TOOLS, "exit 0") | {"dpkg-query": "printf installed"}
    go = '[ "$1" != env ] || echo go1.26.8'
    return stubbed(folder, stubs | {"go": go, "make": body})


@pytest.mark.parametrize(
    ("present", "status", "installed"),
    [
        (TOOLS, "installed", None),
        (TOOLS, "config-files", "libzookeeper-java"),
        ({"make", "ip"}, "not-installed", f"default-jdk-headless {CLIENTS} libzookeeper-java"),
    ],
)
def test_ci_installs_what_is_missing_and_nothing_else(
    tmp_path: Path, present: set[str], status: str, installed: str | None
) -> None:
    log = tmp_path / "log"
    stubs = {name: f'echo {name} "$@" >> {log}' for name in ("apt-get", *present)}
    stubs["dpkg-query"] = f"printf {status}"
    version = "go1.26.8" if len(present) > 2 else "go1.19.8"
    stubs["go"] = f'[ "$1" = env ] && echo {version} || echo go "$@" >> {log}'
    environment = stubbed(tmp_path, stubs)
    subprocess.run([ROOT / ".ci/run"], env=environment, check=True, timeout=60)
    lives = "SEEDS= JOBS=1 ARGS=--fresh 100000 --seconds 150 --fresh-from commit"
    vets = ["go vet ./...", "go vet -modfile=sarama-1.43.mod ./sarama ./spoken"]
    before = ["make check", *vets]
    beside = ["make kazoo-suite", f"make simulate {lives}"]
    if len(present) == 2:
        before = ["make go", *before]
    if installed is not None:
        options = "--quiet --yes --no-install-recommends"
        before = ["apt-get update --quiet", f"apt-get install {options} {installed}", *before]
    steps = log.read_text().splitlines()
    assert steps[: len(before)] == before
    assert sorted(steps[len(before) : -1]) == beside
    assert steps[-1] == "make test"


# Each of the two that run beside each other says something, waits until the other has, and goes on.
MEET = """
[ "$1" = kazoo-suite ] && other=simulate || other=kazoo-suite
case $1 in kazoo-suite | simulate)
  echo "$1 begins"
  : > {folder}/$1
  while [ ! -e {folder}/$other ]; do sleep 0.01; done
  [ "$1" != "{slower}" ] || while [ ! -e {folder}/$other-ended ]; do sleep 0.01; done
  echo "$1 ends" >&2
  : > {folder}/$1-ended
esac
echo "$1 said"
[ "$1" != "{failing}" ]
"""


SAID = ("begins", "ends", "said")


@pytest.mark.parametrize("slower", ["kazoo-suite", "simulate"])
@pytest.mark.parametrize("failing", ["kazoo-suite", "simulate", "test", "none"])
def test_of_what_runs_beside_each_other_all_is_printed_and_either_fails_ci(
    tmp_path: Path, slower: str, failing: str
) -> None:
    (tmp_path / "tmp-of-make").mkdir()
    body = MEET.format(folder=tmp_path / "tmp-of-make", slower=slower, failing=failing)
    environment = ci_whose_make(tmp_path, body)
    ci = subprocess.run(
        [ROOT / ".ci/run"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    beside = [f"{step} {does}" for step in ("kazoo-suite", "simulate") for does in SAID]
    tested = ["test said"] if failing in ("test", "none") else []
    assert ci.stdout.splitlines()[2:] == beside + tested
    assert ci.stderr == ""
    assert (ci.returncode == 0) == (failing == "none")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_when_ci_is_ended_nothing_goes_on(tmp_path: Path) -> None:
    """`sleep` stands for what make starts; it holds the pipe open for as long as it lives."""
    body = '[ "$1" = check ] || { echo "$1" >&3; sleep 1000; }'
    environment = ci_whose_make(tmp_path, body)
    ours, theirs = os.pipe()
    command = ["bash", "-c", f'exec "$0" 3>&{theirs} {theirs}>&-', ROOT / ".ci/run"]
    ci = subprocess.Popen(command, env=environment, pass_fds=[theirs], stdout=subprocess.DEVNULL)
    os.close(theirs)
    with os.fdopen(ours) as begun:
        assert sorted([begun.readline(), begun.readline()]) == ["kazoo-suite\n", "simulate\n"]
        ci.terminate()
        assert begun.read() == ""
    assert ci.wait(20) == 143
    assert list((tmp_path / "tmp").iterdir()) == []


# --- Protocol buffers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "protos/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAMPLE = """
syntax = "proto3";
package minikafka.v1;
message AskRequest { int32 number = 1; }
message AskResponse { string text = 1; }
service AskService {
  rpc Ask(AskRequest) returns (AskResponse);
  rpc Listen(stream AskRequest) returns (stream AskResponse);
}
"""


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    folder = tmp_path / "protos" / "minikafka" / "v1"
    folder.mkdir(parents=True)
    (folder / "ask.proto").write_text(SAMPLE)
    (folder / "plain.proto").write_text(
        'syntax = "proto3";\npackage minikafka.v1;\nimport "minikafka/v1/ask.proto";\n'
        "message Plain { AskRequest request = 1; }\n"
    )
    return tmp_path / "protos"


def test_the_generated_code_is_what_the_protos_say(generator: ModuleType) -> None:
    assert generator.differences(generator.generate()) == []


def test_generated_modules_import_each_other_from_the_package(
    generator: ModuleType, sample: Path
) -> None:
    fresh = generator.generate(sample)
    assert set(fresh) == {
        "__init__.py",
        "ask_pb2.py",
        "ask_pb2.pyi",
        "ask_pb2_grpc.py",
        "ask_pb2_grpc.pyi",
        "plain_pb2.py",
        "plain_pb2.pyi",
    }
    assert "from minikafka.rpc.generated import ask_pb2 as" in fresh["plain_pb2.py"]
    assert "from minikafka.rpc.generated import ask_pb2 as" in fresh["plain_pb2.pyi"]
    assert not any("from minikafka.v1" in text for text in fresh.values())


def test_services_are_typed_for_asyncio(generator: ModuleType, sample: Path) -> None:
    types = generator.generate(sample)["ask_pb2_grpc.pyi"]
    messages = "[ask_pb2.AskRequest, ask_pb2.AskResponse]"
    assert f"Ask: grpc.aio.UnaryUnaryMultiCallable{messages}" in types
    assert f"Listen: grpc.aio.StreamStreamMultiCallable{messages}" in types
    assert "async def Ask(self, request: ask_pb2.AskRequest," in types
    assert "    def Listen(self, request_iterator: AsyncIterator[ask_pb2.AskRequest]," in types


def test_stale_missing_and_left_over_modules_are_told_and_then_put_right(
    generator: ModuleType, sample: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "generated"
    fresh = generator.generate(sample)
    assert len(generator.differences(fresh, folder)) == len(fresh)
    generator.write(fresh, folder)
    assert generator.differences(fresh, folder) == []

    (folder / "ask_pb2.py").write_text("# edited by hand\n")
    (folder / "plain_pb2.pyi").unlink()
    (folder / "gone_pb2.py").write_text("")
    assert generator.differences(fresh, folder) == [
        "plain_pb2.pyi is missing",
        "gone_pb2.py has no .proto any more",
        "ask_pb2.py is not what its .proto says",
    ]
    generator.write(fresh, folder)
    assert generator.differences(fresh, folder) == []


def test_a_folder_without_protos_is_refused(generator: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no \.proto file under"):
        generator.generate(tmp_path)


def test_the_lower_bounds_are_those_that_the_generated_code_checks(
    pyproject: dict[str, Any],
) -> None:
    wanted = requirements(pyproject)
    grpc_version = re.search(
        r"GRPC_GENERATED_VERSION = '(.+)'", read("minikafka/rpc/generated/client_pb2_grpc.py")
    )
    protobuf_version = re.search(
        r"# Protobuf Python Version: (.+)", read("minikafka/rpc/generated/client_pb2.py")
    )
    assert grpc_version is not None
    assert protobuf_version is not None
    assert wanted["grpcio-tools"] == f"=={grpc_version[1]}"
    assert wanted["grpcio"].startswith(f">={grpc_version[1]},")
    assert wanted["protobuf"].startswith(f">={protobuf_version[1]},")


def test_the_protos_pass_buf_lint() -> None:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent))
    assert buf is not None, "buf-bin is a development dependency: run make test"
    result = run(buf, "lint", "protos")
    assert (result.stdout, result.returncode) == ("", 0)


# --- Containers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load(read("docker-compose.yml"))
    assert isinstance(loaded, dict)
    return loaded


def services(compose: dict[str, Any], prefix: str) -> dict[str, dict[str, Any]]:
    return {name: each for name, each in compose["services"].items() if name.startswith(prefix)}


def broker_config(service: dict[str, Any]) -> BrokerConfig:
    assert service["command"][0] == "broker"
    settings = [argument.removeprefix("--set=") for argument in service["command"][1:]]
    assert [f"--set={setting}" for setting in settings] == service["command"][1:]
    return parse_broker_config(dict(setting.split("=", 1) for setting in settings))


def brokers(compose: dict[str, Any]) -> dict[str, BrokerConfig]:
    return {name: broker_config(each) for name, each in services(compose, "broker-").items()}


def test_there_are_three_brokers_and_three_zookeeper_servers(compose: dict[str, Any]) -> None:
    assert list(services(compose, "broker-")) == ["broker-1", "broker-2", "broker-3"]
    assert list(services(compose, "zookeeper-")) == ["zookeeper-1", "zookeeper-2", "zookeeper-3"]


def test_each_broker_accepts_its_properties_and_its_id_is_in_its_name(
    compose: dict[str, Any],
) -> None:
    assert [f"broker-{config.broker_id}" for config in brokers(compose).values()] == list(
        brokers(compose)
    )


def test_brokers_differ_in_nothing_but_id_address_and_volume(compose: dict[str, Any]) -> None:
    own = {"broker.id", "grpc.listener", "grpc.advertised.listener", "listeners"}
    own.add("advertised.listeners")
    common = {
        tuple((e.name, e.value) for e in config.describe() if e.name not in own)
        for config in brokers(compose).values()
    }
    assert len(common) == 1


def test_what_a_broker_advertises_is_what_is_published_on_this_machine(
    compose: dict[str, Any],
) -> None:
    published = set(compose["services"]["network"]["ports"])
    for name, config in brokers(compose).items():
        assert compose["services"][name]["network_mode"] == "service:network"
        assert config.grpc_listener.host == "0.0.0.0"
        assert config.advertised_grpc.host == "127.0.0.1"
        port = config.grpc_listener.port
        assert config.advertised_grpc.port == port
        assert f"127.0.0.1:{port}:{port}" in published
        inside, outside = config.advertised_kafka
        assert config.listeners is not None
        assert [each.port for each in config.listeners] == [inside.port, outside.port]
        assert (inside.name, inside.host) == ("INSIDE", "network")
        assert (outside.name, outside.host) == ("OUTSIDE", "127.0.0.1")
        assert f"127.0.0.1:{outside.port}:{outside.port}" in published
    assert len(published) == 2 * len(brokers(compose))


def test_ports_are_published_on_this_machine_only_and_once(compose: dict[str, Any]) -> None:
    ports = [port for each in compose["services"].values() for port in each.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_brokers_know_every_zookeeper_server_and_the_servers_each_other(
    compose: dict[str, Any],
) -> None:
    servers = services(compose, "zookeeper-")
    for config in brokers(compose).values():
        assert config.zookeeper_connect == ",".join(f"{name}:2181" for name in servers)
    ensemble = " ".join(
        f"server.{number}={name}:2888:3888;2181" for number, name in enumerate(servers, start=1)
    )
    for number, each in enumerate(servers.values(), start=1):
        assert each["environment"]["ZOO_SERVERS"] == ensemble
        assert each["environment"]["ZOO_MY_ID"] == str(number)


def test_every_service_has_a_health_check(compose: dict[str, Any]) -> None:
    assert [name for name, each in compose["services"].items() if "healthcheck" not in each] == []


def test_the_health_check_of_a_broker_asks_its_own_port(compose: dict[str, Any]) -> None:
    for name, config in brokers(compose).items():
        *_, module, address = compose["services"][name]["healthcheck"]["test"]
        assert address == f"127.0.0.1:{config.grpc_listener.port}"
        assert importlib.util.find_spec(module) is not None


def test_zookeeper_answers_the_words_that_its_health_check_uses(compose: dict[str, Any]) -> None:
    for each in services(compose, "zookeeper-").values():
        allowed = each["environment"]["ZOO_4LW_COMMANDS_WHITELIST"].split(",")
        used = re.findall(r"echo (\w+)", each["healthcheck"]["test"][1])
        assert "ruok" in used
        assert set(used) <= set(allowed)


def test_a_broker_starts_only_when_all_that_it_needs_is_healthy(compose: dict[str, Any]) -> None:
    needed = {"network", *services(compose, "zookeeper-")}
    for each in services(compose, "broker-").values():
        assert each["depends_on"] == {name: {"condition": "service_healthy"} for name in needed}


def test_every_volume_is_declared_and_mounted_once(compose: dict[str, Any]) -> None:
    mounted = [
        volume.split(":")[0]
        for each in compose["services"].values()
        for volume in each.get("volumes", [])
    ]
    assert sorted(mounted) == sorted(compose["volumes"])
    for name, config in brokers(compose).items():
        (volume,) = compose["services"][name]["volumes"]
        assert volume.split(":")[1] == config.log_dirs


def test_every_image_that_is_not_built_here_has_a_version(compose: dict[str, Any]) -> None:
    images = {each["image"] for each in compose["services"].values() if "build" not in each}
    images |= set(re.findall(r"^FROM (\S+)", read("Dockerfile"), re.M))
    assert images
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", image) for image in images), images


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    copies = re.findall(r"^COPY (.+) \S+$", read("Dockerfile"), re.M)
    sources = {source for line in copies for source in line.split()}
    assert {"pyproject.toml", "minikafka"} <= sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    admitted = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert sources == admitted


def test_the_image_runs_the_command_line_as_somebody_who_is_not_root(
    pyproject: dict[str, Any], compose: dict[str, Any]
) -> None:
    lines = read("Dockerfile").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["minikafka"]
    assert 'ENTRYPOINT ["minikafka"]' in lines
    assert "minikafka" in pyproject["project"]["scripts"]
    folder = {config.log_dirs for config in brokers(compose).values()}
    assert folder == {line.split()[1] for line in lines if line.startswith("VOLUME ")}


def test_the_image_has_what_was_compiled_and_no_compiler() -> None:
    _, build, image = read("Dockerfile").split("\nFROM ")
    assert "install --yes --no-install-recommends gcc" in build
    assert "gcc" not in image
    assert "from=build,source=/wheels,target=/wheels" in image


def test_an_installation_goes_on_without_a_compiler(pyproject: dict[str, Any]) -> None:
    (compiled,) = pyproject["tool"]["setuptools"]["ext-modules"]
    assert compiled["optional"] is True
    assert [source for source in compiled["sources"] if not (ROOT / source).is_file()] == []


def test_every_decision_has_a_number_of_its_own_and_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    found = sorted(path.name for path in folder.glob("0*.md"))
    numbers = [name[:4] for name in found]
    assert numbers == [f"{number:04d}" for number in range(1, len(found) + 1)]
    listed = re.findall(r"^\| \[(\d+)\]\((\S+)\)", (folder / "README.md").read_text(), re.M)
    assert listed == [(name[:4], name) for name in found]
    titles = {(folder / name).read_text()[:6] for name in found}
    assert titles == {f"# {number}" for number in numbers}

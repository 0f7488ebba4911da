"""Apache ZooKeeper as it is found on this machine: $ZOOKEEPER_HOME, or Debian's libzookeeper-java;
and how to start one server of it, for a small machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from minikafka.errors import UsageError
from minikafka.zookeeper.servers.addresses import Ports

_DEBIAN_JARS = Path("/usr/share/java")
_NEEDED = ("zookeeper", "zookeeper-jute", "metrics-core", "slf4j-api", "snappy-java")
_LOGGER = "slf4j-simple"  # without it the log says nothing
_INSTALL = "apt-get install libzookeeper-java default-jre-headless"
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_JVM_FLAGS = (
    "-Xms16m",
    "-Xmx64m",
    "-Xss256k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dzookeeper.admin.enableServer=false",
    "-Dzookeeper.4lw.commands.whitelist=ruok,srvr,stat,mntr,conf,cons,dump,envi",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
# In ticks: how long a follower may take to join, and to lag, before it is given up.
_INIT_LIMIT_MS = 10_000
_SYNC_LIMIT_MS = 5_000


class Installation(NamedTuple):
    java: Path
    classpath: str


def find_installation() -> Installation:
    """UsageError, with what to install, if Java or ZooKeeper is missing."""
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{java_home}/bin" if java_home else None)
    if java is None:
        where = f"in JAVA_HOME={java_home}" if java_home else "on the PATH"
        raise UsageError(f"there is no java {where}, which ZooKeeper needs: {_INSTALL}")
    return Installation(Path(java), ":".join(str(jar) for jar in _jars()))


def _jars() -> list[Path]:
    home = os.environ.get("ZOOKEEPER_HOME")
    if home:
        jars = sorted(Path(home, "lib").glob("*.jar")) + sorted(Path(home).glob("*.jar"))
        if not any(jar.name.startswith("zookeeper") for jar in jars):
            raise UsageError(
                f"ZOOKEEPER_HOME={home} has no lib/zookeeper-*.jar: set it to the folder of an "
                f"Apache ZooKeeper, or unset it and {_INSTALL}"
            )
        return [Path(home, "conf"), *jars]
    missing = [name for name in _NEEDED if not (_DEBIAN_JARS / f"{name}.jar").exists()]
    if missing:
        raise UsageError(
            f"Apache ZooKeeper is not installed ({_DEBIAN_JARS} lacks {missing[0]}.jar): "
            f"{_INSTALL}; or set ZOOKEEPER_HOME; or use --zookeeper embedded, which needs neither"
        )
    found = [_DEBIAN_JARS / f"{name}.jar" for name in (*_NEEDED, _LOGGER)]
    return [jar for jar in found if jar.exists()]


def command(
    directory: Path,
    number: int,
    ports: Sequence[Ports],
    tick_time_ms: int,
    max_session_timeout_ms: int,
) -> list[str]:
    """Write the configuration of server `number` (from 1) of an ensemble into its `directory`;
    returns the command that runs it."""
    data = directory / "data"
    data.mkdir(exist_ok=True)
    settings = {
        "tickTime": tick_time_ms,
        "dataDir": data,
        "clientPort": ports[number - 1].client,
        "clientPortAddress": "127.0.0.1",
        "maxClientCnxns": 0,
        "maxSessionTimeout": max_session_timeout_ms,
        "autopurge.purgeInterval": 1,
    }
    if len(ports) > 1:
        settings["initLimit"] = _INIT_LIMIT_MS // tick_time_ms
        settings["syncLimit"] = _SYNC_LIMIT_MS // tick_time_ms
        for member, own in enumerate(ports, start=1):
            settings[f"server.{member}"] = f"127.0.0.1:{own.quorum}:{own.election}"
        (data / "myid").write_text(f"{number}\n")
    lines = [f"{name}={_escaped(str(value))}\n" for name, value in settings.items()]
    config = directory / "zoo.cfg"
    config.write_text("".join(lines))
    installation = find_installation()
    return [
        str(installation.java),
        *_JVM_FLAGS,
        "-cp",
        installation.classpath,
        _MAIN,
        str(config),
    ]


def _escaped(value: str) -> str:
    """As the value of a Java property: Latin-1, with escapes."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)

"""Apache Kafka for tests and benchmarks: its jars by way of Maven, and commands that run them.

The jars (the broker, its tools, the Java client, ZooKeeper) lie in `.cache/kafka-java/VERSION` of
the checkout, or in $MINIKAFKA_CACHE; they are brought once, by Maven from the repositories that it
is set up for, and found again afterwards. Nothing of it is ever committed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from minikafka.errors import UsageError
from tests.helpers.fetched import fetch

VERSION = "3.9.1"
INSTALL = "apt-get install maven default-jdk-headless"
_ROOT = Path(__file__).resolve().parents[2]
# The tools drag Kafka Connect along, with a web server: only a plugin scanner needs it.
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>minikafka</groupId>
  <artifactId>kafka-java</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>{VERSION}</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-api</artifactId></exclusion>
      </exclusions>
    </dependency>
  </dependencies>
</project>
"""
_LOG4J = """\
log4j.rootLogger=WARN, stderr
log4j.appender.stderr=org.apache.log4j.ConsoleAppender
log4j.appender.stderr.Target=System.err
log4j.appender.stderr.layout=org.apache.log4j.PatternLayout
log4j.appender.stderr.layout.ConversionPattern=%d{HH:mm:ss,SSS} %p %c{1}: %m%n
"""


def cache_dir() -> Path:
    """Where tests and benchmarks keep what they fetched."""
    return Path(os.environ.get("MINIKAFKA_CACHE") or _ROOT / ".cache")


def home() -> Path:
    """The folder with `libs/*.jar` and `log4j.properties`, fetched if it is not there yet.
    UsageError, with what to install, if Java or Maven is missing; NotFetchedError if it fails."""
    if shutil.which("java") is None:
        raise UsageError(f"there is no java on the PATH, which Apache Kafka needs: {INSTALL}")
    found = cache_dir() / "kafka-java" / VERSION
    if found.exists():
        return found
    if shutil.which("mvn") is None:
        raise UsageError(f"there is no mvn on the PATH, which brings Apache Kafka: {INSTALL}")
    found.parent.mkdir(parents=True, exist_ok=True)
    with (found.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be fetching it just now
        if not found.exists():
            _fetch(found)
    return found


def _fetch(target: Path) -> None:
    fresh = target.with_name(f"{target.name}.fetching")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    (fresh / "pom.xml").write_text(_POM)
    (fresh / "log4j.properties").write_text(_LOG4J)
    command = [
        *("mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies"),
        *(f"-DoutputDirectory={fresh / 'libs'}", "-DincludeScope=runtime"),
    ]
    fetch(command, fresh, f"Apache Kafka {VERSION}")
    fresh.rename(target)


def java(main: str, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
    """The command that runs a class of Apache Kafka."""
    folder = home()
    return [
        "java",
        *flags,
        f"-Dlog4j.configuration=file:{folder / 'log4j.properties'}",
        "-cp",
        f"{folder / 'libs'}/*",
        main,
        *arguments,
    ]


def tool_flags() -> list[str]:
    """For programs that live for a moment on a small machine."""
    return ["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]

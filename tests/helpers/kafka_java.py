"""Apache Kafka for tests and benchmarks: its jars by way of Maven, and commands that run them.

The jars (the broker, its tools, the Java client, ZooKeeper) lie in `.cache/kafka-java/VERSION` of
the checkout, or in $MINIKAFKA_CACHE; they are brought once, by Maven from the repositories that it
is set up for, and found again afterwards. Nothing of it is ever committed. Tests want VERSION,
which still has ZooKeeper; benchmarks want VERSION_4 as well, which has not; one test, its client.
Kafka Streams and Kafka Connect (of VERSION_4) have folders of their own, such as `streams-VERSION`.
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
VERSION_4 = "4.3.1"
INSTALL = "apt-get install maven default-jdk-headless"
_ROOT = Path(__file__).resolve().parents[2]
STREAMS, CONNECT = f"streams-{VERSION_4}", f"connect-{VERSION_4}"
# The tools drag Kafka Connect along, with a web server: only a plugin scanner needs it.
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>minikafka</groupId>
  <artifactId>kafka-java</artifactId>
  <version>1</version>
  <dependencies>{dependencies}
  </dependencies>
</project>
"""
_KAFKA = """
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>{version}</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-api</artifactId></exclusion>
      </exclusions>
    </dependency>"""
_ONE = """
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>{artifact}</artifactId>
      <version>{version}</version>
    </dependency>"""
_ARTIFACTS = {STREAMS: "kafka-streams", CONNECT: "connect-runtime"}
# Apache's own packages of 4.x have it, its artifacts do not ask for it: nothing would be logged.
_LOGGING_OF_4 = """
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.4</version>
    </dependency>"""
_LOG4J = """\
log4j.rootLogger=WARN, stderr
log4j.appender.stderr=org.apache.log4j.ConsoleAppender
log4j.appender.stderr.Target=System.err
log4j.appender.stderr.layout=org.apache.log4j.PatternLayout
log4j.appender.stderr.layout.ConversionPattern=%d{HH:mm:ss,SSS} %p %c{1}: %m%n
"""
_LOG4J2 = """\
rootLogger.level=WARN
rootLogger.appenderRef.stderr.ref=STDERR
appender.stderr.type=Console
appender.stderr.name=STDERR
appender.stderr.target=SYSTEM_ERR
appender.stderr.layout.type=PatternLayout
appender.stderr.layout.pattern=%d{HH:mm:ss,SSS} %p %c{1}: %m%n
"""


def cache_dir() -> Path:
    """Where tests and benchmarks keep what they fetched."""
    return Path(os.environ.get("MINIKAFKA_CACHE") or _ROOT / ".cache")


def is_fetched(version: str = VERSION) -> bool:
    return _folder(version).exists()


def _folder(version: str) -> Path:
    return cache_dir() / "kafka-java" / version


def home(version: str = VERSION) -> Path:
    """The folder with `libs/*.jar` and how to log, fetched if it is not there yet; `version` may be
    STREAMS or CONNECT.
    UsageError, with what to install, if Java or Maven is missing; NotFetchedError if it fails."""
    if shutil.which("java") is None:
        raise UsageError(f"there is no java on the PATH, which Apache Kafka needs: {INSTALL}")
    found = _folder(version)
    if found.exists():
        return found
    if shutil.which("mvn") is None:
        raise UsageError(f"there is no mvn on the PATH, which brings Apache Kafka: {INSTALL}")
    found.parent.mkdir(parents=True, exist_ok=True)
    with (found.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be fetching it just now
        if not found.exists():
            _fetch(found, version)
    return found


def _fetch(target: Path, version: str) -> None:
    fresh = target.with_name(f"{target.name}.fetching")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    (fresh / "pom.xml").write_text(_POM.format(dependencies=_dependencies(version)))
    (fresh / "log4j.properties").write_text(_LOG4J)
    (fresh / "log4j2.properties").write_text(_LOG4J2)
    command = [
        *("mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies"),
        *(f"-DoutputDirectory={fresh / 'libs'}", "-DincludeScope=runtime"),
    ]
    fetch(command, fresh, f"Apache Kafka {version}")
    fresh.rename(target)


def _dependencies(version: str) -> str:
    if version in _ARTIFACTS:
        return _ONE.format(artifact=_ARTIFACTS[version], version=VERSION_4) + _LOGGING_OF_4
    return _KAFKA.format(version=version) + (_LOGGING_OF_4 if _is_4(version) else "")


def _is_4(version: str) -> bool:
    return version in (VERSION_4, *_ARTIFACTS)


def java(
    main: str, *arguments: str, flags: Sequence[str] = (), version: str = VERSION
) -> list[str]:
    """The command that runs a class of Apache Kafka."""
    folder = home(version)
    logging = f"-Dlog4j.configuration=file:{folder / 'log4j.properties'}"
    if _is_4(version):
        logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    return ["java", *flags, logging, "-cp", f"{folder / 'libs'}/*", main, *arguments]


def tool_flags() -> list[str]:
    """For programs that live for a moment on a small machine."""
    return ["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]

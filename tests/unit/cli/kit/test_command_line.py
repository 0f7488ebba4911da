"""The command itself: what it loads, what it says of mistakes, with which status it ends."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor

import click
import pytest
from click.testing import CliRunner

from minikafka.cli.kit.lazy import RootGroup
from minikafka.cli.main import COMMANDS, cli, main, write_whole
from minikafka.errors import InvalidTopicError, UsageError
from tests.helpers.waiting import happens

HEAVY = ("grpc", "kazoo", "rich", "asyncio", "google.protobuf", "uvloop", "minikafka.client")


def run(*arguments: str):
    return CliRunner().invoke(cli, list(arguments), prog_name="minikafka")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        f"sys.argv = ['minikafka', *{arguments!r}]\n"
        "from minikafka.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_can_be_loaded_and_explains_itself(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0, done.output
    assert f"Usage: minikafka {name}" in done.output


@pytest.mark.parametrize(
    "command",
    [
        "topics create",
        "topics list",
        "topics describe",
        "topics alter",
        "topics delete",
        "groups list",
        "groups describe",
        "groups delete",
        "groups delete-offsets",
        "groups reset-offsets",
        "log dump",
        "zk tree",
        "zk ls",
        "zk get",
        "zk watch",
        "zk controller",
        "zk guarantees",
        "perf produce",
        "perf consume",
        "perf latency",
    ],
)
def test_every_subcommand_explains_itself(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == 0, done.output
    assert f"Usage: minikafka {command}" in done.output


def test_the_command_without_arguments_shows_its_help() -> None:
    done = run()
    assert "Usage: minikafka" in done.output
    assert "consume" in done.output


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minikafka", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("minikafka ")


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        (["tpics"], "topics"),
        (["prodcue"], "produce"),
        (["topics", "crate"], "create"),
        (["log", "dmup"], "dump"),
        (["Status"], "status"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(
    mistyped: list[str], meant: str
) -> None:
    done = run(*mistyped)
    assert done.exit_code == 2
    assert f"did you mean {meant}" in done.stderr


def test_a_command_like_no_other_is_answered_with_all_that_there_are() -> None:
    done = run("zzzzzz")
    assert done.exit_code == 2
    assert "no such command: 'zzzzzz'; there are up, down" in done.stderr


def root_that_raises(error: BaseException) -> RootGroup:
    group = RootGroup("minikafka", lazy={})

    @click.command("work")
    def work() -> None:
        raise error

    group.get_command = lambda ctx, name: work  # type: ignore[method-assign]
    group.list_commands = lambda ctx: ["work"]  # type: ignore[method-assign]
    return group


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("say it otherwise"), 2, "Error: say it otherwise\n"),
        (InvalidTopicError("no such name"), 1, "Error: no such name\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "Error: /x/y: Permission denied\n"),
    ],
)
def test_an_error_is_one_line_on_standard_error_and_an_exit_status(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikafka.cli.kit.lazy.drop_standard_output", lambda: None)
    done = CliRunner().invoke(root_that_raises(error), ["work"])
    assert (done.exit_code, done.stderr, done.stdout) == (status, said, "")


def test_a_bug_keeps_its_traceback() -> None:
    done = CliRunner().invoke(root_that_raises(AssertionError("a bug")), ["work"])
    assert isinstance(done.exception, AssertionError)


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    program = (
        "import click\n"
        "from minikafka.cli.kit.lazy import RootGroup\n"
        "group = RootGroup('minikafka', lazy={})\n"
        "@click.command('work')\n"
        "def work():\n"
        "    while True:\n        click.echo('y' * 1000)\n"
        "group.get_command = lambda ctx, name: work\n"
        "group(['work'])\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    try:
        assert writer.stdout.readline() == b"y" * 1000 + b"\n"
        writer.stdout.close()
        assert (writer.wait(30), writer.stderr.read()) == (0, b"")
    finally:
        writer.kill()
        writer.wait()
        writer.stderr.close()


class NarrowPipe(io.RawIOBase):
    """Takes seven bytes of what it is given, as a pipe may that is nearly full."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        part = bytes(data[:7])
        self.taken += part
        return len(part)


def test_nothing_is_lost_where_python_does_not_buffer_standard_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = NarrowPipe()
    unbuffered = io.TextIOWrapper(pipe, encoding="utf-8", write_through=True)
    unbuffered.write("some seven letters")
    assert pipe.taken == b"some se", "Python does it itself now"
    pipe.taken = b""
    monkeypatch.setattr(sys, "stdout", unbuffered)
    monkeypatch.setattr(sys, "argv", ["minikafka", "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert pipe.taken.decode().split() == run("--help").output.split()


@pytest.mark.parametrize("buffered", [False, True])
def test_an_output_that_does_not_block_and_is_read_late_gets_all(
    monkeypatch: pytest.MonkeyPatch, buffered: bool
) -> None:
    """As of `top`: its terminal's input and output are one, and watching the one unblocks both."""
    reader, theirs = os.pipe()
    os.set_blocking(theirs, False)
    room = fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    text = "".join(f"line {number}\n" for number in range(room))
    with open(reader, "rb") as file, open(theirs, "wb", buffering=-1 if buffered else 0) as pipe:
        before = io.TextIOWrapper(pipe, write_through=not buffered)
        monkeypatch.setattr(sys, "stdout", before)
        write_whole()

        def write() -> None:
            try:
                print(text, end="", flush=True)
            finally:
                before.close()  # or whoever reads waits for ever

        with ThreadPoolExecutor(1) as thread:
            writing = thread.submit(write)
            assert happens(lambda: waiting_bytes(reader) == room or writing.done(), 20)
            assert not writing.done(), writing.exception()
            read = file.read()
            writing.result(20)
    assert read.decode() == text


def waiting_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_command_without_standard_output_still_works() -> None:
    command = f"exec {sys.executable} -m minikafka zk tree --help >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

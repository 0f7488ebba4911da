"""Generates minikafka/rpc/generated from protos/minikafka/v1, or checks that it is current.

    python protos/generate.py            write the generated modules
    python protos/generate.py --check    exit with status 1 if what is committed differs

The protobuf package is `minikafka.v1`, and protoc would have its Python modules imported by that
name, which is inside the real package `minikafka`. So the modules are generated flat into
`minikafka.rpc.generated`, with their imports of each other rewritten. Each gets a .pyi: that of the
messages is protoc's; that of the services is written here, typed for grpc.aio, as protoc has none.

What is generated depends on the version of grpcio-tools, which pyproject.toml pins for that reason.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "minikafka" / "rpc" / "generated"
PACKAGE = "minikafka.v1"
IMPORTED_AS = "minikafka.rpc.generated"
INIT = '"""Generated from protos/minikafka/v1 by `make proto`: do not edit."""\n'


def generate(protos: Path = PROTOS) -> dict[str, str]:
    """File name in the generated package -> text. Raises SystemExit if protoc refuses a proto."""
    sources = sorted(str(path) for path in (protos / PACKAGE.replace(".", "/")).glob("*.proto"))
    if not sources:
        raise SystemExit(f"no .proto file under {protos / PACKAGE.replace('.', '/')}")
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch)
        descriptors = output / "descriptors"
        arguments = [
            "protoc",
            f"--proto_path={protos}",
            f"--python_out={output}",
            f"--pyi_out={output}",
            f"--grpc_python_out={output}",
            f"--descriptor_set_out={descriptors}",
            *sources,
        ]
        status = protoc.main(arguments)
        if status != 0:
            raise SystemExit(status)
        files = {
            path.name: _rewritten(path.read_text(encoding="utf-8"))
            for path in sorted((output / PACKAGE.replace(".", "/")).iterdir())
        }
        described = FileDescriptorSet.FromString(descriptors.read_bytes())
    return {"__init__.py": INIT} | _with_service_types(files, described)


def _rewritten(text: str) -> str:
    return re.sub(
        rf"^from {re.escape(PACKAGE)} import", f"from {IMPORTED_AS} import", text, flags=re.M
    )


def _with_service_types(files: dict[str, str], described: FileDescriptorSet) -> dict[str, str]:
    """Adds a .pyi for each module of services; drops the modules of files without a service."""
    result = dict(files)
    for file in described.file:
        module = Path(file.name).stem + "_pb2_grpc"
        if file.service:
            result[f"{module}.pyi"] = "\n".join(_service_module(file, described)) + "\n"
        else:
            del result[f"{module}.py"]
    return result


def _service_module(file: FileDescriptorProto, described: FileDescriptorSet) -> Iterator[str]:
    home = {
        f".{each.package}.{message.name}": f"{Path(each.name).stem}_pb2.{message.name}"
        for each in described.file
        for message in each.message_type
    }
    used = {home[name] for service in file.service for name in _message_names(service)}
    yield from ("from collections.abc import AsyncIterator", "", "import grpc.aio", "")
    for module in sorted({name.partition(".")[0] for name in used}):
        yield f"from {IMPORTED_AS} import {module}"
    for service in file.service:
        yield from ("", f"class {service.name}Stub:")
        yield "    def __init__(self, channel: grpc.aio.Channel) -> None: ..."
        for method in service.method:
            yield _stub_attribute(method, home)
        yield from ("", f"class {service.name}Servicer:")
        for method in service.method:
            yield _servicer_method(method, home)
        yield from (
            "",
            f"def add_{service.name}Servicer_to_server(",
            f"    servicer: {service.name}Servicer, server: grpc.aio.Server",
            ") -> None: ...",
        )


def _message_names(service: ServiceDescriptorProto) -> Iterator[str]:
    for method in service.method:
        yield method.input_type
        yield method.output_type


def _stub_attribute(method: MethodDescriptorProto, home: dict[str, str]) -> str:
    request = "Stream" if method.client_streaming else "Unary"
    response = "Stream" if method.server_streaming else "Unary"
    types = f"{home[method.input_type]}, {home[method.output_type]}"
    return f"    {method.name}: grpc.aio.{request}{response}MultiCallable[{types}]"


def _servicer_method(method: MethodDescriptorProto, home: dict[str, str]) -> str:
    request, response = home[method.input_type], home[method.output_type]
    context = f"context: grpc.aio.ServicerContext[{request}, {response}]"
    argument = (
        f"request_iterator: AsyncIterator[{request}]"
        if method.client_streaming
        else f"request: {request}"
    )
    # An asynchronous generator is a plain function that returns its iterator.
    keyword = "def" if method.server_streaming else "async def"
    result = f"AsyncIterator[{response}]" if method.server_streaming else response
    return f"    {keyword} {method.name}(self, {argument}, {context}) -> {result}: ..."


def differences(fresh: dict[str, str], folder: Path = GENERATED) -> list[str]:
    """What differs between a fresh generation and the files of a folder, a sentence each."""
    present = {path.name for path in folder.glob("*.py*")} if folder.is_dir() else set()
    missing = [f"{name} is missing" for name in sorted(fresh.keys() - present)]
    extra = [f"{name} has no .proto any more" for name in sorted(present - fresh.keys())]
    stale = [
        f"{name} is not what its .proto says"
        for name in sorted(fresh.keys() & present)
        if (folder / name).read_text(encoding="utf-8") != fresh[name]
    ]
    return missing + extra + stale


def write(fresh: dict[str, str], folder: Path = GENERATED) -> None:
    """Makes the folder hold exactly the fresh files."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.py*"):
        if path.name not in fresh:
            path.unlink()
    for name, text in fresh.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(f"usage: python {Path(__file__).name} [--check]", file=sys.stderr)
        return 2
    fresh = generate()
    if not arguments:
        write(fresh)
        return 0
    found = differences(fresh)
    for difference in found:
        print(f"minikafka/rpc/generated: {difference}: run `make proto`", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

def walk(
    data: bytes | bytearray | memoryview,
    start: int,
    count: int,
    first: int,
    base_timestamp_ms: int,
    keyed: bool,
    oldest_ms: int,
    newest_ms: int,
    /,
) -> tuple[int, int, int, int, int, list[int] | None, list[int] | None, str | None]: ...

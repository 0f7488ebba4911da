"""What the tree promises its clients, one sentence a test."""

from __future__ import annotations

import base64
import hashlib

import pytest

from minikafka.zookeeper.embedded.model import (
    FLAG_EPHEMERAL,
    FLAG_SEQUENTIAL,
    PERM_ALL,
    PERM_READ,
    Acl,
    AclResult,
    AuthId,
    Check,
    ChildrenResult,
    CloseSession,
    Create,
    Created,
    DataResult,
    Delete,
    Done,
    ErrorCode,
    EventType,
    Exists,
    Failed,
    GetAcl,
    GetChildren,
    GetData,
    Multi,
    MultiResult,
    Outcome,
    Request,
    Result,
    SetAcl,
    SetData,
    SetWatches,
    StatResult,
    Sync,
    SyncResult,
    Unsupported,
    WatchEvent,
)
from minikafka.zookeeper.embedded.tree import Tree

PASSWORD = b"p" * 16


class Driver:
    """A tree with a clock that moves one millisecond a request."""

    def __init__(self) -> None:
        self.tree = Tree(min_session_timeout_ms=100, max_session_timeout_ms=10_000)
        self.now_ms = 1_000
        self.session = self.open()

    def open(self, timeout_ms: int = 1_000) -> int:
        return self.tree.open_session(timeout_ms, PASSWORD, self.now_ms).session_id

    def outcome(self, request: Request, session: int | None = None) -> Outcome:
        self.now_ms += 1
        outcome = self.tree.request(session or self.session, request, self.now_ms)
        self.tree.check_invariants()
        return outcome

    def __call__(self, request: Request, session: int | None = None) -> Result:
        return self.outcome(request, session).result

    def events(self, request: Request, session: int | None = None) -> list[tuple[int, str, str]]:
        outcome = self.outcome(request, session)
        assert not isinstance(outcome.result, Failed), outcome
        return [(event.session_id, event.type.name, event.path) for event in outcome.events]


@pytest.fixture
def zk() -> Driver:
    return Driver()


def failed(error: ErrorCode) -> Failed:
    return Failed(error)


# --- znodes --------------------------------------------------------------------------------------


def test_a_new_znode_has_the_zxid_and_time_of_its_creation(zk: Driver) -> None:
    created = zk(Create("/a", b"xyz"))
    assert isinstance(created, Created)
    assert created.path == "/a"
    assert created.stat == (2, 2, 1_001, 1_001, 0, 0, 0, 0, 3, 0, 2)
    assert zk(GetData("/a")) == DataResult(b"xyz", created.stat)


def test_no_data_is_kept_apart_from_empty_data(zk: Driver) -> None:
    zk(Create("/none", None))
    zk(Create("/empty", b""))
    none, empty = zk(GetData("/none")), zk(GetData("/empty"))
    assert isinstance(none, DataResult)
    assert isinstance(empty, DataResult)
    assert (none.data, empty.data) == (None, b"")


def test_set_data_moves_version_and_mzxid_only(zk: Driver) -> None:
    before = zk(Create("/a", b"1"))
    assert isinstance(before, Created)
    after = zk(SetData("/a", b"22", version=0))
    assert isinstance(after, StatResult)
    expected = before.stat._replace(mzxid=3, mtime_ms=1_002, version=1, data_length=2)
    assert after.stat == expected


def test_children_move_cversion_and_pzxid_of_their_parent(zk: Driver) -> None:
    zk(Create("/a"))
    zk(Create("/a/b"))
    zk(Create("/a/c"))
    zk(Delete("/a/b"))
    children = zk(GetChildren("/a"))
    assert isinstance(children, ChildrenResult)
    assert children.children == ("c",)
    assert children.stat.cversion == 3
    assert children.stat.num_children == 1
    assert children.stat.pzxid == zk.tree.last_zxid
    assert children.stat.mzxid == 2


def test_a_refused_write_takes_no_zxid(zk: Driver) -> None:
    outcome = zk.outcome(Delete("/missing"))
    assert outcome == Outcome(failed(ErrorCode.NO_NODE))
    assert zk.tree.last_zxid == 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Create("/a"), ErrorCode.NODE_EXISTS),
        (Create("/"), ErrorCode.NODE_EXISTS),
        (Create("/missing/b"), ErrorCode.NO_NODE),
        (Create("/e/b"), ErrorCode.NO_CHILDREN_FOR_EPHEMERALS),
        (Create("/x", acl=()), ErrorCode.INVALID_ACL),
        (Create("/x", flags=4), ErrorCode.UNIMPLEMENTED),
        (Create("/x", flags=7), ErrorCode.BAD_ARGUMENTS),
        (Create("/x", flags=-1), ErrorCode.BAD_ARGUMENTS),
        (Delete("/missing"), ErrorCode.NO_NODE),
        (Delete("/a", version=1), ErrorCode.BAD_VERSION),
        (Delete("/a"), ErrorCode.NOT_EMPTY),
        (Delete("/"), ErrorCode.BAD_ARGUMENTS),
        (Delete("/zookeeper"), ErrorCode.BAD_ARGUMENTS),
        (SetData("/missing", b""), ErrorCode.NO_NODE),
        (SetData("/a", b"", version=7), ErrorCode.BAD_VERSION),
        (SetAcl("/a", ()), ErrorCode.INVALID_ACL),
        (SetAcl("/a", (Acl(PERM_ALL, "world", "anyone"),), version=3), ErrorCode.BAD_VERSION),
        (SetAcl("/missing", (Acl(PERM_ALL, "world", "anyone"),)), ErrorCode.NO_NODE),
        (Check("/a", 9), ErrorCode.BAD_VERSION),
        (Check("/missing", 0), ErrorCode.NO_NODE),
        (Exists("/missing"), ErrorCode.NO_NODE),
        (GetData("/missing"), ErrorCode.NO_NODE),
        (GetChildren("/missing"), ErrorCode.NO_NODE),
        (GetAcl("/missing"), ErrorCode.NO_NODE),
        (Unsupported(16, ErrorCode.RECONFIG_DISABLED), ErrorCode.RECONFIG_DISABLED),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_protocols_error(
    zk: Driver, request_: Request, error: ErrorCode
) -> None:
    zk(Create("/a"))
    zk(Create("/a/child"))
    zk(Create("/e", flags=FLAG_EPHEMERAL))
    before = zk.tree.image()
    assert zk(request_) == failed(error)
    assert zk.tree.image() == before


@pytest.mark.parametrize(
    "path",
    ["", "a", "/p/", "//", "/.", "/p/..", "/a\x00", "/a\x1e", "/a\x7f", "/a\ue000", "/a\uffff",
     "/a\U0001f600"],
)  # fmt: skip
def test_a_path_that_no_znode_may_have_is_a_bad_argument(zk: Driver, path: str) -> None:
    zk(Create("/p"))
    refused = failed(ErrorCode.BAD_ARGUMENTS)
    assert zk(Create(path)) == refused
    assert zk(SetData(path, b"")) == refused
    assert zk(SetAcl(path, ())) == refused
    assert zk(Check(path, 0)) == refused


@pytest.mark.parametrize("path", ["/a", "/ä", "/...", "/.a", "/a b", "/zookeeper/x"])
def test_any_other_path_is_fine(zk: Driver, path: str) -> None:
    assert isinstance(zk(Create(path)), Created)


def test_sync_answers_with_any_path(zk: Driver) -> None:
    assert zk(Sync("/not/there")) == SyncResult("/not/there")


# --- sequential ----------------------------------------------------------------------------------


def paths_of(*results: Result) -> list[str]:
    assert all(isinstance(result, Created) for result in results), results
    return [result.path for result in results if isinstance(result, Created)]


def test_sequence_numbers_count_the_creations_below_a_parent(zk: Driver) -> None:
    zk(Create("/q"))
    made = [
        zk(Create("/q/n-", flags=FLAG_SEQUENTIAL)),
        zk(Create("/q/plain")),
        zk(Create("/q/n-", flags=FLAG_SEQUENTIAL)),
        zk(Create("/q/", flags=FLAG_SEQUENTIAL)),
    ]
    assert paths_of(*made) == ["/q/n-0000000000", "/q/plain", "/q/n-0000000002", "/q/0000000003"]


def test_a_sequence_number_is_never_given_twice(zk: Driver) -> None:
    zk(Create("/q"))
    (first,) = paths_of(zk(Create("/q/n-", flags=FLAG_SEQUENTIAL)))
    zk(Delete(first))
    (second,) = paths_of(zk(Create("/q/n-", flags=FLAG_SEQUENTIAL)))
    assert (first, second) == ("/q/n-0000000000", "/q/n-0000000001")


# --- sessions and ephemerals ---------------------------------------------------------------------


def test_session_timeouts_are_clamped_to_the_bounds(zk: Driver) -> None:
    asked = (1, 500, 1_000_000)
    assert [zk.tree.open_session(ms, PASSWORD, 0).timeout_ms for ms in asked] == [100, 500, 10_000]


def test_ephemerals_go_with_a_closed_session(zk: Driver) -> None:
    other = zk.open()
    zk(Create("/keep"))
    zk(Create("/e1", flags=FLAG_EPHEMERAL), other)
    zk(Create("/keep/e2", flags=FLAG_EPHEMERAL), other)
    assert zk(Exists("/e1")) != failed(ErrorCode.NO_NODE)
    assert zk(CloseSession(), other) == Done()
    assert zk.tree.children("/") == ("zookeeper", "keep")
    assert zk.tree.children("/keep") == ()
    assert zk(Create("/x"), other) == failed(ErrorCode.SESSION_EXPIRED)


def test_a_session_expires_at_its_deadline_and_not_before(zk: Driver) -> None:
    other = zk.open(timeout_ms=300)
    zk(Create("/e", flags=FLAG_EPHEMERAL), other)
    deadline_ms = zk.now_ms + 300
    assert zk.tree.expire(deadline_ms - 1) == []
    (expired,) = zk.tree.expire(deadline_ms)
    assert expired.session_id == other
    assert zk.tree.node("/e") is None
    assert zk.tree.expire(deadline_ms) == []


def test_every_sign_of_life_moves_the_deadline(zk: Driver) -> None:
    other = zk.open(timeout_ms=300)
    opened_ms = zk.now_ms
    zk.tree.touch(other, opened_ms + 200)
    assert zk.tree.expire(opened_ms + 499) == []
    zk.tree.request(other, Sync("/"), opened_ms + 499)
    assert zk.tree.expire(opened_ms + 798) == []
    assert [e.session_id for e in zk.tree.expire(opened_ms + 799)] == [other]


def test_time_in_which_nobody_listened_is_given_back(zk: Driver) -> None:
    other = zk.open(timeout_ms=300)
    zk.tree.sessions.postpone(5_000)
    assert zk.tree.expire(zk.now_ms + 5_299) == []
    assert [e.session_id for e in zk.tree.expire(zk.now_ms + 5_300)] == [other]


def test_a_session_is_taken_over_with_its_password_only(zk: Driver) -> None:
    assert zk.tree.attach(zk.session, b"wrong", 1_000, zk.now_ms) is None
    assert zk.tree.attach(zk.session + 1, PASSWORD, 1_000, zk.now_ms) is None
    session = zk.tree.attach(zk.session, PASSWORD, 2_000, zk.now_ms)
    assert session is not None
    assert (session.timeout_ms, session.deadline_ms) == (2_000, zk.now_ms + 2_000)


def test_the_end_of_a_session_tells_the_others_but_not_itself(zk: Driver) -> None:
    other = zk.open()
    zk(Create("/e", flags=FLAG_EPHEMERAL), other)
    zk(Exists("/e", watch=True), other)
    zk(Exists("/e", watch=True))
    zk(GetChildren("/", watch=True))
    assert zk.events(CloseSession(), other) == [
        (zk.session, "NODE_DELETED", "/e"),
        (zk.session, "NODE_CHILDREN_CHANGED", "/"),
    ]


# --- watches -------------------------------------------------------------------------------------


def test_exists_on_a_missing_znode_watches_for_its_creation(zk: Driver) -> None:
    zk(Exists("/a", watch=True))
    assert zk.events(Create("/a")) == [(zk.session, "NODE_CREATED", "/a")]


def test_get_data_on_a_missing_znode_watches_nothing(zk: Driver) -> None:
    zk(GetData("/a", watch=True))
    zk(GetChildren("/a", watch=True))
    assert zk.events(Create("/a")) == []


def test_a_watch_fires_once(zk: Driver) -> None:
    zk(Create("/a"))
    zk(GetData("/a", watch=True))
    zk(GetData("/a", watch=True))
    assert zk.events(SetData("/a", b"1")) == [(zk.session, "NODE_DATA_CHANGED", "/a")]
    assert zk.events(SetData("/a", b"2")) == []
    assert len(zk.tree.watches) == 0


def test_a_deletion_is_told_once_to_who_watches_data_and_children(zk: Driver) -> None:
    other = zk.open()
    zk(Create("/a"))
    zk(GetData("/a", watch=True))
    zk(GetChildren("/a", watch=True))
    zk(GetChildren("/a", watch=True), other)
    assert zk.events(Delete("/a")) == [
        (zk.session, "NODE_DELETED", "/a"),
        (other, "NODE_DELETED", "/a"),
    ]


def test_child_watches_hear_of_creation_and_deletion_but_not_of_data(zk: Driver) -> None:
    zk(Create("/a"))
    zk(GetChildren("/a", watch=True))
    assert zk.events(SetData("/a", b"1")) == []
    assert zk.events(Create("/a/b")) == [(zk.session, "NODE_CHILDREN_CHANGED", "/a")]
    zk(GetChildren("/a", watch=True))
    assert zk.events(SetData("/a/b", b"1")) == []
    assert zk.events(Delete("/a/b")) == [(zk.session, "NODE_CHILDREN_CHANGED", "/a")]


def test_watches_are_gone_with_the_connection(zk: Driver) -> None:
    zk(Exists("/a", watch=True))
    zk.tree.detach(zk.session)
    assert zk.events(Create("/a")) == []


def test_a_multi_fires_watches_for_each_of_its_ops(zk: Driver) -> None:
    zk(Exists("/a", watch=True))
    zk(GetChildren("/", watch=True))
    assert zk.events(Multi((Create("/a"), SetData("/a", b""), Delete("/a")))) == [
        (zk.session, "NODE_CREATED", "/a"),
        (zk.session, "NODE_CHILDREN_CHANGED", "/"),
    ]


def test_a_failed_multi_fires_nothing(zk: Driver) -> None:
    zk(Exists("/a", watch=True))
    outcome = zk.outcome(Multi((Create("/a"), Delete("/missing"))))
    assert outcome.events == ()
    assert outcome.transaction is None


def test_set_watches_tells_what_was_missed_and_watches_the_rest(zk: Driver) -> None:
    zk(Create("/same"))
    zk(Create("/changed"))
    zk(Create("/gone"))
    seen_zxid = zk.tree.last_zxid
    zk(SetData("/changed", b"new"))
    zk(Create("/changed/child"))
    zk(Delete("/gone"))
    zk(Create("/born"))
    request = SetWatches(
        relative_zxid=seen_zxid,
        data_paths=("/same", "/changed", "/gone"),
        exist_paths=("/born", "/unborn"),
        child_paths=("/same", "/changed", "/gone"),
    )
    outcome = zk.outcome(request)
    assert outcome.result == Done()
    assert outcome.events == (
        WatchEvent(zk.session, EventType.NODE_DATA_CHANGED, "/changed"),
        WatchEvent(zk.session, EventType.NODE_DELETED, "/gone"),
        WatchEvent(zk.session, EventType.NODE_CREATED, "/born"),
        WatchEvent(zk.session, EventType.NODE_CHILDREN_CHANGED, "/changed"),
        WatchEvent(zk.session, EventType.NODE_DELETED, "/gone"),
    )
    assert zk.events(Create("/unborn")) == [(zk.session, "NODE_CREATED", "/unborn")]
    assert zk.events(SetData("/same", b"")) == [(zk.session, "NODE_DATA_CHANGED", "/same")]
    assert zk.events(Create("/same/x")) == [(zk.session, "NODE_CHILDREN_CHANGED", "/same")]


def test_who_may_not_read_a_znode_does_not_hear_of_it(zk: Driver) -> None:
    other = zk.open()
    zk.tree.authenticate(other, "digest", b"joe:pw")
    for session in (zk.session, other):
        zk(Exists("/a", watch=True), session)
    assert zk.events(Create("/a", acl=(Acl(PERM_ALL, "auth", ""),)), other) == [
        (other, "NODE_CREATED", "/a")
    ]
    for session in (zk.session, other):
        zk(Exists("/a", watch=True), session)
    assert zk.events(Delete("/a"), other) == [(other, "NODE_DELETED", "/a")]
    assert len(zk.tree.watches) == 0


# --- multi ---------------------------------------------------------------------------------------


def test_a_multi_is_one_transaction(zk: Driver) -> None:
    zk(Create("/a", b"0"))
    zxid = zk.tree.last_zxid
    result = zk(Multi((Check("/a", 0), SetData("/a", b"1", 0), Create("/a/b"), Delete("/a/b"))))
    assert zk.tree.last_zxid == zxid + 1
    assert isinstance(result, MultiResult)
    checked, changed, created, deleted = result.results
    assert (checked, deleted) == (Done(), Done())
    assert isinstance(changed, StatResult)
    assert isinstance(created, Created)
    assert changed.stat.mzxid == created.stat.czxid == zxid + 1


def test_the_ops_of_a_multi_see_those_before_them(zk: Driver) -> None:
    result = zk(
        Multi(
            (
                Create("/a"),
                Create("/a/n-", flags=FLAG_SEQUENTIAL),
                Create("/a/n-", flags=FLAG_SEQUENTIAL),
                Delete("/a/n-0000000000"),
                SetData("/a", b"1", 0),
                SetData("/a", b"2", 1),
                Check("/a", 2),
            )
        )
    )
    assert isinstance(result, MultiResult)
    assert not any(isinstance(r, Failed) for r in result.results)
    assert zk.tree.children("/a") == ("n-0000000001",)


def test_a_failed_multi_changes_nothing_and_says_which_op_it_was(zk: Driver) -> None:
    zk(Create("/a"))
    before = zk.tree.image()
    ops = (Create("/b"), Delete("/a"), Create("/a/b"), Create("/c"), SetData("/nope", b""))
    assert zk(Multi(ops)) == MultiResult(
        (
            failed(ErrorCode.OK),
            failed(ErrorCode.OK),
            failed(ErrorCode.NO_NODE),
            failed(ErrorCode.RUNTIME_INCONSISTENCY),
            failed(ErrorCode.RUNTIME_INCONSISTENCY),
        )
    )
    assert zk.tree.image() == before


def test_a_multi_of_checks_alone_changes_nothing(zk: Driver) -> None:
    zxid = zk.tree.last_zxid
    assert zk(Multi((Check("/", 0),))) == MultiResult((Done(),))
    assert zk(Multi(())) == MultiResult(())
    assert zk.tree.last_zxid == zxid


def test_a_multi_cannot_delete_a_parent_before_its_child(zk: Driver) -> None:
    result = zk(Multi((Create("/a"), Create("/a/b"), Delete("/a"))))
    assert isinstance(result, MultiResult)
    assert result.results[2] == failed(ErrorCode.NOT_EMPTY)


# --- access control ------------------------------------------------------------------------------


def digest_id(user: str, password: str) -> str:
    digest = hashlib.sha1(f"{user}:{password}".encode()).digest()
    return f"{user}:{base64.b64encode(digest).decode()}"


def test_a_digest_acl_lets_in_who_knows_the_password(zk: Driver) -> None:
    zk(Create("/a", b"secret", acl=(Acl(PERM_ALL, "digest", digest_id("joe", "pw")),)))
    assert zk(GetData("/a")) == failed(ErrorCode.NO_AUTH)
    assert zk.tree.authenticate(zk.session, "digest", b"joe:wrong")
    assert zk(GetData("/a")) == failed(ErrorCode.NO_AUTH)
    assert zk.tree.authenticate(zk.session, "digest", b"joe:pw")
    assert isinstance(zk(GetData("/a")), DataResult)


def test_identities_are_gone_with_the_connection(zk: Driver) -> None:
    assert zk.tree.authenticate(zk.session, "digest", b"joe:pw")
    zk(Create("/a", acl=(Acl(PERM_ALL, "auth", ""),)))
    zk.tree.detach(zk.session)
    assert zk(GetData("/a")) == failed(ErrorCode.NO_AUTH)


def test_the_auth_scheme_stands_for_the_creators_identities(zk: Driver) -> None:
    assert zk(Create("/a", acl=(Acl(PERM_ALL, "auth", ""),))) == failed(ErrorCode.INVALID_ACL)
    zk.tree.authenticate(zk.session, "digest", b"joe:pw")
    zk(Create("/a", acl=(Acl(PERM_ALL, "auth", ""),)))
    result = zk(GetAcl("/a"))
    assert isinstance(result, AclResult)
    assert result.acl == (Acl(PERM_ALL, "digest", digest_id("joe", "pw")),)


def test_only_administrators_see_password_digests(zk: Driver) -> None:
    entry = Acl(PERM_ALL, "digest", digest_id("joe", "pw"))
    zk(Create("/a", acl=(entry, Acl(PERM_READ, "world", "anyone"))))
    result = zk(GetAcl("/a"))
    assert isinstance(result, AclResult)
    assert result.acl == (Acl(PERM_ALL, "digest", "joe:x"), Acl(PERM_READ, "world", "anyone"))


def test_unknown_schemes_prove_nothing(zk: Driver) -> None:
    assert not zk.tree.authenticate(zk.session, "kerberos", b"joe")
    assert not zk.tree.authenticate(zk.session, "digest", b"\xff\xfe")
    assert not zk.tree.authenticate(zk.session + 99, "digest", b"joe:pw")


@pytest.mark.parametrize(
    ("scheme", "entry_id", "valid"),
    [
        ("world", "anyone", True),
        ("world", "someone", False),
        ("digest", "joe:abc", True),
        ("digest", "joe", False),
        ("ip", "10.0.0.0/8", True),
        ("ip", "::1", True),
        ("ip", "10.0.0.0/33", False),
        ("ip", "10.0.0", False),
        ("nonsense", "x", False),
    ],
)
def test_only_valid_acls_are_stored(zk: Driver, scheme: str, entry_id: str, valid: bool) -> None:
    result = zk(Create("/a", acl=(Acl(PERM_ALL, scheme, entry_id),)))
    assert isinstance(result, Created) if valid else result == failed(ErrorCode.INVALID_ACL)


@pytest.mark.parametrize(
    ("address", "entry_id", "granted"),
    [
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3", "10.1.0.0/16", True),
        ("10.2.2.3", "10.1.0.0/16", False),
        ("10.2.2.3", "0.0.0.0/0", True),
        ("::1", "10.1.0.0/16", False),
        ("?", "10.1.0.0/16", False),
    ],
)
def test_ip_acls_match_by_prefix(zk: Driver, address: str, entry_id: str, granted: bool) -> None:
    zk(Create("/a", acl=(Acl(PERM_ALL, "ip", entry_id),)))
    zk.tree.attach(zk.session, PASSWORD, 1_000, zk.now_ms, (AuthId("ip", address),))
    assert isinstance(zk(GetData("/a")), DataResult) is granted


def test_duplicate_acl_entries_are_stored_once(zk: Driver) -> None:
    entry = Acl(PERM_ALL, "world", "anyone")
    zk(Create("/a", acl=(entry, entry)))
    result = zk(GetAcl("/a"))
    assert isinstance(result, AclResult)
    assert result.acl == (entry,)


def test_each_operation_needs_its_own_permission(zk: Driver) -> None:
    read_only = (Acl(PERM_READ, "world", "anyone"),)
    zk(Create("/a"))
    zk(Create("/a/b"))
    zk(SetAcl("/a", read_only))
    refused = failed(ErrorCode.NO_AUTH)
    assert zk(Create("/a/c")) == refused
    assert zk(Delete("/a/b")) == refused
    assert zk(SetData("/a", b"")) == refused
    assert zk(SetAcl("/a", read_only)) == refused
    assert isinstance(zk(GetData("/a")), DataResult)
    assert isinstance(zk(GetChildren("/a")), ChildrenResult)
    assert zk(Check("/a", 0)) == Done()

"""The data model and the calls of ZooKeeper, by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

from minikafka.lab.scenario import Proofs, Scenario, step


class Api(Scenario):
    name = "api"
    title = "The data model, and all eight calls"
    slide = "Data Model; ZooKeeper API"
    says = (
        "ZooKeeper is a tree of znodes. Each has data and children, and the data are read and "
        "written as a whole. There are eight calls: create, delete, setData, getData, exists, "
        "getChildren, sync and multi. setData and delete name the version that they expect."
    )
    notice = (
        "there is no append, no partial write and no lock among these calls. A version that is "
        "checked, a number that is given once, a znode that goes with its session, and several "
        "operations as one: everything else is made of them."
    )
    commands = (
        "minikafka up --detach",
        "minikafka zk tree /",
        "minikafka zk get /brokers/ids/1",
        "minikafka down",
    )

    @step(
        "create /lab/config with the data v1, and two sequential children.",
        "ZooKeeper numbers sequential znodes, so two clients never get the same name.",
        "getChildren gives the names, and no data.",
    )
    def create(self) -> Proofs:
        zk, root = self.stage.zk, self.stage.own_root()
        zk.create(f"{root}/config", b"v1")
        made = [zk.create(f"{root}/config/task-", sequential=True) for _ in range(2)]
        names = [path.rpartition("/")[2] for path in made]
        yield names == sorted(names) and names[0] != names[1], " and ".join(names)
        children = zk.children(f"{root}/config")
        yield children == names, ", ".join(children)

    @step(
        "setData twice, both times expecting version 0.",
        "The first is done, and makes version 1.",
        "The second is refused: somebody was quicker. Nothing is overwritten unseen.",
    )
    def versions(self) -> Proofs:
        zk, path = self.stage.zk, f"{self.stage.own_root()}/config"
        version = zk.set(path, b"v2", version=0)
        yield version == 1, f"setData({path}, v2, 0): version {version}"
        reason = self._refusal(lambda: zk.set(path, b"v3", version=0))
        held = zk.get(path).data.decode()
        yield (
            (reason, held) == ("BADVERSION", "v2"),
            f"setData({path}, v3, 0): {reason}; it is {held}",
        )

    @step(
        "exists and getData with a watch; then another client writes.",
        "The watch fires once, and says that the data changed, but not how.",
        "A second write is not told: a watch is set anew with each read.",
    )
    def watches(self) -> Proofs:
        zk, path = self.stage.zk, f"{self.stage.own_root()}/config"
        events: list[str] = []
        came = threading.Event()

        def watch(kind: str, where: str) -> None:
            events.append(f"{kind} {where}")
            came.set()

        zk.exists(path)
        zk.get(path, watch)
        other = self.stage.session()
        other.set(path, b"v3")
        came.wait(10)
        yield events == [f"CHANGED {path}"], ", ".join(events) or "nothing came"
        other.set(path, b"v4")
        # Notifications come before anything newer: once v4 is read, a notice of it would be here.
        self.stage.until(lambda: zk.get(path).data == b"v4", "the second write to be read")
        yield len(events) == 1, f"{len(events)} notification for 2 writes"

    @step(
        "multi: two operations that must happen together, one of which cannot.",
        "If one part fails, no part happens.",
        "With the right version all of it happens, as one.",
    )
    def multi(self) -> Proofs:
        from minikafka.zookeeper.looking.plain import Operation

        zk, root = self.stage.zk, self.stage.own_root()
        version = zk.get(f"{root}/config").stat.version
        parts = (Operation("create", f"{root}/made-together"),)
        wrong = Operation("check", f"{root}/config", version=version - 1)
        answers = zk.multi((*parts, wrong))
        there = zk.exists(f"{root}/made-together")
        yield (
            not there,
            f"{' and '.join(answers)}; {root}/made-together is {'there' if there else 'not there'}",
        )
        right = Operation("check", f"{root}/config", version=version)
        answers = zk.multi((*parts, right))
        yield answers == ["ok", "ok"] and zk.exists(f"{root}/made-together"), " and ".join(answers)

    @step(
        "delete a znode that has children, then one that has none; then sync.",
        "A znode with children cannot be deleted.",
        "sync returns once this server has seen all that was committed before.",
    )
    def delete(self) -> Proofs:
        zk, root = self.stage.zk, self.stage.own_root()
        reason = self._refusal(lambda: zk.delete(f"{root}/config"))
        yield reason == "NOTEMPTY", f"delete({root}/config, -1): {reason}"
        zk.delete(f"{root}/made-together")
        zk.sync(root)
        left = zk.children(root)
        yield left == ["config"], f"after it, {root} has {', '.join(left)}"

    def _refusal(self, call: Callable[[], object]) -> str:
        from minikafka.zookeeper.looking.plain import RefusedError

        try:
            call()
        except RefusedError as error:
            return error.reason
        return "no error"

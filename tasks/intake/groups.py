"""Groups: pictures that must share a split, because they share a patient, a study, a group or a look."""

from __future__ import annotations

from collections.abc import Hashable


class Groups:
    """Disjoint sets of anything hashable; each set may be bound to a split."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}
        self._splits: dict[Hashable, frozenset[str]] = {}

    def root(self, node: Hashable) -> Hashable:
        parent = self._parent.setdefault(node, node)
        while parent != node:
            self._parent[node] = self._parent[parent]
            node, parent = parent, self._parent[parent]
        return node

    def bind(self, node: Hashable, split: str) -> None:
        root = self.root(node)
        self._splits[root] = self._splits.get(root, frozenset()) | {split}

    def join(self, a: Hashable, b: Hashable) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self._parent[b] = a
            self._splits[a] = self._splits.get(a, frozenset()) | self._splits.pop(b, frozenset())

    def joinable(self, a: Hashable, b: Hashable) -> bool:
        """Whether joining would leave the set with at most one split."""
        return self.root(a) == self.root(b) or len(self.splits(a) | self.splits(b)) < 2

    def splits(self, node: Hashable) -> frozenset[str]:
        return self._splits.get(self.root(node), frozenset())

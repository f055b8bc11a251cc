"""Kinds that are found by their names: ours, imported when they are asked for, and those that other packages register
by an entry point. A name of ours is never another package's."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any

from langbridge.errors import LangBridgeError


@dataclass(frozen=True)
class Registry:
    """Classes by name. group: of the entry points, each `name = "module:Class"`. ours: the same for ours. base: the
    class that each is a subclass of."""

    group: str
    ours: Mapping[str, str]
    base: type[Any]

    @property
    def names(self) -> list[str]:
        """Ours first."""
        return [*self.ours, *sorted(self._theirs.keys() - self.ours.keys())]

    def find(self, name: str, where: str = "") -> type[Any]:
        """The class of this name. Raises `LangBridgeError`, which begins with `where`, for a name that is not known and
        for what is no such class."""
        if name in self.ours:
            return resolve_name(self.ours[name])
        theirs = self._theirs
        if name not in theirs:
            raise LangBridgeError(
                f"{where}expected one of {', '.join(self.names)}, got {str(name)!r}; one of another package needs that "
                f"package installed (entry points {self.group!r})"
            )
        found = theirs[name].load()
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise LangBridgeError(
                f"{where}the entry point {name!r} of {self.group!r} is {theirs[name].value}, expected a subclass of "
                f"{self.base.__name__}"
            )
        return found

    @property
    def _theirs(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=self.group)}

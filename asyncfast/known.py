"""Whether asyncio's code is still the code that the C core stands in for."""

import types
from collections.abc import Mapping

__all__ = ["is_known"]


def is_known(module: types.ModuleType, marks: Mapping[str, str]) -> bool:
    """Whether these functions of *module* refer to the names that they did.

    *marks* has, for the path of each (``"StreamReader.feed_data"``), the names
    that its code refers to, separated by spaces: the mark by which it is known.
    """
    return all(_is_marked(module, path, names) for path, names in marks.items())


def _is_marked(module: types.ModuleType, path: str, names: str) -> bool:
    found = module
    for part in path.split("."):
        found = getattr(found, part, None)
    found = getattr(found, "fget", found)
    if not isinstance(found, types.FunctionType):
        return False
    return set(found.__code__.co_names) == set(names.split())

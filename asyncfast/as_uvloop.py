"""What ``import uvloop`` gives under ``python -m asyncfast --as-uvloop``.

For programs that import uvloop wherever it is installed, or by name: they get
its public names, and asyncfast's loop behind each of them.
"""

import sys

import asyncfast

from .loop import Loop, new_event_loop

__all__ = ["Loop", "install", "new_event_loop", "run"]

# Of the uvloop whose interface this is; programs compare it with what they need.
__version__ = "0.22.0"

install = asyncfast.install
run = asyncfast.run

if sys.version_info < (3, 16):
    from .policy import EventLoopPolicy

    __all__ += ["EventLoopPolicy"]


def register() -> None:
    """Stand in for the module uvloop, and for ``uvloop.loop``, in this process.

    Raises ImportError if uvloop has been imported already.
    """
    module = sys.modules[__name__]
    for name in ("uvloop", "uvloop.loop"):
        if sys.modules.get(name, module) is not module:
            raise ImportError(f"{name} has been imported already", name=name)
    for name in ("uvloop", "uvloop.loop"):
        sys.modules[name] = module


loop = sys.modules[__name__]

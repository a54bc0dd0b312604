"""Worker classes for gunicorn, whose processes run asyncfast.

``gunicorn -k asyncfast.workers.UvicornWorker application:app``; each class needs
the package whose worker it extends, and only when it is used:

* ``UvicornWorker``, ``UvicornH11Worker``: uvicorn-worker;
* ``AiohttpWorker``: aiohttp;
* ``ASGIWorker``: gunicorn 24 or newer, whose own ASGI worker it is.

The loop is made in the worker's process, after the fork.
"""

import asyncio

import asyncfast

_LOOP = "asyncfast:new_event_loop"


def _uvicorn_worker(name):
    import uvicorn_worker

    base = getattr(uvicorn_worker, name)

    class Worker(base):
        """uvicorn-worker's class, with asyncfast's loop."""

        CONFIG_KWARGS = {**base.CONFIG_KWARGS, "loop": _LOOP}

    return Worker


def _aiohttp_worker(name):
    from aiohttp.worker import GunicornWebWorker

    class Worker(GunicornWebWorker):
        """aiohttp's class, with asyncfast's loop."""

        def init_process(self):
            """Start the process's work: gunicorn calls this after the fork."""
            asyncfast.install()
            super().init_process()

    return Worker


def _asgi_worker(name):
    from gunicorn.workers import gasgi

    class Worker(gasgi.ASGIWorker):
        """gunicorn's own ASGI worker, with asyncfast's loop."""

        def _setup_event_loop(self):
            self.loop = asyncfast.new_event_loop()
            asyncio.set_event_loop(self.loop)

    return Worker


_MAKERS = {
    "ASGIWorker": _asgi_worker,
    "AiohttpWorker": _aiohttp_worker,
    "UvicornH11Worker": _uvicorn_worker,
    "UvicornWorker": _uvicorn_worker,
}


def __getattr__(name):
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    worker = _MAKERS[name](name)
    worker.__name__ = worker.__qualname__ = name
    globals()[name] = worker
    return worker

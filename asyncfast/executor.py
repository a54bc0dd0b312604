"""The default executor: asyncio's own, but that the work queue and what its
threads do are C. Threads are started here, once each."""

import operator
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor, thread

from . import _core

__all__ = ["DefaultExecutor"]


class DefaultExecutor(ThreadPoolExecutor):
    """A ThreadPoolExecutor of asyncio's default size, for one loop.

    What run_in_executor() submits doesn't come by here, but goes to the queue.
    """

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self._work_queue = _core.WorkQueue(self._item_runner())

    def _item_runner(self):
        """What a worker calls with what submit() has put into the queue."""
        if hasattr(self, "_create_worker_context"):  # from 3.14 on
            return operator.methodcaller("run", self._create_worker_context())
        return operator.methodcaller("run")

    def _adjust_thread_count(self):
        queue = self._work_queue
        if not queue._hire(self._max_workers):
            return
        name = f"{self._thread_name_prefix}_{len(self._threads)}"
        # A forgotten executor lets its threads go, too.
        reference = weakref.ref(self, lambda _: queue.put(None))
        worker = threading.Thread(name=name, target=_serve, args=(queue, reference))
        try:
            worker.start()
        except BaseException:
            queue._dismiss()
            raise
        self._threads.add(worker)
        # At its exit the interpreter tells these queues and joins these threads.
        thread._threads_queues[worker] = queue

    def _hire_one(self):
        """Called when run_in_executor() has left more than the workers can do."""
        with self._shutdown_lock, thread._global_shutdown_lock:
            if thread._shutdown:
                raise RuntimeError(
                    "cannot schedule new futures after interpreter shutdown"
                )
            self._adjust_thread_count()


def _serve(queue, reference):
    """The life of a thread."""
    queue._work()
    executor = reference()
    if executor is not None:
        executor._shutdown = True  # for the text of submit(), as a pool's own threads

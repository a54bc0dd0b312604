"""The event loop policy, for CPython below 3.16."""

from asyncio import events, unix_events

from .loop import Loop

__all__ = ["EventLoopPolicy", "get_policy", "set_policy"]

# The names without underscore warn from CPython 3.14 on.
_Base = (
    getattr(unix_events, "_DefaultEventLoopPolicy", None)
    or unix_events.DefaultEventLoopPolicy
)
get_policy = (
    getattr(events, "_get_event_loop_policy", None) or events.get_event_loop_policy
)
set_policy = (
    getattr(events, "_set_event_loop_policy", None) or events.set_event_loop_policy
)


class EventLoopPolicy(_Base):
    """asyncio's default policy with asyncfast's loop.

    Give it to :func:`asyncio.set_event_loop_policy`, or call
    :func:`asyncfast.install`.
    """

    _loop_factory = Loop

"""Everything public says what it does, and how it is called."""

import importlib
import inspect
import pkgutil

import pytest

import asyncfast
from asyncfast import _core

MODULES = [asyncfast] + [
    importlib.import_module(f"asyncfast.{module.name}")
    for module in pkgutil.iter_modules(asyncfast.__path__)
    if module.name != "_version"
]
CLASSES = [_core.Loop, _core.Handle, _core.TimerHandle]
CLASSES += [_core.SockOperation, _core.Transport]
CLASSES += [_core.StreamTransport, _core.DatagramTransport]
CLASSES += [_core.Future, _core.Task, _core.WorkQueue]


def is_public(name):
    return not name.startswith("_")


def is_ours(thing):
    """Not borrowed from asyncio; what C defines belongs to no module."""
    owner = getattr(thing, "__objclass__", thing)
    return (getattr(owner, "__module__", None) or "").startswith("asyncfast")


def methods(cls):
    """(name, what stands in the class) for its own public methods."""
    for name, value in vars(cls).items():
        function = inspect.unwrap(getattr(value, "__func__", value))
        if is_public(name) and (callable(function) or isinstance(value, property)):
            yield name, value


def module_names():
    """(what to call it, it) for each public class and function, once."""
    found = {}
    for module in MODULES:
        for name in sorted({*getattr(module, "__all__", ()), *vars(module)}):
            value = getattr(module, name)
            if is_public(name) and callable(value) and is_ours(value):
                found[f"{value.__module__}.{name}"] = value
    return found


def documented():
    """Module by module: classes, functions and the methods that are our own."""
    for where, value in module_names().items():
        yield where, value
        if not inspect.isclass(value):
            continue
        for base in filter(is_ours, inspect.getmro(value)):
            for name, method in methods(base):
                if is_ours(method) or isinstance(method, property):
                    yield f"{base.__module__}.{base.__name__}.{name}", method


DOCUMENTED = dict(documented())
METHODS = {
    f"{cls.__name__}.{name}": method for cls in CLASSES for name, method in methods(cls)
}


def test_all_is_seen():
    assert {"asyncfast.run", "asyncfast.loop.Loop"} <= DOCUMENTED.keys()
    assert {"asyncfast._core.Loop.call_soon"} <= DOCUMENTED.keys()
    assert {"asyncfast.signals.SignalMixin.add_signal_handler"} <= DOCUMENTED.keys()
    assert {cls.__name__ for cls in CLASSES} == {
        name
        for name, value in vars(_core).items()
        if inspect.isclass(value) and is_public(name)
    }


def test_modules():
    assert not [module.__name__ for module in MODULES if not module.__doc__]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring(name):
    text = inspect.getdoc(DOCUMENTED[name])
    assert text, f"{name} has no docstring"
    # C's signature is cut off, unless the line after it is not what CPython expects.
    assert not text.startswith(name.rpartition(".")[2] + "("), text
    first = text.partition("\n\n")[0]
    assert first.endswith((".", ":")), f"no sentence: {first}"


@pytest.mark.parametrize("name", METHODS)
def test_signature(name):
    parameters = list(inspect.signature(METHODS[name]).parameters.values())
    assert parameters[0].name == "self"
    assert parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY


def test_signatures_of_the_package():
    assert str(inspect.signature(asyncfast.libuv_version)) == "()"
    assert not inspect.signature(asyncfast.new_event_loop).parameters
    assert list(inspect.signature(asyncfast.run).parameters) == [
        "main",
        "loop_factory",
        "debug",
    ]

/* compat.h -- CPython and platform differences.
 *
 * The only file that names a CPython, libuv or operating system version.
 * A new version is a change here and nowhere else.
 */
#ifndef AF_BASE_COMPAT_H
#define AF_BASE_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#ifdef Py_GIL_DISABLED
#error "asyncfast does not support free-threaded CPython yet"
#endif

#if PY_VERSION_HEX < 0x030a0000
#error "asyncfast needs CPython 3.10 or newer"
#endif

/* Public from 3.11; 3.10's takes every class in the MRO for a heap type, and
 * reads past the end of `object`. */
#if PY_VERSION_HEX < 0x030b0000
static inline PyObject *
PyType_GetModuleByDef(PyTypeObject *type, struct PyModuleDef *def)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(type->tp_mro); i++) {
        PyObject *base = PyTuple_GET_ITEM(type->tp_mro, i);
        PyObject *module =
            PyType_HasFeature((PyTypeObject *)base, Py_TPFLAGS_HEAPTYPE)
                ? ((PyHeapTypeObject *)base)->ht_module
                : NULL;
        if (module != NULL && PyModule_GetDef(module) == def) {
            return module;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s is no type of this module",
                 type->tp_name);
    return NULL;
}
#endif

/* Before 3.12 a slot class keeps its weak references in the object; from 3.12
 * in front of it. */
#if PY_VERSION_HEX < 0x030c0000
#define AF_INLINE_WEAKREFS 1
#else
#define AF_INLINE_WEAKREFS 0
#endif

/* What a weak reference refers to, a new reference; NULL, without an exception,
 * if that is gone. */
static inline PyObject *
af_weakref_get(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *object;
    return PyWeakref_GetRef(reference, &object) > 0 ? object : NULL;
#else
    PyObject *object = PyWeakref_GetObject(reference);
    return object == Py_None ? NULL : Py_XNewRef(object);
#endif
}

/* An attribute, a new reference; NULL, without an exception, if it can't be had. */
static inline PyObject *
af_attribute_get(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL) {
        PyErr_Clear();
    }
    return value;
}

/* call_later(None) and call_at(None) have a text of their own from 3.11. */
#define AF_EXPLICIT_DELAY_CHECK (PY_VERSION_HEX >= 0x030b0000)

/* Up to 3.11 writelines is write(b"".join(...)), with the texts of both. */
#define AF_WRITELINES_JOINS (PY_VERSION_HEX < 0x030c0000)

/* From 3.12 write buffers what it is given as it is, so data that can't be sent
 * ends the connection instead of being refused. */
#define AF_WRITE_KEEPS_VIEWS (PY_VERSION_HEX >= 0x030c0000)

/* From 3.13 an empty datagram is sent, and each that waits to be sent counts
 * for more than its bytes. */
#define AF_SENDS_EMPTY_DATAGRAMS (PY_VERSION_HEX >= 0x030d0000)
#define AF_DATAGRAM_OVERHEAD (PY_VERSION_HEX >= 0x030d0000 ? 8 : 0)

/* How _asyncio lays its Future and Task out: named after the CPython 3 that
 * brought the layout. A later one is read as the newest, but not used. */
#if PY_VERSION_HEX < 0x030b0000
#define AF_TASK_LAYOUT 10
#elif PY_VERSION_HEX < 0x030d0000
#define AF_TASK_LAYOUT 11
#else
#define AF_TASK_LAYOUT 13
#endif
#define AF_TASK_LAYOUT_KNOWN (PY_VERSION_HEX < 0x030e0000)

/* create_task(context=) came with 3.11. */
#define AF_TASK_CONTEXT (PY_VERSION_HEX >= 0x030b0000)
#if PY_VERSION_HEX < 0x030b0000
#define AF_CREATE_TASK_KEYWORDS "*, name=None"
#elif PY_VERSION_HEX < 0x030e0000
#define AF_CREATE_TASK_KEYWORDS "*, name=None, context=None"
#else
#define AF_CREATE_TASK_KEYWORDS "**kwargs"
#endif

/* From 3.12 on throw(type, value, traceback) of iterators warns. */
#define AF_THROW_WARNS (PY_VERSION_HEX >= 0x030c0000)

/* A Context is a struct of its own that we know up to 3.13. */
#define AF_CONTEXT_LAYOUT_KNOWN (PY_VERSION_HEX < 0x030e0000)

/* Where an object's dict and weak references are not fields of it. */
#define AF_MANAGED_DICT (PY_VERSION_HEX >= 0x030d0000)

/* From 3.13 on a server is told which transport begins or ends. */
#define AF_SERVER_KNOWS_CLIENTS (PY_VERSION_HEX >= 0x030d0000)

/* recvmmsg and sendmmsg: many datagrams in one system call. */
#if defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__)
#define AF_HAVE_MMSG 1
#else
#define AF_HAVE_MMSG 0
#endif

/* Sub-interpreters are declared from 3.12: our state is the module's. */
#if PY_VERSION_HEX >= 0x030c0000
#define AF_MODULE_INTERPRETERS \
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#else
#define AF_MODULE_INTERPRETERS
#endif

/* The exception that is set, normalized and owned; NULL if none is. */
static inline PyObject *
af_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
#endif
}

/* Set `exc` as the current exception; steals it. */
static inline void
af_restore_exception(PyObject *exc)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyErr_SetRaisedException(exc);
#else
    if (exc == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef(Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
#endif
}

/* time.monotonic_ns(), without the call. */
static inline uint64_t
af_monotonic_ns(void)
{
#ifdef __APPLE__
    /* The clock behind CPython's time.monotonic() on macOS. */
    return clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
#else
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
#endif
}

/* time.monotonic() with the rounding CPython uses, without the call. */
static inline double
af_monotonic(void)
{
    return (double)(int64_t)af_monotonic_ns() / 1e9;
}

#endif

/* feed.c -- data for asyncio's own StreamReader, without a call of Python.
 *
 * StreamReaderProtocol.data_received, StreamReader.feed_data and _wakeup_waiter in
 * one, for as long as the reader's buffer stays below its limit; whatever is rarer
 * than that is left to them.
 */
#include "io/feed.h"

#include <string.h>

#include "core/loop.h"

PyObject *
af_feed_adopt(PyObject *module, PyObject *args)
{
    AfState *state = PyModule_GetState(module);
    PyTypeObject *reader, *protocol;
    PyObject *feed_data, *wakeup_waiter, *data_received, *stream_reader;
    if (!PyArg_ParseTuple(args, "O!OOO!OO:_adopt_streams", &PyType_Type,
                          &reader, &feed_data, &wakeup_waiter, &PyType_Type,
                          &protocol, &data_received, &stream_reader)) {
        return NULL;
    }
    Py_XSETREF(state->StreamReader, (PyTypeObject *)Py_NewRef(reader));
    Py_XSETREF(state->feed_data, Py_NewRef(feed_data));
    Py_XSETREF(state->wakeup_waiter, Py_NewRef(wakeup_waiter));
    Py_XSETREF(state->ReaderProtocol, (PyTypeObject *)Py_NewRef(protocol));
    Py_XSETREF(state->reader_received, Py_NewRef(data_received));
    Py_XSETREF(state->reader_property, Py_NewRef(stream_reader));
    Py_RETURN_NONE;
}

static bool
class_has(PyTypeObject *type, PyObject *name, const PyObject *original)
{
    PyObject *found = af_attribute_get((PyObject *)type, name);
    Py_XDECREF(found);
    return found == original;
}

static bool
reader_class_is_known(AfState *state)
{
    PyTypeObject *type = state->StreamReader;
    return class_has(type, state->str_feed_data, state->feed_data)
           && class_has(type, state->str__wakeup_waiter, state->wakeup_waiter);
}

static bool
protocol_class_is_known(AfState *state)
{
    PyTypeObject *type = state->ReaderProtocol;
    return class_has(type, state->str_data_received, state->reader_received)
           && class_has(type, state->str__stream_reader,
                        state->reader_property);
}

/* CPython gives a class another tag when it has changed, zero until it needs
 * one. */
static bool
class_is_known(AfState *state, PyTypeObject *type, unsigned int *tag,
               bool (*look)(AfState *state))
{
    if (*tag == 0 || *tag != type->tp_version_tag) {
        *tag = look(state) ? type->tp_version_tag : 0;
        return *tag != 0;
    }
    return true;
}

/* Not replaced on the instance. */
static bool
method_is(PyObject *object, PyObject *name, const PyObject *function)
{
    PyObject *method = af_attribute_get(object, name);
    bool is = method != NULL && PyMethod_Check(method)
              && PyMethod_GET_FUNCTION(method) == function;
    Py_XDECREF(method);
    return is;
}

static bool
methods_are_stock(AfState *state, PyObject *protocol, PyObject *reader)
{
    return method_is(protocol, state->str_data_received, state->reader_received)
           && method_is(reader, state->str_feed_data, state->feed_data)
           && method_is(reader, state->str__wakeup_waiter,
                        state->wakeup_waiter);
}

/* The protocol's reader, if it is to be fed; NULL if not. */
static PyObject *
feed_find_reader(AfState *state, PyObject *protocol, AfFed *seen)
{
    PyObject *reference =
        af_attribute_get(protocol, state->str__stream_reader_wr);
    PyObject *reader = reference != NULL && PyWeakref_CheckRefExact(reference)
                           ? af_weakref_get(reference)
                           : NULL;
    Py_XDECREF(reference);
    if (reader != NULL
        && (seen->reader != reader || seen->protocol != protocol)) {
        bool stock = methods_are_stock(state, protocol, reader);
        *seen = stock ? (AfFed){protocol, reader} : (AfFed){NULL, NULL};
    }
    if (reader != NULL
        && (seen->reader == NULL || !Py_IS_TYPE(reader, state->StreamReader))) {
        Py_CLEAR(reader);
    }
    return reader;
}

/* Whether `more` bytes leave the buffer where no reader pauses its transport. */
static bool
feed_is_room(AfState *state, PyObject *reader, PyObject *buffer,
             Py_ssize_t more)
{
    PyObject *limit = af_attribute_get(reader, state->str__limit);
    Py_ssize_t bytes =
        limit != NULL && PyLong_CheckExact(limit) ? PyLong_AsSsize_t(limit) : 0;
    Py_XDECREF(limit);
    PyErr_Clear();
    return (PyByteArray_GET_SIZE(buffer) + more) / 2 < bytes;
}

/* The reader's buffer, if data may simply be added; NULL if not. */
static PyObject *
feed_find_buffer(AfState *state, PyObject *reader, Py_ssize_t more)
{
    PyObject *eof = af_attribute_get(reader, state->str__eof);
    Py_XDECREF(eof);
    PyObject *buffer =
        eof == Py_False ? af_attribute_get(reader, state->str__buffer) : NULL;
    if (buffer != NULL
        && (!PyByteArray_CheckExact(buffer)
            || !feed_is_room(state, reader, buffer, more))) {
        Py_CLEAR(buffer);
    }
    return buffer;
}

static int
feed_append(PyObject *buffer, const char *data, Py_ssize_t size)
{
    Py_ssize_t before = PyByteArray_GET_SIZE(buffer);
    if (PyByteArray_Resize(buffer, before + size) < 0) {
        return -1;
    }
    memcpy(PyByteArray_AS_STRING(buffer) + before, data, (size_t)size);
    return 0;
}

static int
feed_wake_slowly(AfState *state, PyObject *reader)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(reader, state->str__wakeup_waiter);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
feed_wake(AfState *state, PyObject *reader)
{
    PyObject *waiter = af_attribute_get(reader, state->str__waiter);
    int err = 0;
    if (waiter == NULL
        || (waiter != Py_None && !af_future_is_ours(state, waiter))) {
        err = feed_wake_slowly(state, reader);
    }
    else if (waiter != Py_None) {
        err = PyObject_SetAttr(reader, state->str__waiter, Py_None);
        if (err == 0) {
            err = af_future_set_result(state, waiter, Py_None);
        }
    }
    Py_XDECREF(waiter);
    return err;
}

static int
feed_reader(AfState *state, PyObject *reader, const char *data, Py_ssize_t size)
{
    PyObject *buffer = feed_find_buffer(state, reader, size);
    if (buffer == NULL) {
        return 0;
    }
    int err = feed_append(buffer, data, size);
    Py_DECREF(buffer);
    return err < 0 || feed_wake(state, reader) < 0 ? -1 : 1;
}

int
af_feed_reader(AfState *state, PyObject *protocol, AfFed *seen,
               const char *data, Py_ssize_t size)
{
    if (!Py_IS_TYPE(protocol, state->ReaderProtocol)
        || !class_is_known(state, state->StreamReader, &state->reader_tag,
                           reader_class_is_known)
        || !class_is_known(state, state->ReaderProtocol, &state->protocol_tag,
                           protocol_class_is_known)) {
        return 0;
    }
    PyObject *reader = feed_find_reader(state, protocol, seen);
    if (reader == NULL) {
        return 0;
    }
    int fed = feed_reader(state, reader, data, size);
    Py_DECREF(reader);
    return fed;
}

/* freelist.c -- dead objects kept for reuse. */
#include "base/freelist.h"

#include <string.h>

PyObject *
af_freelist_alloc_hidden(AfFreelist *list, PyTypeObject *type)
{
    if (list->count > 0) {
        return PyObject_Init(list->items[--list->count], type);
    }
    PyObject *self = PyObject_GC_New(PyObject, type);
    if (self != NULL) {
        memset(self + 1, 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    }
    return self;
}

PyObject *
af_freelist_alloc(AfFreelist *list, PyTypeObject *type)
{
    PyObject *self = af_freelist_alloc_hidden(list, type);
    if (self != NULL) {
        PyObject_GC_Track(self);
    }
    return self;
}

void
af_freelist_free(AfFreelist *list, PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    /* A finalizer runs once for each piece of memory. */
    if (list != NULL && list->count < AF_FREELIST_MAX && !list->closed
        && !PyObject_GC_IsFinalized(self)) {
        list->items[list->count++] = self;
    }
    else {
        type->tp_free(self);
    }
    Py_DECREF(type);
}

void
af_freelist_close(AfFreelist *list)
{
    list->closed = true;
    while (list->count > 0) {
        PyObject_GC_Del(list->items[--list->count]);
    }
}

/* freelist.h -- dead objects kept for reuse, so that the next costs no malloc. */
#ifndef AF_BASE_FREELIST_H
#define AF_BASE_FREELIST_H

#include "base/compat.h"

enum { AF_FREELIST_MAX = 1024 };

typedef struct {
    PyObject *items
        [AF_FREELIST_MAX]; /* owned memory: dead objects, which hold no reference */
    int count;
    bool closed; /* the module is going: nothing may be kept any more */
} AfFreelist;

/* A blank object of `type`, from the freelist if it has one; NULL with
 * MemoryError. */
PyObject *af_freelist_alloc(AfFreelist *list, PyTypeObject *type);

/* The same, but hidden from the collector until PyObject_GC_Track. */
PyObject *af_freelist_alloc_hidden(AfFreelist *list, PyTypeObject *type);

/* Keep the memory of an object that is dead and cleared, or free it where there
 * is no list or no room; `list` holds objects of one type only. */
void af_freelist_free(AfFreelist *list, PyObject *self);

/* Free what is kept, and keep nothing from now on. */
void af_freelist_close(AfFreelist *list);

#endif

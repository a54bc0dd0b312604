/* ring.c -- growing and emptying the ring buffer. */
#include "base/ring.h"

#include <string.h>

enum { FIRST_CAPACITY = 64 };

int
af_ring_grow(AfRing *ring)
{
    size_t capacity = ring->capacity ? ring->capacity * 2 : FIRST_CAPACITY;
    AfEntry *entries = PyMem_New(AfEntry, capacity);
    if (entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    size_t until_end = ring->capacity - ring->head;
    size_t first = ring->count < until_end ? ring->count : until_end;
    if (ring->count > 0) {
        memcpy(entries, ring->entries + ring->head, first * sizeof(AfEntry));
        memcpy(entries + first, ring->entries,
               (ring->count - first) * sizeof(AfEntry));
    }
    PyMem_Free(ring->entries);
    ring->entries = entries;
    ring->capacity = capacity;
    ring->head = 0;
    return 0;
}

void
af_ring_clear(AfRing *ring)
{
    while (ring->count > 0) {
        Py_DECREF(af_ring_pop(ring).item);
    }
    PyMem_Free(ring->entries);
    memset(ring, 0, sizeof(*ring));
}

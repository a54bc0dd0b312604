/* ring.h -- a growing ring buffer of (run, item) pairs.
 *
 * The ring does not count references: whoever pushes hands one over, whoever
 * pops receives it.
 */
#ifndef AF_BASE_RING_H
#define AF_BASE_RING_H

#include "base/compat.h"

typedef struct {
    void *run;
    PyObject *item; /* owned */
} AfEntry;

typedef struct {
    AfEntry *entries;
    size_t capacity; /* zero or a power of two */
    size_t head;     /* index of the oldest entry */
    size_t count;
} AfRing;

/* Make room for one more entry. 0, or -1 with MemoryError. */
int af_ring_grow(AfRing *ring);

static inline AfEntry *
af_ring_at(AfRing *ring, size_t index)
{
    return &ring->entries[(ring->head + index) & (ring->capacity - 1)];
}

/* Steals `item`, also on failure. 0, or -1 with MemoryError. */
static inline int
af_ring_push(AfRing *ring, void *run, PyObject *item)
{
    if (ring->count == ring->capacity && af_ring_grow(ring) < 0) {
        Py_DECREF(item);
        return -1;
    }
    AfEntry *entry = af_ring_at(ring, ring->count++);
    entry->run = run;
    entry->item = item;
    return 0;
}

/* The ring must not be empty; the caller owns the item. */
static inline AfEntry
af_ring_pop(AfRing *ring)
{
    AfEntry entry = ring->entries[ring->head];
    ring->head = (ring->head + 1) & (ring->capacity - 1);
    ring->count--;
    return entry;
}

/* Drop every entry and the memory. Runs destructors: the ring may be pushed to
 * meanwhile, and is empty all the same on return. */
void af_ring_clear(AfRing *ring);

#endif

/* ring.h -- a growing ring buffer of (run, item) pairs.
 *
 * The ring does not count references: whoever pushes hands one over, whoever
 * pops receives it.
 *
 * It can note when each entry came. That takes its room away from a push, which
 * then goes the way of one that has to grow the ring, and costs nothing else.
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
    uint64_t *stamps; /* nanoseconds of the clock; NULL unless they are noted */
    size_t mask;      /* the capacity, a power of two, less one */
    size_t room;      /* the capacity, or zero: with as many, a push prepares */
    size_t head;      /* index of the oldest entry */
    size_t count;
} AfRing;

/* Make room for one more entry, and note that it comes now.
 * 0, or -1 with MemoryError. */
int af_ring_prepare(AfRing *ring);

/* Note from now on when entries come; those that are there come now.
 * 0, or -1 with MemoryError. */
int af_ring_begin_stamps(AfRing *ring);
void af_ring_end_stamps(AfRing *ring);

static inline AfEntry *
af_ring_at(AfRing *ring, size_t index)
{
    return &ring->entries[(ring->head + index) & ring->mask];
}

/* Steals `item`, also on failure. 0, or -1 with MemoryError. */
static inline int
af_ring_push(AfRing *ring, void *run, PyObject *item)
{
    if (ring->count >= ring->room && af_ring_prepare(ring) < 0) {
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
    ring->head = (ring->head + 1) & ring->mask;
    ring->count--;
    return entry;
}

/* When the oldest entry came; `otherwise` where that wasn't noted. */
static inline uint64_t
af_ring_stamp(const AfRing *ring, uint64_t otherwise)
{
    return ring->stamps == NULL ? otherwise : ring->stamps[ring->head];
}

/* Say that the newest entry came at another time, if times are noted. */
static inline void
af_ring_restamp(AfRing *ring, uint64_t stamp)
{
    if (ring->stamps != NULL) {
        ring->stamps[(ring->head + ring->count - 1) & ring->mask] = stamp;
    }
}

/* Drop every entry and the memory. Runs destructors: the ring may be pushed to
 * meanwhile, and is empty all the same on return. */
void af_ring_clear(AfRing *ring);

#endif

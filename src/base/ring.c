/* ring.c -- growing, stamping and emptying the ring buffer. */
#include "base/ring.h"

#include <string.h>

enum { FIRST_CAPACITY = 64 };

static size_t
ring_capacity(const AfRing *ring)
{
    return ring->entries == NULL ? 0 : ring->mask + 1;
}

static void
ring_set_room(AfRing *ring)
{
    ring->room = ring->stamps == NULL ? ring_capacity(ring) : 0;
}

/* Move what stands in a ring of `capacity` elements of `size` bytes to the
 * beginning of another. */
static void
ring_unroll(const AfRing *ring, void *to, const void *from, size_t size)
{
    size_t until_end = ring_capacity(ring) - ring->head;
    size_t first = ring->count < until_end ? ring->count : until_end;
    if (from != NULL) {
        memcpy(to, (const char *)from + ring->head * size, first * size);
        memcpy((char *)to + first * size, from, (ring->count - first) * size);
    }
}

static int
ring_grow(AfRing *ring)
{
    size_t capacity = ring_capacity(ring);
    capacity = capacity ? capacity * 2 : FIRST_CAPACITY;
    AfEntry *entries = PyMem_New(AfEntry, capacity);
    uint64_t *stamps =
        ring->stamps == NULL ? NULL : PyMem_New(uint64_t, capacity);
    if (entries == NULL || (ring->stamps != NULL && stamps == NULL)) {
        PyMem_Free(entries);
        PyMem_Free(stamps);
        PyErr_NoMemory();
        return -1;
    }
    ring_unroll(ring, entries, ring->entries, sizeof(*entries));
    if (stamps != NULL) {
        ring_unroll(ring, stamps, ring->stamps, sizeof(*stamps));
    }
    PyMem_Free(ring->entries);
    PyMem_Free(ring->stamps);
    ring->entries = entries;
    ring->stamps = stamps;
    ring->mask = capacity - 1;
    ring->head = 0;
    ring_set_room(ring);
    return 0;
}

int
af_ring_prepare(AfRing *ring)
{
    if (ring->count == ring_capacity(ring) && ring_grow(ring) < 0) {
        return -1;
    }
    if (ring->stamps != NULL) {
        ring->stamps[(ring->head + ring->count) & ring->mask] =
            af_monotonic_ns();
    }
    return 0;
}

int
af_ring_begin_stamps(AfRing *ring)
{
    if (ring->stamps != NULL) {
        return 0;
    }
    if (ring->entries == NULL && ring_grow(ring) < 0) {
        return -1;
    }
    size_t capacity = ring_capacity(ring);
    ring->stamps = PyMem_New(uint64_t, capacity);
    if (ring->stamps == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    uint64_t now = af_monotonic_ns();
    for (size_t i = 0; i < capacity; i++) {
        ring->stamps[i] = now;
    }
    ring_set_room(ring);
    return 0;
}

void
af_ring_end_stamps(AfRing *ring)
{
    PyMem_Free(ring->stamps);
    ring->stamps = NULL;
    ring_set_room(ring);
}

void
af_ring_clear(AfRing *ring)
{
    while (ring->count > 0) {
        Py_DECREF(af_ring_pop(ring).item);
    }
    PyMem_Free(ring->entries);
    PyMem_Free(ring->stamps);
    memset(ring, 0, sizeof(*ring));
}

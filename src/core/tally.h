/* tally.h -- a table of what callbacks took, by what they are. */
#ifndef AF_CORE_TALLY_H
#define AF_CORE_TALLY_H

#include "base/compat.h"

/* Times in nanoseconds. */
typedef struct {
    PyObject *key; /* owned; NULL: an empty row. Nothing that could be part of a
                      cycle: code, a string, a static type or None */
    uint64_t count;
    uint64_t total;
    uint64_t longest;
    uint64_t waited;
    uint64_t longest_wait;
} AfTallyRow;

typedef struct {
    AfTallyRow *rows; /* owned memory; a hash table by address */
    size_t capacity;  /* zero or a power of two */
    size_t count;
} AfTally;

/* Add one call to the row of `key`, or of None where there are too many rows.
 * 0, or -1 with MemoryError. */
int af_tally_add(AfTally *tally, PyObject *key, uint64_t duration,
                 uint64_t wait);

/* A list of (key, count, total, longest, waited, longest wait); NULL with an
 * exception. */
PyObject *af_tally_list(const AfTally *tally);

void af_tally_clear(AfTally *tally);

#endif

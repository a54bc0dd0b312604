/* tally.c -- a table of what callbacks took, by what they are.
 *
 * Keys are compared by identity: a row owns its key, so no other object gets
 * that address.
 */
#include "core/tally.h"

/* Programs have some hundred kinds of callbacks; one that makes new ones all
 * the time must not fill the memory. */
enum { FIRST_CAPACITY = 64, MAX_ROWS = 4096 };

static AfTallyRow *
tally_find(const AfTally *tally, PyObject *key)
{
    size_t index = (uintptr_t)key >> 4;
    AfTallyRow *row;
    do {
        row = &tally->rows[index++ & (tally->capacity - 1)];
    } while (row->key != NULL && row->key != key);
    return row;
}

static int
tally_grow(AfTally *tally)
{
    size_t capacity = tally->capacity ? tally->capacity * 2 : FIRST_CAPACITY;
    AfTally larger = {NULL, capacity, tally->count};
    larger.rows = PyMem_Calloc(capacity, sizeof(AfTallyRow));
    if (larger.rows == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < tally->capacity; i++) {
        if (tally->rows[i].key != NULL) {
            *tally_find(&larger, tally->rows[i].key) = tally->rows[i];
        }
    }
    PyMem_Free(tally->rows);
    *tally = larger;
    return 0;
}

/* NULL with MemoryError. */
static AfTallyRow *
tally_row(AfTally *tally, PyObject *key)
{
    if (tally->count * 2 >= tally->capacity && tally_grow(tally) < 0) {
        return NULL;
    }
    AfTallyRow *row = tally_find(tally, key);
    if (row->key == NULL && tally->count >= MAX_ROWS) {
        key = Py_None;
        row = tally_find(tally, key);
    }
    if (row->key == NULL) {
        row->key = Py_NewRef(key);
        tally->count++;
    }
    return row;
}

int
af_tally_add(AfTally *tally, PyObject *key, uint64_t duration, uint64_t wait)
{
    AfTallyRow *row = tally_row(tally, key);
    if (row == NULL) {
        return -1;
    }
    row->count++;
    row->total += duration;
    row->longest = duration > row->longest ? duration : row->longest;
    row->waited += wait;
    row->longest_wait = wait > row->longest_wait ? wait : row->longest_wait;
    return 0;
}

static PyObject *
row_tuple(const AfTallyRow *row)
{
    /* A collection that the tuple sets off may clear the table. */
    return Py_BuildValue("(NKKKKK)", Py_NewRef(row->key), row->count,
                         row->total, row->longest, row->waited,
                         row->longest_wait);
}

PyObject *
af_tally_list(const AfTally *tally)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < tally->capacity; i++) {
        if (tally->rows[i].key == NULL) {
            continue;
        }
        PyObject *tuple = row_tuple(&tally->rows[i]);
        if (tuple == NULL || PyList_Append(list, tuple) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(tuple);
    }
    return list;
}

void
af_tally_clear(AfTally *tally)
{
    /* Who refers weakly to a key may look at the tally, or add to it. */
    AfTally former = *tally;
    *tally = (AfTally){NULL, 0, 0};
    for (size_t i = 0; i < former.capacity; i++) {
        Py_XDECREF(former.rows[i].key);
    }
    PyMem_Free(former.rows);
}

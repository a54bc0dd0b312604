/* pace.c -- load at a given rate, whatever the server does.
 *
 * Message i is due at i / rate, and its latency counts from then: one that has to
 * wait for a free connection waits as a user would. The client spins, because to be
 * woken would cost more than what is measured. */
#include "load.h"

#include <errno.h>

/* The next connection that may send, or NULL if all wait for their reply. */
static Connection *
next_free(Load *load)
{
    int count = load->options.connections;
    for (int tried = 0; tried < count; tried++) {
        Connection *connection = &load->connections[load->turn];
        load->turn = (load->turn + 1) % count;
        if (connection->in_flight < load->options.depth) {
            return connection;
        }
    }
    return NULL;
}

static void
issue_due(Load *load, uint64_t began, uint64_t total)
{
    double interval = 1e9 / load->rate;
    uint64_t now = load->now;
    while (load->issued < total) {
        uint64_t due = began + (uint64_t)((double)load->issued * interval);
        Connection *connection = due <= now ? next_free(load) : NULL;
        if (connection == NULL) {
            break;
        }
        load->now = due;
        load->limit = load->issued + 1;
        load->driver->start(load, connection);
        load->limit = 0;
    }
    load->now = now;
}

static void
check_progress(const Load *load, uint64_t *completed, uint64_t *since)
{
    if (load->completed != *completed || load->issued == load->completed) {
        *completed = load->completed;
        *since = load->now;
    }
    if (load->now - *since > STALL_MS * UINT64_C(1000000)) {
        errno = 0;
        die("no reply for %d seconds", STALL_MS / 1000);
    }
}

void
pace_stretch(Load *load, uint64_t began, double seconds)
{
    uint64_t total = (uint64_t)(seconds * load->rate);
    uint64_t completed = 0, since = began;
    load->deadline = UINT64_MAX;
    load->limit = 0;
    while (load->completed < total) {
        load->now = now_ns();
        issue_due(load, began, total);
        load_poll(load, 0);
        check_progress(load, &completed, &since);
    }
}

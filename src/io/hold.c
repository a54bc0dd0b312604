/* hold.c -- pieces written one by one leave together. */
#include "io/hold.h"

#include "base/error.h"

void
af_hold_note(AfTransport *self)
{
    const AfLoop *loop = self->loop;
    if (self->wrote_in != loop->parts) {
        self->wrote_in = loop->parts;
        self->writes = 0;
    }
    self->writes++;
}

bool
af_hold_wants(const AfTransport *self, PyObject *data)
{
    return (self->gathers || self->writes > 1) && self->loop->in_part
           && (self->held || self->flow.count == 0) && PyBytes_CheckExact(data);
}

int
af_hold_send(AfTransport *self)
{
    self->held = false;
    self->gathers = self->writes > 1;
    if (self->conn_lost) {
        return 0;
    }
    ssize_t sent = af_transport_send_flow(self);
    if (sent < 0 && !af_transport_would_block((int)-sent)) {
        af_error_from_errno((int)-sent);
        return af_transport_fatal(self, AF_WRITE_FAILED);
    }
    /* Also off: resume_writing may have written while a flush waited. */
    if (af_transport_want(self, AF_WRITE, self->flow.count > 0) < 0) {
        return -1;
    }
    return af_transport_maybe_pause(self);
}

static int
hold_run(AfLoop *Py_UNUSED(loop), PyObject *item)
{
    int err = af_hold_settle((AfTransport *)item);
    if (err < 0) {
        err = af_transport_report((AfTransport *)item);
    }
    Py_DECREF(item);
    return err;
}

/* So that only write() itself ever pauses the protocol, as in asyncio. */
static bool
hold_is_full(const AfFlow *flow)
{
    return flow->size > flow->high || flow->count >= AF_FLOW_PIECES_A_CALL;
}

int
af_hold_add(AfTransport *self, PyObject *bytes)
{
    if (af_flow_append(&self->flow, bytes, 0) < 0) {
        return -1;
    }
    if (hold_is_full(&self->flow)) {
        return af_hold_send(self);
    }
    if (self->held) {
        return 0;
    }
    self->held = true;
    if (af_loop_push_trailing(self->loop, hold_run, Py_NewRef((PyObject *)self))
        < 0) {
        PyErr_Clear();
        return af_hold_send(self);
    }
    return 0;
}

/* meter.h -- measuring a loop: what each callback takes, and how long it waits.
 *
 * A loop that is not measured runs its callbacks by other code, which looks at no
 * clock; see loop_run_part.
 */
#ifndef AF_CORE_METER_H
#define AF_CORE_METER_H

#include "core/loop.h"

/* What loop_run_entries does, with a look at the clock after each callback. */
int af_meter_run_entries(AfLoop *loop, size_t count);

/* A timer that was due at `when`, in seconds of the loop's clock, has been
 * pushed: it waits since then. */
void af_meter_timer_due(AfLoop *loop, double when);

/* The loop stops running. */
void af_meter_end_run(AfLoop *loop);

void af_meter_clear(AfLoop *loop);

/* Methods, for the table in api/loop_type.c; asyncfast/telemetry makes
 * what users see of them. */
PyObject *af_meter_counts(PyObject *self, PyObject *ignored);
PyObject *af_meter_heartbeat(PyObject *self, PyObject *ignored);
PyObject *af_meter_time_waits(PyObject *self, PyObject *on);
PyObject *af_meter_observe(PyObject *self, PyObject *args);
PyObject *af_meter_tally(PyObject *self, PyObject *ignored);

#endif

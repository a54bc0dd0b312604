/* count.c -- lets callgrind count a stretch of a program and nothing else.
 *
 * A shared library: the measured process loads it and calls it around the
 * stretch. Outside of callgrind both functions do nothing. */
#include <valgrind/callgrind.h>

void count_begin(void);
void count_end(void);

void
count_begin(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void
count_end(void)
{
    CALLGRIND_DUMP_STATS;
    CALLGRIND_STOP_INSTRUMENTATION;
}

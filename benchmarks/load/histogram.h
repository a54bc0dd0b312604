/* histogram.h -- latencies in buckets that are at most 1/128 of their value wide. */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_SLOTS = (64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS,
};

typedef struct {
    uint64_t counts[HISTOGRAM_SLOTS];
    uint64_t total;
    uint64_t sum;
    uint64_t largest;
} Histogram;

void histogram_add(Histogram *histogram, uint64_t value);

/* The value below which `share` (0 to 1) of the recorded ones lie. */
uint64_t histogram_percentile(const Histogram *histogram, double share);

#endif

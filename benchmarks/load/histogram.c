/* histogram.c -- latencies in buckets that are at most 1/128 of their value wide. */
#include "histogram.h"

/* Small values have a slot each; above that, every doubling of the value is cut
 * into 128 slots, so memory stays fixed however long the slowest reply took. */
static unsigned
slot_of(uint64_t value)
{
    if (value < (1u << HISTOGRAM_BITS)) {
        return (unsigned)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
    return (shift << HISTOGRAM_BITS) + (unsigned)(value >> shift);
}

static uint64_t
middle_of(unsigned slot)
{
    if (slot < (2u << HISTOGRAM_BITS)) {
        return slot;
    }
    unsigned shift = (slot >> HISTOGRAM_BITS) - 1;
    uint64_t lowest = (uint64_t)(slot - (shift << HISTOGRAM_BITS)) << shift;
    return lowest + ((uint64_t)1 << shift) / 2;
}

void
histogram_add(Histogram *histogram, uint64_t value)
{
    histogram->counts[slot_of(value)]++;
    histogram->total++;
    histogram->sum += value;
    if (value > histogram->largest) {
        histogram->largest = value;
    }
}

uint64_t
histogram_percentile(const Histogram *histogram, double share)
{
    double wanted = share * (double)histogram->total;
    uint64_t seen = 0;
    for (unsigned slot = 0; slot < HISTOGRAM_SLOTS; slot++) {
        seen += histogram->counts[slot];
        if (histogram->counts[slot] != 0 && (double)seen >= wanted) {
            uint64_t middle = middle_of(slot);
            return middle < histogram->largest ? middle : histogram->largest;
        }
    }
    return histogram->largest;
}

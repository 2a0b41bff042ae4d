// times.h: durations in a histogram with 64 steps for each power of two, so off by less than 1.6 %.
#include <math.h>
#include <stdint.h>
#include <stdio.h>

typedef int64_t i64;

enum { STEPS = 6, CELLS = 64 << STEPS };
typedef struct { uint64_t cell[CELLS], count; i64 most; } Times;

static void add(Times *times, i64 ns)
{
    if (ns < 1) ns = 1;
    int power = 63 - __builtin_clzll(ns);
    uint64_t at = ns;
    if (power > STEPS) at = ((uint64_t)(power - STEPS + 1) << STEPS) | ((ns >> (power - STEPS)) & ((1 << STEPS) - 1));
    times->cell[at]++;
    times->count++;
    if (ns > times->most) times->most = ns;
}

static double middle_of(uint64_t at)
{
    uint64_t power = at >> STEPS;
    if (power < 2) return at;
    return ((1ULL << STEPS | (at & ((1 << STEPS) - 1))) + 0.5) * (1ULL << (power - 1));
}

static double percentile_ms(const Times *times, double share)
{
    uint64_t wanted = ceil(share * times->count), seen = 0;
    for (uint64_t at = 0; times->count && at < CELLS; at++)
        if ((seen += times->cell[at]) >= wanted && seen) return fmin(middle_of(at), times->most) / 1e6;
    return 0;
}

static void print_times(const char *name, const Times *times)
{
    printf(",\"%s\":{\"count\":%lu,\"p50\":%.4f,\"p99\":%.4f,\"max\":%.4f}", name, times->count,
           percentile_ms(times, .5), percentile_ms(times, .99), times->most / 1e6);
}

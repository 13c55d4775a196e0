/* A reader and its flight as a lane has them by default, for tests of what they read. */
#ifndef SUPPORT_READER_OPTS_H
#define SUPPORT_READER_OPTS_H

#include "lane/flight/flight.h"
#include "lane/read/reader.h"

static const struct flight_opts default_flight_opts = {.key_window = 1,
                                                       .max_ready = 2000,
                                                       .max_waiting = 10000,
                                                       .max_key_waiting = 200,
                                                       .max_retrying = 4096,
                                                       .max_topic_retrying = 256,
                                                       .max_to_park = 2000,
                                                       .max_empty_keys = 4096,
                                                       .max_bytes = 8 << 20};
static const struct reader_opts default_reader_opts = {
    .batch_rows = 1000, .batch_bytes = 4 << 20, .sweep_us = 1000000};

#endif

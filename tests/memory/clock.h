/*
 * A clock that stands still until the test moves it, for this program and OpenSSL in it: a
 * second that ends between two of its readings would make a test of seconds fail.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_TEST_CLOCK_H
#define TLSFD_TEST_CLOCK_H

#include <time.h>

/* Before it is set once it is the machine's. time(2) and gettimeofday(2) read it. */
void clock_set(time_t now);

#endif

/*
 * A data process: it takes connections whose handshake is done and moves their data. It is
 * a program image of its own, started by exec: no private key was ever in its memory.
 *
 * SIGHUP: no more are coming, it ends with its last one; SIGTERM: the grace time begins.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_DATA_H
#define TLSFD_DATA_H

#include "backend.h"
#include "roles/role.h"

struct data_plan {
	struct role_plan role;
	unsigned idle_ms;
};

/* An fd with all that a data process must know, for any number of them; or a negative errno. */
int data_plan_write(const struct data_plan *plan, const struct backends *backends);
/* Becomes a data process, in a child of the master; image: of roles/image.h; root: of
 * roles/confine.h; counts: a ledger's fd or -1; begin: of teams.h. Returns only if it can't,
 * a negative errno. */
int data_exec(int image, int plan, int root, int channel, int counts, unsigned page, int begin);
/* data_process, in cmd.h, is the hidden verb that it is. */

#endif

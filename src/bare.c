/*
 * For those who use the bare fd.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "met.h"
#include "owed.h"
#include "reading.h"
#include "writing.h"

enum { BOTH = TLSFD_RX | TLSFD_TX };

int tlsfd_attend(struct tlsfd *c, unsigned directions, ssize_t said)
{
	int rx = 0, tx = 0;

	if (!directions || directions & ~(unsigned)BOTH)
		return -EINVAL;
	if (directions & TLSFD_RX && !c->kernel[RX])
		return -EXDEV;
	met_bare(c, said);
	if (directions & TLSFD_RX) {
		c->reader_pays = directions & TLSFD_TX ? OWED_ALL : GATE_ALERT;
		rx = reading_attend(c, said < 0 ? (int)said : 0);
		c->reader_pays = OWED_ALL;
	}
	if (directions & TLSFD_TX)
		tx = writing_attend(c);
	return directions & TLSFD_RX ? rx : tx;
}

int tlsfd_release(struct tlsfd **c)
{
	int fd;

	if (!c || !*c)
		return -EINVAL;
	fd = (*c)->fd;
	if (!(*c)->kernel[RX] || !(*c)->kernel[TX])
		return -EXDEV;
	tlsfd_free(*c);
	*c = NULL;
	return fd;
}

/*
 * What the doctor finds out. Every part is asked by doing it; three-valued
 * answers (enum probe_verdict) keep "no" apart from "could not be asked".
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_DOCTOR_H
#define TLSFD_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/utsname.h>

#include "probe.h"

enum {
	MATRIX_ROWS = 9,
	MAX_NICS = 16,
	MAX_COUNTERS = 64,
	MAX_ADVISORIES = 8,
	NAME_SIZE = 64,
	REMEDY_SIZE = 256,
};

/* ulp.c: the upper layer protocol, and what would cure its absence. */
struct ulp {
	struct probe_answer answer;
	bool loaded_now;      /* our asking made the kernel load its module */
	const char *why;      /* a name, see tlsfd(1); NULL: available */
	const char *sentence; /* the same in words; NULL: available */
	const char *remedy;   /* NULL: none known, or nothing to cure */
};
void ask_ulp(struct ulp *ulp);
/* Why a pair could not be made: a name, and the remedy or NULL. */
const char *why_no_pair(int error);
const char *remedy_no_pair(int error);

/* matrix.c: handshakes, each version and cipher, as OpenSSL alone and as tlsfd
 * move them. A direction is YES if it is in the kernel on both ends. */
struct way {
	enum probe_verdict tx, rx;
};
struct matrix_row {
	const char *tls, *cipher;
	struct way openssl, tlsfd;
	char why[NAME_SIZE];	  /* of tlsfd's way; empty: both directions work */
	char remedy[REMEDY_SIZE]; /* empty: none known */
};
void ask_matrix(struct matrix_row rows[MATRIX_ROWS], const struct ulp *ulp);

/* openssl.c */
struct openssl {
	const char *version; /* of the library at run time */
	const char *headers; /* of the headers at build time */
	enum probe_verdict ktls_compiled;
};
void ask_openssl(struct openssl *o, const struct matrix_row rows[MATRIX_ROWS]);

/* nic.c: interfaces that are up and have TLS feature flags. */
struct nic {
	char name[NAME_SIZE];
	const char *tx, *rx; /* "on", "off" (can be switched on), "none"; NULL: not known */
};
size_t ask_nics(struct nic nics[MAX_NICS]);

/* advisories.c: dangers reported for this kernel's version. Returns the count. */
struct advisory {
	const char *id, *what;
	char fixed[NAME_SIZE]; /* the first version without it, in this series if there is one */
};
size_t ask_advisories(const struct utsname *kernel, struct advisory found[MAX_ADVISORIES]);

/* counters.c: /proc/net/tls_stat. Returns the count, or a negative errno. */
struct counter {
	char name[NAME_SIZE];
	unsigned long long value;
};
int ask_counters(struct counter counters[MAX_COUNTERS]);

struct diagnosis {
	struct utsname kernel;
	struct ulp ulp;
	struct openssl openssl;
	struct probe_answer probes[N_PROBES];
	struct matrix_row matrix[MATRIX_ROWS];
	struct nic nics[MAX_NICS];
	size_t n_nics;
	struct advisory advisories[MAX_ADVISORIES];
	size_t n_advisories;
	struct counter counters[MAX_COUNTERS];
	int n_counters;
	/* the TLS 1.3 AES-GCM row that does not go both ways with tlsfd; NULL: all do */
	const struct matrix_row *failing;
};

/* doctor_table.c, doctor_json.c: the diagnosis to stdout. 0 or a negative errno. */
int print_table(const struct diagnosis *d);
int print_json(const struct diagnosis *d);

#endif

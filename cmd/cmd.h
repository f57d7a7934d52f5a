/*
 * What the verbs of the command share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CMD_H
#define TLSFD_CMD_H

#include <stdbool.h>

/* Exit statuses; see tlsfd(1). */
enum exit_status {
	EXIT_OK = 0,
	EXIT_NO = 1,     /* the answer is no */
	EXIT_USAGE = 2,  /* the command line is wrong */
	EXIT_BROKEN = 3, /* the answer could not be written */
	EXIT_CONFIG = 4, /* a certificate, key, or other file is no good */
	EXIT_LISTEN = 5, /* an address can't be listened on */
	EXIT_KERNEL = 6, /* kernel TLS is required, and can't be had */
	EXIT_FAILED = 7, /* no memory, or a system call failed */
	EXIT_UNREACHABLE = 8, /* no such name, or nobody answers there */
	EXIT_TIMEOUT = 9,
	EXIT_HANDSHAKE = 10, /* the other end does not speak TLS, or not with us */
	EXIT_UNVERIFIED = 11, /* its certificate was not accepted */
	EXIT_CUT = 12, /* the connection ended before its end was said */
	EXIT_STDIN = 13, /* could not be read */
};

struct setting;

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *about;   /* one line; NULL: not for users */
	const char *usage;   /* what follows "tlsfd NAME" */
	const char *options; /* a line for each, or NULL and */
	const struct setting *settings;
};

int doctor(int argc, char **argv);
int connect_to(int argc, char **argv);
int serve(int argc, char **argv);
int data_process(int argc, char **argv);
int metrics_process(int argc, char **argv);

/* Prints the help of a verb to stdout. Returns an exit status. */
int verb_help(const char *name);
/* getopt_long has just taken a long option: its word, and whether that is only the beginning of
 * name, which it is as long as no other option begins so. */
const char *option_word(char *const *argv);
bool is_abbreviated(char *const *argv, const char *name);
/* Flushes stdout: the status given, or EXIT_BROKEN if something was not written. */
int finish_output(int status);
/* Or a socket of ours would be the stdin, or the stderr, that somebody closed. Writing to a
 * stdout that was closed fails. */
void open_standard_fds(void);
/* In a child: stdin and stdout are /dev/null, whatever we were started with. */
void leave_standard_fds(void);
/* As many as the hard limit allows: select(2), for whose sake the soft one is low, isn't used. */
void raise_fd_limit(void);

#endif

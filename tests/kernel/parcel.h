/*
 * A connection on its way between two ends of a Unix socket, and what can be done to it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef PARCEL_H
#define PARCEL_H

#include <stddef.h>
#include <stdint.h>
#include <tlsfd.h>

/* socketpair, non-blocking. */
void open_pair(int kind, int pair[2]);
void close_pair(int pair[2]);

/* *c is passed and taken up again; the old *fd is closed, the new one is in it. */
void move_on(struct tlsfd **c, int *fd);

/* The message of tlsfd_pass in our hands. */
struct parcel {
	char text[8];
	int fd[2];
	uint8_t *letter;
	size_t size;
};

void parcel_open(struct parcel *p, int socket); /* the pipe is empty then */
void parcel_announce(struct parcel *p, size_t size); /* of a letter, by the text */
void parcel_close(struct parcel *p);

void receive_message(int socket, char text[8], int fd[2], int flags);

/* A pipe's reading end with n bytes in it. */
int pipe_of(const void *data, size_t n);
/* Any message. */
void send_message(int socket, const void *text, size_t n, const int *fd, size_t fds);

/* How many this process has open. */
size_t count_fds(void);

#endif

/* SPDX-License-Identifier: MIT */
#include "updates.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe.h"

bool kernel_can_rekey(void)
{
	return probe_kernel(PROBE_REKEY).verdict == PROBE_YES;
}

void begin_keys(struct tested *t, void **state)
{
	const struct setting *s = setting_of(state);

	if (s->place != USERSPACE && s->v.tls13 && !kernel_can_rekey())
		skip_because("this kernel can't change keys");
	place_connect(t, &s->v, s->place);
}

int receive(struct tested *t, struct received *r)
{
	uint8_t data[16384], type = 0;
	ssize_t n = raw_receive(&t->peer, &type, data);

	if (n < 0) {
		assert_int_equal(n, -1);
		return -1;
	}
	r->records++;
	r->most = ++r->under_key > r->most ? r->under_key : r->most;
	if (type == 23) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(data[i], (uint8_t)((r->bytes + (uint64_t)i) * 251 >> 8));
		r->bytes += (uint64_t)n;
	} else if (type == 22) {
		assert_int_equal(n, 5);
		assert_memory_equal(data, ((uint8_t[]){ 24, 0, 0, 1 }), 4);
		r->requests += data[4];
		r->updates++;
		r->under_key = 0;
		raw_next_in(&t->peer);
	}
	return type;
}

void receive_bytes(struct tested *t, struct received *r, uint64_t bytes)
{
	while (r->bytes < bytes)
		assert_true(receive(t, r) >= 22);
}

uint8_t *pattern(size_t n)
{
	uint8_t *data = malloc(n);

	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)(i * 251 >> 8);
	return data;
}

/* ---- ways to write ---- */

ssize_t write_pieces(struct tested *t, const uint8_t *data, size_t n)
{
	size_t done = 0;

	for (size_t i = 0; done < n; i++) {
		size_t piece = 1 + i * 37 % 2000;
		ssize_t sent = patient_write(t, data + done, piece < n - done ? piece : n - done);

		if (sent < 0)
			return done ? (ssize_t)done : sent;
		done += (size_t)sent;
	}
	return (ssize_t)done;
}

ssize_t write_at_once(struct tested *t, const uint8_t *data, size_t n)
{
	return tlsfd_write(t->c, data, n);
}

ssize_t write_vectors(struct tested *t, const uint8_t *data, size_t n)
{
	struct iovec iov[100];
	size_t part = n / 100;

	for (int i = 0; i < 100; i++)
		iov[i] = (struct iovec){ (void *)(data + part * (size_t)i),
					 i == 99 ? n - 99 * part : part };
	return tlsfd_writev(t->c, iov, 100);
}

ssize_t write_file(struct tested *t, const uint8_t *data, size_t n)
{
	int file = memfd_create("data", MFD_CLOEXEC);
	off_t at = 0;
	ssize_t sent;

	assert_int_equal(write(file, data, n), n);
	sent = tlsfd_sendfile(t->c, file, &at, 2 * n);
	assert_int_equal(at, sent);
	close(file);
	return sent;
}

void *do_job(void *arg)
{
	struct job *j = arg;

	j->result = j->l->write(j->t, j->data, j->n);
	return NULL;
}

/* SPDX-License-Identifier: MIT */
#include "letter.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "facts.h"
#include "fields.h"
#include "sys.h"

/* To be raised with every change of what describe() goes through; a later version of this
 * library can then read the letters of an earlier one. */
enum { FORMAT = 1 };

/* ---- which socket ---- */

int identity_of(int fd, struct identity *id)
{
	struct tls_crypto_info head = { 0 };
	socklen_t len = sizeof(id->cookie), head_len = sizeof(head);
	int err = sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &id->cookie, &len);

	if (!err)
		err = sys_getsockopt(fd, SOL_TLS, TLS_TX, &head, &head_len);
	id->version = head.version;
	id->cipher = head.cipher_type;
	for (enum way way = RX; way < WAYS && !err; way++)
		err = attach_count(fd, way, &id->number[way]);
	return err;
}

bool identity_fits(const struct identity *then, const struct identity *now)
{
	/* fewer records: the keys have been changed since */
	return then->cookie == now->cookie && then->version == now->version &&
	       then->cipher == now->cipher && then->number[RX] <= now->number[RX] &&
	       then->number[TX] <= now->number[TX];
}

/* ---- the description ---- */

static void describe_head(struct fields *f)
{
	static const char name[8] = "tlsfd";
	char magic[sizeof(name)];
	uint32_t format = FORMAT;

	memcpy(magic, name, sizeof(name));
	fields_bytes(f, magic, sizeof(magic));
	fields_bytes(f, &format, sizeof(format));
	fields_require(f, memcmp(magic, name, sizeof(name)) == 0);
	if (format != FORMAT)
		fields_fail(f, -EPROTONOSUPPORT);
}

static void describe_identity(struct fields *f, struct identity *id)
{
	fields_bytes(f, &id->cookie, sizeof(id->cookie));
	fields_bytes(f, id->number, sizeof(id->number));
	fields_bytes(f, &id->version, sizeof(id->version));
	fields_bytes(f, &id->cipher, sizeof(id->cipher));
	fields_require(f, id->version == TLSFD_TLS_1_2 || id->version == TLSFD_TLS_1_3);
}

static void describe_int(struct fields *f, _Atomic int *n, int min, int max)
{
	int32_t value = *n;

	fields_bytes(f, &value, sizeof(value));
	if (fields_require(f, value >= min && value <= max))
		*n = value;
}

static void describe_ends(struct fields *f, struct tlsfd *c)
{
	enum { ERRNO_MAX = 4095 };
	bool closed = gate_is_closed(&c->gate), shut = gate_is_shut(&c->gate);

	fields_flag(f, &c->eof);
	fields_flag(f, &c->fin_sent);
	fields_flag(f, &closed);
	fields_flag(f, &shut);
	describe_int(f, &c->err[RX], -ERRNO_MAX, 0);
	describe_int(f, &c->err[TX], -ERRNO_MAX, 0);
	describe_int(f, &c->met, -ERRNO_MAX, 0);
	describe_int(f, &c->alert, 0, 1 + UINT8_MAX);
	c->error = fields_text(f, c->error);
	if (f->pass != READ)
		return;
	c->text = (char *)c->error;
	if (closed)
		gate_close(&c->gate);
	else if (shut)
		gate_shut(&c->gate);
}

static void describe_control(struct fields *f, struct control *c)
{
	uint32_t skipped = c->skipped, requested = c->requested;

	fields_flag(f, &c->client);
	fields_flag(f, &c->unsettled);
	fields_flag(f, &c->key_update);
	fields_bytes(f, c->alert_bytes, sizeof(c->alert_bytes));
	fields_bytes(f, &c->alert_have, sizeof(c->alert_have));
	fields_bytes(f, c->head, sizeof(c->head));
	fields_bytes(f, &c->head_have, sizeof(c->head_have));
	fields_bytes(f, &c->warnings, sizeof(c->warnings));
	fields_bytes(f, &c->empty, sizeof(c->empty));
	fields_bytes(f, &c->spent, sizeof(c->spent));
	fields_bytes(f, &c->paid_at, sizeof(c->paid_at));
	fields_bytes(f, &requested, sizeof(requested));
	fields_bytes(f, &c->body_left, sizeof(c->body_left));
	fields_bytes(f, &skipped, sizeof(skipped));
	c->skipped = skipped;
	if (fields_require(f, requested <= CONTROL_MAX_REQUESTED))
		c->requested = (uint8_t)requested;
	fields_require(f, c->alert_have <= sizeof(c->alert_bytes) &&
				  c->head_have < sizeof(c->head) && c->body_left < 1 << 24);
}

static void describe_report(struct fields *f, struct tlsfd_report *r)
{
	for (enum way way = RX; way < WAYS; way++) {
		uint8_t mover = (uint8_t)r->mover[way];

		fields_bytes(f, &mover, sizeof(mover));
		if (fields_require(f, mover == TLSFD_MOVER_OPENSSL || mover == TLSFD_MOVER_TLSFD))
			r->mover[way] = mover;
	}
}

static void describe(struct fields *f, struct tlsfd *c, struct identity *id)
{
	describe_head(f);
	if (f->err)
		return;
	describe_identity(f, id);
	describe_ends(f, c);
	describe_control(f, &c->control);
	describe_report(f, &c->report);
	rekey_describe(f, &c->rekey);
	facts_describe(f, c);
	fields_require(f, tlsfd_version(c) == id->version);
	fields_require(f, f->at == f->size);
}

/* ---- both ways ---- */

int letter_write(struct tlsfd *c, struct identity *id, uint8_t **data, size_t *size)
{
	struct fields f = { .pass = MEASURE };

	describe(&f, c, id);
	if (f.at > LETTER_MAX)
		return -EMSGSIZE;
	*size = f.at;
	*data = OPENSSL_malloc(*size);
	if (!*data)
		return -ENOMEM;
	f = (struct fields){ .pass = WRITE, .data = *data, .size = *size };
	describe(&f, c, id);
	return 0;
}

int letter_read(struct tlsfd *c, struct identity *id, uint8_t *data, size_t size,
		struct reserve *reserve)
{
	struct fields f = { .pass = READ, .data = data, .size = size, .reserve = reserve };

	describe(&f, c, id);
	if (f.err)
		return f.err;
	c->kernel[RX] = c->kernel[TX] = true;
	c->control.tls13 = id->version == TLSFD_TLS_1_3;
	report_rewrite(&c->report, id->version, tlsfd_cipher(c));
	c->open = true;
	return 0;
}

/* SPDX-License-Identifier: MIT */
#include "attach.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

#include "sys.h"

/* The second in which the kernel last said that it has no ULP "tls". */
static time_t no_ulp_at;

static time_t now(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec;
}

int attach_has_ulp(int fd)
{
	char name[16] = "";
	socklen_t len = sizeof(name);
	int err = sys_getsockopt(fd, SOL_TCP, TCP_ULP, name, &len);

	if (err < 0 || len == 0)
		return 0;
	return strcmp(name, "tls") == 0 ? 1 : -EBUSY;
}

/* What an errno of a step means. */
struct meaning {
	int err;
	enum tlsfd_why why;
};

static const struct meaning ulp_errors[] = {
	{ ENOENT, TLSFD_WHY_NO_TLS },
	{ EEXIST, TLSFD_WHY_OTHER_ULP },
	{ ENOTCONN, TLSFD_WHY_NOT_ESTABLISHED },
	{ ENOPROTOOPT, TLSFD_WHY_NOT_TCP },
	{ EOPNOTSUPP, TLSFD_WHY_NOT_TCP },
	{ 0, 0 },
};

static const struct meaning keys_errors[] = {
	{ ENOENT, TLSFD_WHY_ALGORITHM },
	{ EINVAL, TLSFD_WHY_KERNEL_CIPHER },
	{ ENOPROTOOPT, TLSFD_WHY_KERNEL_CIPHER },
	{ EBUSY, TLSFD_WHY_FOREIGN_KEYS },
	{ 0, 0 },
};

static const struct meaning any_errors[] = {
	{ EPERM, TLSFD_WHY_FORBIDDEN },
	{ EACCES, TLSFD_WHY_FORBIDDEN },
	{ ENOSYS, TLSFD_WHY_FORBIDDEN },
	{ ENOMEM, TLSFD_WHY_MEMORY },
	{ ENOBUFS, TLSFD_WHY_MEMORY },
	{ 0, 0 },
};

static enum tlsfd_why look_up(const struct meaning *m, int err)
{
	while (m->err && m->err != err)
		m++;
	return m->why;
}

static struct refusal refusal(const struct meaning *meanings, int err)
{
	enum tlsfd_why why = look_up(meanings, err);

	if (!why)
		why = look_up(any_errors, err);
	if (why == TLSFD_WHY_NO_TLS && !sys_may_load_modules())
		why = TLSFD_WHY_MODULE;
	return (struct refusal){ .why = why ? why : TLSFD_WHY_SOCKET, .err = err };
}

struct refusal attach_refusal(int err)
{
	return refusal(ulp_errors, -err);
}

bool attach_ulp(int fd, struct refusal *no)
{
	int err;

	if (attach_has_ulp(fd) == 1)
		return true;
	err = sys_setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls"));
	if (err < 0)
		*no = attach_refusal(err);
	return err == 0;
}

void attach_early(int fd)
{
	/* each failure can cost the kernel a run of modprobe: at most one a second */
	if (fd < 0 || __atomic_load_n(&no_ulp_at, __ATOMIC_RELAXED) == now() ||
	    attach_has_ulp(fd))
		return;
	if (sys_setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls")) == -ENOENT)
		__atomic_store_n(&no_ulp_at, now(), __ATOMIC_RELAXED);
}

static int option(enum way way)
{
	return way == RX ? TLS_RX : TLS_TX;
}

bool attach_keys(int fd, enum way way, const struct crypto_info *info, struct refusal *no)
{
	int err = sys_setsockopt(fd, SOL_TLS, option(way), info->bytes, info->size);

	if (err < 0)
		*no = refusal(keys_errors, -err);
	return err == 0;
}

int attach_has_keys(int fd, enum way way)
{
	struct tls_crypto_info head = { 0 };
	socklen_t len = sizeof(head);
	int err = sys_getsockopt(fd, SOL_TLS, option(way), &head, &len);

	/* EBUSY: not set; ENOPROTOOPT: no ULP, or a kernel before 5.10 that can't
	 * be asked about RX */
	if (err == -EBUSY || err == -ENOPROTOOPT || err == -EOPNOTSUPP)
		return 0;
	return err < 0 ? err : 1;
}

static uint8_t info_size(uint16_t type)
{
	const struct cipher *cipher = cipher_of_type(type);

	if (!cipher)
		return 0;
	return (uint8_t)(sizeof(struct tls_crypto_info) + cipher->iv_size + cipher->key_size +
			 cipher->salt_size + SEQUENCE_SIZE);
}

int attach_get_keys(int fd, enum way way, struct crypto_info *info)
{
	socklen_t size = sizeof(info->head);
	int err = sys_getsockopt(fd, SOL_TLS, option(way), info->bytes, &size);

	if (err)
		return err;
	/* any other size than the cipher's is refused */
	info->size = info_size(info->head.cipher_type);
	size = info->size;
	if (!size)
		return -EOPNOTSUPP;
	return sys_getsockopt(fd, SOL_TLS, option(way), info->bytes, &size);
}

int attach_count(int fd, enum way way, uint64_t *records)
{
	struct crypto_info info = { .size = 0 };
	int err = attach_get_keys(fd, way, &info);

	if (!err) {
		memcpy(records, info.bytes + info.size - SEQUENCE_SIZE, SEQUENCE_SIZE);
		*records = be64toh(*records);
	}
	OPENSSL_cleanse(&info, sizeof(info));
	return err;
}

bool attach_same_keys(int fd, enum way way, const struct cipher *cipher,
		      const struct crypto_info *info)
{
	struct crypto_info theirs = { 0 };
	socklen_t len = info->size;
	bool same = sys_getsockopt(fd, SOL_TLS, option(way), theirs.bytes, &len) == 0 &&
		    theirs.head.cipher_type == info->head.cipher_type &&
		    CRYPTO_memcmp(cipher_key(cipher, &theirs), cipher_key(cipher, info),
				  cipher->key_size) == 0;

	OPENSSL_cleanse(&theirs, sizeof(theirs));
	return same;
}

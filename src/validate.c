/* SPDX-License-Identifier: MIT */
#include "validate.h"

#include <errno.h>
#include <string.h>

#include "keys.h"
#include "sys.h"

static const struct refusal fine = { TLSFD_WHY_NONE, 0 };

static struct refusal because(enum tlsfd_why why)
{
	return (struct refusal){ why, 0 };
}

static struct refusal unless(bool ok, enum tlsfd_why why)
{
	return ok ? fine : because(why);
}

static bool is_tls13(const struct plan *p)
{
	return SSL_version(p->ssl) == TLS1_3_VERSION;
}

/* ---- the connection as a whole ---- */

static struct refusal check_open(struct plan *p)
{
	return unless(SSL_get_shutdown(p->ssl) == 0, TLSFD_WHY_CLOSED);
}

/* A post-handshake message of which a part has come puts OpenSSL back into its
 * state machine (RFC 8446 section 4.6). */
static bool in_later_message(const struct plan *p)
{
	return is_tls13(p) && p->watch && p->watch->way[RX].secret_size &&
	       p->watch->way[TX].secret_size && !SSL_is_server(p->ssl);
}

static struct refusal check_handshake(struct plan *p)
{
	enum { QUIC1 = 1 }; /* OSSL_QUIC1_VERSION, OpenSSL 3.2 */

	/* of these no waiting makes a connection of ours */
	if (SSL_is_dtls(p->ssl) || SSL_version(p->ssl) == QUIC1)
		return because(TLSFD_WHY_VERSION);
	if (SSL_renegotiate_pending(p->ssl) || SSL_total_renegotiations(p->ssl))
		return because(TLSFD_WHY_RENEGOTIATION);
	if (SSL_is_init_finished(p->ssl))
		return fine;
	if (SSL_get_key_update_type(p->ssl) != SSL_KEY_UPDATE_NONE)
		return because(TLSFD_WHY_RECORD_WRITTEN);
	return because(in_later_message(p) ? TLSFD_WHY_RECORD_READ : TLSFD_WHY_HANDSHAKE);
}

static struct refusal check_version(struct plan *p)
{
	int version = SSL_version(p->ssl);

	return unless(version == TLS1_3_VERSION || version == TLS1_2_VERSION, TLSFD_WHY_VERSION);
}

static bool is_socket(BIO *bio)
{
	int type = bio ? BIO_method_type(bio) : 0;

	return (type == BIO_TYPE_SOCKET || type == BIO_TYPE_CONNECT) && !BIO_next(bio);
}

static struct refusal check_bio(struct plan *p)
{
	int same;

	p->bio[RX] = SSL_get_rbio(p->ssl);
	p->bio[TX] = SSL_get_wbio(p->ssl);
	if (!is_socket(p->bio[RX]) || !is_socket(p->bio[TX]))
		return because(TLSFD_WHY_BIO);
	p->fd = SSL_get_rfd(p->ssl);
	same = sys_same_file(p->fd, SSL_get_wfd(p->ssl));
	if (same < 0)
		return (struct refusal){ TLSFD_WHY_SOCKET, -same };
	return unless(same, TLSFD_WHY_TWO_SOCKETS);
}

static int socket_option(int fd, int name, int *value)
{
	socklen_t len = sizeof(*value);

	return sys_getsockopt(fd, SOL_SOCKET, name, value, &len);
}

static struct refusal check_socket(struct plan *p)
{
	int domain = 0, protocol = 0;
	int err = socket_option(p->fd, SO_DOMAIN, &domain);

	if (!err)
		err = socket_option(p->fd, SO_PROTOCOL, &protocol);
	if (err)
		return (struct refusal){ TLSFD_WHY_SOCKET, -err };
	if (protocol == IPPROTO_MPTCP)
		return because(TLSFD_WHY_MPTCP);
	return unless((domain == AF_INET || domain == AF_INET6) && protocol == IPPROTO_TCP,
		      TLSFD_WHY_NOT_TCP);
}

static struct refusal check_negotiated(struct plan *p)
{
	if (SSL_get_early_data_status(p->ssl) == SSL_EARLY_DATA_ACCEPTED)
		return because(TLSFD_WHY_EARLY_DATA);
	if (SSL_get_current_compression(p->ssl))
		return because(TLSFD_WHY_COMPRESSION);
	return unless(SSL_SESSION_get_max_fragment_length(SSL_get_session(p->ssl)) ==
			      TLSEXT_max_fragment_length_DISABLED,
		      TLSFD_WHY_MAX_FRAGMENT);
}

static struct refusal check_cipher(struct plan *p)
{
	const SSL_CIPHER *suite = SSL_get_current_cipher(p->ssl);

	p->cipher = suite ? cipher_find(SSL_CIPHER_get_cipher_nid(suite),
					SSL_CIPHER_get_name(suite)) :
			    NULL;
	return unless(p->cipher, TLSFD_WHY_CIPHER);
}

/* What BIO_get_ktls_send and BIO_get_ktls_recv ask; those need an OpenSSL with kTLS. */
static bool openssl_moved(const struct plan *p, enum way way)
{
	return BIO_ctrl(p->bio[way], way == TX ? 73 : 76, 0, NULL) > 0;
}

static struct refusal check_movers(struct plan *p)
{
	for (enum way way = RX; way < WAYS; way++) {
		if (p->mover[way])
			continue;
		if (openssl_moved(p, way))
			p->mover[way] = TLSFD_MOVER_OPENSSL;
		else if (attach_has_keys(p->fd, way) == 1)
			return because(TLSFD_WHY_FOREIGN_KEYS);
	}
	return fine;
}

/* ---- each direction ---- */

static struct refusal not_seen(const struct plan *p)
{
	bool replaced = watch_callback_replaced(p->ssl) || !watch_can_follow(p->bio[RX]) ||
			!watch_can_follow(p->bio[TX]);

	return because(watch_context_prepared(p->ssl) && replaced ? TLSFD_WHY_CALLBACK_REPLACED :
								    TLSFD_WHY_NOT_PREPARED);
}

/* Keys and the number of the next record, exactly. */
static struct refusal check_known(struct plan *p, enum way way)
{
	const struct watched_way *ww = p->watch ? &p->watch->way[way] : NULL;

	if (!wanted(p, way))
		return fine;
	if (!ww || (is_tls13(p) ? !ww->secret_size : !p->watch->from_start))
		return not_seen(p);
	if (!watch_saw_all(p->watch, p->bio[way], way))
		return because(TLSFD_WHY_CALLBACK_REPLACED);
	if (is_tls13(p))
		return unless(!ww->behind, TLSFD_WHY_READ_AHEAD);
	if (ww->flow.change_cipher_specs > 1)
		return because(TLSFD_WHY_RENEGOTIATION);
	return unless(!ww->flow.lost && ww->flow.change_cipher_specs && ww->flow.records,
		      TLSFD_WHY_NOT_FOLLOWED);
}

/* OpenSSL 3.0 and 3.1 change their keys by KeyUpdate and leave the kernel's. */
static struct refusal check_kernel_keys(struct plan *p, enum way way)
{
	struct crypto_info info = { .size = 0 };
	bool same;

	if (p->mover[way] != TLSFD_MOVER_OPENSSL || !p->watch || !p->watch->way[way].rekeyed)
		return fine;
	if (keys_derive(p->ssl, p->watch, way, p->cipher, &info) < 0)
		return because(TLSFD_WHY_OPENSSL);
	same = attach_same_keys(p->fd, way, p->cipher, &info);
	OPENSSL_cleanse(&info, sizeof(info));
	return unless(same, TLSFD_WHY_OPENSSL_REKEYED);
}

static struct refusal check_padding(struct plan *p, enum way way)
{
	return unless(!(way == TX && wanted(p, TX) && is_tls13(p) && p->watch->padded),
		      TLSFD_WHY_PADDING);
}

static bool reading(const struct plan *p)
{
	/* SSL_has_pending alone misses the moment when just a record's header has been
	 * read; the flow and the state string don't */
	return SSL_has_pending(p->ssl) || strcmp(SSL_rstate_string(p->ssl), "RH") != 0 ||
	       (wanted(p, RX) && !record_flow_at_boundary(&p->watch->way[RX].flow));
}

static bool writing(const struct plan *p)
{
	return SSL_want_write(p->ssl) || SSL_get_key_update_type(p->ssl) != SSL_KEY_UPDATE_NONE ||
	       (p->watch && p->watch->way[TX].short_write) || BIO_wpending(p->bio[TX]) ||
	       (wanted(p, TX) && !record_flow_at_boundary(&p->watch->way[TX].flow));
}

/* Does TCP take what is still to be written? Not after a reset, or our own FIN. */
static bool tcp_takes(const struct plan *p)
{
	struct tcp_info info = { .tcpi_state = TCP_ESTABLISHED };
	socklen_t len = sizeof(info);

	return sys_getsockopt(p->fd, SOL_TCP, TCP_INFO, &info, &len) < 0 ||
	       info.tcpi_state == TCP_ESTABLISHED || info.tcpi_state == TCP_CLOSE_WAIT;
}

/* These pass: they come last, so that nobody waits for what can't be. */
static struct refusal check_quiet(struct plan *p, enum way way)
{
	if (!(p->want & direction(way)) || (p->watch && p->watch->way[way].closed))
		return fine;
	if (way == RX)
		return unless(!reading(p), TLSFD_WHY_RECORD_READ);
	return unless(!writing(p),
		      tcp_takes(p) ? TLSFD_WHY_RECORD_WRITTEN : TLSFD_WHY_NOT_ESTABLISHED);
}

/* ---- all of it ---- */

static struct refusal (*const connection_checks[])(struct plan *p) = {
	check_open,	  check_handshake, check_version, check_bio,	check_socket,
	check_negotiated, check_cipher,	   check_movers,
};

static struct refusal (*const way_checks[])(struct plan *p, enum way way) = {
	check_known, check_kernel_keys, check_padding, check_quiet,
};

static bool validate_connection(struct plan *p)
{
	for (size_t i = 0; i < sizeof(connection_checks) / sizeof(connection_checks[0]); i++) {
		struct refusal no = connection_checks[i](p);

		if (no.why) {
			p->no[RX] = p->no[TX] = no;
			return false;
		}
	}
	return true;
}

/* What an earlier call moved is moved, whatever stands against the rest now. */
static void recall_moved(struct plan *p)
{
	int fd = SSL_get_fd(p->ssl);

	for (enum way way = RX; way < WAYS; way++) {
		if (p->watch && p->watch->way[way].moved && attach_has_keys(fd, way) == 1) {
			p->mover[way] = TLSFD_MOVER_TLSFD;
			p->fd = fd;
		}
	}
}

bool validate(struct plan *p)
{
	recall_moved(p);
	if (!validate_connection(p))
		return false;
	for (size_t i = 0; i < sizeof(way_checks) / sizeof(way_checks[0]); i++) {
		for (enum way way = RX; way < WAYS; way++)
			p->no[way] = way_checks[i](p, way);
		if (p->no[RX].why || p->no[TX].why)
			return false;
	}
	return true;
}

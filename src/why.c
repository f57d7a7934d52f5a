/* SPDX-License-Identifier: MIT */
#include "why.h"

#include <errno.h>

static const struct why reasons[] = {
	{ TLSFD_WHY_NONE, 0, "none", "nothing is in the way", NULL },
	{ TLSFD_WHY_NOT_ASKED, 0, "not-asked", "the caller did not ask for it", NULL },
	{ TLSFD_WHY_OTHER_DIRECTION, 0, "other-direction",
	  "the other direction can't move and one alone was not asked for", NULL },

	{ TLSFD_WHY_HANDSHAKE, -ENOTCONN, "handshake",
	  "the handshake is not finished",
	  "call tlsfd_handover after SSL_accept, SSL_connect or SSL_do_handshake returned 1" },
	{ TLSFD_WHY_CLOSED, -ENOTCONN, "closed",
	  "a close_notify or a fatal alert was sent or received",
	  "hand over before SSL_shutdown" },
	{ TLSFD_WHY_VERSION, -EOPNOTSUPP, "version",
	  "the kernel has TLS 1.2 and TLS 1.3 only",
	  "SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION), over TCP" },
	{ TLSFD_WHY_CIPHER, -EOPNOTSUPP, "cipher",
	  "no kernel has this cipher",
	  "offer AES-GCM, ChaCha20-Poly1305 or AES-128-CCM: SSL_CTX_set_ciphersuites for TLS 1.3, "
	  "SSL_CTX_set_cipher_list(ctx, \"ECDHE+AESGCM:ECDHE+CHACHA20\") for TLS 1.2" },
	{ TLSFD_WHY_EARLY_DATA, -EOPNOTSUPP, "early-data",
	  "early data (0-RTT) was accepted",
	  "SSL_CTX_set_max_early_data(ctx, 0)" },
	{ TLSFD_WHY_RENEGOTIATION, -EOPNOTSUPP, "renegotiation",
	  "the connection was renegotiated, or is about to be",
	  "SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION), or use TLS 1.3" },
	{ TLSFD_WHY_COMPRESSION, -EOPNOTSUPP, "compression",
	  "TLS compression was negotiated",
	  "SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION)" },
	{ TLSFD_WHY_MAX_FRAGMENT, -EOPNOTSUPP, "max-fragment-length",
	  "max_fragment_length was negotiated (RFC 6066), which the kernel does not keep",
	  "a client: don't call SSL_set_tlsext_max_fragment_length" },
	{ TLSFD_WHY_PADDING, -EOPNOTSUPP, "padding",
	  "the program asked OpenSSL to pad records, which the kernel does not do",
	  "drop SSL_CTX_set_block_padding and SSL_CTX_set_record_padding_callback" },

	{ TLSFD_WHY_NOT_PREPARED, -ENODATA, "not-prepared",
	  "the handshake was not observed, so keys or record numbers are not known",
	  "call tlsfd_prepare on the SSL_CTX before the handshake, and on every SSL_CTX that the "
	  "servername callback can switch to" },
	{ TLSFD_WHY_CALLBACK_REPLACED, -ENODATA, "callback-replaced",
	  "a callback of the program's stands where tlsfd_prepare's would, so keys or record "
	  "numbers are not known",
	  "set your key log, info and BIO callbacks before tlsfd_prepare, which goes on calling "
	  "them; use SSL_CTX_set_info_callback, not SSL_set_info_callback, and "
	  "BIO_set_callback_ex, not BIO_set_callback" },
	{ TLSFD_WHY_READ_AHEAD, -ENODATA, "read-ahead",
	  "OpenSSL had read ahead over a change of keys, so the number of the next record is not "
	  "known",
	  "SSL_CTX_set_read_ahead(ctx, 0)" },
	{ TLSFD_WHY_OPENSSL_REKEYED, -EOPNOTSUPP, "openssl-rekeyed",
	  "OpenSSL changed its keys by KeyUpdate and left the kernel's as they were",
	  "leave SSL_OP_ENABLE_KTLS off, or use OpenSSL 3.2 or later" },
	{ TLSFD_WHY_OPENSSL, -EIO, "openssl", "OpenSSL could not derive the keys",
	  "ERR_print_errors tells what OpenSSL said" },
	{ TLSFD_WHY_NOT_FOLLOWED, -ENODATA, "not-followed",
	  "the records of the handshake could not be followed",
	  "let the peer start with a TLS ClientHello (not an SSL 2.0 one)" },

	{ TLSFD_WHY_RECORD_READ, -EAGAIN, "record-read",
	  "OpenSSL holds bytes of the peer that it has read",
	  "SSL_read what is there (SSL_has_pending), then call again" },
	{ TLSFD_WHY_RECORD_WRITTEN, -EAGAIN, "record-written",
	  "OpenSSL has bytes or a KeyUpdate that it still has to write",
	  "repeat the SSL_write (or SSL_do_handshake) until it succeeds, then call again" },

	{ TLSFD_WHY_BIO, -EOPNOTSUPP, "bio", "the SSL is not directly on a socket",
	  "use SSL_set_fd; a BIO of your own, a BIO pair or a filter can't move" },
	{ TLSFD_WHY_TWO_SOCKETS, -EOPNOTSUPP, "two-sockets",
	  "the SSL reads from one socket and writes to another", "use one socket" },
	{ TLSFD_WHY_NOT_TCP, -EOPNOTSUPP, "not-tcp",
	  "the socket is not TCP", "the kernel has TLS on TCP over IPv4 and IPv6 only" },
	{ TLSFD_WHY_MPTCP, -EOPNOTSUPP, "mptcp", "the socket is Multipath TCP",
	  "make it with IPPROTO_TCP; where mptcpize or a BPF program changes it, exempt it" },
	{ TLSFD_WHY_NOT_ESTABLISHED, -ENOTCONN, "not-established",
	  "the TCP connection is not established (any more): the peer sent its FIN or a reset, or "
	  "this end shut down",
	  "read the rest with SSL_read; with tlsfd_prepare before the handshake an early FIN does "
	  "no harm" },
	{ TLSFD_WHY_OTHER_ULP, -EOPNOTSUPP, "other-ulp",
	  "the socket has another upper layer protocol than tls", "use a socket without one" },
	{ TLSFD_WHY_FOREIGN_KEYS, -EEXIST, "foreign-keys",
	  "the socket has TLS keys already, which neither OpenSSL nor tlsfd gave it",
	  "use a new socket for each connection" },
	{ TLSFD_WHY_SOCKET, 0, "socket", "the socket refuses", NULL },

	{ TLSFD_WHY_NO_TLS, -ENOENT, "no-tls",
	  "the kernel has no TLS and the module tls can't be loaded",
	  "run 'modprobe tls' as root and see what it says; if it is not found, use a kernel built "
	  "with CONFIG_TLS (Debian and Ubuntu kernels are)" },
	{ TLSFD_WHY_MODULE, -ENOENT, "module",
	  "the module tls is not loaded, and only CAP_NET_ADMIN outside any container or user "
	  "namespace loads it by itself",
	  "run 'modprobe tls' as root on the host, and put 'tls' into /etc/modules-load.d/tls.conf" },
	{ TLSFD_WHY_KERNEL_CIPHER, -EOPNOTSUPP, "kernel-cipher",
	  "this kernel does not take this version and cipher on this socket",
	  "use TLS_AES_128_GCM_SHA256 or a newer kernel; 'tlsfd doctor' shows what it takes; a "
	  "socket in a BPF sockmap takes none" },
	{ TLSFD_WHY_ALGORITHM, -ENOENT, "algorithm",
	  "the kernel's crypto lacks the cipher's algorithm",
	  "load its module (modprobe gcm, ccm or chacha20poly1305), or a kernel that has it; in "
	  "FIPS mode use AES-GCM" },
	{ TLSFD_WHY_FORBIDDEN, 0, "forbidden", "a sandbox (seccomp or LSM) forbids it",
	  "allow setsockopt(2) with SOL_TCP/TCP_ULP and SOL_TLS" },
	{ TLSFD_WHY_MEMORY, -ENOMEM, "memory", "memory is short", "try again" },
};

const struct why *why_describe(enum tlsfd_why why)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].why == why)
			return &reasons[i];
	return &reasons[0];
}

const char *tlsfd_why_name(enum tlsfd_why why)
{
	return why_describe(why)->name;
}

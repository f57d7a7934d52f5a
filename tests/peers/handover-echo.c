/*
 * The program that the tests of this folder put in front of other people's TLS.
 *
 *	handover-echo --server [OPTION]...
 *	handover-echo --client PORT [OPTION]...
 *
 * Shakes hands on 127.0.0.1, hands the connection over, frees the SSL, and then
 * moves data: through the fd alone with --bare, else with tlsfd_read and
 * tlsfd_write. See usage() for the options. On stdout:
 *
 *	port 12345                                        (a server)
 *	tx=kernel rx=kernel version=TLSv1.3 cipher=... resumed=0 alpn=- peer=-
 *	received=100 sent=100 rx_rekeys=0 tx_rekeys=0 alert=-1 end=close_notify
 *
 * end is close_notify, truncated, reset, or the name of an errno.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/tls.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <tlsfd/openssl.h>
#include <unistd.h>

enum { TIME_LIMIT = 240 };

static struct {
	bool server, ktls, bare, echo, echo_late, abrupt, wrong;
	int port, version, connections, rekey;
	long long count; /* -1: until the peer ends */
	const char *cipher, *alpn, *cert, *key, *ca, *send, *receive;
} want = { .connections = 1, .count = -1 };

static _Noreturn void usage(void)
{
	fputs("usage: handover-echo --server|--client PORT [OPTION]...\n"
	      "  --version 1.2|1.3  --cipher NAMES  --ktls  --alpn NAME\n"
	      "  --cert FILE --key FILE   this end's\n"
	      "  --ca FILE          the peer's must be signed by it (a server then asks for one)\n"
	      "  --connections N    one after another; a client resumes the first's session\n"
	      "  --bare             read(2) and write(2)\n"
	      "  --send FILE  --receive FILE  --echo\n"
	      "  --echo-late        the received file, behind the peer's end\n"
	      "  --rekey N          a KeyUpdate of ours behind every N-th write, to be answered\n"
	      "  --wrong            sends a record that no peer can take, behind all data\n"
	      "  --count N          this end closes first, after it received N bytes\n"
	      "  --abrupt           no close_notify, just FIN\n",
	      stderr);
	exit(2);
}

static _Noreturn void die(const char *what)
{
	ERR_print_errors_fp(stderr);
	errx(1, "%s failed", what);
}

/* ---- the handshake ---- */

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *len,
		       const unsigned char *in, unsigned int in_len, void *arg)
{
	const unsigned char *wire = arg;

	(void)ssl;
	return SSL_select_next_proto((unsigned char **)out, len, wire, wire[0] + 1u, in, in_len) ==
			       OPENSSL_NPN_NEGOTIATED ?
		       SSL_TLSEXT_ERR_OK :
		       SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void set_alpn(SSL_CTX *ctx)
{
	static unsigned char wire[256];
	size_t len = strlen(want.alpn);

	if (len > 255)
		usage();
	wire[0] = (unsigned char)len;
	memcpy(wire + 1, want.alpn, len);
	if (want.server)
		SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, wire);
	else if (SSL_CTX_set_alpn_protos(ctx, wire, (unsigned int)len + 1) != 0)
		die("SSL_CTX_set_alpn_protos");
}

static void set_credentials(SSL_CTX *ctx)
{
	if (want.cert && (SSL_CTX_use_certificate_chain_file(ctx, want.cert) != 1 ||
			  SSL_CTX_use_PrivateKey_file(ctx, want.key, SSL_FILETYPE_PEM) != 1))
		die(want.cert);
	if (want.ca) {
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		if (SSL_CTX_load_verify_file(ctx, want.ca) != 1)
			die(want.ca);
	}
}

static void set_cipher(SSL_CTX *ctx)
{
	int ok = want.version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(ctx, want.cipher) :
						  SSL_CTX_set_cipher_list(ctx, want.cipher);

	if (ok != 1)
		die(want.cipher);
}

static SSL_CTX *context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(want.server ? TLS_server_method() : TLS_client_method());

	if (!ctx)
		die("SSL_CTX_new");
	if (want.version && (SSL_CTX_set_min_proto_version(ctx, want.version) != 1 ||
			     SSL_CTX_set_max_proto_version(ctx, want.version) != 1))
		die("SSL_CTX_set_min_proto_version");
	if (want.cipher)
		set_cipher(ctx);
	if (want.ktls)
		SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
	if (want.alpn)
		set_alpn(ctx);
	set_credentials(ctx);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"peers", 5);
	if (tlsfd_prepare(ctx) < 0)
		die("tlsfd_prepare");
	return ctx;
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int start_listening(void)
{
	struct sockaddr_in addr = loopback(0);
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 ||
	    listen(listener, 8) < 0 || getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
		err(1, "listen");
	printf("port %d\n", ntohs(addr.sin_port));
	fflush(stdout);
	return listener;
}

/* A connected socket; listener is -1 for a client. */
static int next_socket(int listener)
{
	struct sockaddr_in addr = loopback(want.port);
	int fd;

	if (listener >= 0) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			err(1, "accept");
		return fd;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		err(1, "connect");
	return fd;
}

static SSL *shake_hands(SSL_CTX *ctx, int fd, SSL_SESSION *session)
{
	SSL *ssl = SSL_new(ctx);

	if (!ssl || SSL_set_fd(ssl, fd) != 1)
		die("SSL_set_fd");
	if (!want.server && (SSL_set_tlsext_host_name(ssl, "localhost") != 1 ||
			     SSL_set1_host(ssl, "localhost") != 1))
		die("SSL_set1_host");
	if (session && SSL_set_session(ssl, session) != 1)
		die("SSL_set_session");
	if ((want.server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		die("the handshake");
	return ssl;
}

/* ---- the handover ---- */

static const char *place(const struct tlsfd_report *report, enum tlsfd_direction dir)
{
	return tlsfd_report_kernel(report, dir) ? "kernel" : "user";
}

static void show_peer(SSL *ssl)
{
	X509 *cert = SSL_get1_peer_certificate(ssl);
	char name[256] = "-";

	if (cert)
		X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name,
					  sizeof(name));
	X509_free(cert);
	printf("peer=%s\n", name);
}

static void show(SSL *ssl, const struct tlsfd_report *report)
{
	const unsigned char *alpn = NULL;
	unsigned int len = 0;

	SSL_get0_alpn_selected(ssl, &alpn, &len);
	printf("tx=%s rx=%s version=%s cipher=%s resumed=%d alpn=%.*s ", place(report, TLSFD_TX),
	       place(report, TLSFD_RX), SSL_get_version(ssl), SSL_get_cipher_name(ssl),
	       SSL_session_reused(ssl), len ? (int)len : 1, len ? (const char *)alpn : "-");
	show_peer(ssl);
	fflush(stdout);
}

static struct tlsfd *hand_over(SSL *ssl)
{
	struct tlsfd_report *report;
	struct tlsfd *conn;
	int error = tlsfd_handover(ssl, &conn, &report);

	if (!report)
		errx(1, "tlsfd_handover: %s", strerror(-error));
	show(ssl, report);
	if (error < 0)
		errx(1, "tlsfd_handover: %s", tlsfd_report_sentence(report));
	tlsfd_report_free(report);
	SSL_free(ssl);
	return conn;
}

/* ---- the data ---- */

struct job {
	struct tlsfd *conn;
	long long received, sent;
	int sink;
	int writes;
	/* --bare: */
	pthread_mutex_t writing;
	int over; /* what tlsfd_attend said for good, 1 before */
};

/* Deals with what stopped read(2). The answer to a KeyUpdate has to wait for a write that
 * is under way; its writer then sees to it. */
static int attend(struct job *job, ssize_t said)
{
	bool nobody_writes = pthread_mutex_trylock(&job->writing) == 0;
	int more = tlsfd_attend(job->conn, nobody_writes ? TLSFD_RX | TLSFD_TX : TLSFD_RX, said);

	if (nobody_writes)
		pthread_mutex_unlock(&job->writing);
	return more == -EAGAIN ? 1 : more;
}

/* Behind a short read too: a KeyUpdate may have been met, and poll(2) doesn't tell. */
static ssize_t read_bare(struct job *job, void *buf, size_t n)
{
	ssize_t got = 0;

	while (got == 0 && job->over == 1) {
		got = read(tlsfd_fd(job->conn), buf, n);
		if (got < (ssize_t)n)
			job->over = attend(job, got < 0 ? -errno : 0);
		if (got < 0)
			got = 0;
	}
	return got ? got : job->over;
}

static ssize_t read_some(struct job *job, void *buf, size_t n)
{
	return want.bare ? read_bare(job, buf, n) : tlsfd_read(job->conn, buf, n);
}

static ssize_t write_bare(struct job *job, const void *buf, size_t n)
{
	ssize_t done;
	int error = 0;

	pthread_mutex_lock(&job->writing);
	done = write(tlsfd_fd(job->conn), buf, n);
	if (done < 0)
		error = -errno;
	else
		error = tlsfd_attend(job->conn, TLSFD_TX, 0);
	pthread_mutex_unlock(&job->writing);
	return error < 0 && error != -EAGAIN ? error : done;
}

static ssize_t write_some(struct job *job, const void *buf, size_t n)
{
	return want.bare ? write_bare(job, buf, n) : tlsfd_write(job->conn, buf, n);
}

static void rekey(struct job *job)
{
	int error;

	pthread_mutex_lock(&job->writing);
	error = tlsfd_rekey(job->conn, true);
	pthread_mutex_unlock(&job->writing);
	if (error < 0)
		errx(1, "tlsfd_rekey: %s", strerror(-error));
}

static void write_all(struct job *job, const char *data, size_t n)
{
	while (n) {
		ssize_t done = write_some(job, data, n);

		if (done < 0)
			errx(1, "write: %s", strerror((int)-done));
		data += done;
		n -= (size_t)done;
		job->sent += done;
		if (want.rekey && ++job->writes % want.rekey == 0)
			rekey(job);
	}
}

static void send_file(struct job *job, const char *path)
{
	char buf[60000];
	ssize_t n;
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		err(1, "%s", path);
	while ((n = read(file, buf, sizeof(buf))) > 0)
		write_all(job, buf, (size_t)n);
	close(file);
}

static void *send_wanted(void *job)
{
	send_file(job, want.send);
	return NULL;
}

static void take(struct job *job, const char *data, size_t n)
{
	job->received += (long long)n;
	if (job->sink >= 0 && write(job->sink, data, n) != (ssize_t)n)
		err(1, "%s", want.receive);
	if (want.echo)
		write_all(job, data, n);
}

/* Until the peer's end, or until `limit` bytes came (-1: no limit). Returns what
 * the last read returned. */
static ssize_t receive(struct job *job, long long limit)
{
	char buf[50000];
	ssize_t n = 1;

	while (n > 0 && (limit < 0 || job->received < limit)) {
		n = read_some(job, buf, sizeof(buf));
		if (n > 0)
			take(job, buf, (size_t)n);
	}
	return n;
}

/* A handshake message of a type that there is not. */
static void send_wrong(int fd)
{
	static const uint8_t message[] = { 99, 0, 0, 0 };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(1)];
	} control = { .align = { .cmsg_len = CMSG_LEN(1),
				 .cmsg_level = SOL_TLS,
				 .cmsg_type = TLS_SET_RECORD_TYPE } };
	struct iovec iov = { (void *)message, sizeof(message) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };

	*CMSG_DATA(&control.align) = 22;
	if (sendmsg(fd, &msg, 0) != sizeof(message))
		err(1, "sendmsg");
}

static void close_writing(struct job *job)
{
	/* a peer that ended before may be gone by now: no error */
	int error = want.abrupt ? 0 : tlsfd_shutdown(job->conn);

	if (error < 0 && error != -EPIPE && error != -ECONNRESET)
		errx(1, "tlsfd_shutdown: %s", strerror(-error));
	shutdown(tlsfd_fd(job->conn), SHUT_WR);
}

static const char *name_of(ssize_t end)
{
	switch (end) {
	case 0:
		return "close_notify";
	case -ECONNABORTED:
		return "truncated";
	case -ECONNRESET:
		return "reset";
	default:
		return strerrorname_np((int)-end);
	}
}

static int open_sink(void)
{
	int sink;

	if (!want.receive)
		return -1;
	sink = open(want.receive, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (sink < 0)
		err(1, "%s", want.receive);
	return sink;
}

static void show_outcome(const struct job *job, ssize_t end)
{
	struct tlsfd_counters n;

	if (tlsfd_counters(job->conn, &n) < 0)
		errx(1, "tlsfd_counters failed");
	printf("received=%lld sent=%lld rx_rekeys=%llu tx_rekeys=%llu alert=%d end=%s\n",
	       job->received, job->sent, (unsigned long long)n.rx_rekeys,
	       (unsigned long long)n.tx_rekeys, tlsfd_alert(job->conn), name_of(end));
	fflush(stdout);
}

static void move_data(struct tlsfd *conn)
{
	struct job job = { .conn = conn,
			   .sink = open_sink(),
			   .writing = PTHREAD_MUTEX_INITIALIZER,
			   .over = 1 };
	pthread_t sender;
	ssize_t end;

	if (want.send && pthread_create(&sender, NULL, send_wanted, &job))
		errx(1, "pthread_create failed");
	end = receive(&job, want.count);
	if (want.send)
		pthread_join(sender, NULL);
	if (want.echo_late)
		send_file(&job, want.receive);
	if (want.wrong)
		send_wrong(tlsfd_fd(conn));
	else
		close_writing(&job);
	if (end > 0)
		end = receive(&job, -1);
	show_outcome(&job, end);
	close(job.sink);
}

/* ---- all of it ---- */

static void serve_or_ask(SSL_CTX *ctx, int listener)
{
	SSL_SESSION *session = NULL;

	for (int i = 0; i < want.connections; i++) {
		int fd = next_socket(listener);
		SSL *ssl = shake_hands(ctx, fd, session);
		struct tlsfd *conn;

		if (!want.server && !session)
			session = SSL_get1_session(ssl);
		conn = hand_over(ssl);
		move_data(conn);
		tlsfd_free(conn);
		close(fd);
	}
	SSL_SESSION_free(session);
}

enum {
	SERVER = 1,
	CLIENT,
	VERSION,
	CIPHER,
	KTLS,
	ALPN,
	CERT,
	KEY,
	CA,
	CONNECTIONS,
	BARE,
	SEND,
	RECEIVE,
	ECHO_,
	ECHO_LATE,
	COUNT,
	ABRUPT,
	REKEY,
	WRONG
};

static const struct option options[] = {
	{ "server", no_argument, NULL, SERVER },
	{ "client", required_argument, NULL, CLIENT },
	{ "version", required_argument, NULL, VERSION },
	{ "cipher", required_argument, NULL, CIPHER },
	{ "ktls", no_argument, NULL, KTLS },
	{ "alpn", required_argument, NULL, ALPN },
	{ "cert", required_argument, NULL, CERT },
	{ "key", required_argument, NULL, KEY },
	{ "ca", required_argument, NULL, CA },
	{ "connections", required_argument, NULL, CONNECTIONS },
	{ "bare", no_argument, NULL, BARE },
	{ "send", required_argument, NULL, SEND },
	{ "receive", required_argument, NULL, RECEIVE },
	{ "echo", no_argument, NULL, ECHO_ },
	{ "echo-late", no_argument, NULL, ECHO_LATE },
	{ "count", required_argument, NULL, COUNT },
	{ "abrupt", no_argument, NULL, ABRUPT },
	{ "rekey", required_argument, NULL, REKEY },
	{ "wrong", no_argument, NULL, WRONG },
	{ NULL, 0, NULL, 0 },
};

static int version(const char *name)
{
	if (strcmp(name, "1.2") == 0)
		return TLS1_2_VERSION;
	if (strcmp(name, "1.3") == 0)
		return TLS1_3_VERSION;
	usage();
}

static void option(int which, const char *value)
{
	switch (which) {
	case SERVER:
		want.server = true;
		break;
	case CLIENT:
		want.port = atoi(value);
		break;
	case VERSION:
		want.version = version(value);
		break;
	case CIPHER:
		want.cipher = value;
		break;
	case KTLS:
		want.ktls = true;
		break;
	case ALPN:
		want.alpn = value;
		break;
	case CERT:
		want.cert = value;
		break;
	case KEY:
		want.key = value;
		break;
	case CA:
		want.ca = value;
		break;
	case CONNECTIONS:
		want.connections = atoi(value);
		break;
	case BARE:
		want.bare = true;
		break;
	case SEND:
		want.send = value;
		break;
	case RECEIVE:
		want.receive = value;
		break;
	case ECHO_:
		want.echo = true;
		break;
	case ECHO_LATE:
		want.echo_late = true;
		break;
	case COUNT:
		want.count = atoll(value);
		break;
	case ABRUPT:
		want.abrupt = true;
		break;
	case REKEY:
		want.rekey = atoi(value);
		break;
	case WRONG:
		want.wrong = true;
		break;
	default:
		usage();
	}
}

int main(int argc, char **argv)
{
	SSL_CTX *ctx;
	int which;

	while ((which = getopt_long(argc, argv, "", options, NULL)) != -1)
		option(which, optarg);
	if (optind != argc || want.server == (want.port != 0))
		usage();
	signal(SIGPIPE, SIG_IGN);
	alarm(TIME_LIMIT);
	ctx = context();
	serve_or_ask(ctx, want.server ? start_listening() : -1);
	SSL_CTX_free(ctx);
	return 0;
}

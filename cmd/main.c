/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <tlsfd.h>
#include <unistd.h>

#include "cmd.h"
#include "serve/service.h"
#include "connect/wishes.h"

static const struct verb verbs[] = {
	{ "doctor", doctor, "what this machine can do with kernel TLS, and why not", "[--json]",
	  "  -j, --json   one JSON object instead of the table\n"
	  "  -h, --help   this text\n",
	  NULL },
	{ "connect", connect_to, "stdin and stdout, or plain connections, over TLS",
	  "[OPTION]... HOST:PORT", NULL, wishes_table },
	{ "serve", serve, "TLS in front of plain TCP services",
	  "--listen ADDR --forward TARGET --cert FILE [OPTION]...", NULL, service_settings },
	{ "data-process", data_process, NULL, NULL, NULL, NULL },
	{ "metrics-process", metrics_process, NULL, NULL, NULL, NULL },
};
static const size_t n_verbs = sizeof(verbs) / sizeof(verbs[0]);

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < n_verbs; i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

int finish_output(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	perror("tlsfd: stdout");
	return EXIT_BROKEN;
}

void open_standard_fds(void)
{
	/* nothing to be read; what is written to stdout is lost, and write(2) is to say so */
	static const int modes[] = { O_RDWR, O_RDONLY, O_RDWR };

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) < 0)
			return;
}

void leave_standard_fds(void)
{
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	open_standard_fds();
}

void raise_fd_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int unknown_verb(const char *name)
{
	fprintf(stderr, "tlsfd: no verb '%s'; `tlsfd --help` lists them\n", name);
	return EXIT_USAGE;
}

int verb_help(const char *name)
{
	const struct verb *verb = find_verb(name);

	if (!verb || !verb->about)
		return unknown_verb(name);
	printf("usage: tlsfd %s %s\n%s\n\n%s", verb->name, verb->usage, verb->about,
	       verb->options ? verb->options : "");
	if (verb->settings)
		settings_help(verb->settings);
	return finish_output(EXIT_OK);
}

static int help(void)
{
	puts("TLS as a file descriptor.\n\nusage:");
	for (size_t i = 0; i < n_verbs; i++)
		if (verbs[i].about)
			printf("  tlsfd %s %s\n      %s\n", verbs[i].name, verbs[i].usage,
			       verbs[i].about);
	puts("  tlsfd help VERB\n      its options\n  tlsfd --version");
	return finish_output(EXIT_OK);
}

static int version(void)
{
	puts("tlsfd " TLSFD_VERSION);
	return finish_output(EXIT_OK);
}

const char *option_word(char *const *argv)
{
	return optarg && argv[optind - 1] == optarg ? argv[optind - 2] : argv[optind - 1];
}

bool is_abbreviated(char *const *argv, const char *name)
{
	return strcspn(option_word(argv) + 2, "=") != strlen(name);
}

static int run_verb(int argc, char **argv)
{
	const struct verb *verb = find_verb(argv[0]);
	char name[64];

	if (!strcmp(argv[0], "help"))
		return argc > 1 ? verb_help(argv[1]) : help();
	if (!verb)
		return unknown_verb(argv[0]);
	snprintf(name, sizeof(name), "tlsfd %s", verb->name);
	argv[0] = name;
	optind = 0; /* glibc: start again with another argv */
	return verb->run(argc, argv);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	static char name[] = "tlsfd"; /* what getopt_long's messages begin with */
	int got, index = -1;

	if (argc)
		argv[0] = name;
	got = getopt_long(argc, argv, "+hV", options, &index);
	if (index >= 0 && is_abbreviated(argv, options[index].name)) {
		fprintf(stderr, "tlsfd: no option '%s'; `tlsfd --help` lists them\n",
			argv[optind - 1]);
		return EXIT_USAGE;
	}
	switch (got) {
	case 'h':
		return help();
	case 'V':
		return version();
	case -1:
		break;
	default:
		return EXIT_USAGE;
	}
	if (optind >= argc) {
		fputs("tlsfd: no verb given; `tlsfd --help` lists them\n", stderr);
		return EXIT_USAGE;
	}
	return run_verb(argc - optind, argv + optind);
}

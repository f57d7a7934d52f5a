/*
 * The settings of a verb: one table for the command line, the config file and --help.
 *
 * A config file has a setting a line: its name, blanks, its value. Lines that begin with
 * # are comments. What the command line says wins: of a setting that may be given several
 * times its list takes the place of the file's.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_SETTINGS_H
#define TLSFD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct settings;

struct setting {
	const char *name;     /* without dashes */
	const char *argument; /* "FILE"; NULL: a switch */
	const char *help;
	/* 0 or a negative errno with settings_fail's sentence; value: NULL for a switch */
	int (*set)(struct settings *settings, const struct setting *setting, const char *value);
	size_t offset;	   /* in the target, for the setters below */
	unsigned min, max; /* of a number */
	char letter;	   /* a short option, 0: none */
};

/* Of one reading. */
#define SETTINGS_NO_PIPE "a file is wanted, for it is read again at SIGHUP; this is a pipe"

struct settings {
	const struct setting *table; /* ends with a name NULL */
	void *target;		     /* what the setters fill in, zero or the defaults before */
	char error[512];	     /* why it failed */
	int operands;		     /* index of the first operand in argv */
	uint64_t said;		     /* on the command line, a bit for each of the table */
	bool help;		     /* --help was asked for; nothing is set */
	bool again;		     /* the config file will be read again: no pipe */
};

/* char *, the last one counts; struct texts; unsigned; milliseconds as unsigned from seconds
 * with decimals, 0 only from 0; bool. */
int set_text(struct settings *, const struct setting *, const char *value);
int set_texts(struct settings *, const struct setting *, const char *value);
int set_number(struct settings *, const struct setting *, const char *value);
int set_seconds(struct settings *, const struct setting *, const char *value);
int set_switch(struct settings *, const struct setting *, const char *value);
/* Does nothing: settings_read itself looks for --config. */
int set_config(struct settings *, const struct setting *, const char *value);

struct texts {
	char **at;
	size_t count;
};

/* The whole command line and the file that it names. 0 or a negative errno; argv's order
 * changes as getopt_long does it. */
int settings_read(struct settings *settings, int argc, char **argv);
/* Notes the sentence, returns err. */
int settings_fail(struct settings *settings, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Is this one on the command line? After settings_read. */
bool settings_said(const struct settings *settings, const char *name);
/* The exit status for what settings_read said. */
int settings_status(int err);
/* Frees what set_text and set_texts have kept. */
void settings_free(const struct setting *table, void *target);
/* The options as --help shows them. */
void settings_help(const struct setting *table);

#endif

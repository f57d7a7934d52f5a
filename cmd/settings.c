/* SPDX-License-Identifier: MIT */
#include "settings.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"

int settings_fail(struct settings *settings, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(settings->error, sizeof(settings->error), format, args);
	va_end(args);
	return err;
}

/* ---- setters ---- */

static void *member(void *target, const struct setting *setting)
{
	return (char *)target + setting->offset;
}

static int no_memory(struct settings *settings)
{
	return settings_fail(settings, -ENOMEM, "memory is short");
}

int set_text(struct settings *settings, const struct setting *setting, const char *value)
{
	char **text = member(settings->target, setting), *copy = strdup(value);

	if (!copy)
		return no_memory(settings);
	free(*text);
	*text = copy;
	return 0;
}

int set_texts(struct settings *settings, const struct setting *setting, const char *value)
{
	struct texts *texts = member(settings->target, setting);
	char **at = reallocarray(texts->at, texts->count + 1, sizeof(char *));

	if (!at)
		return no_memory(settings);
	texts->at = at;
	at[texts->count] = strdup(value);
	if (!at[texts->count])
		return no_memory(settings);
	texts->count++;
	return 0;
}

static int out_of_range(struct settings *settings, const struct setting *setting, const char *value)
{
	return settings_fail(settings, -EINVAL, "%s: a number from %u to %u is wanted, not '%s'",
			     setting->name, setting->min, setting->max, value);
}

int set_number(struct settings *settings, const struct setting *setting, const char *value)
{
	char *rest;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &rest, 10);
	if (!*value || *rest || errno || *value < '0' || *value > '9' || n < setting->min ||
	    n > setting->max)
		return out_of_range(settings, setting, value);
	*(unsigned *)member(settings->target, setting) = (unsigned)n;
	return 0;
}

int set_seconds(struct settings *settings, const struct setting *setting, const char *value)
{
	char *rest;
	double seconds = strtod(value, &rest);
	unsigned ms;

	if (rest == value || *rest || !(seconds >= setting->min && seconds <= setting->max))
		return out_of_range(settings, setting, value);
	ms = (unsigned)(seconds * 1000);
	*(unsigned *)member(settings->target, setting) = seconds > 0 && !ms ? 1 : ms;
	return 0;
}

int set_switch(struct settings *settings, const struct setting *setting, const char *value)
{
	(void)value;
	*(bool *)member(settings->target, setting) = true;
	return 0;
}

int set_config(struct settings *settings, const struct setting *setting, const char *value)
{
	(void)settings, (void)setting, (void)value;
	return 0;
}

static void drop_texts(void *target, const struct setting *setting)
{
	struct texts *texts = member(target, setting);

	while (texts->count)
		free(texts->at[--texts->count]);
	free(texts->at);
	texts->at = NULL;
}

void settings_free(const struct setting *table, void *target)
{
	for (; table->name; table++) {
		if (table->set == set_text) {
			free(*(char **)member(target, table));
			*(char **)member(target, table) = NULL;
		} else if (table->set == set_texts) {
			drop_texts(target, table);
		}
	}
}

/* ---- the config file ---- */

static const struct setting *find(const struct setting *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

/* Cuts blanks off both ends. */
static char *trim(char *text)
{
	static const char blanks[] = " \t\r\n";
	size_t n;

	text += strspn(text, blanks);
	for (n = strlen(text); n && strchr(blanks, text[n - 1]); n--)
		;
	text[n] = '\0';
	return text;
}

/* Puts the place in front of the sentence. */
static int fail_at(struct settings *settings, int err, const char *path, unsigned line)
{
	char why[sizeof(settings->error)];

	memcpy(why, settings->error, sizeof(why));
	return settings_fail(settings, err, "%s, line %u: %s", path, line, why);
}

static int read_line(struct settings *settings, char *name)
{
	char *value = name + strcspn(name, " \t");
	const struct setting *setting;

	if (*value) {
		*value = '\0';
		value = trim(value + 1);
	}
	setting = find(settings->table, name);
	if (!setting || setting->set == set_config)
		return settings_fail(settings, -EINVAL, "no setting '%.60s'", name);
	if (setting->argument && !*value)
		return settings_fail(settings, -EINVAL, "%s wants a value: %s", name,
				     setting->argument);
	if (!setting->argument && *value)
		return settings_fail(settings, -EINVAL, "%s takes no value", name);
	return setting->set(settings, setting, setting->argument ? value : NULL);
}

/* Editors of other systems begin UTF-8 with a mark. UTF-16 has zero bytes. */
static int take_line(struct settings *settings, char *line, size_t size, bool first)
{
	static const char mark[] = "\xef\xbb\xbf";
	char *name;

	if (strlen(line) != size)
		return settings_fail(settings, -EINVAL, "a zero byte: not a file of text in UTF-8");
	if (first && !strncmp(line, mark, strlen(mark)))
		line += strlen(mark);
	name = trim(line);
	return !*name || *name == '#' ? 0 : read_line(settings, name);
}

static int read_lines(struct settings *settings, const char *path, FILE *file)
{
	char *line = NULL;
	size_t room = 0;
	unsigned number = 0;
	ssize_t size;
	int err = 0;

	while (!err && (size = getline(&line, &room, file)) >= 0) {
		number++;
		err = take_line(settings, line, (size_t)size, number == 1);
		if (err)
			fail_at(settings, err, path, number);
	}
	if (!err && ferror(file))
		err = settings_fail(settings, -EIO, "%s: %s", path, strerror(errno));
	free(line);
	return err;
}

static int read_file(struct settings *settings, const char *path)
{
	FILE *file = fopen(path, "re");
	struct stat st;
	int err;

	if (!file) {
		err = -errno;
		return settings_fail(settings, err, "%s: %s", path, strerror(-err));
	}
	if (settings->again && fstat(fileno(file), &st) == 0 && S_ISFIFO(st.st_mode))
		err = settings_fail(settings, -ESPIPE, "%s: " SETTINGS_NO_PIPE, path);
	else
		err = read_lines(settings, path, file);
	fclose(file);
	return err;
}

/* ---- the command line ---- */

enum { SETTINGS_MAX = 64, HELP = 0x100 };

static void make_options(const struct setting *table, struct option *options, char *letters)
{
	for (; table->name; table++) {
		*options++ = (struct option){ table->name,
					      table->argument ? required_argument : no_argument,
					      NULL, table->letter };
		if (!table->letter)
			continue;
		*letters++ = table->letter;
		if (table->argument)
			*letters++ = ':';
	}
	*options++ = (struct option){ "help", no_argument, NULL, HELP };
	*options = (struct option){ 0 };
	*letters++ = 'h';
	*letters = '\0';
}

static const struct setting *by_letter(const struct setting *table, int letter)
{
	for (; table->name; table++)
		if (table->letter == letter)
			return table;
	return NULL;
}

static int wrong_option(struct settings *settings, int got, const char *word)
{
	if (got == ':')
		return settings_fail(settings, -EINVAL, "%s wants a value", word);
	return settings_fail(settings, -EINVAL, "no option '%s', or it is used wrongly", word);
}

/* Calls each with the settings in the order of the command line. */
static int read_options(struct settings *settings, int argc, char **argv,
			int (*each)(struct settings *, const struct setting *, const char *))
{
	struct option options[SETTINGS_MAX + 2];
	char letters[2 * SETTINGS_MAX + 2] = ":";
	int got, index, err = 0;

	make_options(settings->table, options, letters + 1);
	optind = 0; /* glibc: from the start */
	opterr = 0;
	while (!err) {
		const struct setting *setting;

		index = -1;
		got = getopt_long(argc, argv, letters, options, &index);
		if (got == -1)
			break;
		if (got == ':' || got == '?')
			return wrong_option(settings, got, argv[optind - 1]);
		if (index >= 0 && is_abbreviated(argv, options[index].name))
			return settings_fail(settings, -EINVAL,
					     "no option '%s'; --%s in full, if that is meant",
					     option_word(argv), options[index].name);
		if (got == 'h' || got == HELP) {
			settings->help = true;
			return 0;
		}
		setting = got ? by_letter(settings->table, got) : &settings->table[index];
		err = each(settings, setting, optarg);
	}
	settings->operands = optind;
	return err;
}

/* The first of a list takes the place of the config file's list. */
static int set_one(struct settings *settings, const struct setting *setting, const char *value)
{
	uint64_t this = UINT64_C(1) << (setting - settings->table);

	if (setting->set == set_texts && !(settings->said & this))
		drop_texts(settings->target, setting);
	settings->said |= this;
	return setting->set(settings, setting, value);
}

static int read_config(struct settings *settings, const struct setting *setting, const char *value)
{
	return setting->set == set_config ? read_file(settings, value) : 0;
}

int settings_read(struct settings *settings, int argc, char **argv)
{
	int err = read_options(settings, argc, argv, read_config);

	if (err || settings->help)
		return err;
	return read_options(settings, argc, argv, set_one);
}

bool settings_said(const struct settings *settings, const char *name)
{
	return settings->said >> (find(settings->table, name) - settings->table) & 1;
}

int settings_status(int err)
{
	return err == -EINVAL ? EXIT_USAGE : err == -ENOMEM ? EXIT_FAILED : EXIT_CONFIG;
}

/* ---- --help ---- */

void settings_help(const struct setting *table)
{
	for (; table->name; table++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", table->name, table->argument ? " " : "",
			 table->argument ? table->argument : "");
		if (table->letter)
			printf("  -%c, %-27s %s\n", table->letter, left, table->help);
		else
			printf("  %-31s %s\n", left, table->help);
	}
	printf("  -h, %-27s %s\n", "--help", "this text");
}

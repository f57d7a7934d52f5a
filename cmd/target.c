/* SPDX-License-Identifier: MIT */
#include "target.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* The size of the host's part, brackets included; or -EINVAL. */
static ssize_t host_size(const char *text)
{
	const char *end = text[0] == '[' ? strchr(text, ']') : strchr(text, ':');

	if (end && text[0] == '[')
		end++;
	/* a second colon: an IPv6 address without brackets, whose port nobody can tell */
	if (!end || end[0] != ':' || strchr(end + 1, ':') || !strncmp(text, "[]", 2))
		return -EINVAL;
	return end - text;
}

/* A number or the name of a service; getaddrinfo would take 65536 for 0. */
static bool is_port(const char *text)
{
	return *text && (text[strspn(text, "0123456789")] ||
			 (strlen(text) <= 5 && atoi(text) <= UINT16_MAX));
}

int target_parse(struct target *target, const char *text)
{
	size_t bracket = text[0] == '[';
	ssize_t size = host_size(text);

	*target = (struct target){ 0 };
	if (size < 0 || !is_port(text + size + 1))
		return -EINVAL;
	if (size)
		target->host = strndup(text + bracket, (size_t)size - 2 * bracket);
	target->port = strdup(text + size + 1);
	if ((target->host || !size) && target->port)
		return 0;
	target_free(target);
	return -ENOMEM;
}

void target_free(struct target *target)
{
	free(target->host);
	free(target->port);
	free(target->list);
	*target = (struct target){ 0 };
}

int target_add(struct target *target, const struct address *address)
{
	struct address *list = reallocarray(target->list, target->count + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	target->list = list;
	list[target->count++] = *address;
	return 0;
}

struct address address_of(const struct sockaddr *address, socklen_t size)
{
	struct address copy = { .size = size };

	memcpy(&copy.at, address, size < sizeof(copy.at) ? size : sizeof(copy.at));
	return copy;
}

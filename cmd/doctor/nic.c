/* SPDX-License-Identifier: MIT */
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "doctor.h"

/* The kernel's feature flags of one interface: names, and a bit each. */
struct features {
	struct ethtool_gstrings *names;
	struct ethtool_gfeatures *bits;
};

static int ethtool(int fd, const char *ifname, void *command)
{
	struct ifreq req = { .ifr_data = command };

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", ifname);
	return ioctl(fd, SIOCETHTOOL, &req);
}

static unsigned count_features(int fd, const char *ifname)
{
	union {
		struct ethtool_sset_info info;
		uint8_t room[sizeof(struct ethtool_sset_info) + sizeof(__u32)]; /* one count */
	} u = { .info = { .cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ULL << ETH_SS_FEATURES } };

	if (ethtool(fd, ifname, &u) < 0 || !u.info.sset_mask)
		return 0;
	return u.info.data[0];
}

static void free_features(struct features *f)
{
	free(f->names);
	free(f->bits);
}

static int load_features(int fd, const char *ifname, struct features *f)
{
	unsigned n = count_features(fd, ifname);
	unsigned blocks = (n + 31) / 32;

	f->names = calloc(1, sizeof(*f->names) + (size_t)n * ETH_GSTRING_LEN);
	f->bits = calloc(1, sizeof(*f->bits) + blocks * sizeof(f->bits->features[0]));
	if (!n || !f->names || !f->bits)
		return -1;
	f->names->cmd = ETHTOOL_GSTRINGS;
	f->names->string_set = ETH_SS_FEATURES;
	f->names->len = n;
	f->bits->cmd = ETHTOOL_GFEATURES;
	f->bits->size = blocks;
	if (ethtool(fd, ifname, f->names) < 0 || ethtool(fd, ifname, f->bits) < 0)
		return -1;
	return 0;
}

static const char *state_of(const struct features *f, const char *feature)
{
	for (unsigned i = 0; i < f->names->len; i++) {
		const struct ethtool_get_features_block *b = &f->bits->features[i / 32];
		unsigned bit = 1U << (i % 32);

		if (strncmp((const char *)f->names->data + (size_t)i * ETH_GSTRING_LEN, feature,
			    ETH_GSTRING_LEN))
			continue;
		if (b->active & bit)
			return "on";
		return b->available & bit && !(b->never_changed & bit) ? "off" : "none";
	}
	return "none"; /* a kernel that does not know the flag */
}

static bool is_up(int fd, const char *ifname)
{
	struct ifreq req = { 0 };

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", ifname);
	if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
		return false;
	return (req.ifr_flags & IFF_UP) && !(req.ifr_flags & IFF_LOOPBACK);
}

static void examine(int fd, struct nic *nic, const char *ifname)
{
	struct features f = { 0 };

	*nic = (struct nic){ 0 };
	snprintf(nic->name, sizeof(nic->name), "%s", ifname);
	if (load_features(fd, ifname, &f) == 0) {
		nic->tx = state_of(&f, "tls-hw-tx-offload");
		nic->rx = state_of(&f, "tls-hw-rx-offload");
	}
	free_features(&f);
}

size_t ask_nics(struct nic nics[MAX_NICS])
{
	struct if_nameindex *names = if_nameindex();
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	size_t n = 0;

	for (struct if_nameindex *i = names; i && i->if_index && n < MAX_NICS; i++)
		if (is_up(fd, i->if_name))
			examine(fd, &nics[n++], i->if_name);
	if (fd >= 0)
		close(fd);
	if_freenameindex(names);
	return n;
}

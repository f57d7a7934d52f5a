/*
 * Records that are not data: alerts, and messages after the handshake.
 *
 * The answers are OpenSSL's own (where an RFC leaves a choice), so that it makes no
 * difference who takes the records.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TLSFD_CONTROL_H
#define TLSFD_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 8446 section 6, RFC 5246 section 7.2. */
enum alert_level { ALERT_WARNING = 1, ALERT_FATAL = 2 };
enum alert {
	ALERT_CLOSE_NOTIFY = 0,
	ALERT_UNEXPECTED_MESSAGE = 10,
	ALERT_BAD_RECORD_MAC = 20,
	ALERT_RECORD_OVERFLOW = 22,
	ALERT_HANDSHAKE_FAILURE = 40,
	ALERT_ILLEGAL_PARAMETER = 47,
	ALERT_DECODE_ERROR = 50,
	ALERT_PROTOCOL_VERSION = 70,
	ALERT_INTERNAL_ERROR = 80,
	ALERT_USER_CANCELED = 90,
	ALERT_NO_RENEGOTIATION = 100,
	ALERT_NONE = 255,
};

/* How many in a row, without data between them, are borne. */
enum {
	CONTROL_MAX_WARNINGS = 4, /* OpenSSL's MAX_WARN_ALERT_COUNT is the fifth */
	CONTROL_MAX_EMPTY = 32,	  /* its MAX_EMPTY_RECORDS */
};

/*
 * A flood costs the peer its connection, not us our CPU: what is not data is paid from a
 * budget, into which data pays back, and time: a KeyUpdate a second is for ever.
 */
enum {
	CONTROL_BUDGET = 1024,
	CONTROL_RECORD_COST = 1,
	CONTROL_KEY_UPDATE_COST = 16, /* about what it takes more of CPU */
	CONTROL_DATA_PAYS = 512,      /* bytes for 1, and each read 1 more */
	CONTROL_RECORD_PAYS = 4,      /* at a KeyUpdate: each record under the old key */
	CONTROL_SECOND_PAYS = 16,
	CONTROL_MAX_REQUESTED = 8, /* a peer may answer several requests by one KeyUpdate */
};

enum { CONTROL_MESSAGE_KEY_UPDATE = 24 }; /* RFC 8446 section 4 */

struct tickets;

/* Messages can be cut anywhere, so they are read byte by byte. */
struct control {
	bool client, tls13;
	bool unsettled;		  /* a message is under way or something is counted */
	bool update_requested;	  /* by the KeyUpdate that came last */
	bool key_update;	  /* the message under way is one */
	bool asked_renegotiation; /* to be refused; whoever has done so clears it */
	uint8_t alert;		  /* see enum control_verdict */
	uint8_t alert_bytes[2];
	uint8_t alert_have;	    /* bytes of this record */
	uint8_t head[4], head_have; /* the header of the message under way */
	uint8_t warnings, empty;    /* in a row */
	uint8_t quiet;		    /* reads that found nothing, in a row; 2: or more */
	_Atomic uint8_t requested;  /* KeyUpdates that we asked for: they are free */
	uint32_t spent;		    /* of the budget */
	uint32_t paid_at;	    /* by time, in seconds since the machine's start */
	uint32_t body_left;	    /* what lacks of the message's body */
	_Atomic uint32_t skipped;   /* warnings, tickets, renegotiation requests: any thread */
	uint32_t number;	    /* quiet == 2: of the next record, its lower half */
	struct tickets *tickets;    /* where they go; NULL: nowhere */
};

enum control_verdict {
	CONTROL_GO_ON,
	CONTROL_END,	    /* close_notify */
	CONTROL_ALERT,	    /* a fatal alert: control->alert */
	CONTROL_KEY_UPDATE, /* the peer's records have new keys from here on */
	CONTROL_WRONG,	    /* to be answered with the alert in control->alert */
};

/* n bytes of a record of this content type, not data; whole: with them it is complete. */
enum control_verdict control_take(struct control *c, uint8_t type, const uint8_t *data, size_t n,
				  bool whole);

/* A data record without data (RFC 8446 section 5.1 allows it). */
enum control_verdict control_empty_data(struct control *c);

/* Reading found nothing, again, where the next record has this number: what has passed
 * since the last time were such records. Data in between clears c->quiet. */
enum control_verdict control_nothing(struct control *c, uint64_t number);

/* n bytes of data came while `unsettled`. */
enum control_verdict control_data(struct control *c, size_t n);

/* A record that was none stopped the kernel as a KeyUpdate does. */
enum control_verdict control_stopped(struct control *c);

/* The budget: false once it is used up. */
bool control_spend(struct control *c, uint32_t cost);
/* We ask for a KeyUpdate. */
void control_request(struct control *c);
/* A KeyUpdate came: is it one that we asked for? */
bool control_was_requested(struct control *c);
void control_pay_back(struct control *c, size_t n);
/* A KeyUpdate came after so many records under one key, itself among them: also those
 * that others have read. */
void control_pay_records(struct control *c, uint64_t records);

/* Is this an alert that ends nothing? */
bool control_is_warning(bool tls13, uint8_t level, uint8_t number);

#endif

/*
 * Receipts and resend for one message and one consumer group: the lane, the broker (which may lose
 * all of its data, twice), the consumer and the receipts role. A crash is a step that is not taken:
 * a process that may die between two durable steps may begin again before the second one. See
 * docs/adr/0005-consumer-failure.md.
 *
 *   one_effect   the handler's effect is committed at most once, and the compensation too
 *   agrees       settled means decided by the consumer; compensated means rejected by it
 *   one_home     until it is settled the message is in the outbox or in outbox_awaiting: no loss
 *   ends_settled whatever is wiped, doubled or lost, it is settled in the end
 *
 * With -DNO_SCAN nothing is sent again and a missed receipt is not found: it may wait for ever.
 * With -DNO_CLAIM the compensation is not claimed by a row of its own: it may be sent twice.
 */
#define MAX_COPIES 2
#define MAX_WIPES  2
#define MAX_DEATHS 2

mtype = { NONE, APPLIED, REJECTED };

/* The producer's database. */
bool outbox = true;
bool awaiting = false;
mtype receipt = NONE;
byte compensated = 0;
bool settled = false;
/* The consumer's database. */
mtype dedup = NONE;
byte effects = 0;
/* The broker. */
byte queue = 0;
byte receipts = 0; /* all copies say what the dedup row says */
byte wipes = 0;
byte deaths = 0; /* and confirms that did not come: no end of them would leave no work done */

/* Within the transaction that settles. */
inline compensate() {
    if
    :: receipt == REJECTED ->
#ifndef NO_CLAIM
        if
        :: compensated == 0 -> compensated++
        :: else
        fi
#else
        if
        :: compensated < 2 -> compensated++
        :: else
        fi
#endif
    :: else
    fi
}

/* Publishing, the confirm, and the move. The receipts are read before the row is moved, in one
 * transaction, but not in one moment. */
active proctype lane() {
    mtype seen;

    do
    :: outbox && queue < MAX_COPIES ->
        queue++;
        if
        :: true -> /* the confirm came */
            seen = receipt;
            atomic {
                if
                :: seen != NONE -> compensate(); settled = true
                :: else -> awaiting = true; settled = false
                fi;
                outbox = false
            }
        :: deaths < MAX_DEATHS -> deaths++ /* it did not, or the lane died: published again */
        fi
    :: atomic { awaiting && receipt != NONE ->
#ifndef NO_SCAN
        compensate();
        awaiting = false;
        settled = !outbox
#else
        skip
#endif
       }
    :: atomic { awaiting && receipt == NONE && !outbox ->
#ifndef NO_SCAN
        outbox = true
#else
        skip
#endif
       }
    od
}

active proctype broker() {
    do
    :: atomic { wipes < MAX_WIPES -> queue = 0; receipts = 0; wipes++ }
    :: wipes == MAX_WIPES -> break
    od
}

active proctype consumer() {
    do
    :: queue > 0 ->
        if
        :: atomic { dedup == NONE -> dedup = APPLIED; effects++ }
        :: atomic { dedup == NONE -> dedup = REJECTED }
        :: dedup != NONE
        fi;
        if
        :: receipts < MAX_COPIES ->
            receipts++;
            if
            :: atomic { queue > 0 -> queue-- }  /* acknowledged */
            :: queue == 0                       /* it was wiped */
            :: deaths < MAX_DEATHS -> deaths++  /* died before that */
            fi
        :: receipts == MAX_COPIES               /* no room yet: not acknowledged */
        :: deaths < MAX_DEATHS -> deaths++      /* died before the receipt */
        fi
    od
}

/* The row is looked at first and the receipt written then, in one transaction but not in one
 * moment; the lock of a row that was found keeps others from it. */
active proctype role() {
    bool found;

    do
    :: receipts > 0 ->
        found = awaiting;
        atomic {
            if
            :: receipt == NONE -> receipt = dedup
            :: else
            fi;
            if
            :: found && awaiting ->
                compensate();
                awaiting = false;
                settled = !outbox
            :: else
            fi
        };
        if
        :: atomic { receipts > 0 -> receipts-- }
        :: receipts == 0                   /* it was wiped */
        :: deaths < MAX_DEATHS -> deaths++ /* died before the acknowledgement */
        fi
    od
}

ltl one_effect { [] (effects <= 1 && compensated <= 1) }
ltl agrees { [] ((settled -> dedup != NONE) && (compensated > 0 -> dedup == REJECTED)) }
ltl one_home { [] (settled || outbox || awaiting) }
ltl ends_settled { <> [] settled }

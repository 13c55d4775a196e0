/*
 * One ordering key of an inbox: inbox-relay stores its messages one after the other, two workers
 * take, do, fail and die, inbox-relay files what is done. Each step is what others can see of a
 * transaction: the reads and locks of one statement, or a commit. Row locks are as SKIP LOCKED has
 * them: nobody ever waits. See docs/adr/0026-inbox.md.
 *
 *   one_order  effects are committed once each, in the order of arrival
 *   ends       every message is done in the end
 *
 * A crash of inbox-relay loses what it meant to look at after a commit; the rescan finds that.
 * With -DNO_CRASH it is found without: -DNO_RESCAN then holds, and neither the look after storing
 * (-DNO_LOOK) nor the one after filing (-DNO_FILE_LOOK) can be left out. With -DNO_BLOCK each
 * message is ready at once. FILED is a row that has left the chain: at the claim, whether or not the
 * broker ever confirms its receipt. With -DAWAIT_CONFIRM it leaves after the confirm, and a broker
 * that gives none holds the key.
 */
#define ROWS        3
#define MAX_FAILURES 2
#define MAX_CRASHES 1

mtype = { ABSENT, READY, BLOCKED, DONE, FILED };

/* Committed, by the order of arrival; 0 is not used. */
mtype state[ROWS + 1] = ABSENT;
byte after[ROWS + 1];
byte lock[ROWS + 1]; /* of the worker that has taken or found it */
byte applied = 0;
byte failures = 0;
byte crashes = 0;
bool in_order = true;

ltl one_order { [] in_order }
ltl ends { <> (applied == ROWS) }

#define FREE(row)  (state[row] == READY && lock[row] == 0)
#define FIRST(row) (state[row] != FILED && state[row] != ABSENT)

/* A row that waits for one that has left the chain. */
inline look_at(row) {
    if
    :: state[row] == BLOCKED && (after[row] == 0 || state[after[row]] == FILED) ->
        state[row] = READY
    :: else
    fi
}

/* The process may end here, and what it had in memory with it. */
inline maybe_crash() {
#ifndef NO_CRASH
    if
    :: crashes < MAX_CRASHES -> crashes++; has_crashed = true
    :: has_crashed = false
    fi
#else
    has_crashed = false
#endif
}

active proctype storing() {
    byte row = 1, tail;
    bool is_blocked, has_crashed;

    do
    :: row <= ROWS ->
        atomic { /* the last row of the key that this statement can see */
            tail = row - 1;
            do
            :: tail > 0 && state[tail] == FILED -> tail--
            :: else -> break
            od;
            is_blocked = tail > 0 && state[tail] != DONE;
#ifdef NO_BLOCK
            is_blocked = false
#endif
        };
        if
        :: atomic { /* COMMIT */
            after[row] = tail;
            if
            :: is_blocked -> state[row] = BLOCKED
            :: else -> state[row] = READY
            fi;
            maybe_crash()
           };
           if
#ifndef NO_LOOK
           :: !has_crashed -> atomic { look_at(row) }
#endif
           :: else
           fi;
           row++
        :: failures < MAX_FAILURES -> failures++ /* undone: delivered again */
        fi
    :: else -> break
    od
}

proctype worker(byte me) {
    byte row, next;

    do
    :: atomic { /* take */
        FREE(1) || FREE(2) || FREE(3);
        row = 1;
        do
        :: !FREE(row) -> row++
        :: else -> break
        od;
        lock[row] = me
       };
       atomic { /* next: what is not committed is not there */
        next = row + 1;
        do
        :: next <= ROWS && !(state[next] == BLOCKED && after[next] == row && lock[next] == 0) ->
            next++
        :: else -> break
        od;
        if
        :: next <= ROWS -> lock[next] = me
        :: else
        fi
       };
       if
       :: atomic { /* done, COMMIT */
           if
           :: row != applied + 1 -> in_order = false
           :: else -> applied = row
           fi;
           state[row] = DONE;
           lock[row] = 0;
           if
           :: next <= ROWS -> state[next] = READY; lock[next] = 0
           :: else
           fi
          }
       :: atomic { /* failed or dead: undone */
           failures < MAX_FAILURES -> failures++;
           lock[row] = 0;
           if
           :: next <= ROWS -> lock[next] = 0
           :: else
           fi
          }
       fi;
       row = 0;
       next = 0
    :: applied == ROWS -> break
    od
}

active proctype filing() {
    byte row, other;
    bool has_crashed;

    do
    :: atomic { /* a row that is done leaves the chain, COMMIT */
#ifdef AWAIT_CONFIRM
        false;
#endif
        state[1] == DONE || state[2] == DONE || state[3] == DONE;
        row = 1;
        do
        :: state[row] != DONE -> row++
        :: else -> break
        od;
        state[row] = FILED;
        maybe_crash()
       };
       if
#ifndef NO_FILE_LOOK
       :: !has_crashed -> atomic {
           other = row + 1;
           do
           :: other <= ROWS ->
               if
               :: after[other] == row -> look_at(other)
               :: else
               fi;
               other++
           :: else -> break
           od
          }
#endif
       :: else
       fi;
       row = 0;
       other = 0
    :: applied == ROWS -> break
    od
}

#ifndef NO_RESCAN
active proctype rescan() {
    byte row;

    do
    :: atomic { /* the first row of the key */
        FIRST(1) || FIRST(2) || FIRST(3);
        row = 1;
        do
        :: !FIRST(row) -> row++
        :: else -> break
        od;
        if
        :: state[row] == BLOCKED -> state[row] = READY
        :: else
        fi;
        row = 0
       }
    :: applied == ROWS -> break
    od
}
#endif

init {
    atomic { run worker(1); run worker(2) }
}

/*
 * The half-message protocol: prepare, local transaction, verdict, check-back, barrier, crash, duplicate, retry.
 *
 * One half-message. Its producer may die at any step and come back; each of its requests may be lost, delayed and delivered
 * twice; the relay may die between any two of its own commits; the checker asks by the barrier or by the producer's HTTP
 * endpoint, which itself answers from the barrier. Everything that is one database transaction is one atomic step here.
 *
 * Checked, over every interleaving:
 *   safety    one verdict (`emitted` never exceeds one); it agrees with the local transaction (asserts at `decide`
 *             and the ltl `agrees`); a request with the opposite verdict is refused, never applied
 *   liveness  every prepared half-message ends decided or parked (ltl `ends`), under weak fairness
 *
 * Run by tests/model/run. Each of these takes a part of the protocol away and must make a check fail, which proves that the
 * model can see the fault:
 *   -DNO_BARRIER  no barrier (the late COMMIT after a checked ROLLBACK)
 *   -DNO_CAS      a verdict is applied without a look at the state
 *   -DNO_CHECK    nobody asks, so that what a dead producer left stays open
 */

#define CHECK_LIMIT 2 /* answers "in progress"/"unknown" before the half-message is parked */

mtype = { none, prepared, committed, rolled_back, parked,         /* state of the half-message */
          b_none, b_open, b_commit, b_rollback,                   /* the barrier row of this gid */
          idle, open, done, undone,                               /* the local transaction */
          commit, rollback, in_progress };                        /* verdicts and answers */

mtype half = none;
mtype barrier = b_none;
mtype ltx = idle;
byte emitted = 0;          /* times the chosen messages became outbox rows */
mtype emitted_as = none;   /* which of them */
byte checks = 0;           /* answers received that decided nothing */
bool refused = false;      /* a conflicting verdict was answered 409 */

/* Requests on their way to the relay; duplicates allowed, any may be lost. */
chan wire = [2] of { mtype };

/* The compare-and-set: state and outbox rows change in one transaction. */
inline decide(v) {
    if
#ifdef NO_CAS
    :: half != none ->
#else
    :: (half == prepared || half == parked) ->
#endif
        half = (v == commit -> committed : rolled_back);
        emitted++;
        emitted_as = v;
        assert(emitted == 1);
        assert(v == rollback || ltx == done);      /* no ghost */
        assert(v == commit || ltx != done)         /* no loss */
    :: (half == committed && v == rollback) || (half == rolled_back && v == commit) -> refused = true
    :: else -> skip                                    /* the same verdict again: the same answer */
    fi
}

/* The local transaction's first statement: insert (gid, commit) into the barrier. */
inline local_begin() {
#ifdef NO_BARRIER
    ltx = open
#else
    if
    :: barrier == b_none -> barrier = b_open; ltx = open
    :: barrier == b_rollback -> ltx = undone         /* duplicate key: the check was first */
    :: barrier == b_commit -> skip                     /* a retry of what had committed: it stays done */
    fi
#endif
}
inline local_commit() { ltx = done; barrier = b_commit }
inline local_undo()   { ltx = undone; if :: barrier == b_open -> barrier = b_none :: else fi }

/* Ask the barrier: insert (gid, rollback) with a short lock wait. The first to insert decides. */
inline ask_barrier(answer) {
#ifdef NO_BARRIER
    if
    :: ltx == done -> answer = commit
    :: else -> answer = rollback                       /* "not found" read as rollback */
    fi
#else
    if
    :: barrier == b_none -> barrier = b_rollback; answer = rollback
    :: barrier == b_open -> answer = in_progress      /* a lock wait means: still running */
    :: barrier == b_commit -> answer = commit
    :: barrier == b_rollback -> answer = rollback
    fi
#endif
}

inline send(v) {
    if
    :: nfull(wire) -> wire!v
    :: skip                                            /* lost: connection, process or timeout */
    fi
}

proctype Producer() {
    byte lives = 2;
again:
    /* Prepare is durable before it is answered; a repeated prepare of the same gid changes nothing. */
    atomic { if :: half == none -> half = prepared :: else fi };
    if
    :: lives == 1 -> goto silent                       /* dies before the local transaction */
    :: skip
    fi;
    /* Begins, or begins again what was undone: the same business request tried twice under one gid. */
    atomic { if :: ltx == idle || ltx == undone -> local_begin() :: else fi };
    if
    :: atomic { ltx == open -> local_commit() }
    :: atomic { ltx == open -> local_undo() }
    :: atomic { ltx == open && lives > 0 -> lives--; local_undo() };  /* dies inside: the server rolls back */
       if :: goto again :: goto silent fi
    :: ltx != open
    fi;
    if
    :: goto silent                                     /* dies after the commit, before the verdict */
    :: atomic { lives > 0 -> lives-- }; goto again      /* the same, and comes back */
    :: skip
    fi;
    if
    :: ltx == done -> send(commit); send(commit)     /* the second: its own retry */
    :: ltx != done ->
       /* "Rolled back" is said only once it cannot come again: the reporter takes the barrier first. */
       if
       :: atomic { barrier == b_none -> barrier = b_rollback }; send(rollback); send(rollback)
       :: barrier == b_rollback -> send(rollback)
       :: skip
       fi
    fi;
silent:
    skip
}

/* A producer that was stopped for long: wakes up and runs its local transaction after the check has decided. */
proctype LateProducer() {
    atomic { half != none && ltx == idle -> local_begin() };
    if
    :: atomic { ltx == open -> local_commit() }
    :: atomic { ltx == open -> local_undo() }
    :: atomic { ltx != open -> skip }
    fi;
    if
    :: ltx == done -> send(commit)
    :: else -> skip
    fi
}

active proctype Relay() {
    mtype v;
end:
    do
    :: atomic { wire?v -> decide(v) }
    :: atomic { nempty(wire) -> wire?v }               /* the relay dies with the request in hand: the caller gets no answer */
    od
}

#ifndef NO_CHECK
active proctype Checker() {
    mtype answer;
    half != none;
end:
    do
    :: atomic { half == prepared -> ask_barrier(answer) };
       /* A crash here forgets the answer; it is asked again. Between answer and decision others may decide. */
       if
       :: atomic { answer == in_progress && half == prepared ->
              checks++;
              if
              :: checks >= CHECK_LIMIT -> half = parked
              :: else -> skip
              fi }
       :: atomic { answer == in_progress && half != prepared -> skip }
       :: atomic { answer == commit || answer == rollback -> decide(answer) }
       fi
    /* An operator's resume asks once more; bounded here by the state space being finite. */
    :: atomic { half == parked && barrier != b_open -> ask_barrier(answer); decide(answer) }
    od
}

#endif

init {
    atomic {
        run Producer();
        run LateProducer()
    }
}

ltl one_verdict { [] (emitted <= 1) }
ltl agrees { [] ((half == committed -> ltx == done) && (half == rolled_back -> ltx != done)) }
ltl ends { [] (half == prepared -> <> (half == committed || half == rolled_back || half == parked)) }

package rowpost;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.temporal.ChronoField;
import java.util.function.BiConsumer;
import javax.sql.DataSource;

/**
 * Receiving: each message is handled once, in the transaction of your own writes (docs/inbox.md).
 *
 * <pre>{@code
 * Inbox.Worker worker = new Inbox.Worker("stock", Inbox.on(dataSource), (tx, message) -> {
 *     ...                             // your own writes on tx
 *     return Inbox.done();            // or Inbox.reject("no such article"), Inbox.retry("later"); an exception is a retry, too
 * });
 * Runtime.getRuntime().addShutdownHook(new Thread(worker::stop));   // lets the message in hand end
 * worker.run();
 * }</pre>
 */
public final class Inbox {
    private static final int PIECE = 512 * 1024; // of a payload that the session's max_allowed_packet does not let through in one
    private static final long FIRST_WAIT_MS = 10; // after the last message; doubles up to the poll interval
    private static final long LONGEST_PAUSE_MS = 5000; // while the database cannot be reached
    private static final int LOCKS_IN_A_ROW = 3; // of one message, then it waits like one that has failed and lets others pass
    private static final int REASON_BYTES = 1024; // of a reason are kept
    private static final String NO_REASON = "its reason cannot be stored";
    private static final Duration LONGEST_RETRY = Duration.ofDays(365);
    private static final long FOLLOW_NS = 50_000_000; // how long a transaction may go on with the next message of its key
    private static final String START = "1970-01-01"; // where a take begins that is to see all that is due
    private static final long START_SHARE = 20; // of its time a worker spends one part in so many on takes that begin there
    private static final long LONGEST_SKIP_NS = 60_000_000_000L;
    private static final DateTimeFormatter DATETIME = new DateTimeFormatterBuilder().appendPattern("yyyy-MM-dd HH:mm:ss")
            .appendFraction(ChronoField.NANO_OF_SECOND, 0, 9, true).toFormatter();

    private Inbox() {
    }

    /** One message. {@code attempt} is 1 for the first try; {@code headers} is a JSON object or null; texts may be null. */
    public record Message(long id, String messageId, String topic, String key, String contentType, String headers, String source,
            String traceparent, Instant createdAt, Instant receivedAt, int attempt, int maxAttempts, byte[] payload) {
        /** The payload as UTF-8. */
        public String text() {
            return new String(payload, StandardCharsets.UTF_8);
        }
    }

    /** What is to become of a message. */
    public sealed interface Verdict permits Done, Retry, Reject {
    }

    private record Done() implements Verdict {
    }

    private record Retry(String reason, Duration after) implements Verdict {
        Retry {
            if (after != null) {
                after = after.isNegative() ? Duration.ZERO : after.compareTo(LONGEST_RETRY) > 0 ? LONGEST_RETRY : after;
            }
        }
    }

    private record Reject(String reason) implements Verdict {
    }

    /** Thrown in a handler: the verdict that it holds. */
    public static final class VerdictException extends RuntimeException {
        private static final long serialVersionUID = 1;
        private final transient Verdict verdict;

        public VerdictException(Verdict verdict) {
            super(String.valueOf(verdict));
            this.verdict = verdict;
        }
    }

    public static Verdict done() {
        return new Done();
    }

    /** What is kept of a reason: valid UTF-8, cut between characters. Any object, also one that cannot be printed. */
    private static String reasonOf(Object said) {
        String text = NO_REASON;
        try {
            text = said == null || said.toString() == null ? "" : said.toString();
        } catch (RuntimeException e) {
            // an exception with a getMessage() of its own
        }
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8); // half of a surrogate pair becomes a question mark
        int end = Math.min(utf8.length, REASON_BYTES);
        while (end < utf8.length && (utf8[end] & 0xc0) == 0x80) {
            end--;
        }
        return new String(utf8, 0, end, StandardCharsets.UTF_8);
    }

    /** Undone, and tried again after the queue's backoff. */
    public static Verdict retry(String reason) {
        return new Retry(reason, null);
    }

    /** Undone, and tried again after so long, a year at most. */
    public static Verdict retry(String reason, Duration after) {
        return new Retry(reason, after);
    }

    /** It will never succeed: kept as dead, with the reason. */
    public static Verdict reject(String reason) {
        return new Reject(reason);
    }

    /** Does the work of a message on {@code tx}, whose transaction is open and which it must neither commit nor roll back. */
    @FunctionalInterface
    public interface Handler {
        Verdict handle(Connection tx, Message message) throws Exception;
    }

    /** The body of a transaction. */
    @FunctionalInterface
    public interface Body {
        /** Whether there was something to do; what it throws rolls the transaction back. */
        boolean run(Connection tx);
    }

    /**
     * Runs a body in a transaction at READ COMMITTED: commits, or rolls back and throws on what the body has thrown. Under Spring:
     *
     * <pre>{@code
     * template.setIsolationLevel(TransactionDefinition.ISOLATION_READ_COMMITTED);
     * Inbox.Transactions spring = body -> template.execute(status -> new JdbcTemplate(dataSource).execute((Connection tx) -> body.run(tx)));
     * }</pre>
     *
     * and what the handler does with a JdbcTemplate, or with JPA on the same transaction manager, is in it. What fails takes the whole
     * transaction back, for a persistence context knows nothing of savepoints; the failure is noted in a transaction of its own.
     */
    @FunctionalInterface
    public interface Transactions {
        boolean run(Body body) throws Exception;
    }

    /** Transactions on a connection of the data source for each. */
    public static Transactions on(DataSource source) {
        return new Plain(source);
    }

    /** Nobody but the handler writes in these, so a rollback to a savepoint undoes all that it has done. */
    private record Plain(DataSource source) implements Transactions {
        @Override
        public boolean run(Body body) throws SQLException {
            try (Connection tx = source.getConnection()) {
                boolean wasAutoCommit = tx.getAutoCommit();
                int isolation = tx.getTransactionIsolation();
                tx.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
                tx.setAutoCommit(false);
                boolean isGood = false;
                try {
                    boolean did = body.run(tx);
                    tx.commit();
                    isGood = true;
                    return did;
                } finally {
                    if (!isGood) {
                        tx.rollback();
                    }
                    tx.setAutoCommit(wasAutoCommit);
                    tx.setTransactionIsolation(isolation);
                }
            }
        }
    }

    /** A database error on its way out of a transaction. */
    private static final class Aborted extends RuntimeException {
        private static final long serialVersionUID = 1;

        Aborted(Throwable cause) {
            super(cause);
        }
    }

    /** Rolls a transaction back whose message has a verdict, which is to be noted in a new one. */
    private static final class Undone extends RuntimeException {
        private static final long serialVersionUID = 1;

        Undone() {
            super("undone", null, false, false);
        }
    }

    /** One worker, for one thread; as many as you like, in any number of processes, side by side. */
    public static final class Worker implements Runnable {
        private final String queue;
        private final Transactions transactions;
        private final Handler handler;
        private long pollMs = 1000;
        private int follow = 20;
        private BiConsumer<String, Throwable> onError = (what, error) -> System.getLogger("rowpost.inbox").log(System.Logger.Level.WARNING, what, error);
        private boolean isStopping; // under this
        // A message that may have ended its worker is counted first: each one until the first went well, and the one in whose
        // transaction something broke. Then it is alone in its transaction, too: a message that fails in the wake of others of its
        // key takes them back with it, and its failure would never be noted.
        private boolean isNew = true;
        private boolean isAlone = true;
        private boolean isCounted;
        private long suspect;
        private Message current;
        private byte[] keyHash;
        private Verdict pending; // for a new transaction, after this one was rolled back
        private boolean isAtCommit; // the body of the transaction went well
        private Throwable fatal; // what a handler has thrown that this thread must not outlive
        private long lockedId;
        private int lockedTimes;
        private String due; // of the message that was taken last
        private long startAgain; // when a take begins at the start again, by nanoTime()

        public Worker(String queue, Transactions transactions, Handler handler) {
            this.queue = queue;
            this.transactions = transactions;
            this.handler = handler;
        }

        /** How often an empty inbox is asked, at the least; a second if not given. */
        public Worker poll(Duration interval) {
            pollMs = interval.toMillis();
            return this;
        }

        /** Up to so many messages of one key share a commit, for 50 ms at most; 20 if not given. */
        public Worker follow(int messages) {
            follow = messages;
            return this;
        }

        /** What went wrong; a System.Logger if not given. */
        public Worker onError(BiConsumer<String, Throwable> listener) {
            onError = listener;
            return this;
        }

        /** Lets the message in hand end; run() returns then. From any thread. */
        public synchronized void stop() {
            isStopping = true;
            notifyAll();
        }

        private synchronized boolean isStopping() {
            return isStopping;
        }

        private synchronized void pause(long ms) {
            try {
                if (!isStopping) {
                    wait(ms);
                }
            } catch (InterruptedException e) {
                isStopping = true;
                Thread.currentThread().interrupt();
            }
        }

        /**
         * Works until stop(), or until its thread is interrupted. What goes wrong with the database is reported and tried again. An
         * error of the virtual machine (no memory is left, for instance) ends it: it is thrown on, after the message that met it was
         * noted as failed.
         */
        @Override
        public void run() {
            long wait = FIRST_WAIT_MS;
            long pause = FIRST_WAIT_MS;
            while (!isStopping()) {
                try {
                    if (serve()) {
                        wait = FIRST_WAIT_MS;
                    } else {
                        pause(wait);
                        wait = Math.min(2 * wait, pollMs);
                    }
                    pause = FIRST_WAIT_MS;
                } catch (Undone e) {
                    isAlone = true;
                    note(pending);
                } catch (Throwable e) {
                    Throwable cause = e instanceof Aborted ? e.getCause() : e;
                    report(current == null ? "" : ", " + current.messageId(), cause);
                    recover(cause);
                    if (isFatal(cause)) {
                        fatal = cause;
                    }
                    pause(pause);
                    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
                }
                if (fatal != null) {
                    report(" has no worker in this thread any more", fatal);
                    throw (Error) fatal;
                }
            }
        }

        /** A stack that was too deep is the message's fault, and is free again. */
        private static boolean isFatal(Throwable error) {
            return error instanceof VirtualMachineError && !(error instanceof StackOverflowError);
        }

        /** What a listener throws must not end the worker. */
        private void report(String where, Throwable error) {
            try {
                onError.accept("inbox " + queue + where, error);
            } catch (Exception e) {
                System.getLogger("rowpost.inbox").log(System.Logger.Level.ERROR, "the listener of inbox " + queue + " has failed", e);
            }
        }

        /** A message, and those of its key that follow. False: there was none. */
        private boolean serve() throws Exception {
            current = null;
            isCounted = false;
            pending = null;
            isAtCommit = false;
            boolean[] isToCount = {false};
            boolean found = transactions.run(tx -> guarded(() -> {
                takeFirst(tx);
                if (current == null) {
                    return false;
                }
                isToCount[0] = isNew || current.id() == suspect;
                if (isToCount[0]) {
                    update(tx, Statements.COUNT, current.id());
                } else {
                    handleAll(tx);
                    isAtCommit = true;
                }
                return true;
            }));
            if (!found) {
                return false;
            }
            if (isToCount[0]) {
                isCounted = true;
                found = transactions.run(tx -> guarded(() -> {
                    boolean isOurs = takeAgain(tx);
                    if (isOurs) {
                        handleAll(tx);
                        isAtCommit = true;
                    }
                    return isOurs;
                }));
            }
            if (found) {
                current = null;
                isNew = false;
                isAlone = false;
                suspect = 0;
                lockedId = 0;
            }
            return true;
        }

        private interface Work {
            boolean run() throws SQLException;
        }

        private static boolean guarded(Work work) {
            try {
                return work.run();
            } catch (SQLException e) {
                throw new Aborted(e);
            }
        }

        /**
         * Begins at the row that was taken last, for before it are entries of rows that have ended, until the server has purged them;
         * and at the start again as often as that is cheap, for what was committed late.
         */
        private void takeFirst(Connection tx) throws SQLException {
            long began = System.nanoTime();
            boolean isStart = due == null || began - startAgain >= 0;
            String taken = take(tx, Statements.TAKE, queue, isStart ? START : due);
            due = taken == null ? due : taken;
            if (isStart) {
                long ended = System.nanoTime();
                startAgain = ended + Math.min(START_SHARE * (ended - began), LONGEST_SKIP_NS);
            }
        }

        /** The row becomes the current message; its due, or null if there is none. */
        private String take(Connection tx, String statement, Object... with) throws SQLException {
            current = null;
            try (PreparedStatement select = tx.prepareStatement(statement)) {
                for (int i = 0; i < with.length; i++) {
                    select.setObject(i + 1, with[i]);
                }
                try (ResultSet row = select.executeQuery()) {
                    if (row.next()) {
                        keyHash = row.getBytes(13);
                        current = new Message(row.getLong(1), text(row, 2), text(row, 3), text(row, 4), text(row, 5), text(row, 6), text(row, 7),
                                text(row, 8), utc(row, 9), utc(row, 10), row.getInt(11), row.getInt(12), row.getBytes(15));
                        return row.getString(16);
                    }
                    return null;
                }
            }
        }

        private static String text(ResultSet row, int column) throws SQLException {
            byte[] bytes = row.getBytes(column);
            return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
        }

        /** As text: a Timestamp would be read in the zone of the JVM. */
        private static Instant utc(ResultSet row, int column) throws SQLException {
            String value = row.getString(column);
            return value == null ? null : LocalDateTime.parse(value, DATETIME).toInstant(ZoneOffset.UTC);
        }

        /** In a new transaction, after the first has ended. False: another worker has it, or it is dead. */
        private boolean takeAgain(Connection tx) throws SQLException {
            if (isCounted) {
                return update(tx, Statements.COUNTED, current.id(), current.attempt()) == 1;
            }
            try (PreparedStatement select = tx.prepareStatement(Statements.FAILED)) {
                select.setLong(1, current.id());
                select.setInt(2, current.attempt());
                try (ResultSet row = select.executeQuery()) {
                    return row.next();
                }
            }
        }

        private void handleAll(Connection tx) throws SQLException {
            long until = System.nanoTime() + FOLLOW_NS;
            for (int left = follow - 1;; left--) {
                long next = handle(tx);
                if (next == 0 || left <= 0 || isAlone || isStopping() || System.nanoTime() - until > 0) {
                    return;
                }
                Message before = current;
                take(tx, Statements.FOLLOWING, next);
                if (current == null) {
                    current = before;
                    return;
                }
                isCounted = false;
            }
        }

        /** Up to, and without, the commit. The id of the next of its key that is ours now, or 0. */
        private long handle(Connection tx) throws SQLException {
            execute(tx, "SAVEPOINT rowpost");
            Verdict verdict = call(tx);
            if (verdict instanceof Done) {
                return finish(tx);
            }
            if (!(transactions instanceof Plain)) {
                // What the manager keeps back (a persistence context) would be flushed by the commit, and what has joined the
                // transaction may have marked it as not to be committed.
                pending = verdict;
                throw new Undone();
            }
            try {
                execute(tx, "ROLLBACK TO SAVEPOINT rowpost");
            } catch (SQLException e) {
                pending = verdict; // for a new transaction, see recover()
                throw e;
            }
            fail(tx, verdict);
            return 0;
        }

        private Verdict call(Connection tx) throws SQLException {
            try {
                current = complete(tx, current);
                Verdict verdict = handler.handle(tx, current);
                // Without its savepoint the transaction was ended by the handler, or by a deadlock that it has swallowed.
                if (verdict instanceof Done) {
                    execute(tx, "RELEASE SAVEPOINT rowpost");
                }
                return verdict == null ? new Retry("the handler has given no verdict", null) : verdict;
            } catch (VerdictException e) {
                return e.verdict;
            } catch (Throwable e) {
                if (Errors.isLocked(e)) {
                    throw new SQLException(e.getMessage(), null, Errors.code(e), e);
                }
                if (isFatal(e)) {
                    fatal = e; // for run(), when this message was noted as failed
                }
                report(", " + current.messageId() + ", attempt " + current.attempt(), e);
                return new Retry(reasonOf(e), null);
            }
        }

        private long finish(Connection tx) throws SQLException {
            long next = 0;
            if (keyHash != null) {
                try (PreparedStatement select = tx.prepareStatement(Statements.NEXT)) {
                    select.setString(1, queue);
                    select.setBytes(2, keyHash);
                    select.setLong(3, current.id());
                    try (ResultSet row = select.executeQuery()) {
                        next = row.next() ? row.getLong(1) : 0;
                    }
                }
            }
            expect(update(tx, Statements.DONE, current.id(), next), next == 0 ? 1 : 2);
            return next;
        }

        private void fail(Connection tx, Verdict verdict) throws SQLException {
            int changed;
            try {
                changed = note(tx, verdict, false);
            } catch (SQLException e) {
                if (Errors.isLocked(e)) {
                    throw e;
                }
                // A failure that is not noted would be met again and again: it counts, whatever is wrong with its reason.
                changed = note(tx, verdict, true);
            }
            expect(changed, 1);
        }

        private int note(Connection tx, Verdict verdict, boolean isFixed) throws SQLException {
            if (verdict instanceof Reject reject) {
                return update(tx, Statements.REJECT, isFixed ? NO_REASON : reasonOf(reject.reason()), current.id());
            }
            Retry retry = (Retry) verdict;
            Long after = retry.after() == null ? null : retry.after().toMillis();
            return update(tx, Statements.RETRY, after, isFixed ? NO_REASON : reasonOf(retry.reason()), current.id());
        }

        private static void expect(int changed, int wanted) throws SQLException {
            if (changed != wanted) {
                throw new SQLException("the message is not ours any more");
            }
        }

        private static int update(Connection tx, String statement, Object... values) throws SQLException {
            try (PreparedStatement update = tx.prepareStatement(statement)) {
                for (int i = 0; i < values.length; i++) {
                    update.setObject(i + 1, values[i]);
                }
                return update.executeUpdate();
            }
        }

        private static void execute(Connection tx, String sql) throws SQLException {
            try (Statement statement = tx.createStatement()) {
                statement.execute(sql);
            }
        }

        /**
         * After a rollback. The database knows what was committed. A failure that could not be noted in its own transaction is noted in
         * a new one; and a message that meets a lock time and again must not hold its worker: it waits like one that has failed.
         */
        private void recover(Throwable cause) {
            isAlone = true;
            if (current == null) {
                return;
            }
            Verdict verdict = pending;
            if (verdict == null && Errors.isLocked(cause)) {
                lockedTimes = lockedId == current.id() ? lockedTimes + 1 : 1;
                lockedId = current.id();
                if (lockedTimes >= LOCKS_IN_A_ROW || isCounted) {
                    verdict = new Retry(reasonOf(cause), null);
                    lockedId = 0;
                }
            } else if (verdict == null && isAtCommit && !(transactions instanceof Plain) && !Errors.isConnectionLost(cause)) {
                verdict = new Retry(reasonOf(cause), null); // a flush that failed, or a commit that the manager has refused
            } else if (verdict == null) {
                suspect = current.id(); // the connection may be gone
            }
            if (verdict != null) {
                note(verdict);
            }
        }

        /** In a new transaction; a message that is not ours any more is let go. */
        private void note(Verdict verdict) {
            try {
                transactions.run(tx -> guarded(() -> {
                    boolean isOurs = takeAgain(tx);
                    if (isOurs) {
                        fail(tx, verdict);
                    }
                    return isOurs;
                }));
            } catch (Exception e) {
                report(", " + current.messageId(), e);
                suspect = current.id();
            }
        }

        /** Reads a payload in pieces that did not come with its row. */
        private static Message complete(Connection tx, Message message) throws SQLException {
            if (message.payload() != null) {
                return message;
            }
            ByteArrayOutputStream payload = new ByteArrayOutputStream();
            for (int last = PIECE; last == PIECE;) {
                try (PreparedStatement select = tx.prepareStatement(Statements.PAYLOAD)) {
                    select.setInt(1, payload.size());
                    select.setInt(2, PIECE);
                    select.setLong(3, message.id());
                    try (ResultSet row = select.executeQuery()) {
                        byte[] piece = row.next() ? row.getBytes(1) : new byte[0];
                        payload.writeBytes(piece);
                        last = piece.length;
                    }
                }
            }
            return new Message(message.id(), message.messageId(), message.topic(), message.key(), message.contentType(), message.headers(),
                    message.source(), message.traceparent(), message.createdAt(), message.receivedAt(), message.attempt(),
                    message.maxAttempts(), payload.toByteArray());
        }
    }
}

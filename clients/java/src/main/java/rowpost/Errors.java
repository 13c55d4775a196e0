package rowpost;

import java.sql.SQLException;
import java.util.Set;

/** The server's error numbers that matter here, also when a framework has wrapped them. */
final class Errors {
    static final int DUPLICATE = 1062;
    static final int LOCK_TIMEOUT = 1205;
    /** Deadlock, lock wait, and MariaDB's "record has changed": the transaction has to be rolled back, and can then succeed. */
    private static final Set<Integer> LOCKED = Set.of(1020, LOCK_TIMEOUT, 1213);

    private Errors() {
    }

    /** 0: the error is none of the server's. */
    static int code(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLException sql) {
                return sql.getErrorCode();
            }
        }
        return 0;
    }

    static boolean isLocked(Throwable error) {
        return LOCKED.contains(code(error));
    }

    /** SQLSTATE class 08, and drivers that name none. */
    static boolean isConnectionLost(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SQLException sql) {
                return sql.getSQLState() == null || sql.getSQLState().startsWith("08");
            }
        }
        return false;
    }
}
